"""A record's file of joints, on its way to the disk while the record's rows are made and inserted."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa

from inspect_pop.inspection import Inspection
from inspect_pop.store import rows
from inspect_pop.store.arrow import to_arrow
from inspect_pop.store.joint_files import JointFiles, Waiting, file_of

__all__ = ["Beside"]

_COMPRESSION = "lz4"  # in two thirds of zstd's time, for a tenth more bytes, until files are merged


class Beside:
    """`wait` until the file is on the disk, then `place` it; one that was not placed is removed at the end.

    Encoding and the disk are left to a thread: Arrow encodes without Python's lock. With `files` None there is no file, and
    all of this does nothing. Whatever the disk says is raised as it is.
    """

    def __init__(self, files: JointFiles | None, inspection: Inspection) -> None:
        self._files, self._inspection = files, inspection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="joints")
        self._secured: Future[Waiting] | None = None
        self._placed = False

    def __enter__(self) -> Self:
        if self._files is not None:
            board = self._inspection.board
            path = file_of(rows.local_day(board.inspected_at), board.lot, board.record)
            table = to_arrow(self._inspection.joints, record=board.record)
            self._secured = self._thread.submit(_secured, self._files, path, table)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if self._files is not None and self._secured is not None and not self._placed and self._secured.exception() is None:
            self._files.discard(self._secured.result())

    def wait(self) -> None:
        """Until the file is on the disk for good."""
        if self._secured is not None:
            self._secured.result()

    def place(self) -> None:
        """Wait, and give the file its name."""
        if self._files is not None and self._secured is not None:
            self._files.place(self._secured.result())
            self._placed = True


def _secured(files: JointFiles, path: str, table: pa.Table) -> Waiting:
    waiting = files.write(path, [table], _COMPRESSION)
    try:
        files.secure(waiting)
    except OSError:
        files.discard(waiting)
        raise
    return waiting

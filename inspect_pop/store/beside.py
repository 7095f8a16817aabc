"""A record's file of joints, on its way to the disk while the record's rows and messages are made."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from inspect_pop.inspection import Inspection
from inspect_pop.store import rows
from inspect_pop.store.arrow import to_arrow
from inspect_pop.store.joint_files import JointFiles, Waiting, file_of

__all__ = ["Beside"]


class Beside:
    """`wait` until the file is on the disk, then `place` it; one that was not placed is removed at the end.

    Only the disk is waited for by a thread: it needs no processor, which encoding does, faster where its memory is warm.
    With `files` None there is no file, and all of this does nothing. Whatever the disk says is raised as it is.
    """

    def __init__(self, files: JointFiles | None, inspection: Inspection) -> None:
        self._files, self._inspection = files, inspection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="joints")
        self._waiting: Waiting | None = None
        self._secured: Future[None] | None = None

    def __enter__(self) -> Self:
        if self._files is not None:
            self._waiting = _write(self._files, self._inspection)
            self._secured = self._thread.submit(self._files.secure, self._waiting)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if self._files is not None and self._waiting is not None:
            self._files.discard(self._waiting)

    def wait(self) -> None:
        """Until the file is on the disk for good."""
        if self._secured is not None:
            self._secured.result()

    def place(self) -> None:
        """Give the file its name."""
        if self._files is not None and self._waiting is not None:
            self._files.place(self._waiting)
            self._waiting = None


def _write(files: JointFiles, inspection: Inspection) -> Waiting:
    board = inspection.board
    path = file_of(rows.local_day(board.inspected_at), board.lot, board.record)
    return files.write(path, [to_arrow(inspection.joints, record=board.record)])

"""A record's file of joints, written by a thread of its own while its rows and messages are made."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from inspect_pop.inspection import Inspection
from inspect_pop.store import rows
from inspect_pop.store.arrow import to_arrow
from inspect_pop.store.joint_files import JointFiles, Waiting, file_of

__all__ = ["Beside"]


class Beside:
    """Begins at once; `wait` until the file is on the disk, then `place` it. One that was not placed is removed at the end.

    Compression and the disk leave the interpreter free, so that writing the file costs the writer's time hardly anything.
    With `files` None there is no file, and all of this does nothing.
    """

    def __init__(self, files: JointFiles | None, inspection: Inspection) -> None:
        self._files, self._inspection = files, inspection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="joints")
        self._writing: Future[Waiting] | None = None

    def __enter__(self) -> Self:
        if self._files is not None:
            self._writing = self._thread.submit(_write, self._files, self._inspection)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if self._files is not None and self._writing is not None and self._writing.exception() is None:
            self._files.discard(self._writing.result())

    def wait(self) -> None:
        """Until the file is on the disk for good; raises what kept it from being written, mostly OSError."""
        if self._writing is not None:
            self._writing.result()

    def place(self) -> None:
        """Give the file its name."""
        if self._files is not None and self._writing is not None:
            self._files.place(self._writing.result())
            self._writing = None


def _write(files: JointFiles, inspection: Inspection) -> Waiting:
    board = inspection.board
    path = file_of(rows.local_day(board.inspected_at), board.lot, board.record)
    return files.write(path, [to_arrow(inspection.joints, record=board.record)])

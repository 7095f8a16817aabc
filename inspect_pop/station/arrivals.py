"""Which boards in a folder have arrived: complete, not half copied, and not inspected before.

A board is complete when every file that its manifest names is there and nothing in its folder has changed for the settle
time; or, at once, when the machine leaves a file `.done` in it. One whose named files do not come is taken after the
patience time all the same, so that quarantine says what is missing.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inspect_pop.errors import UsageFault
from inspect_pop.ingest import find_exports

__all__ = ["Arrival", "Arrivals"]

MANIFEST = "export.json"
DONE = ".done"
File = tuple[str, int, int]  # name below the board's folder, size, mtime in ns


@dataclass(frozen=True)
class Arrival:
    """A complete board. `key` identifies its content at its place: the same export copied there again has the same."""

    path: Path
    root: Path
    arrived_ns: int
    key: str


@dataclass(frozen=True)
class _Look:
    files: tuple[File, ...]
    arrived_ns: int
    manifest: bytes

    @property
    def marked(self) -> bool:
        return any(name == DONE for name, _, _ in self.files)

    @property
    def whole(self) -> bool:
        return _named(self.manifest) <= {name for name, _, _ in self.files}


class Arrivals:
    """The boards of one folder, looked at again and again."""

    def __init__(self, folder: Path, known: Callable[[str], bool], *, settle_s: float = 2.0, patience_s: float = 600.0) -> None:
        self._folder, self._known, self._settle_s, self._patience_s = folder, known, settle_s, patience_s
        self._seen: dict[Path, tuple[_Look, float]] = {}
        self._over: dict[Path, _Look] = {}

    def ready(self, now_s: float) -> list[Arrival]:
        """What is complete and new at this time (seconds of any clock that only rises), in order of arrival."""
        found = [a for board, root in self._boards() if (a := self._arrival(board, root, now_s)) is not None]
        return sorted(found, key=lambda a: (a.arrived_ns, a.path))

    def over(self, arrival: Arrival) -> None:
        """The board was dealt with: not again until its content changes."""
        look, _ = self._seen.pop(arrival.path)
        self._over[arrival.path] = look

    def _boards(self) -> list[tuple[Path, Path]]:
        try:
            return find_exports([self._folder])
        except UsageFault:
            return []  # nothing there yet

    def _arrival(self, board: Path, root: Path, now_s: float) -> Arrival | None:
        look = _look(board)
        if look is None or self._over.get(board) == look:
            return None
        before, since_s = self._seen.get(board, (None, now_s))
        if before != look:
            since_s = now_s
        self._seen[board] = (look, since_s)
        if not self._complete(look, now_s - since_s):
            return None
        arrival = Arrival(board, root, look.arrived_ns, _key(board, look))
        if self._known(arrival.key):
            self.over(arrival)
            return None
        return arrival

    def _complete(self, look: _Look, quiet_s: float) -> bool:
        if look.whole:
            return look.marked or quiet_s >= self._settle_s
        return quiet_s >= self._patience_s


def _look(board: Path) -> _Look | None:
    """The board's files as they are now; None while the folder is being moved away or written."""
    try:
        manifest = board / MANIFEST if board.is_dir() else board
        files = tuple(sorted(_files(board))) if board.is_dir() else (_file(board, board.parent),)
        # The time of the inode's last change here: copying keeps the time of writing, of whichever machine wrote it.
        return _Look(files, manifest.stat().st_ctime_ns, manifest.read_bytes() if board.is_dir() else b"")
    except OSError:
        return None


def _files(board: Path) -> Iterator[File]:
    for folder, _, names in os.walk(board):
        for name in names:
            yield _file(Path(folder) / name, board)


def _file(path: Path, board: Path) -> File:
    found = path.lstat()
    return path.relative_to(board).as_posix(), found.st_size, found.st_mtime_ns


def _named(manifest: bytes) -> set[str]:
    """Files that a manifest names, as they would be listed; none where it is not one, for its inspection to say."""
    try:
        images = json.loads(manifest)["images"]
        return {os.path.normpath(i["file"]) for i in images}
    except (ValueError, LookupError, TypeError, RecursionError):
        return set()


def _key(board: Path, look: _Look) -> str:
    digest = hashlib.sha256(os.fsencode(board) + b"\0" + look.manifest)
    for name, size, _ in look.files:
        if name != DONE:
            digest.update(f"\0{name}\0{size}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

"""Which boards of a watched folder are complete and new: looked at often where something happens, and in turns elsewhere.

A folder is listed again when its time of change differs; a board that changed a moment ago is looked at every time; all
others take turns within a budget of time, so that ten thousand boards that lie there cost a small part of a core.
"""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from inspect_pop.core.errors import UsageFault
from inspect_pop.ingest import find_exports
from inspect_pop.ingest.contract import MANIFEST
from inspect_pop.ingest.files import fold_name

__all__ = ["DONE_FILE", "Arrival", "Arrivals"]

DONE_FILE = ".done"
ACTIVE_S = 6.0  # for so long after its last change, a board is looked at every time
ACTIVE_TURN_S, LEAST_ACTIVE = 0.2, 1000  # of each look at the folder, for these; and so many in any case
TURN_S, LEAST_STILL = 0.02, 25  # for the boards that lie still: 4 % of a core at two looks a second
RESCAN_S, RESCAN_SHARE = 30.0, 0.02  # all is listed again after this time, and not for a larger share of it
COARSE_S = 3.0  # FAT keeps times to 2 s: a folder that changed just now is listed again
_HIDDEN = (".", "$", "#", "@", "~")  # the listing of everything says whether boards may lie there


@dataclass(frozen=True)
class Arrival:
    """A complete board.

    Attributes:
        path: The board's folder, or its file for a format with one file per board.
        root: Folder that the board's files must lie in.
        arrived_ns: When its manifest appeared here, in ns.
        key: Identifies place and content: the same export, copied to the same place again, has the same key.
        surroundings: State of the recipe's folder. A board that could not be inspected comes again when this changes.
    """

    path: Path
    root: Path
    arrived_ns: int
    key: str
    surroundings: str = ""


@dataclass(frozen=True)
class _Snapshot:
    """A board's files at one moment: name below its folder, size, times of the last write and of the last change in ns."""

    files: tuple[tuple[str, int, int, int], ...]
    arrived_ns: int
    manifest_digest: str

    def differs_from(self, other: "_Snapshot") -> bool:
        """Return whether anything but the machine's mark differs."""
        mine, theirs = ([f for f in s.files if f[0] != DONE_FILE] for s in (self, other))
        return mine != theirs

    def make_key(self, board: Path) -> str:
        """Return the key of the board with this content; see `Arrival`."""
        digest = hashlib.sha256(os.fsencode(board) + b"\0" + self.manifest_digest.encode())
        for name, size, written_ns, _ in self.files:
            if name != DONE_FILE:
                digest.update(f"\0{name}\0{size}\0{written_ns}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass
class _Board:
    """What is known of one board of the folder."""

    root: Path
    snapshot: _Snapshot | None = None
    named: frozenset[str] = frozenset()  # files that the manifest names
    recipe: str = ""
    since_s: float = 0.0  # since when it has not changed
    done: _Snapshot | None = None  # as it was when it was inspected
    surroundings: str | None = None  # of a board that could not be inspected, at that time
    must_return: bool = False  # changed since it was done: inspected again even if the store knows its key

    def is_complete(self, quiet_s: float, settle_s: float, patience_s: float) -> bool:
        """Return whether to inspect the board, unchanged for `quiet_s` seconds."""
        names = {entry[0] for entry in self.snapshot.files} if self.snapshot else set()
        if self.named <= names or {fold_name(n) for n in self.named} <= {fold_name(n) for n in names}:
            return DONE_FILE in names or quiet_s >= settle_s
        return quiet_s >= patience_s


class Arrivals:
    """The boards that arrive in one folder.

    Args:
        folder: The watched folder.
        is_known: Tells of a key, with the state of the surroundings, whether the board was inspected before.
        settle_s: Seconds without a change after which a board is complete.
        patience_s: Seconds without a change after which a board with missing files is inspected, too.
    """

    def __init__(
        self, folder: Path, is_known: Callable[[str, str], bool], *, settle_s: float = 2.0, patience_s: float = 600.0
    ) -> None:
        self.folder, self._is_known, self._settle_s, self._patience_s = folder, is_known, settle_s, patience_s
        self._boards: dict[Path, _Board] = {}
        self._active: dict[Path, None] = {}  # boards that changed a moment ago, the next one to look at first
        self._still: deque[Path] = deque()  # the others, in turns
        self._others: dict[Path, tuple[int, float]] = {}  # folders that are no boards: time of change, and when it was seen
        self._rescan_s = float("-inf")
        self.is_missing = False  # whether the watched folder is gone

    @property
    def waiting(self) -> int:
        """Number of boards that are not complete, or not inspected yet."""
        return sum(board.done is None for board in self._boards.values())

    def find_ready(self, now_s: float, is_stopped: Callable[[], bool] = lambda: False) -> list[Arrival]:
        """Return the boards that are complete and new, in order of arrival.

        Args:
            now_s: The time in seconds, of any monotonic clock.
            is_stopped: Is asked before each board whether to look at no more of them.
        """
        self.is_missing = not self.folder.is_dir()
        if now_s >= self._rescan_s:
            started = time.monotonic()
            self._discover(self.folder, now_s)
            self._rescan_s = now_s + max(RESCAN_S, (time.monotonic() - started) / RESCAN_SHARE)
        for folder in list(self._others):
            self._list_folder(folder, now_s)
        ready = [*self._look_at_active(now_s, is_stopped), *self._look_at_still(now_s, is_stopped)]
        return sorted(ready, key=lambda a: (a.arrived_ns, a.path))

    def mark_done(self, arrival: Arrival, *, is_error: bool = False) -> None:
        """Leave the board out until its content changes; after an error, until its recipe's folder changes, too."""
        board = self._boards.get(arrival.path)
        if board is not None:
            board.done, board.must_return = board.snapshot, False
            board.surroundings = arrival.surroundings if is_error else None

    def _discover(self, top: Path, now_s: float) -> None:
        """Add the boards in and below a folder, and the folders there that are none."""
        try:
            found = [path for path, _ in find_exports([top])]
        except UsageFault:
            found = []  # no board yet
        for path in found:
            self._others.pop(path, None)
            if path not in self._boards:
                self._boards[path] = _Board(self.folder, since_s=now_s)
                self._active[path] = None
        for folder in _walk_others(top, self._boards):
            self._others.setdefault(folder, (_stat_folder(folder), now_s))

    def _list_folder(self, folder: Path, now_s: float) -> None:
        """Discover what is new in a folder that is no board, if it changed; it may have become one."""
        stamp, seen_s = self._others.get(folder, (0, now_s))
        now_stamp = _stat_folder(folder)
        if now_stamp == stamp and now_s - seen_s > COARSE_S:
            return
        self._others[folder] = now_stamp, now_s if now_stamp != stamp else seen_s
        if folder != self.folder and os.path.lexists(folder / MANIFEST):
            self._discover(folder, now_s)
            return
        try:
            with os.scandir(folder) as entries:
                new = [Path(e.path) for e in entries if not e.name.startswith(_HIDDEN) and e.is_dir(follow_symlinks=False)]
        except OSError:
            if folder != self.folder:
                self._others.pop(folder, None)
            return
        for path in new:
            if path not in self._boards and path not in self._others:
                self._discover(path, now_s)

    def _look_at_active(self, now_s: float, is_stopped: Callable[[], bool]) -> Iterator[Arrival]:
        until = time.monotonic() + ACTIVE_TURN_S
        for n, path in enumerate(list(self._active)):
            if is_stopped() or (n >= LEAST_ACTIVE and time.monotonic() > until):
                return
            del self._active[path]
            arrival = self._look_at(path, now_s)
            board = self._boards.get(path)
            if board is not None and now_s - board.since_s <= max(ACTIVE_S, 2 * self._settle_s):
                self._active[path] = None  # behind the others
            if arrival is not None:
                yield arrival

    def _look_at_still(self, now_s: float, is_stopped: Callable[[], bool]) -> Iterator[Arrival]:
        if not self._still:
            self._still.extend(self._boards)
        until = time.monotonic() + TURN_S
        for n in range(len(self._still)):
            if is_stopped() or (n >= LEAST_STILL and time.monotonic() > until):
                return
            path = self._still.popleft()
            if path in self._boards and path not in self._active:
                arrival = self._look_at(path, now_s)
                if arrival is not None:
                    yield arrival

    def _look_at(self, path: Path, now_s: float) -> Arrival | None:
        """Return the board if it is ready now; forget it if it is gone."""
        board = self._boards[path]
        files = _list_files(path)
        if files is None and not os.path.lexists(path):
            del self._boards[path]
            return None
        if board.snapshot is None or files != board.snapshot.files:
            snapshot = self._read(path, board, files)
            if snapshot is None:
                return None
            board.snapshot, board.since_s = snapshot, now_s
            self._active[path] = None
        if board.done is not None and not self._release(path, board):
            return None
        if not board.is_complete(now_s - board.since_s, self._settle_s, self._patience_s):
            return None
        surroundings = _describe_surroundings(path, board.recipe)
        arrival = Arrival(path, board.root, board.snapshot.arrived_ns, board.snapshot.make_key(path), surroundings)
        if not board.must_return and self._is_known(arrival.key, surroundings):
            board.done = board.snapshot
            return None
        return arrival

    def _release(self, path: Path, board: _Board) -> bool:
        """Return whether a board that was inspected comes again, because it or, after an error, its recipe's folder changed."""
        has_changed = board.snapshot is not None and board.done is not None and board.snapshot.differs_from(board.done)
        is_released = board.surroundings is not None and board.surroundings != _describe_surroundings(path, board.recipe)
        if has_changed or is_released:
            board.done, board.surroundings, board.must_return = None, None, has_changed
        return has_changed or is_released

    def _read(self, path: Path, board: _Board, files: tuple[tuple[str, int, int, int], ...] | None) -> _Snapshot | None:
        """Read the manifest of a board that changed; None while its folder is being moved or written."""
        manifest = path / MANIFEST if path.is_dir() else path
        try:
            # When the inode changed on this machine: a copy keeps the time of writing, of the machine that wrote it.
            arrived_ns, data = manifest.stat().st_ctime_ns, manifest.read_bytes() if manifest != path else b""
        except OSError:
            return None
        if files is None:
            return None
        board.named, board.recipe = _read_names(data)
        return _Snapshot(files, arrived_ns, hashlib.sha256(data).hexdigest())


def _read_names(manifest: bytes) -> tuple[frozenset[str], str]:
    """Return the image files and the recipe that a manifest names; none of what is not a manifest: the inspection says so."""
    try:
        value = json.loads(manifest)
        named = frozenset(os.path.normpath(i["file"].replace("\\", "/")) for i in value["images"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return frozenset(), ""
    recipe = value.get("recipe")
    return named, recipe.replace("\\", "/") if isinstance(recipe, str) else ""


def _list_files(board: Path) -> tuple[tuple[str, int, int, int], ...] | None:
    """Return the board's files as they are now; None while the folder is being moved."""
    found: list[tuple[str, int, int, int]] = []
    try:
        if not board.is_dir():
            state = board.lstat()
            return ((board.name, state.st_size, state.st_mtime_ns, state.st_ctime_ns),)
        pending = [("", os.fspath(board))]
        while pending:
            prefix, folder = pending.pop()
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((f"{prefix}{entry.name}/", entry.path))
                    else:
                        state = entry.stat(follow_symlinks=False)
                        found.append((prefix + entry.name, state.st_size, state.st_mtime_ns, state.st_ctime_ns))
    except OSError:
        return None
    return tuple(sorted(found))


def _describe_surroundings(board: Path, recipe: str) -> str:
    """Return a digest of the folder that holds the recipe: its files, sizes and times. Empty without a recipe's name."""
    if not recipe or "\0" in recipe:
        return ""
    folder = os.path.dirname(os.path.join(board, recipe))  # noqa: PTH118, PTH120 (a recipe may name anything)
    states: list[tuple[str, int, int]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                state = entry.stat()
                states.append((entry.name, state.st_size, state.st_mtime_ns))
    return hashlib.sha256(repr(sorted(states)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _stat_folder(folder: Path) -> int:
    """Return the folder's time of change in ns; 0 if it is gone."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _walk_others(top: Path, boards: Mapping[Path, object]) -> list[Path]:
    """Return the folders below `top` that are no boards and lie in none."""
    found: list[Path] = []
    if top in boards:
        return found
    for name, folders, _ in os.walk(top):
        folder = Path(name)
        found.append(folder)
        folders[:] = [f for f in folders if folder / f not in boards]
    return found

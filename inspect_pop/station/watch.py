"""`inspect-pop watch DIR`: inspect the exports that machines write to a folder, each once, in order of arrival.

A board is complete when all files that its manifest names exist and nothing in its folder has changed for the settle time;
or at once when the machine leaves a file `.done` in it. A board whose files stay missing is inspected after the patience
time, so that quarantine says what is missing.

Each board is a run of its own in the store, so that a restart continues where the last watch stopped. A board that was in
progress then is inspected again and gives the same record.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from sqlalchemy import select

from inspect_pop import __version__
from inspect_pop.core.clock import utc_now
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.ingest import find_exports
from inspect_pop.ingest.contract import MANIFEST
from inspect_pop.station.app import make_pool, run_publisher
from inspect_pop.station.contract import Answer
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.station import STORE_RETRY_S, Station
from inspect_pop.store import RunRecord, Store, open_store
from inspect_pop.store.schema import runs

__all__ = ["Arrival", "Arrivals", "watch", "watch_until"]

COMMAND = "watch"
DONE_FILE = ".done"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arrival:
    """A complete board.

    Attributes:
        path: The board's folder, or its file for a format with one file per board.
        root: Folder that the board's files must lie in.
        arrived_ns: When its manifest appeared here, in ns.
        key: Identifies place and content: the same export, copied to the same place again, has the same key.
    """

    path: Path
    root: Path
    arrived_ns: int
    key: str


@dataclass(frozen=True)
class _Snapshot:
    """A board's files at one moment: name below its folder, size, and time of the last write in ns."""

    files: tuple[tuple[str, int, int], ...]
    arrived_ns: int
    manifest: bytes

    def is_complete(self, quiet_s: float, settle_s: float, patience_s: float) -> bool:
        """Return whether to inspect the board, unchanged for `quiet_s` seconds."""
        try:
            named = {os.path.normpath(i["file"].replace("\\", "/")) for i in json.loads(self.manifest)["images"]}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            named = set()  # not a manifest: the inspection says so
        names = {name for name, _, _ in self.files}
        if named <= names:
            return DONE_FILE in names or quiet_s >= settle_s
        return quiet_s >= patience_s

    def make_key(self, board: Path) -> str:
        """Return the key of the board with this content; see `Arrival`."""
        digest = hashlib.sha256(os.fsencode(board) + b"\0" + self.manifest)
        for name, size, _ in self.files:
            if name != DONE_FILE:
                digest.update(f"\0{name}\0{size}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class Arrivals:
    """The boards that arrive in one folder.

    Args:
        folder: The watched folder.
        is_known: Tells of a key whether the board was inspected before.
        settle_s: Seconds without a change after which a board is complete.
        patience_s: Seconds without a change after which a board with missing files is inspected, too.
    """

    def __init__(
        self, folder: Path, is_known: Callable[[str], bool], *, settle_s: float = 2.0, patience_s: float = 600.0
    ) -> None:
        self._folder, self._is_known, self._settle_s, self._patience_s = folder, is_known, settle_s, patience_s
        self._seen: dict[Path, tuple[_Snapshot, float]] = {}  # with the time since when it has not changed
        self._done: dict[Path, _Snapshot] = {}

    def find_ready(self, now_s: float) -> list[Arrival]:
        """Return the boards that are complete and new, in order of arrival.

        Args:
            now_s: The time in seconds, of any monotonic clock.
        """
        try:
            boards = find_exports([self._folder])
        except UsageFault:
            return []  # no board yet
        arrivals: list[Arrival] = []
        for board, root in boards:
            snapshot = _take_snapshot(board)
            if snapshot is None or self._done.get(board) == snapshot:
                continue
            before, since_s = self._seen.get(board, (None, now_s))
            if before != snapshot:
                since_s = now_s
            self._seen[board] = (snapshot, since_s)
            if not snapshot.is_complete(now_s - since_s, self._settle_s, self._patience_s):
                continue
            arrival = Arrival(board, root, snapshot.arrived_ns, snapshot.make_key(board))
            if self._is_known(arrival.key):
                self.mark_done(arrival)
            else:
                arrivals.append(arrival)
        return sorted(arrivals, key=lambda a: (a.arrived_ns, a.path))

    def mark_done(self, arrival: Arrival) -> None:
        """Leave the board out until its content changes."""
        snapshot, _ = self._seen.pop(arrival.path)
        self._done[arrival.path] = snapshot


def _take_snapshot(board: Path) -> _Snapshot | None:
    """Return the board's files as they are now; None while the folder is being moved or written."""
    try:
        is_folder = board.is_dir()
        paths = [Path(folder) / name for folder, _, names in os.walk(board) for name in names] if is_folder else [board]
        states = [(path.relative_to(board if is_folder else board.parent).as_posix(), path.lstat()) for path in paths]
        files = tuple(sorted((name, state.st_size, state.st_mtime_ns) for name, state in states))
        manifest = board / MANIFEST if is_folder else board
        # The time of the inode's last change, on this machine: a copy keeps the time of writing, of the machine that wrote it.
        return _Snapshot(files, manifest.stat().st_ctime_ns, manifest.read_bytes() if is_folder else b"")
    except OSError:
        return None


def watch(
    folder: Path,
    settings: ServiceSettings,
    on_answer: Callable[[Answer], None],
    *,
    settle_s: float = 2.0,
    poll_s: float = 0.5,
) -> int:
    """Watch a folder until SIGTERM or SIGINT, and return the exit status.

    Args:
        folder: The folder that machines write exports to.
        settings: Store, model, limits, workers, time limit and CFX; the rest is not used.
        on_answer: Is called with the answer for each board, the same as the hook prints.
        settle_s: Seconds without a change after which a board is complete.
        poll_s: Seconds between two looks at the folder.

    Raises:
        UsageFault, StoreFault, ModelFault: The watch cannot start.
    """
    if not folder.is_dir():
        raise UsageFault(str(folder), expected="a folder to watch", found="none")

    async def run() -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not every system has these signals, and only the main thread can handle them.
            with contextlib.suppress(NotImplementedError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await watch_until(stop, folder.resolve(), settings, on_answer, settle_s=settle_s, poll_s=poll_s)

    return asyncio.run(run())


async def watch_until(
    stop: asyncio.Event,
    folder: Path,
    settings: ServiceSettings,
    on_answer: Callable[[Answer], None],
    *,
    settle_s: float,
    poll_s: float,
) -> int:
    """Watch a folder until `stop` is set, and return the exit status. See `watch`."""
    with open_store(settings.store) as store:
        station = Station(settings, make_pool(settings), store)

        def is_finished(key: str) -> bool:
            """Return whether this board's run ended. One that was interrupted did not."""
            with store.reading() as connection:
                return connection.scalar(select(runs.c.outcome).where(runs.c.id == _name_run(key))) is not None

        arrivals = Arrivals(folder, is_finished, settle_s=settle_s)
        await station.pool.start()
        try:
            async with run_publisher(settings, store):
                while not stop.is_set():
                    wait_s = poll_s
                    try:
                        if not await _inspect_arrivals(station, arrivals, on_answer, stop):
                            wait_s = STORE_RETRY_S
                    except StoreFault as fault:
                        log.error("the store cannot be used", extra={"reason": str(fault)})
                        wait_s = STORE_RETRY_S
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), wait_s)
        finally:
            await station.pool.close(settings.stop_s)
    return 0


async def _inspect_arrivals(
    station: Station, arrivals: Arrivals, on_answer: Callable[[Answer], None], stop: asyncio.Event
) -> bool:
    """Inspect all boards that are ready. Return False if the store has no room for one of them now."""
    store: Store = station.store
    for arrival in await asyncio.to_thread(arrivals.find_ready, time.monotonic()):
        if stop.is_set():
            break
        path = str(arrival.path)
        run = RunRecord(_name_run(arrival.key), COMMAND, __version__, utc_now(), {"path": path})
        await asyncio.to_thread(store.begin_run, run)
        reply = await station.inspect({"kind": "inspect", "path": path, "root": str(arrival.root), "name": path})
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return False
        await asyncio.to_thread(store.end_run, run.id, finished_at=utc_now(), outcome=reply.answer["verdict"])
        arrivals.mark_done(arrival)
        on_answer(reply.answer)
    return True


def _name_run(key: str) -> str:
    return f"{COMMAND}/{key}"

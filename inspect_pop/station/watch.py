"""Which boards in a folder have arrived: complete, not half copied, and not inspected before.

A board is complete when every file that its manifest names is there and nothing in its folder has changed for the settle
time; or, at once, when the machine leaves a file `.done` in it. One whose named files do not come is taken after the
patience time all the same, so that quarantine says what is missing.

`inspect-pop watch DIR`: a folder where machines drop exports. Each board is inspected once, in order of arrival.

What was dealt with is kept in the store as a run of its own, so a restart begins where the last one was stopped; a board
that was in hand then is inspected again and gives the same record.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from inspect_pop import __version__
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.ingest import find_exports
from inspect_pop.station.access import Station
from inspect_pop.station.answer import Answer
from inspect_pop.station.app import make_pool, messages
from inspect_pop.station.dispatch import STORE_RETRY_S, work
from inspect_pop.station.handler import UNAVAILABLE
from inspect_pop.station.settings import Settings
from inspect_pop.store import Run, Store, open_store
from inspect_pop.store.schema import runs

__all__ = ["Arrival", "Arrivals", "watch"]

# ---- station/arrivals
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


# ---- station/watch
COMMAND = "watch"
log = logging.getLogger(__name__)


def watch(
    folder: Path,
    settings: Settings,
    said: Callable[[Answer], None],
    *,
    settle_s: float = 2.0,
    poll_s: float = 0.5,
) -> int:
    """Watch until SIGTERM or SIGINT; the exit status.

    Of the settings, what concerns the inspection counts: store, model, limits, time limit, CFX. `said` is given each
    board's answer, the hook's object. Raises `UsageFault`, `StoreFault` or `ModelFault` where it cannot start.
    """
    if not folder.is_dir():
        raise UsageFault(str(folder), expected="a folder to watch", found="none")
    return asyncio.run(_watch(folder.resolve(), settings, said, settle_s, poll_s))


async def _watch(
    folder: Path,
    settings: Settings,
    said: Callable[[Answer], None],
    settle_s: float,
    poll_s: float,
    stop: asyncio.Event | None = None,
) -> int:
    stop = stop or _until_signalled()
    with open_store(settings.store) as store:
        here = Station(settings, make_pool(settings), store)
        arrivals = Arrivals(folder, lambda key: _is_over(store, key), settle_s=settle_s)
        await here.pool.start()
        try:
            async with messages(settings, store):
                while not stop.is_set():
                    wait_s = await _round(here, arrivals, said, stop, poll_s)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), wait_s)
        finally:
            await here.pool.close(settings.stop_s)
    return 0


async def _round(here: Station, arrivals: Arrivals, said: Callable[[Answer], None], stop: asyncio.Event, poll_s: float) -> float:
    """Inspect all that has arrived; how long to wait before looking again."""
    try:
        for arrival in await asyncio.to_thread(arrivals.ready, time.monotonic()):
            if stop.is_set():
                break
            answer = await _inspected(here, arrival)
            if answer is None:
                return STORE_RETRY_S
            arrivals.over(arrival)
            said(answer)
    except StoreFault as fault:
        log.error("the store cannot be used", extra={"reason": str(fault)})
        return STORE_RETRY_S
    return poll_s


async def _inspected(here: Station, arrival: Arrival) -> Answer | None:
    """The answer, after the store knows that the board was dealt with; None where the store has no room for it now."""
    run = Run(_run_id(arrival.key), COMMAND, __version__, _now(), {"path": str(arrival.path)})
    await asyncio.to_thread(here.store.begin_run, run)
    job = {"kind": "inspect", "path": str(arrival.path), "root": str(arrival.root), "name": str(arrival.path)}
    told = await work(here, job)
    if told.status == UNAVAILABLE:
        return None
    outcome = told.answer["verdict"]
    await asyncio.to_thread(here.store.end_run, run.id, finished_at=_now(), outcome=outcome)
    return told.answer


def _is_over(store: Store, key: str) -> bool:
    """Whether a run of this arrival ended; one that was stopped in between did not."""
    query = select(runs.c.outcome).where(runs.c.id == _run_id(key))
    with store.reading() as connection:
        return connection.scalar(query) is not None


def _run_id(key: str) -> str:
    return f"{COMMAND}/{key}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _until_signalled() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # no such signals there, or not the main thread
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop

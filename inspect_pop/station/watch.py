"""`inspect-pop watch DIR`: a folder where machines drop exports. Each board is inspected once, in order of arrival.

What was dealt with is kept in the store as a run of its own, so a restart begins where the last one was stopped; a board
that was in hand then is inspected again and gives the same record.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from inspect_pop import __version__
from inspect_pop.errors import StoreFault, UsageFault
from inspect_pop.station.answer import Answer
from inspect_pop.station.arrivals import Arrival, Arrivals
from inspect_pop.station.bench import UNAVAILABLE
from inspect_pop.station.dispatch import STORE_RETRY_S, work
from inspect_pop.station.service import make_pool, messages
from inspect_pop.station.settings import Settings
from inspect_pop.station.station import Station
from inspect_pop.store import Run, Store, open_store
from inspect_pop.store.schema import runs

__all__ = ["watch"]

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

"""`inspect-pop watch DIR`: inspect the exports that machines write to a folder, each once, in order of arrival.

A board is complete when all files that its manifest names exist and nothing in its folder has changed for the settle time;
or at once when the machine leaves a file `.done` in it. A board whose files stay missing is inspected after the patience
time, so that quarantine says what is missing. `arrivals` finds the boards.

A board that changes after it was inspected is inspected again, and one that could not be inspected also when its recipe's
folder changes. Each board is a run of its own in the store, so that a restart continues where the last watch stopped. A board
that was in progress then is inspected again and gives the same record.
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from sqlalchemy import select

from inspect_pop import __version__
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.system import utc_now
from inspect_pop.station import routes
from inspect_pop.station.arrivals import Arrival, Arrivals
from inspect_pop.station.contract import Answer, show_path
from inspect_pop.station.login import Gate
from inspect_pop.station.middleware import RequestGuard
from inspect_pop.station.routes import watch_machines
from inspect_pop.station.serve import bind, make_pool, run_publisher
from inspect_pop.station.settings import ServiceSettings, settle_settings
from inspect_pop.station.station import STORE_RETRY_S, InspectionReply, Station
from inspect_pop.store import RunRecord, Store, open_store
from inspect_pop.store.schema import runs

__all__ = ["HEALTH_PATHS", "Arrival", "Arrivals", "Printer", "create_health_app", "serve_health", "watch", "watch_until"]

HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class _QuietServer(uvicorn.Server):
    """A server that leaves the signals to the program around it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def create_health_app(station: Station) -> FastAPI:
    """Create an application with the station's health and metrics, for programs on this machine."""
    app = FastAPI(title="inspect_pop watch", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.station = station
    app.router.routes.extend(r for r in routes.admin.routes if getattr(r, "path", "") in HEALTH_PATHS)
    app.add_middleware(
        RequestGuard,
        settings=station.settings,
        gate=Gate(station.settings, None, station.store.accounts),
        metrics=station.metrics,
    )
    return app


@contextlib.asynccontextmanager
async def serve_health(station: Station, port: int | None) -> AsyncIterator[None]:
    """Serve health and metrics on loopback while the block runs; do nothing without a port.

    Raises:
        UsageFault: The port cannot be bound.
    """
    if port is None:
        yield
        return
    with bind("127.0.0.1", port) as bound:
        config = uvicorn.Config(
            create_health_app(station),
            loop="asyncio",
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        server = _QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            yield
        finally:
            server.should_exit = True
            await task


COMMAND = "watch"
BOARD_STOP_S = 5.0  # for so long a stopping watch waits for the board in progress, which is inspected again otherwise
STOP_LIMIT_S = 15.0  # after this the process ends whatever holds it up; service managers kill after 30 to 90 s
LOG_S = 0.5  # log lines are written by a thread
log = logging.getLogger(__name__)


def watch(
    folder: Path,
    settings: ServiceSettings,
    on_answer: Callable[[Answer], None],
    *,
    settle_s: float = 2.0,
    poll_s: float = 0.5,
    health_port: int | None = None,
) -> int:
    """Watch a folder until SIGTERM or SIGINT, and return the exit status.

    Args:
        folder: The folder that machines write exports to.
        settings: Store, model, limits, workers, time limit and CFX; the rest is not used.
        on_answer: Is called with the answer for each board, the same as the hook prints.
        settle_s: Seconds without a change after which a board is complete.
        poll_s: Seconds between two looks at the folder.
        health_port: Port on loopback for `/healthz`, `/readyz` and `/metrics`; None: none.

    Raises:
        UsageFault, StoreFault, ModelFault: The watch cannot start.
    """
    if not folder.is_dir():
        raise UsageFault(str(folder), expected="a folder to watch", found="none")

    timers: list[threading.Timer] = []

    async def run() -> int:
        stop = asyncio.Event()

        def end() -> None:
            stop.set()
            timers.append(threading.Timer(STOP_LIMIT_S, _exit_late))
            timers[-1].daemon = True
            timers[-1].start()

        for number in (signal.SIGTERM, signal.SIGINT):
            # Not every system has these signals, and only the main thread can handle them.
            with contextlib.suppress(NotImplementedError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(number, end)
        where = folder.resolve()
        return await watch_until(stop, where, settings, on_answer, settle_s=settle_s, poll_s=poll_s, health_port=health_port)

    try:
        return asyncio.run(run())
    finally:
        for timer in timers:
            timer.cancel()


def _exit_late() -> None:
    """End the process where a disk or a database holds it up. A board in progress is inspected again at the next start."""
    log.error("the watch could not end in order; what was in progress is inspected again", extra={"limit_s": STOP_LIMIT_S})
    time.sleep(LOG_S)
    os._exit(1)


async def watch_until(
    stop: asyncio.Event,
    folder: Path,
    settings: ServiceSettings,
    on_answer: Callable[[Answer], None],
    *,
    settle_s: float,
    poll_s: float,
    health_port: int | None = None,
) -> int:
    """Watch a folder until `stop` is set, and return the exit status. See `watch`."""
    with open_store(settings.store, time_zone=settings.time_zone, verify_sample=settings.verify_sample) as store:
        settings, start_model = settle_settings(settings)
        settings = replace(settings, qualified=tuple(store.list_qualified()))
        station = Station(settings, make_pool(settings), store)

        def is_known(key: str, surroundings: str) -> bool:
            """Return whether this board was inspected; after an error only if its recipe's folder is as it was then."""
            names = _name_run(key), _name_run(key, surroundings)
            with store.reading() as connection:
                rows = connection.execute(select(runs.c.id, runs.c.outcome).where(runs.c.id.in_(names)))
                ended = {row.id: row.outcome for row in rows}
            return ended.get(names[0]) not in {None, "error"} or ended.get(names[1]) is not None

        arrivals = Arrivals(folder, is_known, settle_s=settle_s)
        await station.pool.start()
        station.leave_setup(*start_model, ())
        log.info("the folder is watched", extra={"folder": show_path(str(folder)), "store": settings.store})
        try:
            async with run_publisher(settings, store), watch_machines(station), serve_health(station, health_port):
                await _inspect_until(stop, station, arrivals, Printer(on_answer), poll_s)
        finally:
            await station.pool.close(min(settings.stop_s, BOARD_STOP_S))
    return 0


async def _inspect_until(stop: asyncio.Event, station: Station, arrivals: Arrivals, printer: "Printer", poll_s: float) -> None:
    while not stop.is_set():
        wait_s = poll_s
        try:
            if not await _inspect_arrivals(station, arrivals, printer, stop):
                wait_s = STORE_RETRY_S
        except StoreFault as fault:
            log.error("the store cannot be used", extra={"reason": str(fault)})
            station.store_fault = str(fault)
            wait_s = STORE_RETRY_S
        _report_folder(station, arrivals)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)


def _report_folder(station: Station, arrivals: Arrivals) -> None:
    """Log that the watched folder is gone or back, once each; while it is gone, the watch is not ready."""
    fault = "the watched folder is gone" if arrivals.is_missing else ""
    if fault != station.folder_fault:
        log.log(
            logging.ERROR if fault else logging.INFO,
            fault or "the watched folder is back",
            extra={"folder": show_path(str(arrivals.folder))},
        )
        station.folder_fault = fault


class Printer:
    """Passes answers on, and goes on without a reader when there is none any more.

    Args:
        on_answer: Takes an answer.
    """

    def __init__(self, on_answer: Callable[[Answer], None]) -> None:
        self._on_answer, self._has_reader = on_answer, True

    def print(self, answer: Answer) -> None:
        """Pass an answer on, if anybody reads."""
        if not self._has_reader:
            return
        try:
            self._on_answer(answer)
        except OSError as error:
            self._has_reader = False
            log.warning("nobody reads the answers any more; boards are inspected and recorded", extra={"reason": str(error)})


async def _inspect_arrivals(station: Station, arrivals: Arrivals, printer: Printer, stop: asyncio.Event) -> bool:
    """Inspect all boards that are ready. Return False if the store has no room for one of them now."""
    store: Store = station.store
    for arrival in await asyncio.to_thread(arrivals.find_ready, time.monotonic(), stop.is_set):
        if stop.is_set():
            break
        path, name = str(arrival.path), show_path(str(arrival.path))
        run = RunRecord(_name_run(arrival.key), COMMAND, __version__, utc_now(), {"path": name})
        await asyncio.to_thread(store.begin_run, run)
        started = time.monotonic()
        job = {"kind": "inspect", "path": path, "root": str(arrival.root), "name": name}
        reply = await _inspect_unless_stopped(station, job, stop)
        if reply is None:
            return True
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return False
        verdict = reply.answer["verdict"]
        station.metrics.verdicts.labels(verdict).inc()
        station.metrics.latency.observe(time.monotonic() - started)
        await asyncio.to_thread(store.end_run, run.id, finished_at=utc_now(), outcome=verdict)
        if verdict == "error" and arrival.surroundings:
            again = replace(run, id=_name_run(arrival.key, arrival.surroundings))
            await asyncio.to_thread(store.begin_run, again)
            await asyncio.to_thread(store.end_run, again.id, finished_at=utc_now(), outcome=verdict)
        arrivals.mark_done(arrival, is_error=verdict == "error")
        printer.print(reply.answer)
    return True


async def _inspect_unless_stopped(station: Station, job: dict[str, str], stop: asyncio.Event) -> InspectionReply | None:
    """Inspect a board; return None if the watch is stopped and the board takes longer than `BOARD_STOP_S` from then on."""
    inspecting, stopping = asyncio.create_task(station.inspect(job)), asyncio.create_task(stop.wait())
    await asyncio.wait({inspecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not inspecting.done():
        await asyncio.wait({inspecting}, timeout=BOARD_STOP_S)
    if inspecting.done():
        return await inspecting
    inspecting.cancel()  # before its process is ended: an end would put the board in quarantine
    await asyncio.wait({inspecting})
    return None


def _name_run(key: str, surroundings: str = "") -> str:
    return f"{COMMAND}/{key}/{surroundings}" if surroundings else f"{COMMAND}/{key}"

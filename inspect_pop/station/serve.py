"""`inspect-pop serve`: the service on its address, until it is told to stop; then it finishes what it began."""

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import uvicorn

from inspect_pop.core.errors import PopError, UsageFault
from inspect_pop.station import telemetry as logs
from inspect_pop.station.access import Station
from inspect_pop.station.app import create_app
from inspect_pop.station.client import address_file, store_identity
from inspect_pop.station.middleware import timed_protocol
from inspect_pop.station.settings import Settings

__all__ = ["Server", "listening", "serve"]

HEAD_BYTES = 32 << 10
KEEP_ALIVE_S = 75  # longer than any client waits between two boards, so that none asks while its connection is closed
BACKLOG = 256
log = logging.getLogger(__name__)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises `UsageFault`, `StoreFault` or `ModelFault` where it cannot start."""
    logs.to_stderr()
    with listening(settings) as (server, bound):
        server.run(sockets=[bound])
    if server.station.trouble is not None:
        raise server.station.trouble
    return 0


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[tuple["Server", socket.socket]]:
    """A server and its bound socket; port 0 takes a free one. Where it listens is told in the store's address file."""
    with _bound(settings) as bound:
        settings = replace(settings, port=bound.getsockname()[1])
        with _told(settings):
            yield Server(settings), bound


class Server(uvicorn.Server):
    """uvicorn with the house's limits; when it stops, what waits in the queue is given back and what runs is finished."""

    def __init__(self, settings: Settings) -> None:
        app = create_app(settings)
        self.station: Station = app.state.station
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=timed_protocol(settings.header_s, settings.connections),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(settings.stop_s),
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the inspecting processes, then listen; without them, leave why and end."""
        try:
            await self.station.pool.start()
        except PopError as fault:
            self.station.trouble = fault
            self.should_exit = True
        else:
            await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Give back what waits, finish what runs, close."""
        self.station.stopping = True
        self.station.pool.give_back()
        await super().shutdown(sockets)


@contextlib.contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        bound = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        remedy = "Does a service run there already? Choose another --port."
        raise UsageFault(
            f"{settings.host}:{settings.port}", expected="an address to listen on", found=str(error), remedy=remedy
        ) from error
    with bound:
        yield bound


@contextlib.contextmanager
def _told(settings: Settings) -> Iterator[None]:
    """The address file beside the store, while the service is there; a hook on this machine looks into it."""
    file = address_file(settings.store)
    if file is None:
        yield
        return
    told = json.dumps({"url": settings.url, "pid": os.getpid(), "store": store_identity(settings.store)})
    _write(file, told)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if file.read_text(encoding="utf-8") == told:
                file.unlink()


def _write(file: Path, text: str) -> None:
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError as error:
        log.warning("the address file was not written; hooks need --service", extra={"reason": str(error)})

"""`inspect-pop serve`: run the service on its address until it is stopped, then finish what is in progress."""

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import uvicorn

from inspect_pop.core.atomic import write_text
from inspect_pop.core.errors import PopError, UsageFault
from inspect_pop.core.passwords import hide_passwords
from inspect_pop.station.app import create_app
from inspect_pop.station.contract import identify_store, locate_address_file
from inspect_pop.station.middleware import ConnectionGuard
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.station import Station
from inspect_pop.station.telemetry import BackgroundHandler

__all__ = ["JsonFormatter", "Server", "listen", "log_to_stderr", "serve"]

HEAD_BYTES = 32 << 10
KEEP_ALIVE_S = 75  # longer than a client pauses between two boards, so that no request meets a closing connection
BACKLOG = 256
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}
log = logging.getLogger(__name__)


def serve(settings: ServiceSettings) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    Raises:
        UsageFault, StoreFault, ModelFault: The service cannot start.
    """
    log_to_stderr()
    with listen(settings) as (server, bound):
        server.run(sockets=[bound])
    if server.station.start_fault is not None:
        raise server.station.start_fault
    return 0


@contextlib.contextmanager
def listen(settings: ServiceSettings) -> Iterator[tuple["Server", socket.socket]]:
    """Bind the address and yield a server with its socket; port 0 takes a free one.

    While the block runs, the address file next to an embedded store tells the hooks on this machine where the service is.

    Raises:
        UsageFault: The address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        bound = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        remedy = "Is a service running there already? Choose another --port."
        raise UsageFault(
            f"{settings.host}:{settings.port}", expected="an address to listen on", found=str(error), remedy=remedy
        ) from error
    with bound:
        settings = replace(settings, port=bound.getsockname()[1])
        file = locate_address_file(settings.store)
        address = json.dumps({"url": settings.url, "pid": os.getpid(), "store": identify_store(settings.store)})
        if file is not None:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_text(file, address)
            except OSError as error:
                log.warning("the address file was not written; hooks need --service", extra={"reason": str(error)})
        try:
            yield Server(settings), bound
        finally:
            with contextlib.suppress(OSError):
                if file is not None and file.read_text(encoding="utf-8") == address:
                    file.unlink()


class Server(uvicorn.Server):
    """A uvicorn server with this service's limits.

    When it stops, it answers 'busy' to what waits in the queue and finishes what is in progress.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        app = create_app(settings)
        self.station: Station = app.state.station
        self._guard = ConnectionGuard(
            app,
            header_s=settings.header_s,
            keep_alive_s=KEEP_ALIVE_S,
            reader_s=settings.reader_s,
            max_connections=settings.connections,
        )
        config = uvicorn.Config(
            self._guard,
            loop="asyncio",
            http="h11",
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
        config.load()
        config.http_protocol_class = self._guard.wrap_protocol(config.http_protocol_class)
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the inspecting processes, then listen. If they cannot start, store the reason and exit."""
        try:
            await self.station.pool.start()
        except PopError as fault:
            self.station.start_fault = fault
            self.should_exit = True
        else:
            await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer 'busy' to what waits, finish what is in progress, close."""
        self.station.is_stopping = True
        self.station.pool.refuse_waiting()
        await super().shutdown(sockets)


class JsonFormatter(logging.Formatter):
    """Format log records as JSON lines: time, level, logger, message, the fields of `extra`, and an exception's traceback.

    Headers, tokens and bodies are never logged, and passwords in addresses are hidden.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD_FIELDS}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        shown = {key: hide_passwords(value) if isinstance(value, str) else value for key, value in line.items()}
        return json.dumps(shown, ensure_ascii=False, default=str)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send all logs, uvicorn's among them, to standard error as JSON lines, for which nothing waits."""
    handler = BackgroundHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)

"""`inspect-pop serve`: run the service on its address until it is stopped, then finish what is in progress."""

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import uvicorn

from inspect_pop.core.errors import PopError, UsageFault, describe_error
from inspect_pop.core.text import hide_passwords
from inspect_pop.station.app import create_app
from inspect_pop.station.client import is_station, read_address
from inspect_pop.station.contract import identify_store, locate_address_file
from inspect_pop.station.middleware import ConnectionGuard
from inspect_pop.station.settings import ServiceSettings, StartModel, check_same_rules, settle_settings
from inspect_pop.station.setup import write_file
from inspect_pop.station.station import Station
from inspect_pop.station.telemetry import BackgroundHandler

__all__ = ["JsonFormatter", "Server", "bind", "listen", "log_to_stderr", "serve", "stop_in_order"]

HEAD_BYTES = 32 << 10
KEEP_ALIVE_S = 75  # longer than a client pauses between two boards, so that no request meets a closing connection
BACKLOG = 256
OTHER_S = 2.0  # another service on this store answers within this time, or counts as gone
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}
log = logging.getLogger(__name__)


def serve(settings: ServiceSettings) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    Raises:
        UsageFault, StoreFault, ModelFault: The service cannot start.
    """
    log_to_stderr()
    with listen(settings) as (server, bound):
        stop_in_order(server)
        server.run(sockets=[bound])
    if server.station.start_fault is not None:
        raise server.station.start_fault
    return 0


def stop_in_order(server: "Server") -> None:
    """Have the signals that end a process stop the server, and a closed terminal not.

    uvicorn handles SIGTERM and SIGINT while it serves, and raises them again when it is done: without another handler, the
    process would end there, with the address file left behind.
    """

    def stop(*_: object) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address. Raises `UsageFault`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        remedy = "Is a service running there already? Choose another --port."
        raise UsageFault(
            f"{host}:{port}", expected="an address to listen on", found=describe_error(error), remedy=remedy
        ) from error


@contextlib.contextmanager
def listen(settings: ServiceSettings) -> Iterator[tuple["Server", socket.socket]]:
    """Bind the address and yield a server with its socket; port 0 takes a free one.

    While the block runs, the address file next to the store tells the hooks on this machine where the service is, with the
    secret by which it proves itself. Where another service on the same store runs, its file stays.

    Raises:
        UsageFault: The address cannot be bound.
        StoreFault, ModelFault: See `settle_settings`.
    """
    bound = bind(settings.host, settings.port)
    with bound:
        is_first = not _find_other_service(settings.store)
        settings, start_model = settle_settings(replace(settings, port=bound.getsockname()[1]), may_write=is_first)
        secret = secrets.token_hex(32) if is_first else ""
        server = Server(settings, secret, start_model)
        with _leave_address(settings, secret):
            yield server, bound


def _find_other_service(store: str) -> bool:
    """Return whether another service already runs on the store and proves that it does."""
    with contextlib.suppress(PermissionError):
        address = read_address(store)
        if address is not None and is_station(address, time.monotonic() + OTHER_S):
            log.warning("another service already runs on this store; hooks use that one", extra={"url": address.url})
            return True
    return False


@contextlib.contextmanager
def _leave_address(settings: ServiceSettings, secret: str) -> Iterator[None]:
    file = locate_address_file(settings.store) if secret else None
    address = {"url": settings.url, "pid": os.getpid(), "store": identify_store(settings.store), "secret": secret}
    text = json.dumps(address)
    try:
        if file is not None:
            write_file(file, text, 0o600)
    except OSError as error:
        log.warning("the address file was not written; hooks need --service", extra={"reason": str(error)})
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if file is not None and file.read_text(encoding="utf-8") == text:
                file.unlink()


class Server(uvicorn.Server):
    """A uvicorn server with this service's limits.

    When it stops, it answers 'busy' to what waits in the queue and finishes what is in progress.
    """

    def __init__(self, settings: ServiceSettings, secret: str = "", start_model: StartModel = (None, "")) -> None:
        app = create_app(settings)
        self.station: Station = app.state.station
        self.station.secret = secret
        self._start_model = start_model
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
        """Start the inspecting processes, then listen. If they cannot start, keep the reason and exit."""
        station, store = self.station, self.station.settings.store
        try:
            await station.pool.start()
            if station.secret:
                station.leave_setup(*self._start_model, tuple(str(r.resolve()) for r in station.settings.roots))
            else:
                check_same_rules(store, station.pool.rules)
        except PopError as fault:
            self.station.start_fault = fault
            self.should_exit = True
        else:
            await super().startup(sockets)
            log.info("the service answers", extra={"url": station.settings.url, "store": store})

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

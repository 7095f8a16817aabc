"""The HTTP service: its application, and the process that runs it."""

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from html import escape
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from inspect_pop import __version__
from inspect_pop.core.errors import PopError, StoreFault, UsageFault, describe_error
from inspect_pop.core.text import hide_passwords
from inspect_pop.messages.hermes import parse_address, serve_lane
from inspect_pop.messages.publisher import OutboxPublisher, ResultsFollower, sender_for
from inspect_pop.station import routes, verify_routes
from inspect_pop.station.access import Tokens, load_tokens
from inspect_pop.station.client import is_station, read_address
from inspect_pop.station.contract import identify_store, locate_address_file, write_file
from inspect_pop.station.login import Gate, login
from inspect_pop.station.middleware import ConnectionGuard, RequestGuard, make_refusal
from inspect_pop.station.pool import BackgroundHandler, Pool
from inspect_pop.station.routes import machines, watch_machines
from inspect_pop.station.settings import ServiceSettings, StartModel, check_same_rules, settle_settings
from inspect_pop.station.station import STORE_RETRY_S, Station
from inspect_pop.station.verify_routes import pages, training, training_pages, verification
from inspect_pop.store import Store, open_store

__all__ = [
    "JsonFormatter",
    "Server",
    "bind",
    "create_app",
    "describe_type",
    "listen",
    "log_to_stderr",
    "make_pool",
    "overview",
    "run_publisher",
    "serve",
    "stop_in_order",
]

PUBLISHER_STOP_S = 12.0  # the time-out of one message
DESCRIPTION = (
    "Inspects one Package-on-Package board per request: post its folder or a zip of it, get verdict, reasons and record."
)
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}code{font-size:1.05em}"
    "td{text-align:left;vertical-align:top;padding:.3rem 1rem .3rem 0}"
    "h2{margin-top:2rem;border-top:1px solid #ccc;padding-top:1rem}"
)
overview = APIRouter()
log = logging.getLogger(__name__)


def create_app(settings: ServiceSettings, pool: Pool | None = None) -> FastAPI:
    """Create the application. Its inspecting processes run from its start to its stop.

    Args:
        settings: How the service is set up.
        pool: The inspecting processes; None makes them from the settings.

    Raises:
        UsageFault: The token file cannot be used.
        StoreFault: The store cannot be opened.
    """
    tokens = load_tokens(settings.tokens) if settings.tokens else None
    store = open_store(settings.store, time_zone=settings.time_zone, verify_sample=settings.verify_sample)
    settings = replace(settings, qualified=tuple(store.list_qualified()))
    station = Station(settings, pool or make_pool(settings), store)
    gate = Gate(settings, tokens, store.accounts)
    if tokens is not None:
        _write_down_tokens(tokens, store, str(settings.tokens))

    @contextlib.asynccontextmanager
    async def run(_: FastAPI) -> AsyncIterator[None]:
        await station.pool.start()
        try:
            await asyncio.to_thread(station.trainer.go_on)
            async with run_publisher(settings, station.store), watch_machines(station):
                yield
        finally:
            station.is_stopping = True
            await station.pool.close(settings.stop_s)
            station.store_probe.close()
            await asyncio.to_thread(station.store.close)

    app = FastAPI(title="inspect_pop", version=__version__, description=DESCRIPTION, lifespan=run, docs_url=None, redoc_url=None)
    app.state.station, app.state.gate = station, gate
    for router in (
        login,
        verification,
        pages,
        verify_routes.windows,
        training,
        training_pages,
        machines,
        routes.inspections,
        routes.records,
        routes.admin,
        overview,
    ):
        app.include_router(router)
    app.add_middleware(RequestGuard, settings=settings, gate=gate, metrics=station.metrics)

    @app.exception_handler(RequestValidationError)
    async def refuse_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return make_refusal(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def refuse_http(_: Request, error: HTTPException) -> JSONResponse:
        return make_refusal(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(PopError)
    async def refuse_fault(_: Request, error: PopError) -> JSONResponse:
        """Refuse for a declared fault that no route handles, mostly of the store."""
        return make_refusal(503, str(error), {"Retry-After": str(STORE_RETRY_S)})

    return app


def _write_down_tokens(tokens: Tokens, store: Store, file: str) -> None:
    """Write into the audit trail which tokens there are, now and whenever the file is read again."""

    def note(roles: dict[str, str]) -> None:
        asyncio.get_running_loop().run_in_executor(None, write_down, roles)

    def write_down(roles: dict[str, str]) -> None:
        try:
            store.audit("service", "token file read", file, after=roles)
        except StoreFault as fault:
            log.error("the audit trail could not be written", extra={"reason": str(fault)})

    write_down(tokens.roles)
    tokens.note = note


def make_pool(settings: ServiceSettings) -> Pool:
    """Make the pool of inspecting processes for these settings. None is started yet."""
    config = {
        "store": settings.store,
        "pages": str(settings.pages) if settings.pages else None,
        **asdict(settings.judging),
        "expect": settings.expect,
        "inspector_factory": settings.inspector_factory,
        "cfx_handle": settings.cfx_handle,
        "limit_s": settings.time_limit_s,
    }
    return Pool(config, size=settings.workers, queue=settings.queue, limit_s=settings.time_limit_s)


@contextlib.asynccontextmanager
async def run_publisher(settings: ServiceSettings, store: Store) -> AsyncIterator[None]:
    """Deliver the outbox's messages, write result files and announce boards while the block runs, as far as the settings say."""
    running: list[OutboxPublisher | ResultsFollower] = []
    if settings.cfx is not None:
        connect = sender_for(settings.cfx)
        running.append(OutboxPublisher(store, connect, handle=settings.cfx_handle, heartbeat_s=settings.heartbeat_s))
    if settings.results:
        running.append(ResultsFollower(store, settings.results))
    for publisher in running:
        publisher.start()
    try:
        async with contextlib.AsyncExitStack() as stack:
            if settings.hermes is not None:
                await stack.enter_async_context(serve_lane(parse_address(settings.hermes), store, settings.cfx_handle))
            yield
    finally:
        for publisher in running:
            await asyncio.to_thread(publisher.stop, PUBLISHER_STOP_S)


@overview.get("/docs", include_in_schema=False)
async def get_docs(request: Request) -> HTMLResponse:
    """Return the OpenAPI description as a page that loads nothing: a line has no network to load a viewer from."""
    schema = request.app.openapi()
    named = schema["components"]["schemas"]
    title = escape(schema["info"]["title"])
    icon = '<link rel="icon" href="verify/static/icon.svg" type="image/svg+xml">'
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>{icon}<style>{STYLE}</style>",
        f"<h1>{title} {escape(schema['info']['version'])}</h1><p>{escape(schema['info']['description'])}</p>",
        "<p>For machines: <a href=openapi.json>openapi.json</a>. A field in brackets may be left out.</p>",
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            fields = "".join(
                f"<tr><td><code>{escape(name)}</code><td>{escape(about)}"
                for name, about in (
                    *((p["name"], describe_type(p["schema"], named)) for p in operation.get("parameters", ())),
                    *(
                        (f"body, {kind}", describe_type(body["schema"], named))
                        for kind, body in operation.get("requestBody", {}).get("content", {}).items()
                    ),
                )
            )
            rows = "".join(
                f"<tr><td><code>{escape(status)}</code><td>{escape(response['description'])}"
                for status, response in sorted(operation["responses"].items())
            )
            words = escape(operation.get("description", ""))
            parts.append(f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{words}<table>{fields}{rows}</table>")
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    }
    page = re.sub("`([^`]*)`", r"<code>\1</code>", "".join(parts))
    return HTMLResponse(page + "</html>", headers=headers)


def describe_type(schema: dict[str, Any], named: dict[str, Any]) -> str:
    """Return in words what a JSON schema takes: each field with its type or its choices; a field in brackets may be left out.

    `named` are the schemas that `$ref` refers to.
    """
    if "$ref" in schema:
        return describe_type(named[schema["$ref"].rsplit("/", 1)[1]], named)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(describe_type(choice, named) for choice in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"list of {describe_type(schema.get('items', {}), named)}"
    if "properties" in schema:
        required = schema.get("required", ())
        fields = ((name, describe_type(field, named)) for name, field in schema["properties"].items())
        return "{" + ", ".join(f"{n}: {words}" if n in required else f"[{n}: {words}]" for n, words in fields) + "}"
    return str(schema.get("format") or schema.get("type", "anything"))


# `inspect-pop serve`: run the service on its address until it is stopped, then finish what is in progress.


HEAD_BYTES = 32 << 10
KEEP_ALIVE_S = 75  # longer than a client pauses between two boards, so that no request meets a closing connection
BACKLOG = 256
OTHER_S = 2.0  # another service on this store answers within this time, or counts as gone
_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}


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

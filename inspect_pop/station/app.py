"""The HTTP service as a FastAPI application around one station."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from inspect_pop import __version__
from inspect_pop.core.errors import PopError, StoreFault
from inspect_pop.messages.hermes import parse_address, serve_lane
from inspect_pop.messages.publisher import OutboxPublisher
from inspect_pop.messages.result_follower import ResultsFollower
from inspect_pop.messages.senders import sender_for
from inspect_pop.station import routes, window_routes
from inspect_pop.station.access import Tokens, load_tokens
from inspect_pop.station.login import Gate, login
from inspect_pop.station.machines import machines, watch_machines
from inspect_pop.station.middleware import RequestGuard, make_refusal
from inspect_pop.station.pool import Pool
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.station import STORE_RETRY_S, Station
from inspect_pop.station.training_routes import training, training_pages
from inspect_pop.station.verify_routes import pages, verification
from inspect_pop.store import Store, open_store

__all__ = ["create_app", "describe_type", "make_pool", "overview", "run_publisher"]

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
        window_routes.windows,
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

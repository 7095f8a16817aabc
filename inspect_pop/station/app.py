"""The resident service: one FastAPI application around the pool of inspecting processes and the store.

`GET /docs`: the OpenAPI page for a person, self-contained; a line has no network to load a viewer from.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from inspect_pop import __version__
from inspect_pop.core.errors import PopError
from inspect_pop.messages.publisher import Postman
from inspect_pop.messages.senders import sender_for
from inspect_pop.station import access as tokens
from inspect_pop.station import routes
from inspect_pop.station.access import Station
from inspect_pop.station.dispatch import STORE_RETRY_S
from inspect_pop.station.middleware import Gate
from inspect_pop.station.pool import Pool
from inspect_pop.station.settings import Settings
from inspect_pop.store import Store, open_store

__all__ = ["create_app", "make_pool", "messages", "overview"]

# ---- station/service
POSTMAN_STOP_S = 12.0  # one message may take its time-out
DESCRIPTION = "Inspects one Package-on-Package board at a time: post its folder or a zip of it, get verdict, reasons and record."


def create_app(settings: Settings, pool: Pool | None = None) -> FastAPI:
    """The application; its inspecting processes run from its start to its stop.

    Raises `UsageFault` for a token file that cannot be used, `StoreFault` for a store that cannot be opened.
    """
    known = tokens.load(settings.tokens) if settings.tokens else None
    station = Station(settings, pool or make_pool(settings), open_store(settings.store))
    app = FastAPI(
        title="inspect_pop",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan(station),
        docs_url=None,
        redoc_url=None,
    )
    app.state.station = station
    for part in (routes.inspections, routes.records, routes.upkeep, overview):
        app.include_router(part)
    app.add_middleware(Gate, settings=settings, tokens=known, metrics=station.metrics)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(PopError, _fault)
    return app


def make_pool(settings: Settings) -> Pool:
    """The inspecting processes that these settings ask for; none is started yet."""
    hello = {
        "store": settings.store,
        "pages": str(settings.pages) if settings.pages else None,
        "model": str(settings.model) if settings.model else None,
        "limits": str(settings.limits) if settings.limits else None,
        "maker": settings.maker,
        "handle": settings.cfx_handle,
        "limit_s": settings.time_limit_s,
    }
    return Pool(hello, size=settings.workers, queue=settings.queue, limit_s=settings.time_limit_s)


def _lifespan(station: Station) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        await station.pool.start()
        try:
            async with messages(station.settings, station.store):
                yield
        finally:
            station.stopping = True
            await station.pool.close(station.settings.stop_s)
            await asyncio.to_thread(station.store.close)

    return running


@contextlib.asynccontextmanager
async def messages(settings: Settings, store: Store) -> AsyncIterator[None]:
    """While the block runs, what is in the outbox goes to where the settings say, if they say."""
    if settings.cfx is None:
        yield
        return
    postman = Postman(store, sender_for(settings.cfx), handle=settings.cfx_handle, heartbeat_s=settings.heartbeat_s)
    postman.start()
    try:
        yield
    finally:
        await asyncio.to_thread(postman.stop, POSTMAN_STOP_S)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": (), "msg": str(error)}
    where = ".".join(str(part) for part in first["loc"])
    return _problem(422, f"{where}: {first['msg']}")


async def _refused(_: Request, error: Exception) -> JSONResponse:
    status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    return _problem(status, str(getattr(error, "detail", error)), dict(headers or {}))


async def _fault(_: Request, error: Exception) -> JSONResponse:
    """A declared fault that no route took: of the store, mostly."""
    return _problem(503, str(error), {"Retry-After": str(STORE_RETRY_S)})


def _problem(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Every refusal has all parts of an answer, so that the line reads one kind of object."""
    answer: dict[str, object] = {
        "serial": None,
        "verdict": "error",
        "reason": reason,
        "defects": [],
        "record": None,
        "report": None,
        "elapsed_ms": 0.0,
    }
    return JSONResponse(answer, status, headers)


# ---- station/overview
overview = APIRouter()
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}code{font-size:1.05em}"
    "td{text-align:left;vertical-align:top;padding:.3rem 1rem .3rem 0}"
    "h2{margin-top:2rem;border-top:1px solid #ccc;padding-top:1rem}"
)


@overview.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Every operation with its answers."""
    told = request.app.openapi()
    parts = [_operation(m, p, o) for p, methods in told["paths"].items() for m, o in methods.items()]
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(told['info']['title'])}</title><style>{STYLE}</style>"
    )
    intro = (
        f"<h1>{escape(told['info']['title'])} {escape(told['info']['version'])}</h1><p>{escape(told['info']['description'])}</p>"
    )
    machine = "<p>For machines: <a href=openapi.json>openapi.json</a>.</p>"
    return HTMLResponse(head + intro + machine + "".join(parts) + "</html>")


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code><td>{escape(answer['description'])}"
        for status, answer in sorted(operation["responses"].items())
    )
    kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation.get("requestBody", {}).get("content", {}))
    body = f"<p>Body: {kinds}</p>" if kinds else ""
    title = f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"
    return f"{title}<p>{escape(operation.get('description', ''))}</p>{body}<table>{rows}</table>"

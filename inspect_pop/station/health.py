"""Health and metrics of a station that serves nothing else: the watched folder's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

from inspect_pop.station import routes
from inspect_pop.station.middleware import RequestGuard
from inspect_pop.station.serve import bind
from inspect_pop.station.station import Station

__all__ = ["HEALTH_PATHS", "create_health_app", "serve_health"]

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
    app.add_middleware(RequestGuard, settings=station.settings, tokens=None, metrics=station.metrics)
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

"""What every request passes before anything of it is read: who asks, how much they send, and how fast.

HTTP/1.1 connections that must say something: half-open and slow ones are closed, and too many at once.

uvicorn times a connection only between requests; here one that has not sent a whole request head in time is closed, and
where there are too many connections, the one that has been silent longest makes room.
"""

import asyncio
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from inspect_pop.station.access import LOCAL, Caller, Tokens
from inspect_pop.station.settings import Settings, is_loopback
from inspect_pop.station.telemetry import Metrics

__all__ = ["Gate", "timed_protocol"]

# ---- station/gate
LINGER_S = 1.0  # a refused upload is read on for this long, so that its sender sees the answer instead of a broken pipe
LINGER_BYTES = 16 << 20
log = logging.getLogger(__name__)


class Gate:
    """ASGI middleware: `scope["state"]["caller"]` is who asks (None: nobody known); bodies are bounded in size and time."""

    def __init__(self, app: ASGIApp, settings: Settings, tokens: Tokens | None, metrics: Metrics) -> None:
        self._app, self._settings, self._tokens, self._metrics = app, settings, tokens, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        connection = HTTPConnection(scope)
        seen = _Seen()
        scope.setdefault("state", {})["caller"] = self._caller(connection)
        refusal = self._refusal(connection)
        app = self._app if refusal is None else _refuse(*refusal)
        bodiless = not ({"content-length", "transfer-encoding"} & set(connection.headers.keys()))
        body = _Body(receive, self._most_bytes(connection), self._settings, whole=bodiless)
        try:
            await app(scope, body.receive, seen.watch(send, body))
        finally:
            self._told(scope, seen.status, started)

    def _caller(self, connection: HTTPConnection) -> Caller | None:
        if self._tokens is None:
            return LOCAL
        return self._tokens.caller(connection.headers.get("authorization"))

    def _refusal(self, connection: HTTPConnection) -> tuple[int, str] | None:
        """Status and reason where the request is refused unread."""
        if self._tokens is None and not _from_here(connection):
            return 403, "this service is for programs on its own machine: Host and Origin must be loopback"
        try:
            declared = int(connection.headers.get("content-length", "0"))
        except ValueError:
            return 400, "Content-Length is no number"
        most = self._most_bytes(connection)
        return (413, f"a body of at most {most} bytes") if declared > most else None

    def _most_bytes(self, connection: HTTPConnection) -> int:
        multipart = connection.headers.get("content-type", "").lower().startswith("multipart/form-data")
        return self._settings.upload_bytes if multipart else self._settings.json_bytes

    def _told(self, scope: Scope, status: int, started: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.requests.labels(route, str(status)).inc()
        caller: Caller | None = scope["state"]["caller"]
        ms = round((time.monotonic() - started) * 1000, 1)
        told: dict[str, Any] = {"method": scope["method"], "route": route, "status": status, "ms": ms}
        log.info("request", extra=told | {"caller": caller.name if caller else None, **scope["state"].get("told", {})})


class _Body:
    """A request's body that may not be too long, nor come too slowly."""

    def __init__(self, receive: Receive, most: int, settings: Settings, *, whole: bool) -> None:
        self._receive, self._most, self._idle_s = receive, most, settings.body_idle_s
        self._until = time.monotonic() + settings.body_s
        self.read, self.whole = 0, whole

    async def receive(self) -> Message:
        """The next piece; HTTPException 408 where it does not come in time, 413 where it is one too many."""
        if self.whole:
            return await self._receive()  # only the disconnect can still come, and it may take its time
        limit_s = min(self._idle_s, self._until - time.monotonic())
        try:
            async with asyncio.timeout(limit_s):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, "the body came too slowly") from error
        self.read += len(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if self.read > self._most:
            raise HTTPException(413, f"a body of at most {self._most} bytes")
        return message

    async def linger(self) -> None:
        """Read on for a moment and throw it away."""
        limit = self.read + LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_S):
                while not self.whole and self.read < limit:
                    message = await self._receive()
                    self.read += len(message.get("body", b""))
                    self.whole = not message.get("more_body", False)
        except TimeoutError:
            return


class _Seen:
    """The status that was sent; an answer given before the body was read closes the connection, after a moment."""

    def __init__(self) -> None:
        self.status = 0

    def watch(self, send: Send, body: _Body) -> Send:
        async def watching(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                if not body.whole:
                    message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            elif not body.whole and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.linger()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        return watching


def _refuse(status: int, reason: str) -> ASGIApp:
    return JSONResponse({"verdict": "error", "reason": reason}, status)


def _from_here(connection: HTTPConnection) -> bool:
    """Neither a page in some browser nor a name that points here: what a request without a token must be."""
    origin = connection.headers.get("origin")
    try:
        host = urlsplit(f"//{connection.headers.get('host', '127.0.0.1')}").hostname or ""
        return is_loopback(host) and (origin is None or is_loopback(urlsplit(origin).hostname or ""))
    except ValueError:
        return False


# ---- station/protocol
def timed_protocol(header_s: float, connections: int) -> type[H11Protocol]:
    """uvicorn's protocol class with a time for the request head and a bound on connections."""

    class TimedProtocol(H11Protocol):
        """One connection."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._silent_since = self.loop.time()
            self._head_timer = self.loop.call_later(header_s, self._close_if_waiting)
            if len(self.connections) > connections:
                _close_oldest(self.connections)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_timer.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            answered = self.cycle
            super().data_received(data)
            if self.cycle is not answered:
                self._head_timer.cancel()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._silent_since = self.loop.time()
            self._head_timer.cancel()
            self._head_timer = self.loop.call_later(self.timeout_keep_alive + header_s, self._close_if_waiting)

        @property
        def waits_for_head(self) -> bool:
            """Whether no request is being answered here."""
            return self.cycle is None or self.cycle.response_complete

        def _close_if_waiting(self) -> None:
            if self.waits_for_head and not self.transport.is_closing():
                self.transport.close()

    return TimedProtocol


def _close_oldest(connections: set[Any]) -> None:
    silent = [c for c in connections if getattr(c, "waits_for_head", False) and not c.transport.is_closing()]
    if silent:
        min(silent, key=lambda c: c._silent_since).transport.close()

"""What every connection and request passes: who asks, how much they send, how fast, and how many connections are open.

uvicorn limits the time between two requests only. It waits without limit for a request head that began, for the first
byte of a new connection, and for a caller that does not read its answer, and it has no limit for idle connections
(`limit_concurrency` refuses requests, too).
`ConnectionGuard` closes such connections. It uses public interfaces only: `asyncio.Protocol`, around the protocol class in
`uvicorn.Config.http_protocol_class`, says when a connection opens and closes; ASGI says when a request begins and ends.
"""

import asyncio
import logging
import socket
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inspect_pop.station.access import LOCAL_CALLER, Tokens
from inspect_pop.station.settings import ServiceSettings, is_loopback
from inspect_pop.station.station import Metrics

__all__ = ["ConnectionGuard", "RequestGuard"]

LINGER_S = 1.0  # the rest of a refused upload is read for this long, so that its sender sees the answer, not a broken pipe
LINGER_BYTES = 16 << 20
LEAST_READ_BYTES = 64 << 10  # of an answer, in `reader_s`: a network that carries pictures carries hundreds of times as much
SEND_BUFFER_BYTES = 128 << 10  # of the kernel for each connection; left to itself it takes megabytes for who does not read
CLIENT_LEFT = 499  # in logs and metrics: the caller went away before its request was read; nginx's number
OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # need no token
# What a proxy adds, besides X-Forwarded-… and X-Original-…: whoever it asks for is not on this machine.
FORWARDING_HEADERS = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-remote-ip", "true-client-ip", "cf-connecting-ip",
     "fastly-client-ip", "client-ip", "proxy-connection", "x-arr-log-id", "x-envoy-external-address", "x-proxyuser-ip"}
)  # fmt: skip
log = logging.getLogger(__name__)


class RequestGuard:
    """ASGI middleware that identifies the caller, bounds bodies in size and time, and logs and counts each request.

    Sets `scope["state"]["caller"]`, None if the caller is unknown. A route adds to the log line by
    `scope["state"]["log_fields"]`.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, tokens: Tokens | None, metrics: Metrics) -> None:
        self._app, self._settings, self._tokens, self._metrics = app, settings, tokens, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        connection = HTTPConnection(scope)
        caller = LOCAL_CALLER if self._tokens is None else self._tokens.find_caller(connection.headers.get("authorization"))
        state = scope.setdefault("state", {})
        state["caller"] = caller
        is_multipart = connection.headers.get("content-type", "").lower().startswith("multipart/form-data")
        max_bytes = self._settings.upload_bytes if is_multipart else self._settings.json_bytes
        app: ASGIApp = self._find_refusal(connection, max_bytes) or self._app
        exchange = _Exchange(receive, send, max_bytes, self._settings)
        exchange.is_read = not ({"content-length", "transfer-encoding"} & set(connection.headers.keys()))
        try:
            await app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = CLIENT_LEFT
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, str(exchange.status)).inc()
            ms = round((time.monotonic() - started) * 1000, 1)
            fields: dict[str, Any] = {"method": scope["method"], "route": route, "status": exchange.status, "ms": ms}
            fields["caller"] = caller.name if caller else None
            log.info("request", extra=fields | state.get("log_fields", {}))

    def _find_refusal(self, connection: HTTPConnection, max_bytes: int) -> JSONResponse | None:
        """Return the refusal of a request whose body need not be read."""
        if self._tokens is None:
            if not _is_program_of_this_machine(connection):
                return _make_refusal(
                    403,
                    "this service accepts programs on its own machine only: no page in a browser, no proxy, and Host must be "
                    "loopback. Give it --tokens FILE to serve others",
                )
        elif connection.state.caller is None and connection.url.path not in OPEN_PATHS:
            # It ends the connection, too: whatever else was sent on it would only be refused again.
            headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
            return _make_refusal(401, "a known token is needed: Authorization: Bearer TOKEN", headers)
        try:
            declared = int(connection.headers.get("content-length", "0"))
        except ValueError:
            return _make_refusal(400, "Content-Length is not a number")
        return _make_refusal(413, f"the body is longer than {max_bytes} bytes") if declared > max_bytes else None


def _make_refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"verdict": "error", "reason": reason}, status, headers)


def _is_program_of_this_machine(connection: HTTPConnection) -> bool:
    """Return whether a program on this machine asks, and asks for itself: neither a proxy nor a page in a browser.

    A page of another program on this machine, at another port, is a page like any other.
    """
    headers = connection.headers
    if any(name in FORWARDING_HEADERS or name.startswith(("x-forwarded-", "x-original-")) for name in headers):
        return False
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    port = (connection.scope.get("server") or ("", 0))[1]
    try:
        host = urlsplit(f"//{headers.get('host', '127.0.0.1')}")
        if not is_loopback(host.hostname or "") or host.port not in (None, port):
            return False
        pages = [urlsplit(headers[name]) for name in ("origin", "referer") if name in headers]
        return all(p.scheme == "http" and is_loopback(p.hostname or "") and p.port == port for p in pages)
    except ValueError:
        return False


class _Exchange:
    """One request's body, bounded in size and time, and its response.

    A response that is sent before the body was read closes the connection, after a moment in which the body is still read.
    """

    def __init__(self, receive: Receive, send: Send, max_bytes: int, settings: ServiceSettings) -> None:
        self._receive, self._send, self._max_bytes, self._idle_s = receive, send, max_bytes, settings.body_idle_s
        self._until = time.monotonic() + settings.body_s
        self.n_bytes, self.is_read, self.status = 0, False, 0

    async def receive(self) -> Message:
        """Return the next piece of the body.

        Raises:
            HTTPException: 408 if it does not arrive in time, 413 if the body is too long.
        """
        if self.is_read:
            return await self._receive()  # only the disconnect can follow, at any time
        try:
            async with asyncio.timeout(min(self._idle_s, self._until - time.monotonic())):
                message = await self._receive_piece()
        except TimeoutError as error:
            raise HTTPException(408, "the body arrived too slowly") from error
        if self.n_bytes > self._max_bytes:
            raise HTTPException(413, f"the body is longer than {self._max_bytes} bytes")
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self.is_read:
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        elif not self.is_read and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            limit = self.n_bytes + LINGER_BYTES
            try:
                async with asyncio.timeout(LINGER_S):
                    while not self.is_read and self.n_bytes < limit:
                        await self._receive_piece()
            except TimeoutError:
                pass
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _receive_piece(self) -> Message:
        message = await self._receive()
        self.n_bytes += len(message.get("body", b""))
        self.is_read = not message.get("more_body", False)
        return message


class ConnectionGuard:
    """Closes connections that send no whole request head in time or do not read their answer, and one if there are too many.

    It is an ASGI application around `app`, and `wrap_protocol` gives the server's protocol class. Both are needed. A
    request's connection is found by `scope["client"]` and `scope["server"]`, its two socket addresses.

    Args:
        app: The application.
        header_s: Seconds from the connection's start within which a whole head must arrive.
        keep_alive_s: Seconds that the server keeps an idle connection. The next head must arrive `header_s` later.
        reader_s: Seconds within which a caller must read what was sent to it, or at least `LEAST_READ_BYTES` of it.
        max_connections: Most open connections. One more closes another one: see `_make_room`.
    """

    def __init__(
        self, app: ASGIApp, *, header_s: float, keep_alive_s: float, max_connections: int, reader_s: float = 10.0
    ) -> None:
        self._app, self._header_s, self._keep_alive_s, self._max_connections = app, header_s, keep_alive_s, max_connections
        self._reader_s = reader_s
        self._connections: dict[object, _Connection] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; its connection is not closed meanwhile."""
        connection = self._connections.get((scope.get("client"), scope.get("server"))) if scope["type"] == "http" else None
        if connection is None:
            await self._app(scope, receive, send)
            return
        connection.begin_request(scope.setdefault("state", {}))
        try:
            await self._app(scope, receive, send)
        finally:
            connection.end_request(self._keep_alive_s + self._header_s)

    def wrap_protocol(self, protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
        """Return a protocol class that reports each connection here and passes all events on to an instance of `protocol`."""
        guard = self

        class GuardedProtocol(asyncio.Protocol):
            def __init__(self, **options: Any) -> None:
                self._inner = protocol(**options)

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                client, server = (transport.get_extra_info(name) for name in ("peername", "sockname"))
                # A client that left before the connection was accepted has no address.
                self._key = ((str(client[0]), int(client[1])), (str(server[0]), int(server[1]))) if client else object()
                self._connection = guard._add(self._key, str(client[0]) if client else "", transport)
                self._inner.connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                guard._remove(self._key, self._connection)
                self._inner.connection_lost(exc)

            def data_received(self, data: bytes) -> None:
                self._inner.data_received(data)

            def eof_received(self) -> bool | None:
                return self._inner.eof_received()

            def pause_writing(self) -> None:
                self._connection.begin_waiting(guard._reader_s)
                self._inner.pause_writing()

            def resume_writing(self) -> None:
                self._connection.end_waiting()
                self._inner.resume_writing()

        return GuardedProtocol

    def _add(self, key: object, address: str, transport: asyncio.BaseTransport) -> "_Connection":
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"expected a stream, found {transport!r}")
        transport.set_write_buffer_limits(high=0)  # reports each byte that waits for its reader, and holds one piece at most
        accepted = transport.get_extra_info("socket")
        if accepted is not None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        connection = _Connection(address, transport)
        connection.close_if_idle_in(self._header_s)
        n_open = sum(not c.transport.is_closing() for c in self._connections.values())
        if n_open >= self._max_connections:
            self._make_room(connection)
        self._connections[key] = connection
        return connection

    def _make_room(self, newcomer: "_Connection") -> None:
        """End one connection: of those whose caller is unknown first, of the address that holds most, not reading, idle longest.

        A request that is being answered to a known caller who reads is never ended. Only where nothing else is open, the
        newcomer is.
        """
        held = Counter(c.address for c in self._connections.values() if not c.transport.is_closing())
        victims = [c for c in self._connections.values() if c.may_end]
        victim = min(victims, key=lambda c: (c.is_known, -held[c.address], not c.is_waiting, c.idle_since), default=newcomer)
        victim.transport.abort()

    def _remove(self, key: object, connection: "_Connection") -> None:
        connection.cancel_timers()
        if self._connections.get(key) is connection:  # not so if the client uses the address again already
            del self._connections[key]


class _Connection:
    """One open connection: how many requests it is answering, since when it is idle, and whether its caller reads."""

    def __init__(self, address: str, transport: asyncio.Transport) -> None:
        self.address, self.transport, self._loop = address, transport, asyncio.get_running_loop()
        self._requests = 0
        self._state: dict[str, Any] = {}  # of the last request: `RequestGuard` puts its caller in
        self._idle_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self.idle_since = self._loop.time()

    @property
    def is_idle(self) -> bool:
        return self._requests == 0 and not self.transport.is_closing()

    @property
    def is_known(self) -> bool:
        """Whether the caller of the last request is known."""
        return self._state.get("caller") is not None

    @property
    def is_waiting(self) -> bool:
        """Whether something that was sent has not been read yet."""
        return self._reader_timer is not None

    @property
    def may_end(self) -> bool:
        """Whether it may be ended for another one."""
        return not self.transport.is_closing() and (self.is_idle or self.is_waiting or not self.is_known)

    def begin_request(self, state: dict[str, Any]) -> None:
        self._requests += 1
        self._state = state
        self._cancel_idle_timer()

    def end_request(self, close_after_s: float) -> None:
        self._requests -= 1
        self.idle_since = self._loop.time()
        if self.is_idle:
            self.close_if_idle_in(close_after_s)

    def close_if_idle_in(self, seconds: float) -> None:
        self._cancel_idle_timer()
        self._idle_timer = self._loop.call_later(seconds, lambda: self.transport.close() if self.is_idle else None)

    def begin_waiting(self, reader_s: float) -> None:
        """End the connection, whatever it is doing, unless its caller goes on reading. What it does not read is dropped."""
        self.end_waiting()
        before = self.transport.get_write_buffer_size()

        def end_unless_read() -> None:
            if before - self.transport.get_write_buffer_size() >= LEAST_READ_BYTES:
                self.begin_waiting(reader_s)
            else:
                self.transport.abort()

        self._reader_timer = self._loop.call_later(reader_s, end_unless_read)

    def end_waiting(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None

    def cancel_timers(self) -> None:
        self._cancel_idle_timer()
        self.end_waiting()

    def _cancel_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

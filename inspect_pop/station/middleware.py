"""What every connection and request passes: who asks, how much they send, how fast, and how many connections are open.

uvicorn limits the time between two requests only. It waits without limit for a request head that began, for the first
byte of a new connection, and for a caller that does not read its answer, and it has no limit for idle connections
(`limit_concurrency` refuses requests, too).
`ConnectionGuard` closes such connections. It uses public interfaces only: `asyncio.Protocol`, around the protocol class in
`uvicorn.Config.http_protocol_class`, says when a connection opens and closes; ASGI says when a request begins and ends.
"""

import asyncio
import hmac
import logging
import socket
import time
from collections import Counter
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inspect_pop.core.errors import StoreFault, make_printable
from inspect_pop.core.text import hide_passwords
from inspect_pop.station.access import LOCAL_CALLER, UNKNOWN, Caller
from inspect_pop.station.client import PROOF_PATH
from inspect_pop.station.login import CSRF_HEADER, Gate, is_of_this_site, is_program_of_this_machine
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.station import STORE_RETRY_S, Metrics

__all__ = ["ConnectionGuard", "RequestGuard", "make_refusal"]

LINGER_S = 1.0  # the rest of a refused upload is read for this long, so that its sender sees the answer, not a broken pipe
LINGER_BYTES = 16 << 20
LEAST_READ_BYTES = 64 << 10  # of an answer, in `reader_s`: a network that carries pictures carries hundreds of times as much
SEND_BUFFER_BYTES = 128 << 10  # of the kernel for each connection; left to itself it takes megabytes for who does not read
CLIENT_LEFT = 499  # in logs and metrics: the caller went away before its request was read; nginx's number
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/login", PROOF_PATH})  # need no token: a hook sends its own after the proof
LOGIN_PATHS = frozenset({"/login", "/logout"})  # need no CSRF token: a form without script sends none
PAGES = ("/board/", "/v1/reports/")  # besides `/`: who opens them in a browser is asked to log in
DECISIONS_FACTOR = 8  # some hundred decisions in one body
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Of every page: its own files only, in no other site's frame. A page with other needs says so itself.
PAGE_POLICY = b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_PROTECTIONS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
)
log = logging.getLogger(__name__)


class RequestGuard:
    """ASGI middleware that identifies the caller, bounds bodies in size and time, and logs and counts each request.

    Sets `scope["state"]["caller"]`, None if the caller is unknown. A route adds to the log line by
    `scope["state"]["log_fields"]`.
    """

    def __init__(self, app: ASGIApp, settings: ServiceSettings, gate: Gate, metrics: Metrics) -> None:
        self._app, self._settings, self._gate, self._metrics = app, settings, gate, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        connection = HTTPConnection(scope)
        state = scope.setdefault("state", {})
        state["caller"], refusal = None, None
        try:
            caller = state["caller"] = await self._gate.find_caller(connection)
        except StoreFault as fault:
            caller = None
            if connection.url.path not in OPEN_PATHS:
                reason = (
                    str(fault) if is_program_of_this_machine(connection) else "the store cannot be read: who asks is not known"
                )
                refusal = make_refusal(503, reason, {"Retry-After": str(STORE_RETRY_S)})
        is_multipart = connection.headers.get("content-type", "").lower().startswith("multipart/form-data")
        max_bytes = self._settings.upload_bytes if is_multipart else self._settings.json_bytes
        if connection.url.path.endswith("/decisions"):
            max_bytes = DECISIONS_FACTOR * self._settings.json_bytes
        app: ASGIApp = refusal or self._find_refusal(connection, max_bytes) or self._app
        exchange = _Exchange(receive, send, max_bytes, self._settings)
        exchange.is_private = caller is not None and caller.csrf is not None
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

    def _find_refusal(self, connection: HTTPConnection, max_bytes: int) -> Response | None:
        """Return the refusal of a request whose body need not be read."""
        caller: Caller | None = connection.state.caller
        if caller is LOCAL_CALLER and not is_program_of_this_machine(connection):
            return make_refusal(
                403,
                "this service accepts programs on its own machine only: no page in a browser, no proxy, and Host must be "
                "loopback. Give it --tokens FILE, or add people with `inspect-pop users add`, to serve others",
            )
        if caller is None and connection.url.path not in OPEN_PATHS:
            return _refuse_unknown(connection)
        if forged := self._find_forgery(connection, caller):
            return make_refusal(403, forged)
        if "\0" in connection.scope["path"] or b"%00" in connection.scope["query_string"]:
            return make_refusal(400, "the address holds a NUL, which no name does")  # and which PostgreSQL takes for a fault
        try:
            declared = int(connection.headers.get("content-length", "0"))
        except ValueError:
            return make_refusal(400, "Content-Length is not a number")
        return make_refusal(413, f"the body is longer than {max_bytes} bytes") if declared > max_bytes else None

    def _find_forgery(self, connection: HTTPConnection, caller: Caller | None) -> str:
        """Return why a deciding request may be another site's; empty if it is not. The browser adds cookies whoever asks."""
        path = connection.url.path
        is_deciding = connection.scope["method"] not in SAFE_METHODS
        if not is_deciding or ((caller is None or caller.csrf is None) and path not in LOGIN_PATHS):
            return ""
        if not is_of_this_site(connection, self._settings.public_url):
            return "a page of another site asks; is --public-url the address in the browser?"
        if caller is None or caller.csrf is None or path in LOGIN_PATHS:
            return ""
        token = connection.headers.get(CSRF_HEADER, "").encode("utf-8", "replace")
        return (
            ""
            if hmac.compare_digest(token, caller.csrf.encode())
            else f"{CSRF_HEADER} is not that of /v1/me: load the page again"
        )


def _refuse_unknown(connection: HTTPConnection) -> Response:
    """Return the way to the log-in for a page in a browser, and the refusal of anything else."""
    path, headers = connection.url.path, connection.headers
    if (
        connection.scope["method"] == "GET"
        and "text/html" in headers.get("accept", "")
        and (path == "/" or path.startswith(PAGES))
    ):
        target = path + (f"?{connection.url.query}" if connection.url.query else "")
        return RedirectResponse(f"/login?next={quote(target, safe='/')}", 303)
    # It ends the connection, too: whatever else was sent on it would only be refused again.
    return make_refusal(401, UNKNOWN, {"WWW-Authenticate": "Bearer", "Connection": "close"})


def make_refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a refusal with all fields of an answer, so that the line reads one kind of object."""
    empty: dict[str, object] = {"serial": None, "defects": [], "record": None, "report": None, "elapsed_ms": 0.0}
    return JSONResponse({**empty, "verdict": "error", "reason": make_printable(hide_passwords(reason))}, status, headers)


def _add_protections(headers: list[tuple[bytes, bytes]], *, is_private: bool) -> list[tuple[bytes, bytes]]:
    """Return a response's headers with those that keep a browser from misusing it; `is_private`: nobody may keep it."""
    names = {name.lower() for name, _ in headers}
    added = [header for header in _PROTECTIONS if header[0] not in names]
    is_page = any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)
    if is_page and b"content-security-policy" not in names:
        added.append((b"content-security-policy", PAGE_POLICY))
    if is_private and b"cache-control" not in names:
        added.append((b"cache-control", b"no-store"))
    return [*headers, *added]


class _Exchange:
    """One request's body, bounded in size and time, and its response.

    A response that is sent before the body was read closes the connection, after a moment in which the body is still read.
    """

    def __init__(self, receive: Receive, send: Send, max_bytes: int, settings: ServiceSettings) -> None:
        self._receive, self._send, self._max_bytes, self._idle_s = receive, send, max_bytes, settings.body_idle_s
        self._until = time.monotonic() + settings.body_s
        self.n_bytes, self.is_read, self.status, self.is_private = 0, False, 0, False

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
            headers = _add_protections(list(message.get("headers", [])), is_private=self.is_private)
            message = {**message, "headers": headers}
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

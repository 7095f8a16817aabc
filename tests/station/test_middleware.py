"""Connections that are closed, and those that are not. The refusals of requests are in `test_refusals`."""

import asyncio
import contextlib
import http.client
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.responses import PlainTextResponse

from inspect_pop.core.errors import StoreFault
from inspect_pop.station.access import Caller
from inspect_pop.station.middleware import LEAST_READ_BYTES, ConnectionGuard, RequestGuard
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.station import Metrics
from tests.station.conftest import running


def test_without_a_store_the_service_lives_and_strangers_learn_nothing_of_it(tmp_path: Path) -> None:
    class NoStore:
        async def find_caller(self, _: object) -> None:
            raise StoreFault("postgresql://factory-db:5432/pop", found="it is away")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("ok")(scope, receive, send)

    guard = RequestGuard(app, settings=ServiceSettings(roots=(tmp_path,), store="records.db"), gate=NoStore(), metrics=Metrics())  # type: ignore[arg-type]

    async def ask(host: str, path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url=f"http://{host}") as client:
            return await client.get(path, headers={"Cookie": "pop=x"})

    for path in ("/healthz", "/readyz", "/login"):
        assert asyncio.run(ask("factory", path)).status_code == 200
    line, stranger = (asyncio.run(ask(host, "/v1/boards/A")) for host in ("127.0.0.1", "factory"))
    assert (line.status_code, stranger.status_code) == (503, 503)
    assert stranger.headers["retry-after"] and "factory-db" not in stranger.text
    assert "it is away" in line.json()["reason"]
    assert {"serial", "verdict", "reason", "defects", "record", "report", "elapsed_ms"} == set(stranger.json())


def test_an_address_with_a_nul_is_refused_before_a_database_sees_it(tmp_path: Path) -> None:
    class Known:
        async def find_caller(self, _: object) -> Caller:
            return Caller("axi-1", "admin")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("ok")(scope, receive, send)

    settings = ServiceSettings(roots=(tmp_path,), store="records.db")
    guard = RequestGuard(app, settings=settings, gate=Known(), metrics=Metrics())  # type: ignore[arg-type]

    async def ask(path: str) -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url="http://factory") as client:
            return (await client.get(path)).status_code

    addresses = ("/v1/boards/A", "/v1/boards/A%00", "/v1/quarantine?serial=A%00", "/v1/quarantine?serial=A%250")
    assert [asyncio.run(ask(path)) for path in addresses] == [200, 400, 400, 200]


def test_uvicorn_takes_the_guarded_protocol_class() -> None:
    """All that is used of uvicorn: its documented `Config`, whose `http_protocol_class` is an `asyncio.Protocol` after `load`."""

    async def app(*_: Any) -> None:
        return

    guard = ConnectionGuard(app, header_s=1.0, keep_alive_s=1.0, max_connections=1)
    config = uvicorn.Config(guard, http="h11", ws="none")
    config.load()
    assert issubclass(config.http_protocol_class, asyncio.Protocol)
    assert issubclass(guard.wrap_protocol(config.http_protocol_class), asyncio.Protocol)


def test_a_connection_stays_open_while_it_is_answered_and_between_two_requests(tmp_path: Path) -> None:
    with running(tmp_path, header_s=0.3) as service:
        path = service.board("SLOW", seconds=1.0)
        connection = http.client.HTTPConnection("127.0.0.1", service.settings.port, timeout=60)
        for _ in range(2):
            connection.request("POST", "/v1/inspections", f'{{"path": "{path}"}}', {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert (answer.status, b"pass" in answer.read()) == (200, True)
            time.sleep(0.6)  # longer than a head may take, shorter than a connection may be idle
        connection.close()


def test_half_a_second_request_does_not_keep_a_connection() -> None:
    """Its time runs from the end of the request before, whatever the server does when bytes arrive."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def use() -> tuple[bytes, bytes, float]:
        guard = ConnectionGuard(app, header_s=0.2, keep_alive_s=0.3, max_connections=9)
        config = uvicorn.Config(guard, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
        config.load()
        config.http_protocol_class = guard.wrap_protocol(config.http_protocol_class)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as bound:
            task = asyncio.create_task(server.serve(sockets=[bound]))
            while not server.started:
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection(*bound.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            first = await reader.readuntil(b"\r\n\r\n")
            started = asyncio.get_running_loop().time()
            writer.write(b"GET / HT")
            rest = await asyncio.wait_for(reader.read(), 30)
            took_s = asyncio.get_running_loop().time() - started
            writer.close()
            server.should_exit = True
            await task
        return first, rest, took_s

    first, rest, took_s = asyncio.run(use())
    assert (first.startswith(b"HTTP/1.1 204"), rest) == (True, b"")
    assert took_s > 0.2


class Reader(asyncio.Transport):
    """A connection whose caller reads as much as a test says."""

    def __init__(self, client: tuple[str, int]) -> None:
        super().__init__({"peername": client, "sockname": ("127.0.0.1", 8737)})
        self.unread, self.is_aborted, self.is_closed = 0, False, False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0  # the guard hears of each byte that is not read

    def is_closing(self) -> bool:
        return self.is_aborted or self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


class Connections:
    """A guard for `n` connections, and those that were opened."""

    def __init__(self, n: int, **times: float) -> None:
        async def app(*_: Any) -> None:
            return

        self.guard = ConnectionGuard(app, **{"header_s": 60.0, "keep_alive_s": 60.0, **times}, max_connections=n)
        self._protocol = self.guard.wrap_protocol(_Silent)
        self._n = 0

    def open(self, address: str = "10.0.0.1", caller: object = None) -> tuple[Reader, Any]:
        self._n += 1
        transport, protocol = Reader((address, self._n)), self._protocol()
        protocol.connection_made(transport)
        if caller is not None:
            protocol._connection.begin_request({"caller": caller})
            protocol._connection.end_request(60.0)
        return transport, protocol


class _Silent(asyncio.Protocol):
    def pause_writing(self) -> None:
        return

    def resume_writing(self) -> None:
        return


def test_a_caller_that_reads_nothing_is_ended_and_one_that_reads_slowly_is_not() -> None:
    async def use() -> tuple[Reader, Reader, Reader]:
        connections = Connections(9, reader_s=0.5)
        silent, slow, dripping = (connections.open() for _ in range(3))
        for transport, protocol in (silent, slow, dripping):
            transport.unread = 1000 * LEAST_READ_BYTES
            protocol.pause_writing()
            protocol._connection.begin_request({"caller": "known"})  # also while it is being answered
        for _ in range(120):
            await asyncio.sleep(0.01)
            slow[0].unread -= LEAST_READ_BYTES
            dripping[0].unread -= 1
        slow[1].resume_writing()
        return silent[0], slow[0], dripping[0]

    silent, slow, dripping = asyncio.run(use())
    assert (silent.is_aborted, slow.is_aborted, dripping.is_aborted) == (True, False, True)


def test_a_closing_connection_that_is_not_read_is_ended_too() -> None:
    async def use() -> Reader:
        transport, protocol = Connections(9, reader_s=0.05).open()
        transport.unread = 10
        protocol.pause_writing()
        transport.close()  # the server closes it, and waits for what was sent
        await asyncio.sleep(0.1)
        return transport

    assert asyncio.run(use()).is_aborted


def test_the_newcomer_stays_and_room_is_made_by_who_reads_nothing_is_unknown_or_holds_most() -> None:
    async def use() -> list[bool]:
        connections = Connections(5)
        line, line_protocol = connections.open("10.0.0.9", caller="axi")
        line_protocol._connection.begin_request({"caller": "axi"})  # its board is being inspected
        other, _ = connections.open("10.0.0.8", caller="mes")
        attackers = [connections.open("10.0.0.1") for _ in range(3)]
        attackers[1][1].pause_writing()
        newcomer, _ = connections.open("10.0.0.7")
        first = [t.is_aborted for t, _ in attackers]
        assert first == [False, True, False]  # who does not read goes first
        for _ in range(20):
            connections.open("10.0.0.1")
        return [line.is_aborted, other.is_aborted, newcomer.is_aborted]

    assert asyncio.run(use()) == [False, False, False]


def test_where_every_connection_is_at_work_for_a_known_caller_the_newcomer_goes() -> None:
    async def use() -> tuple[list[bool], bool]:
        connections = Connections(3)
        busy = [connections.open(caller="axi") for _ in range(3)]
        for _, protocol in busy:
            protocol._connection.begin_request({"caller": "axi"})
        newcomer, _ = connections.open()
        return [t.is_aborted for t, _ in busy], newcomer.is_aborted

    assert asyncio.run(use()) == ([False] * 3, True)


def test_a_board_is_inspected_while_others_read_no_answers(tmp_path: Path) -> None:
    """More of them than there may be connections, each asking again and again for a page of 30 kB."""
    with running(tmp_path, connections=20, reader_s=0.5) as service:
        silent = []
        for _ in range(30):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            reader.connect(("127.0.0.1", service.settings.port))
            silent.append(reader)
            with contextlib.suppress(OSError):
                reader.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 40)
        assert service.goes_on()
        for reader in silent:
            reader.close()

"""Connections that are closed, and those that are not. The refusals of requests are in `test_refusals`."""

import asyncio
import http.client
import socket
import time
from pathlib import Path
from typing import Any

import uvicorn

from inspect_pop.station.middleware import ConnectionGuard
from tests.station.conftest import running


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

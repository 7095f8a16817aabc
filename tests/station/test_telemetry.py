"""Logs: no board waits for a log that nobody reads."""

import asyncio
import json
import logging
import os
import time

import pytest

from inspect_pop.station.pool import BackgroundHandler, log_output
from inspect_pop.station.serve import JsonFormatter


def record(message: str, **more: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelname": "INFO", **more})


def make_handler(descriptor: int, lines: int) -> BackgroundHandler:
    handler = BackgroundHandler(descriptor, lines)
    handler.setFormatter(JsonFormatter())
    return handler


def read_lines(descriptor: int, handler: BackgroundHandler) -> list[dict[str, object]]:
    handler.flush()
    return [json.loads(line) for line in os.read(descriptor, 1 << 20).decode().splitlines()]


def test_nobody_waits_for_a_pipe_that_nobody_reads_and_what_was_dropped_is_counted() -> None:
    reader, writer = os.pipe()
    handler = make_handler(writer, lines=100)
    started = time.monotonic()
    for i in range(5000):
        handler.handle(record(f"request {i}", filler="x" * 500))
    assert time.monotonic() - started < 30
    assert handler.n_dropped > 4000
    lost, reported = handler.n_dropped, 0
    os.set_blocking(reader, False)
    rest, until = b"", time.monotonic() + 30
    while reported < lost and time.monotonic() < until:  # some may have been dropped, and reported, before the pipe was full
        try:
            *lines, rest = (rest + os.read(reader, 1 << 16)).split(b"\n")
            reported += sum(json.loads(line).get("lines", 0) for line in lines)
        except BlockingIOError:
            time.sleep(0.01)
    assert reported == lost


def test_lines_come_in_order_while_somebody_reads() -> None:
    reader, writer = os.pipe()
    handler = make_handler(writer, lines=100)
    for i in range(5):
        handler.handle(record(f"request {i}"))
    assert [line["message"] for line in read_lines(reader, handler)] == [f"request {i}" for i in range(5)]


def test_a_reader_that_is_gone_and_a_full_disk_cost_lines_only() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for descriptor in (writer, os.open("/dev/full", os.O_WRONLY)):
        handler = make_handler(descriptor, lines=100)
        for i in range(5):
            handler.handle(record(f"request {i}"))
        handler.flush()
        assert handler.n_dropped == 5


def test_a_field_that_cannot_be_formatted_costs_its_line_only() -> None:
    reader, writer = os.pipe()
    handler = make_handler(writer, lines=100)
    handler.handle(record("%d", args=("x",)))
    handler.handle(record("next"))
    assert [line["message"] for line in read_lines(reader, handler)][-1] == "next"


def test_a_password_is_in_no_line() -> None:
    line = JsonFormatter().format(record("cannot reach postgresql://pop:Hush-41@db/pop", reason="password=Hush-41"))
    assert "Hush-41" not in line
    assert "postgresql://pop:***@db/pop" in line


def test_what_an_inspecting_process_prints_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def use() -> None:
        stream = asyncio.StreamReader()
        stream.feed_data(b"a traceback\nof two lines \xff\n")
        stream.feed_eof()
        await log_output(stream, logging.getLogger("worker"))

    asyncio.run(use())
    assert caplog.messages == ["a traceback\nof two lines \\xff"]

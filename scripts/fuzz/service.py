#!/usr/bin/env python
"""Fuzz the input of the service: the zip of an upload (an input that begins with PK), or a request to the application.

A request is `METHOD /path`, one line per header, an empty line, and the body, as in HTTP but with bare line feeds. It goes
through the application in this process, without a socket. In place of the inspecting processes there is a handler whose
inspector opens the board and gives no verdict.
"""

import asyncio
import atexit
import json
import shutil
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from common import instrument, place, run

with instrument(__name__, "starlette", "python_multipart"):
    from inspect_pop.core.errors import FileFault, InputFault, ModelFault
    from inspect_pop.ingest import open_export
    from inspect_pop.station.serve import create_app
    from inspect_pop.station.settings import ServiceSettings
    from inspect_pop.station.uploads import ArchiveLimits, unpack
    from inspect_pop.station.worker import InspectionHandler
    from inspect_pop.store import open_store
from tests.factories import make_inspection

NAME = "service"
SERIAL = "PB-1"
SMALL = ArchiveLimits(files=20, total_bytes=1 << 20, ratio_from_bytes=1 << 16)
PIECE = 1000  # bytes of a body per message
VISIBLE = frozenset(range(33, 127))
TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def one(data: bytes) -> None:
    """Unpack a zip, or answer a request; every error must become an answer of a declared status."""
    if data.startswith(b"PK"):
        unpack_zip(data)
        return
    scope, body = request(data)
    if scope is not None:
        app, loop = service()
        loop.run_until_complete(ask_service(app, scope, body))


def unpack_zip(data: bytes) -> None:
    """What lies in the folder afterwards is files and folders of it, and a board where there was no fault."""
    folder = place() / "upload"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "board").mkdir(parents=True)
    (folder / "upload.zip").write_bytes(data)
    try:
        board = unpack(folder / "upload.zip", folder / "board", SMALL)
    except InputFault as fault:
        str(fault).encode()
    else:
        if not (board / "export.json").exists() or not board.is_relative_to(folder / "board"):
            raise RuntimeError(f"no board: {board}")
    if {path.name for path in folder.iterdir()} != {"board", "upload.zip"} or any(p.is_symlink() for p in folder.rglob("*")):
        raise RuntimeError("something left the folder")


def request(data: bytes) -> tuple[dict | None, bytes]:
    """The ASGI scope and the body; no scope for what the HTTP parser in front would have refused."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    names = (method, *(name for name, _ in headers))
    values = (byte for _, value in headers for byte in value)
    if (
        not target
        or set(target) - VISIBLE
        or any(not n or set(n) - TOKEN for n in names)
        or any(b < 32 and b != 9 for b in values)
    ):
        return None, b""
    path, _, query = target.partition(b"?")
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method.decode(), "scheme": "http"}
    where = {"path": unquote(path.decode()), "raw_path": path, "query_string": query, "root_path": ""}
    return scope | where | {"headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8737)}, body


async def ask_service(app, scope: dict, body: bytes) -> None:
    """Send one request and check the answer: whole, of a documented status, never 'internal error'."""
    pieces = [body[i : i + PIECE] for i in range(0, len(body), PIECE)] or [b""]
    waiting = [{"type": "http.request", "body": p, "more_body": n < len(pieces)} for n, p in enumerate(pieces, 1)]
    sent: list[dict] = []

    async def receive() -> dict:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, payload = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
    if start["status"] >= 500 and start["status"] != 503:
        raise RuntimeError(f"status {start['status']}: {payload[:200]!r}")
    if payload and dict(start["headers"]).get(b"content-type") == b"application/json":
        json.loads(payload)


@cache
def service():
    """The application with one record in its store, and the loop that it runs in."""
    folder = place() / "service"
    folder.mkdir()
    with open_store(str(folder / "records.db")) as store:
        store.write(make_inspection(SERIAL))
    settings = ServiceSettings(
        roots=(place(),), model_roots=(place(),), store=str(folder / "records.db"), upload_bytes=1 << 20, archive=SMALL
    )
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return create_app(settings, Answers()), loop


class Answers:
    """Stand in for the pool: one handler works in this process, and an undeclared error stops the run."""

    alive, busy, waiting, model, retry_after_s = 1, 0, 0, "none", 1

    def __init__(self) -> None:
        self._bench = InspectionHandler(open_only, self.model, Nothing(), pages=None)

    async def submit(self, job: dict) -> dict:
        """Return the handler's reply, as it would come over a pipe."""
        return json.loads(json.dumps(self._bench.handle(json.loads(json.dumps(job)))))

    async def swap(self, *, model: str) -> str:
        """Refuse every model."""
        raise ModelFault(model, expected="a model")


class Nothing:
    """A ledger that stores nothing."""

    def record(self, inspection) -> None:
        """Store nothing."""

    def quarantine(self, name: str, fault: InputFault, serial: str | None = None, content: str | None = None) -> None:
        """Store nothing; every name, fault and serial must be encodable."""
        f"{name}: {fault} {serial} {content}".encode()


def open_only(path: Path, root: Path):
    """Open the board, and stop there."""
    raise FileFault(open_export(path, root).serial, expected="only to be opened")


if __name__ == "__main__":
    run(one, NAME)

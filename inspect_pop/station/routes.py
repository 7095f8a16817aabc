"""The service's routes, and the watch over the inspection machines."""

import asyncio
import contextlib
import dataclasses
import logging
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from inspect_pop.core.errors import FileFault, InputFault, ModelFault, PathFault, StoreFault, UsageFault
from inspect_pop.core.system import utc_now
from inspect_pop.messages.cfx import from_drift
from inspect_pop.station.access import (
    NOT_FOUND_RESPONSE,
    PROBLEM_RESPONSE,
    REFUSAL_RESPONSES,
    Caller,
    Responses,
    StationDep,
    require,
    resolve_path,
)
from inspect_pop.station.client import CHALLENGE_HEADER, prove
from inspect_pop.station.contract import STORE_HEADER, identify_store, show_path
from inspect_pop.station.login import is_forwarded_from_tls
from inspect_pop.station.schemas import (
    AnswerBody,
    BoardBody,
    CloseBody,
    HealthBody,
    InspectBody,
    ModelBody,
    ModelReply,
    ProofBody,
    QuarantineEntry,
)
from inspect_pop.station.station import InspectionReply, Station, refuse
from inspect_pop.station.uploads import make_disk_fault
from inspect_pop.station.worker import locate_page
from inspect_pop.store import StoredBoard
from inspect_pop.verify.words import read_page
from inspect_pop.yields.machines import read_machines, require_machine

__all__ = ["MachineWatch", "Upload", "admin", "inspections", "machines", "receive_upload", "records", "watch_machines"]

UPLOAD_FIELD = "file"
PAGE_WAIT_S, PAGE_POLL_S = 5.0, 0.1  # a page is complete a tenth of a second after its board was answered
PAGE_FRESH = timedelta(minutes=1)  # the page of an older record is on its way only where the same export was inspected again
PAGE_AGAIN_S = 1.0

inspections = APIRouter(tags=["line"])
records = APIRouter(tags=["records"])
admin = APIRouter(tags=["admin"])

_INSPECTION_RESPONSES: Responses = {
    **REFUSAL_RESPONSES,
    409: PROBLEM_RESPONSE | {"description": f"The service uses another store than the header {STORE_HEADER} names"},
    422: {"model": AnswerBody, "description": "The board could not be inspected; `problem` says why. It is in quarantine"},
    503: {"model": AnswerBody, "description": "Busy, or the store cannot be written: try again after `Retry-After` seconds"},
    504: {"model": AnswerBody, "description": "No answer within the time limit; the board is in quarantine"},
}
_INSPECTION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": InspectBody.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [UPLOAD_FIELD],
                    "properties": {UPLOAD_FIELD: {"type": "string", "format": "binary", "description": "A zip with one board"}},
                    "additionalProperties": False,
                }
            },
        },
    }
}
# The page itself names its one script by digest; both policies count.
_REPORT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
_NO_PAGE = HTTPException(
    404,
    "this record has no page: it is written in the moment after the answer, kept for so long as `store prune` is given, and "
    "not part of a backup; a PostgreSQL store has none. Inspect the same export again, or open /board/RECORD",
)


@inspections.post("/v1/inspections", response_model=AnswerBody, responses=_INSPECTION_RESPONSES, openapi_extra=_INSPECTION_BODY)
async def inspect_board(
    request: Request, station: StationDep, caller: Annotated[Caller, Depends(require("inspect"))]
) -> Response:
    """Inspect one board, by its path within the service's roots or as an uploaded zip.

    The answer comes after the record is in the store.
    """
    started = time.monotonic()
    store = request.headers.get(STORE_HEADER)
    if store is not None and store != identify_store(station.settings.store):
        raise HTTPException(HTTPStatus.CONFLICT, "this service uses another store")
    report = f"{_find_public_url(request, station)}/v1/reports/{{record}}"
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with receive_upload(request) as upload:
            limits = dataclasses.asdict(station.settings.archive)
            job = {"kind": "upload", "path": str(upload.archive), "into": str(upload.into), "limits": limits}
            reply = await station.inspect(job | {"name": f"upload: {upload.name[:200]}", "report": report})
    else:
        reply = await _inspect_path(station, caller, await request.body(), report)
    seconds = time.monotonic() - started
    reply.answer["elapsed_ms"] = round(seconds * 1000, 1)
    station.metrics.verdicts.labels(reply.answer["verdict"]).inc()
    station.metrics.latency.observe(seconds)
    request.state.log_fields = {k: reply.answer[k] for k in ("serial", "verdict", "record", "reason")}
    return JSONResponse(reply.answer, reply.status, reply.headers)


def _find_public_url(request: Request, station: Station) -> str:
    """Return the address that links begin with: the configured one, or the one that this connection came to.

    Never the header Host: it says whatever the caller likes. A caller that came to a proxy by TLS is not sent to clear text.
    """
    if station.settings.public_url is not None:
        return station.settings.public_url.rstrip("/")
    host, port = request.scope.get("server") or (station.settings.host, station.settings.port)
    scheme = "https" if is_forwarded_from_tls(request) else request.url.scheme
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@inspections.get("/v1/proof", responses={404: PROBLEM_RESPONSE | {"description": "The service has no secret"}})
async def prove_station(
    challenge: Annotated[str, Header(alias=CHALLENGE_HEADER, pattern="^[0-9a-f]{32,64}$")], station: StationDep
) -> ProofBody:
    """Return the proof that this is the station: HMAC-SHA256 of the challenge by the secret in the address file."""
    if not station.secret:
        raise HTTPException(404, "this service has no address file, and so no secret")
    return ProofBody(proof=prove(station.secret, challenge))


class Upload:
    """A received upload.

    Attributes:
        archive: The zip.
        into: The empty folder to unpack it into.
        name: The file's name as the sender gave it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.archive, self.into, self.name = folder / "upload.zip", folder / "board", name


@contextlib.asynccontextmanager
async def receive_upload(request: Request) -> AsyncIterator[Upload]:
    """Write a request's upload to disk, and remove it when the block ends.

    Raises:
        HTTPException: 422 if the body is not a multipart form with one file.
        StoreFault: The disk has no room.
    """
    expected = f"expected a multipart form with one file '{UPLOAD_FIELD}'"
    try:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="inspect_pop-"))
    except OSError as error:
        raise make_disk_fault(error) from error
    try:
        try:
            form = await request.form(max_files=1, max_fields=0)
        except HTTPException as error:
            if error.status_code != 400:
                raise
            raise HTTPException(422, f"{expected}: {error.detail}") from error
        except OSError as error:
            raise make_disk_fault(error) from error
        try:
            part = form.get(UPLOAD_FIELD)
            if not isinstance(part, UploadFile):
                raise HTTPException(422, expected)
            upload = Upload(folder, part.filename or "unnamed")
            await asyncio.to_thread(_store_upload, part.file, upload)
        finally:
            await form.close()
        yield upload
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _store_upload(source: IO[bytes], upload: Upload) -> None:
    try:
        upload.into.mkdir()
        with upload.archive.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except OSError as error:
        raise make_disk_fault(error) from error


async def _inspect_path(station: Station, caller: Caller, body: bytes, report: str) -> InspectionReply:
    try:
        named = InspectBody.model_validate_json(body)
        text = named.path if named.path_hex is None else os.fsdecode(bytes.fromhex(named.path_hex))
        path, root = await asyncio.to_thread(resolve_path, station.settings.roots, text, within=caller.roots)
    except ValidationError as error:
        fault = FileFault("the request", expected='JSON such as {"path": "…"}', found=error.errors()[0]["msg"])
        return refuse(HTTPStatus.UNPROCESSABLE_ENTITY, fault)
    except PathFault as fault:
        # A caller that is kept to its roots learns the same of whatever lies elsewhere, be it there or not.
        return refuse(HTTPStatus.UNPROCESSABLE_ENTITY if caller.roots is None else HTTPStatus.FORBIDDEN, fault)
    except InputFault as fault:
        return refuse(HTTPStatus.UNPROCESSABLE_ENTITY, fault)
    name = show_path(str(path))
    return await station.inspect({"kind": "inspect", "path": str(path), "root": str(root), "name": name, "report": report})


@records.get(
    "/v1/boards/{serial:path}",
    responses={**REFUSAL_RESPONSES, **NOT_FOUND_RESPONSE},
    dependencies=[Depends(require("read"))],
)
async def get_board(serial: str, station: StationDep) -> BoardBody:
    """Return all records of a serial with the decisions about them, the first inspection first."""
    boards = await asyncio.to_thread(_find_boards, station, serial)
    return BoardBody(serial=serial, records=[stored.to_dict() for stored in boards])


@records.get("/v1/quarantine", responses=REFUSAL_RESPONSES, dependencies=[Depends(require("read"))])
async def list_quarantine(station: StationDep, serial: str | None = None, closed: bool = False) -> list[QuarantineEntry]:
    """Return the boards that could not be inspected, those of one serial if given; closed entries only with `closed`."""
    found = await asyncio.to_thread(station.store.list_quarantine, serial=serial)
    return [QuarantineEntry.from_stored(entry) for entry in found if closed or entry.closed_at is None]


@records.post(
    "/v1/quarantine/{number}/close",
    responses={**REFUSAL_RESPONSES, 404: PROBLEM_RESPONSE | {"description": "No open entry of that number"}},
    status_code=HTTPStatus.NO_CONTENT,
)
async def close_quarantine(
    number: str, body: CloseBody, station: StationDep, caller: Annotated[Caller, Depends(require("verify"))]
) -> None:
    """Close an entry: a person looked at the board."""
    try:
        await asyncio.to_thread(station.store.close_quarantine, number, by=caller.name, at=utc_now(), note=body.note)
    except UsageFault as fault:
        raise HTTPException(404, str(fault)) from fault


def _find_boards(station: Station, serial: str) -> list[StoredBoard]:
    boards = station.store.board(serial)
    if not boards:
        raise HTTPException(404, "no record of this serial")
    return boards


@records.get(
    "/v1/reports/{record}",
    response_class=HTMLResponse,
    responses={**REFUSAL_RESPONSES, **NOT_FOUND_RESPONSE},
    dependencies=[Depends(require("read"))],
)
async def get_report(record: str, station: StationDep) -> Response:
    """Return the page of one record. Wait up to 5 s for that of a record of the last minute, and 1 s for an older one's."""
    if station.settings.pages is None:
        raise _NO_PAGE
    page, begun = locate_page(station.settings.pages, record), time.monotonic()

    def find_wait_s() -> float:
        stored = station.store.record(record)
        if stored is None:
            return 0.0
        is_fresh = datetime.now(UTC) - datetime.fromisoformat(stored.board.finished_at) < PAGE_FRESH
        return PAGE_WAIT_S if is_fresh else PAGE_AGAIN_S

    while True:
        with contextlib.suppress(FileNotFoundError):
            found = await asyncio.to_thread(page.stat)
            return FileResponse(page, media_type="text/html; charset=utf-8", stat_result=found, headers=_REPORT_HEADERS)
        if time.monotonic() - begun >= await asyncio.to_thread(find_wait_s):
            raise _NO_PAGE
        await asyncio.sleep(PAGE_POLL_S)


@admin.head("/healthz", include_in_schema=False)
@admin.get("/healthz", response_class=PlainTextResponse)
async def check_alive() -> PlainTextResponse:
    """Return `ok` if the service runs."""
    return PlainTextResponse("ok")


@admin.head("/readyz", include_in_schema=False)
@admin.get(
    "/readyz",
    response_model_exclude_none=True,
    responses={503: {"model": HealthBody, "description": "Not ready; `status` says why to a known caller"}},
)
async def check_ready(request: Request, station: StationDep, response: Response) -> HealthBody:
    """Return whether the next board would be inspected and recorded. The store is asked; a known caller gets the numbers, too."""
    pool, store = station.pool, await station.find_store_state()
    if station.is_stopping:
        problem = "stopping"
    elif pool.alive == 0:
        problem = "no inspecting process runs"
    else:
        problem = store.fault or station.folder_fault
    response.status_code = 503 if problem else 200
    if request.state.caller is None:
        return HealthBody(status="not ready" if problem else "ready")
    return HealthBody(status=problem or "ready", workers=pool.alive, waiting=pool.waiting, model=pool.model)


@admin.get("/metrics", response_class=PlainTextResponse, responses=REFUSAL_RESPONSES, dependencies=[Depends(require("observe"))])
async def get_metrics(station: StationDep) -> Response:
    """Return the metrics in Prometheus's text format. While the store cannot be read, those that it knows are NaN."""
    values, pool, store = station.metrics, station.pool, await station.find_store_state()
    values.waiting.set(pool.waiting)
    values.workers.set(pool.alive)
    values.working.set(pool.busy)
    values.outbox.set(math.nan if store.waiting is None else store.waiting)
    values.store.set(not store.fault)
    values.set_aside.set(math.nan if store.set_aside is None else store.set_aside)
    values.model.clear()
    values.model.labels(pool.model).set(1)
    return Response(values.to_text(), media_type=CONTENT_TYPE_LATEST)


@admin.post(
    "/v1/model",
    responses={
        **REFUSAL_RESPONSES,
        422: PROBLEM_RESPONSE | {"description": "The model cannot be used; the current model stays"},
    },
)
async def load_model(body: ModelBody, station: StationDep, caller: Annotated[Caller, Depends(require("promote"))]) -> ModelReply:
    """Change the current model. New processes load it and take over when all of them are ready."""
    try:
        folder, _root = await asyncio.to_thread(resolve_path, station.settings.model_folders, body.path)
        before = station.pool.model
        digest = await station.take_model(str(folder))
    except (InputFault, ModelFault) as fault:
        raise HTTPException(422, str(fault)) from fault
    change = {"before": {"model": before}, "after": {"model": digest, "folder": str(folder)}}
    await asyncio.to_thread(station.store.audit, caller.name, "model taken", digest, **change)
    return ModelReply(model=digest)


# The watch over the inspection machines: gauges and alarms while the station runs, and the page that shows them.


EVERY_S = 60.0
SHARE = 0.01  # of a core, at most: after a look that takes long the next one comes later
STOP_S = 5.0
log = logging.getLogger(__name__)
machines = APIRouter(tags=["machines"])


class MachinesBody(BaseModel):
    """The machines of the store's latest boards, the most urgent first (`inspect-pop machines list --json`)."""

    machines: list[dict[str, Any]]


class MachineBody(BaseModel):
    """One machine with its boards (`of`) and the charts of its figures (`inspect-pop machines show --json`)."""

    machine: dict[str, Any]
    of: list[dict[str, Any]]
    charts: list[dict[str, Any]]


class MachineWatch:
    """Looks at the store's machines: sets the gauges, and adds a CFX message for each drift that is new.

    Args:
        station: Whose store and metrics they are.
    """

    def __init__(self, station: Station) -> None:
        self._station, self._end = station, threading.Event()
        self._sent: set[tuple[str, str, str]] = set()
        self._thread = threading.Thread(target=self._run, name="machine-watch", daemon=True)

    def start(self) -> None:
        """Look now, and again from time to time."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self._thread.join(STOP_S)

    def look(self) -> None:
        """Look once. Raises `StoreFault`."""
        metrics, handle, store = self._station.metrics, self._station.settings.cfx_handle, self._station.store
        found = read_machines(store)
        for gauge, state in ((metrics.drifting, "drifting"), (metrics.unfamiliar, "unfamiliar")):
            gauge.clear()
            for machine in found:
                gauge.labels(machine.machine).set(machine.state == state)
        for machine in found:
            for drift in machine.drifts:
                key = (machine.machine, drift.figure, drift.since)
                if key not in self._sent:
                    log.warning("a machine drifts", extra={"machine": machine.machine, "figure": str(drift)})
                    store.queue([from_drift(*key[:2], str(drift), drift.since, utc_now(), handle)])
                    self._sent.add(key)

    def _run(self) -> None:
        wait_s = 0.0
        while not self._end.wait(wait_s):
            started = time.monotonic()
            try:
                self.look()
            except StoreFault as fault:
                log.warning("the machines were not looked at", extra={"reason": str(fault)})
            wait_s = max(EVERY_S, (time.monotonic() - started) / SHARE)


@contextlib.asynccontextmanager
async def watch_machines(station: Station) -> AsyncIterator[None]:
    """Watch the machines while the block runs."""
    watch = MachineWatch(station)
    watch.start()
    try:
        yield
    finally:
        await asyncio.to_thread(watch.stop)


@machines.get("/v1/machines", responses=REFUSAL_RESPONSES, dependencies=[Depends(require("read"))])
async def list_machines(station: StationDep) -> MachinesBody:
    """Return every machine with its state, since when, and by what figure."""
    found = await asyncio.to_thread(read_machines, station.store)
    return MachinesBody(machines=[machine.to_dict() for machine in found])


@machines.get(
    "/v1/machines/charts",
    responses=REFUSAL_RESPONSES | NOT_FOUND_RESPONSE,
    dependencies=[Depends(require("read"))],
)
async def show_machine(station: StationDep, name: Annotated[str, Query(max_length=400)]) -> MachineBody:
    """Return a machine's figures over time, each with what is usual and its control limit. `name` is line and station."""

    def find() -> MachineBody:
        try:
            machine = require_machine(read_machines(station.store), name)
        except UsageFault as fault:
            raise HTTPException(404, str(fault)) from fault
        return MachineBody(machine=machine.to_dict(), of=machine.list_boards(), charts=machine.draw_charts())

    return await asyncio.to_thread(find)


@machines.get("/machines", include_in_schema=False, dependencies=[Depends(require("read"))])
async def show_machines_page() -> HTMLResponse:
    """Return the page of the machines."""
    return HTMLResponse(read_page("machines"))

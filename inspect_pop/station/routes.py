"""`POST /v1/inspections`: one board by its path or as an upload.

What the service tells of boards that were inspected, and what people decide about them.

How the service is: alive, ready, its numbers; and a new model taken while it works.
"""

import asyncio
import contextlib
import dataclasses
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from inspect_pop.core.errors import FileFault, InputFault, ModelFault, UsageFault
from inspect_pop.messages import from_decision
from inspect_pop.station.access import MISSING, REFUSALS, WRONG, Caller, Here, Responses, Station, may, within
from inspect_pop.station.client import OTHER_STORE, STORE_HEADER, store_identity
from inspect_pop.station.dispatch import Said, refused, work
from inspect_pop.station.handler import UNUSABLE, page_path
from inspect_pop.station.schemas import (
    AnswerBody,
    BoardBody,
    DecisionBody,
    DecisionReply,
    HealthBody,
    InspectBody,
    ModelBody,
    ModelReply,
)
from inspect_pop.station.uploads import received
from inspect_pop.store import Decision, StoredBoard

__all__ = ["inspections", "records", "upkeep"]

# ---- station/inspections
inspections = APIRouter(tags=["line"])

_ANSWERS: Responses = {
    **REFUSALS,
    409: WRONG | {"description": f"The service keeps another store than the header {STORE_HEADER} names"},
    422: {"model": AnswerBody, "description": "Could not be inspected, and why; the board is in quarantine"},
    503: {"model": AnswerBody, "description": "Busy, or the store cannot be written: try again after `Retry-After` seconds"},
    504: {"model": AnswerBody, "description": "No answer within the time limit; the board is in quarantine"},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": InspectBody.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary", "description": "a zip that holds one board"}},
                    "additionalProperties": False,
                }
            },
        },
    }
}


@inspections.post("/v1/inspections", response_model=AnswerBody, responses=_ANSWERS, openapi_extra=_BODY)
async def inspect(request: Request, here: Here, caller: Annotated[Caller, Depends(may("inspect"))]) -> Response:
    """Inspect one board, by path within the service's roots or as an uploaded zip; answers after the record is kept."""
    started = time.monotonic()
    wanted = request.headers.get(STORE_HEADER)
    if wanted is not None and wanted != store_identity(here.settings.store):
        raise HTTPException(OTHER_STORE, "this service keeps another store")
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        said = await _uploaded(here, request)
    else:
        said = await _by_path(here, request, caller)
    seconds = time.monotonic() - started
    said.answer["elapsed_ms"] = round(seconds * 1000, 1)
    here.metrics.verdicts.labels(said.answer["verdict"]).inc()
    here.metrics.latency.observe(seconds)
    request.state.told = {k: said.answer[k] for k in ("serial", "verdict", "record", "reason")}
    return JSONResponse(said.answer, said.status, said.headers)


async def _uploaded(here: Station, request: Request) -> Said:
    async with received(request) as upload:
        limits = dataclasses.asdict(here.settings.archive)
        job = {"kind": "upload", "path": str(upload.archive), "into": str(upload.into), "limits": limits}
        return await work(here, job | {"name": f"upload: {upload.name[:200]}", "report": _page_address(request)})


async def _by_path(here: Station, request: Request, caller: Caller) -> Said:
    body = await request.body()
    try:
        asked = InspectBody.model_validate_json(body)
        path, root = await asyncio.to_thread(within, here.settings.roots, asked.path)
        _own(caller, path)
    except ValidationError as error:
        return refused(UNUSABLE, FileFault("the request", expected='JSON as {"path": "…"}', found=error.errors()[0]["msg"]))
    except InputFault as fault:
        return refused(UNUSABLE, fault)
    job = {"kind": "inspect", "path": str(path), "root": str(root), "name": str(path), "report": _page_address(request)}
    return await work(here, job)


def _own(caller: Caller, path: Path) -> None:
    """A caller that is kept to roots of its own gets 403 for a board elsewhere."""
    if caller.roots is not None and not any(path.is_relative_to(root) for root in caller.roots):
        raise HTTPException(403, f"{caller.name} may not read {path}")


def _page_address(request: Request) -> str:
    return f"{request.base_url}v1/reports/{{record}}"


# ---- station/records
records = APIRouter(tags=["records"])
PAGE_S, POLL_S = 5.0, 0.1  # a page is there a tenth of a second after its board was answered
FRESH = timedelta(minutes=1)
_NO_PAGE = HTTPException(404, "no page of this record; it is written in the moment after the answer")
_UNUSABLE: dict[int | str, dict[str, Any]] = {422: WRONG | {"description": "A decision that cannot be"}}


@records.post("/v1/boards/{serial:path}/decisions", responses={**REFUSALS, **MISSING, **_UNUSABLE})
async def decide(serial: str, body: DecisionBody, here: Here, caller: Annotated[Caller, Depends(may("decide"))]) -> DecisionReply:
    """Record what a person decided about one joint; the line's systems are told."""
    return await asyncio.to_thread(_decide, here, serial, body, caller.name)


@records.get("/v1/boards/{serial:path}", responses={**REFUSALS, **MISSING}, dependencies=[Depends(may("read"))])
async def board(serial: str, here: Here) -> BoardBody:
    """All records of a serial, the first inspection first, with the decisions about them."""
    found = await asyncio.to_thread(_records, here, serial)
    return BoardBody(serial=serial, records=[stored.to_dict() for stored in found])


@records.get(
    "/v1/reports/{record}", response_class=HTMLResponse, responses={**REFUSALS, **MISSING}, dependencies=[Depends(may("read"))]
)
async def report(record: str, here: Here) -> HTMLResponse:
    """The page of one record; of one that was made a moment ago it is waited for."""
    if here.settings.pages is None:
        raise _NO_PAGE
    page, until = page_path(here.settings.pages, record), time.monotonic() + PAGE_S
    while (found := await asyncio.to_thread(_read, page)) is None:
        if time.monotonic() > until or not await asyncio.to_thread(_is_fresh, here, record):
            raise _NO_PAGE
        await asyncio.sleep(POLL_S)
    return HTMLResponse(found)


def _read(page: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return page.read_bytes()
    return None


def _is_fresh(here: Station, record: str) -> bool:
    """Whether the record was made so lately that its page may still be drawn."""
    stored = here.store.record(record)
    return stored is not None and datetime.now(UTC) - datetime.fromisoformat(stored.board.finished_at) < FRESH


def _decide(here: Station, serial: str, body: DecisionBody, who: str) -> DecisionReply:
    stored = _chosen(_records(here, serial), body.record)
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    decision = Decision(
        stored.board.record, body.refdes, body.interface, body.ball, body.state, who, at, label=body.label, note=body.note
    )
    message = from_decision(stored.board, stored.defects, decision, here.settings.cfx_handle)
    try:
        here.store.add_decision(decision, messages=[message])
    except UsageFault as fault:
        raise HTTPException(422, str(fault)) from fault
    final = next((b.final for b in here.store.board(serial) if b.board.record == stored.board.record), stored.final)
    return DecisionReply(record=stored.board.record, decided_by=who, decided_at=at, final=final)


def _records(here: Station, serial: str) -> list[StoredBoard]:
    found = here.store.board(serial)
    if not found:
        raise HTTPException(404, "no record of this serial")
    return found


def _chosen(found: list[StoredBoard], record: str | None) -> StoredBoard:
    for stored in reversed(found):
        if record in (None, stored.board.record):
            return stored
    raise HTTPException(404, "no such record of this serial")


# ---- station/upkeep
upkeep = APIRouter(tags=["upkeep"])


@upkeep.get("/healthz", response_class=PlainTextResponse)
async def alive() -> str:
    """The process runs and answers."""
    return "ok"


@upkeep.get("/readyz", responses={503: {"model": HealthBody, "description": "Not ready, and why"}})
async def ready(here: Here, response: Response) -> HealthBody:
    """Whether a board that comes now would be inspected and recorded."""
    status = _not_ready(here) or "ready"
    response.status_code = 200 if status == "ready" else 503
    return HealthBody(status=status, workers=here.pool.alive, waiting=here.pool.waiting, model=here.pool.model)


@upkeep.get("/metrics", response_class=PlainTextResponse, responses=REFUSALS, dependencies=[Depends(may("read"))])
async def metrics(here: Here) -> Response:
    """For a Prometheus server."""
    own, pool = here.metrics, here.pool
    own.waiting.set(pool.waiting)
    own.workers.set(pool.alive)
    own.working.set(pool.busy)
    own.outbox.set((await asyncio.to_thread(here.store.waiting, 0))[0])
    own.model.clear()
    own.model.labels(pool.model).set(1)
    return Response(own.text(), media_type=CONTENT_TYPE_LATEST)


@upkeep.post("/v1/model", responses={**REFUSALS, 422: WRONG | {"description": "A model that cannot be used; the old one stays"}})
async def model(body: ModelBody, here: Here, _: Annotated[Caller, Depends(may("administer"))]) -> ModelReply:
    """Use another model from now on: new processes are started with it, and take over when they are all ready."""
    try:
        folder, _root = await asyncio.to_thread(within, here.settings.may_load_from, body.path)
        digest = await here.pool.swap(model=str(folder))
    except (InputFault, ModelFault) as fault:
        raise HTTPException(422, str(fault)) from fault
    return ModelReply(model=digest)


def _not_ready(here: Station) -> str:
    if here.stopping:
        return "stopping"
    if here.pool.alive == 0:
        return "no inspecting process runs"
    return here.fault

"""What the service tells of boards that were inspected, and what people decide about them."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from inspect_pop.errors import UsageFault
from inspect_pop.station.access import MISSING, REFUSALS, WRONG, Here, may
from inspect_pop.station.bench import page_path
from inspect_pop.station.bodies import BoardBody, DecisionBody, DecisionReply
from inspect_pop.station.cfx import from_decision
from inspect_pop.station.station import Station
from inspect_pop.station.tokens import Caller
from inspect_pop.store import Decision, StoredBoard

__all__ = ["router"]

router = APIRouter(tags=["records"])
_UNUSABLE: dict[int | str, dict[str, Any]] = {422: WRONG | {"description": "A decision that cannot be"}}


@router.post("/v1/boards/{serial:path}/decisions", responses={**REFUSALS, **MISSING, **_UNUSABLE})
async def decide(serial: str, body: DecisionBody, here: Here, caller: Annotated[Caller, Depends(may("decide"))]) -> DecisionReply:
    """Record what a person decided about one joint; the line's systems are told."""
    return await asyncio.to_thread(_decide, here, serial, body, caller.name)


@router.get("/v1/boards/{serial:path}", responses={**REFUSALS, **MISSING}, dependencies=[Depends(may("read"))])
async def board(serial: str, here: Here) -> BoardBody:
    """All records of a serial, the first inspection first, with the decisions about them."""
    found = await asyncio.to_thread(_records, here, serial)
    return BoardBody(serial=serial, records=[stored.to_dict() for stored in found])


@router.get(
    "/v1/reports/{record}", response_class=HTMLResponse, responses={**REFUSALS, **MISSING}, dependencies=[Depends(may("read"))]
)
async def report(record: str, here: Here) -> HTMLResponse:
    """The page of one record."""
    try:
        if here.settings.pages is None:
            raise FileNotFoundError
        page = await asyncio.to_thread(page_path(here.settings.pages, record).read_bytes)
    except FileNotFoundError as error:
        raise HTTPException(404, "no page of this record; it is written in the moment after the answer") from error
    return HTMLResponse(page)


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

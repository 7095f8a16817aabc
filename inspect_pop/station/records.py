"""What the service tells of boards that were inspected, and what people decide about them."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
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
PAGE_S, POLL_S = 5.0, 0.1  # a page is there a tenth of a second after its board was answered
FRESH = timedelta(minutes=1)
_NO_PAGE = HTTPException(404, "no page of this record; it is written in the moment after the answer")
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

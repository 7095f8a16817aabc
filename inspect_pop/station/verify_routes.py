"""The routes of the verify station: the page, who is logged in, what waits, one board, decisions, the audit trail."""

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from inspect_pop.core.clock import utc_now
from inspect_pop.core.errors import ConflictFault, StageFault, StoreFault, SupersededFault, UsageFault
from inspect_pop.messages import from_verification
from inspect_pop.station.access import (
    NOT_FOUND_RESPONSE,
    PROBLEM_RESPONSE,
    REFUSAL_RESPONSES,
    ROLES,
    Caller,
    StationDep,
    require,
)
from inspect_pop.station.schemas import (
    MAX_DECISIONS,
    AuditBody,
    ConflictBody,
    DecisionBody,
    DecisionReply,
    PersonBody,
    QueueBody,
    QueueEntry,
    RecordBody,
)
from inspect_pop.station.station import Station
from inspect_pop.store import UNCHECKED, Decision, Message, StoredBoard
from inspect_pop.verify.board import describe_board
from inspect_pop.verify.golden import find_golden
from inspect_pop.verify.windows_file import read_windows
from inspect_pop.verify.words import read_page

__all__ = ["pages", "verification"]

log = logging.getLogger(__name__)
Reader = Annotated[Caller, Depends(require("read"))]
Verifier = Annotated[Caller, Depends(require("verify"))]
DecisionList = Annotated[list[DecisionBody], Body(min_length=1, max_length=MAX_DECISIONS)]
verification = APIRouter(tags=["verify"])
pages = APIRouter(include_in_schema=False)


@verification.get("/v1/me", responses=REFUSAL_RESPONSES)
async def describe_caller(caller: Reader) -> PersonBody:
    """Return who is logged in, and what a deciding request must repeat in `X-CSRF-Token`."""
    stage = next(iter(caller.stages), None)
    rights = sorted(right for right in ROLES[caller.role] if caller.may(right))
    name, role = caller.name, caller.role
    return PersonBody(name=name, role=role, stage=stage, rights=rights, csrf=caller.csrf or "", language=caller.language)


@verification.get("/v1/queue", responses=REFUSAL_RESPONSES, dependencies=[Depends(require("read"))])
async def list_queue(
    station: StationDep,
    stage: Annotated[str, Query(pattern="^(operator|repair)$")] = "operator",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    search: Annotated[str, Query(max_length=256)] = "",
) -> QueueBody:
    """Return the boards that wait at a stage, worst first; with `search`, those of this serial, whether they wait or not."""
    options: dict[str, Any] = {"limit": limit, "offset": offset, "search": search}
    waiting, boards = await asyncio.to_thread(station.store.queue_of, stage, **options)
    return QueueBody(waiting=waiting, boards=[QueueEntry(**board) for board in boards])


@verification.get(
    "/v1/records/{record}",
    responses={**REFUSAL_RESPONSES, **NOT_FOUND_RESPONSE},
    dependencies=[Depends(require("read"))],
)
async def show_record(record: str, station: StationDep) -> RecordBody:
    """Return one record as the verify station shows it: all joints, what belongs together, figures, decisions."""

    def describe() -> dict[str, Any]:
        stored = station.store.record(record)
        if stored is None:
            raise HTTPException(404, "no such record")
        try:
            joints = station.store.inspection(record).joints
        except (StoreFault, FileNotFoundError):
            joints = None  # kept without joint files, or they are lost: what the database has is shown
        windows = golden = None
        try:
            windows, golden = read_windows(station.store, record), find_golden(station.store, stored.board.product)
        except StoreFault as fault:
            log.warning("a board is shown without pictures", extra={"record": record, "reason": str(fault)})
        named = None if golden is None else {"record": golden.record, "serial": golden.serial}
        return describe_board(stored, joints, station.store.sample(record), windows, named)

    return RecordBody(**await asyncio.to_thread(describe))


@verification.post(
    "/v1/boards/{serial:path}/decisions",
    responses={
        **REFUSAL_RESPONSES,
        **NOT_FOUND_RESPONSE,
        409: {
            "model": ConflictBody,
            "description": "Another decision came in between, or the serial has several records and `record` is not given",
        },
        422: PROBLEM_RESPONSE | {"description": "A decision that is not valid for this joint"},
    },
    response_model=DecisionReply,
    response_model_exclude_none=True,
)
async def record_decisions(serial: str, body: DecisionBody | DecisionList, station: StationDep, caller: Verifier) -> Any:
    """Record what a person decided about joints of one record, and send it to the line's systems: all decisions, or none.

    `seen` is the `id` of the latest decision about the joint that the person saw; with it, a decision about an inspection that a
    later one replaced is refused (409). The same decision, sent again by the same person, is recorded once.
    """
    given = [body] if isinstance(body, DecisionBody) else body

    def record() -> DecisionReply | JSONResponse:
        stored = _find_decided_record(station, serial, given)
        name, at, handle = stored.board.record, utc_now(), station.settings.cfx_handle

        def make_message(decision: Decision, before: str | None, after: str | None) -> Message | None:
            return from_verification(stored.board, stored.defects, decision, handle, before, after)

        decisions = [_make_decision(one, name, caller, at) for one in given]
        seen = [one.seen if "seen" in one.model_fields_set else UNCHECKED for one in given]
        try:
            done = station.store.add_decisions(decisions, seen, make_message)
        except ConflictFault as fault:
            latest = station.store.record(name) or stored
            joints = {(one.refdes, one.interface, one.ball) for one in given}
            about = [vars(d) for d in latest.decisions if (d.refdes, d.interface, d.ball) in joints]
            refusal = ConflictBody(reason=str(fault), decisions=about, superseded=isinstance(fault, SupersededFault))
            return JSONResponse(refusal.model_dump(), HTTPStatus.CONFLICT)
        except StageFault as fault:
            raise HTTPException(403, str(fault)) from fault
        except UsageFault as fault:
            raise HTTPException(422, str(fault)) from fault
        final = next((b.final for b in station.store.board(serial) if b.board.record == name), stored.final)
        ids = None if isinstance(body, DecisionBody) else [number for number, _ in done]
        return DecisionReply(record=name, decided_by=caller.name, decided_at=at, final=final, ids=ids)

    return await asyncio.to_thread(record)


def _find_decided_record(station: Station, serial: str, given: Sequence[DecisionBody]) -> StoredBoard:
    """Return the record that decisions are about. Raises `HTTPException`."""
    boards = station.store.board(serial)
    if not boards:
        raise HTTPException(404, "no record of this serial")
    named = {one.record for one in given}
    if len(named) > 1:
        raise HTTPException(422, "expected decisions about one record, found several")
    if named == {None} and len(boards) > 1:
        reason = f"this serial has {len(boards)} records: name the `record` of the inspection that the person saw"
        raise HTTPException(HTTPStatus.CONFLICT, reason)
    stored = next((b for b in boards if named & {None, b.board.record}), None)
    if stored is None:
        raise HTTPException(404, "this serial has no such record")
    return stored


def _make_decision(body: DecisionBody, record: str, caller: Caller, at: str) -> Decision:
    """Make the decision of a caller. Raises `HTTPException` (403) for a stage at which it may not decide."""
    stage = body.stage or next(iter(caller.stages), "")
    if stage not in caller.stages:
        raise HTTPException(403, f"the role {caller.role} does not decide at the stage {stage}")
    joint = (body.refdes, body.interface, body.ball)
    return Decision(record, *joint, body.state, caller.name, at, label=body.label, note=body.note, stage=stage)


@verification.get("/v1/audit", responses=REFUSAL_RESPONSES, dependencies=[Depends(require("administer"))])
async def list_audit(
    station: StationDep,
    since: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> AuditBody:
    """Return the audit trail in order, from the time `since` (ISO 8601 with its offset) on."""
    try:
        entries = await asyncio.to_thread(station.store.list_audit, since=since, limit=limit)
    except UsageFault as fault:
        raise HTTPException(422, str(fault)) from fault
    return AuditBody(entries=[vars(entry) for entry in entries])


@pages.get("/", dependencies=[Depends(require("read"))])
@pages.get("/board/{record}", dependencies=[Depends(require("read"))])
async def show_page() -> HTMLResponse:
    """Return the page of the verify station."""
    return HTMLResponse(read_page())

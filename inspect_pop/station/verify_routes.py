"""The routes of the verify station: the page, decisions, windows of joints, and learning."""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from inspect_pop.core.errors import (
    BusyFault,
    ConflictFault,
    InputFault,
    ModelFault,
    StageFault,
    StoreFault,
    SupersededFault,
    UsageFault,
)
from inspect_pop.core.system import utc_now
from inspect_pop.messages import from_verification
from inspect_pop.station.access import (
    NOT_FOUND_RESPONSE,
    PROBLEM_RESPONSE,
    REFUSAL_RESPONSES,
    ROLES,
    Caller,
    Responses,
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
from inspect_pop.station.trainer import ModelChange, Trainer, find_missing_extra
from inspect_pop.store import UNCHECKED, Decision, Message, Store, StoredBoard
from inspect_pop.verify.board import Golden, choose_golden, describe_board, find_golden, forget_golden, read_golden_window
from inspect_pop.verify.windows import JointWindow
from inspect_pop.verify.windows_file import cut_again, read_window, read_windows
from inspect_pop.verify.words import read_looks, read_page, read_static, read_words

__all__ = ["WINDOWS_HEADER", "pages", "training", "training_pages", "verification", "windows"]

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


# HTTP routes of the verify page: its files and words, the windows of joints, and the choice of golden boards.


WINDOWS_HEADER = "X-Windows"
_WINDOW_CACHE = "private, max-age=3600, immutable"
_PAGE_CACHE = "no-cache"
_RECORD_LENGTH, _JOINT_LENGTH = 200, 200
windows = APIRouter(tags=["verify"])


class GoldenBody(BaseModel):
    """Which record is the golden board."""

    model_config = ConfigDict(extra="forbid")
    record: str = Field(min_length=1, max_length=_RECORD_LENGTH)


class GoldenReply(BaseModel):
    """The golden board of a product; `chosen_by` is null where nobody chose it."""

    product: str
    record: str
    serial: str
    chosen_by: str | None
    chosen_at: str | None


@windows.get(
    "/v1/records/{record}/windows/{joint:path}",
    response_class=Response,
    responses={
        **REFUSAL_RESPONSES,
        **NOT_FOUND_RESPONSE,
        200: {
            "content": {"application/octet-stream": {}},
            "description": f"Grey values; the header {WINDOWS_HEADER} describes them",
        },
    },
    dependencies=[Depends(require("read"))],
)
async def get_window(record: str, joint: str, station: StationDep) -> Response:
    """Return the slices of one joint as little-endian uint16, then its heights.

    A joint whose picture was not kept is cut again from the export.
    """
    try:
        window, is_stored = await asyncio.to_thread(_find_window, station.store, record, joint)
    except (UsageFault, InputFault) as fault:
        raise HTTPException(404, str(fault)) from fault
    parts = [window.codes, *([window.heights.codes] if window.heights is not None else [])]
    headers = {WINDOWS_HEADER: json.dumps(_describe_window(window, is_stored)), "Cache-Control": _WINDOW_CACHE}
    body = b"".join(part.astype("<u2", copy=False).tobytes() for part in parts)
    return Response(body, media_type="application/octet-stream", headers=headers)


def _find_window(store: Store, record: str, joint: str) -> tuple[JointWindow, bool]:
    """Return a joint's window and whether it was kept. Raises `UsageFault` or `InputFault` where there is none."""
    stored = read_windows(store, record)
    if stored is not None and joint in stored.roles:
        window = read_window(store.require_files(), stored.path, joint)
        if window is not None:
            return window, True
    golden = read_golden_window(store, record, joint)
    if golden is not None:
        return golden, True
    if stored is None:
        raise UsageFault(f"record {record}", expected="windows of its joints", found="none: they were not kept, or are removed")
    if joint.count(".") < 2:
        raise UsageFault(f"joint {joint}", expected="a name such as U1.lower.C4", found="another form")
    return cut_again(stored, joint), False


def _describe_window(window: JointWindow, is_stored: bool) -> dict[str, Any]:
    """Return what the page needs to draw the codes."""
    about = {k: v for k, v in vars(window).items() if k not in {"codes", "heights", "joint"}}
    about |= {"shape": window.codes.shape, "kept": is_stored, "heights": None}
    if window.heights is not None:
        heights = {k: v for k, v in vars(window.heights).items() if k != "codes"}
        about["heights"] = heights | {"shape": window.heights.codes.shape}
    return about


@windows.get("/verify/static/{name}", include_in_schema=False)
async def get_static(name: str) -> Response:
    """Return a file of the page. It holds no data of the store: everybody may load it."""
    try:
        content, media_type = read_static(name)
    except UsageFault as fault:
        raise HTTPException(404, str(fault)) from fault
    return Response(content, media_type=media_type, headers={"Cache-Control": _PAGE_CACHE})


@windows.get("/verify/words/{language}.json", include_in_schema=False)
async def get_words(language: str) -> Response:
    """Return the page's words in a language."""
    try:
        words = read_words(language)
    except UsageFault as fault:
        raise HTTPException(404, str(fault)) from fault
    content = json.dumps(words, ensure_ascii=False)
    return Response(content, media_type="application/json", headers={"Cache-Control": _PAGE_CACHE})


@windows.get("/verify/looks.json", include_in_schema=False)
async def get_looks() -> list[dict[str, str]]:
    """Return how the page marks each class."""
    return read_looks()


@windows.get(
    "/v1/golden/{product:path}",
    responses={**REFUSAL_RESPONSES, 404: PROBLEM_RESPONSE | {"description": "No board of this product can be the golden one"}},
    dependencies=[Depends(require("read"))],
)
async def get_golden(product: str, station: StationDep) -> GoldenReply:
    """Return the golden board of a product: the chosen one, or the latest that passed."""
    golden = await asyncio.to_thread(find_golden, station.store, product)
    if golden is None:
        raise HTTPException(404, "no board of this product passed, or none of them can be cut again")
    return _reply(golden)


@windows.put(
    "/v1/golden/{product:path}",
    responses={
        **REFUSAL_RESPONSES,
        **NOT_FOUND_RESPONSE,
        422: PROBLEM_RESPONSE | {"description": "This record cannot be the golden board"},
    },
)
async def put_golden(
    product: str, body: GoldenBody, station: StationDep, caller: Annotated[Caller, Depends(require("train"))]
) -> GoldenReply:
    """Choose the golden board of a product, and keep all of its joints."""
    try:
        golden = await asyncio.to_thread(choose_golden, station.store, product, body.record, by=caller.name)
    except (UsageFault, InputFault) as fault:
        raise HTTPException(422, str(fault)) from fault
    return _reply(golden)


@windows.delete("/v1/golden/{product:path}", status_code=204, responses={**REFUSAL_RESPONSES, **NOT_FOUND_RESPONSE})
async def delete_golden(product: str, station: StationDep, caller: Annotated[Caller, Depends(require("train"))]) -> None:
    """Withdraw the choice of a product's golden board."""
    await asyncio.to_thread(forget_golden, station.store, product, by=caller.name)


def _reply(golden: Golden) -> GoldenReply:
    return GoldenReply(**asdict(golden))


# Routes of learning: where model and people disagree, the training, its promotion and the way back; and their two pages.


training = APIRouter(tags=["training"])
training_pages = APIRouter(include_in_schema=False)
TrainingCaller = Annotated[Caller, Depends(require("train"))]
PromotingCaller = Annotated[Caller, Depends(require("promote"))]
_CONFLICT: Responses = {409: PROBLEM_RESPONSE | {"description": "Not in this state of the training"}}
_SHOWN_RATES = ("escape", "false_call", "review")


class GateBody(BaseModel):
    """The answer of one gate."""

    name: str
    passed: bool
    explanation: str


class TrainingBody(BaseModel):
    """The training of this station.

    `missing` says why nothing can be trained here; `progress` is the done share of the present fit; `figures` has escapes, false
    calls and review of the present (`old`) and the new model on the same golden boards; `bias` says how people chose the joints.
    """

    state: str
    started_at: str
    started_by: str
    finished_at: str
    reason: str
    missing: str
    progress: float | None
    lines: list[str]
    gates: list[GateBody]
    figures: dict[str, Any]
    curve: str
    bias: str
    model: str
    can_start: bool
    can_cancel: bool
    can_promote: bool
    can_roll_back: bool


class DisagreementsBody(BaseModel):
    """Where the model and people disagree, the most surprising first, and the numbers (`inspect-pop disagreements --json`)."""

    report: dict[str, Any]


@training.get("/v1/training", responses=REFUSAL_RESPONSES, dependencies=[Depends(require("read"))])
async def show_training(station: StationDep) -> TrainingBody:
    """Return the state of the training, and what may be done now."""
    return await asyncio.to_thread(_describe_training, station)


@training.post("/v1/training/start", responses={**REFUSAL_RESPONSES, **_CONFLICT})
async def start_training(station: StationDep, caller: TrainingCaller) -> TrainingBody:
    """Start a training from the decisions in the store: a process of its own, at low priority, one at a time."""

    def start() -> TrainingBody:
        try:
            station.trainer.start(by=caller.name, model=station.find_model())
        except (UsageFault, BusyFault) as fault:
            raise HTTPException(HTTPStatus.CONFLICT, str(fault)) from fault
        station.store.audit(caller.name, "training started", str(station.find_model()))
        return _describe_training(station)

    return await asyncio.to_thread(start)


@training.post("/v1/training/cancel", responses=REFUSAL_RESPONSES)
async def cancel_training(station: StationDep, caller: TrainingCaller) -> TrainingBody:
    """End the training that runs."""

    def cancel() -> TrainingBody:
        station.trainer.cancel()
        station.store.audit(caller.name, "training cancelled", "")
        return _describe_training(station)

    return await asyncio.to_thread(cancel)


@training.post("/v1/training/promote", responses={**REFUSAL_RESPONSES, **_CONFLICT})
async def promote_model(station: StationDep, caller: PromotingCaller) -> TrainingBody:
    """Judge by the new model from now on. Only one that is offered: through its gates, and better on its golden boards."""
    trainer: Trainer = station.trainer
    try:
        change = await asyncio.to_thread(trainer.install, station.settings.model_folders[0], by=caller.name)
        await station.take_model(change.model)
    except (UsageFault, ModelFault) as fault:
        raise HTTPException(HTTPStatus.CONFLICT, str(fault)) from fault
    await asyncio.to_thread(trainer.note_promotion, change)
    await asyncio.to_thread(_audit_change, station, caller, "model promoted", change.previous, change.model)
    return await asyncio.to_thread(_describe_training, station)


@training.post("/v1/training/rollback", responses={**REFUSAL_RESPONSES, **_CONFLICT})
async def roll_back(station: StationDep, caller: PromotingCaller) -> TrainingBody:
    """Judge by the model before the last promotion again."""
    trainer: Trainer = station.trainer
    try:
        change: ModelChange = await asyncio.to_thread(trainer.find_last_change)
        await station.take_model(change.previous)
    except (UsageFault, ModelFault) as fault:
        raise HTTPException(HTTPStatus.CONFLICT, str(fault)) from fault
    await asyncio.to_thread(trainer.note_rollback, by=caller.name)
    await asyncio.to_thread(_audit_change, station, caller, "model rolled back", change.model, change.previous)
    return await asyncio.to_thread(_describe_training, station)


@training.get("/v1/disagreements", responses=REFUSAL_RESPONSES, dependencies=[Depends(require("read"))])
async def list_disagreements(station: StationDep, limit: Annotated[int, Query(ge=0, le=2000)] = 100) -> DisagreementsBody:
    """Return where the model and people disagree, the most surprising joint first."""

    def find() -> DisagreementsBody:
        from inspect_pop.classify.model import load
        from inspect_pop.evaluate.comparison import find_disagreements, forecast_training
        from inspect_pop.evaluate.decision_labels import collect_decision_labels

        found = collect_decision_labels(station.store)
        try:
            model = load(station.find_model())
        except ModelFault as fault:
            raise HTTPException(HTTPStatus.CONFLICT, str(fault)) from fault
        report = find_disagreements(station.store, found, forecast_training(found, model.card, model.folder))
        return DisagreementsBody(report=report.to_dict(limit))

    return await asyncio.to_thread(find)


@training_pages.get("/training", dependencies=[Depends(require("read"))])
async def show_training_page() -> HTMLResponse:
    """Return the page of the training."""
    return HTMLResponse(read_page("training"))


@training_pages.get("/disagreements", dependencies=[Depends(require("read"))])
async def show_disagreement_page() -> HTMLResponse:
    """Return the page of the disagreements."""
    return HTMLResponse(read_page("disagreements"))


def _describe_training(station: Station) -> TrainingBody:
    trainer: Trainer = station.trainer
    state, missing = trainer.read_state(), find_missing_extra()
    report = {} if state.state in ("idle", "running") else trainer.read_report()
    figures = {
        name: {rate: report[name][rate] for rate in _SHOWN_RATES} | {n: report[name][n] for n in ("boards", "joints", "defects")}
        for name in ("old", "new")
        if report.get(name)
    }
    running = state.state == "running"
    return TrainingBody(
        state=state.state,
        started_at=state.started_at,
        started_by=state.started_by,
        finished_at=state.finished_at,
        reason=state.reason,
        missing=missing,
        progress=trainer.find_progress() if running else None,
        lines=trainer.read_lines(),
        gates=[GateBody(**gate) for gate in report.get("gates", ())],
        figures=figures,
        curve=(report.get("curve") or {}).get("summary", ""),
        bias=(report.get("labels") or {}).get("bias", ""),
        model=Path(station.find_model()).name,
        can_start=not running and not missing,
        can_cancel=running,
        can_promote=state.state == "offered",
        can_roll_back=bool(state.history),
    )


def _audit_change(station: Station, caller: Caller, action: str, before: str, after: str) -> None:
    station.store.audit(caller.name, action, Path(after).name, before={"model": before}, after={"model": after})

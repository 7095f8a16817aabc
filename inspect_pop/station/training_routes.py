"""Routes of learning: where model and people disagree, the training, its promotion and the way back; and their two pages."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from inspect_pop.core.errors import BusyFault, ModelFault, UsageFault
from inspect_pop.station.access import PROBLEM_RESPONSE, REFUSAL_RESPONSES, Caller, Responses, StationDep, require
from inspect_pop.station.station import Station
from inspect_pop.station.trainer import ModelChange, Trainer, find_missing_extra
from inspect_pop.verify.words import read_page

__all__ = ["training", "training_pages"]

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
    return await asyncio.to_thread(_describe, station)


@training.post("/v1/training/start", responses={**REFUSAL_RESPONSES, **_CONFLICT})
async def start_training(station: StationDep, caller: TrainingCaller) -> TrainingBody:
    """Start a training from the decisions in the store: a process of its own, at low priority, one at a time."""

    def start() -> TrainingBody:
        try:
            station.trainer.start(by=caller.name, model=station.find_model())
        except (UsageFault, BusyFault) as fault:
            raise HTTPException(HTTPStatus.CONFLICT, str(fault)) from fault
        station.store.audit(caller.name, "training started", str(station.find_model()))
        return _describe(station)

    return await asyncio.to_thread(start)


@training.post("/v1/training/cancel", responses=REFUSAL_RESPONSES)
async def cancel_training(station: StationDep, caller: TrainingCaller) -> TrainingBody:
    """End the training that runs."""

    def cancel() -> TrainingBody:
        station.trainer.cancel()
        station.store.audit(caller.name, "training cancelled", "")
        return _describe(station)

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
    return await asyncio.to_thread(_describe, station)


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
    return await asyncio.to_thread(_describe, station)


@training.get("/v1/disagreements", responses=REFUSAL_RESPONSES, dependencies=[Depends(require("read"))])
async def list_disagreements(station: StationDep, limit: Annotated[int, Query(ge=0, le=2000)] = 100) -> DisagreementsBody:
    """Return where the model and people disagree, the most surprising joint first."""

    def find() -> DisagreementsBody:
        from inspect_pop.classify.model import load
        from inspect_pop.evaluate.decision_labels import collect_decision_labels
        from inspect_pop.evaluate.disagreements import find_disagreements, forecast_training

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


def _describe(station: Station) -> TrainingBody:
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

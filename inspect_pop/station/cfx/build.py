"""From a record, a decision or a fault to CFX messages: pure functions, the same input gives the same messages.

Every identifier follows from the record (uuid5), so a message that is made or sent twice is one message to whoever keeps
them by `UniqueID`. The standard knows no fused method: what the X-ray slices and what the height maps show goes as one
`UnitsInspected` each, in one transaction; the joints' verdicts go with the slices (AXI), or with the height maps (AOI)
where a board came without slices. A board for review is reported as failed and not verified yet: a person must look.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

import numpy as np

from inspect_pop.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.station.cfx import joints as of_joints
from inspect_pop.station.cfx import packages as of_packages
from inspect_pop.station.cfx.identity import NAMESPACE, of_record
from inspect_pop.station.cfx.messages import (
    VERSION,
    Actor,
    Body,
    Envelope,
    FaultCause,
    FaultOccurred,
    FaultSeverity,
    Heartbeat,
    InspectedUnit,
    Method,
    Operator,
    SamplingInformation,
    StationFault,
    TestResult,
    UnitInspection,
    UnitPosition,
    UnitsInspected,
    VerificationState,
    WorkCompleted,
    WorkResult,
    WorkStarted,
)
from inspect_pop.store import Decision, Defect, Message, defects_in
from inspect_pop.store.values import printable

__all__ = [
    "Found",
    "about",
    "from_decision",
    "from_fault",
    "from_inspection",
    "heartbeat",
    "message",
    "methods",
    "parts",
    "to_message",
]

_STARTED, _UNITS, _COMPLETED = "WorkStarted", "UnitsInspected", "WorkCompleted"
_MISSED = "DefectMissed"  # a state of the store that CFX does not know: the defect is confirmed, by a person who found it


@dataclass(frozen=True)
class Found:
    """What a record's messages tell: the same from an inspection at hand and from the record in the store."""

    board: BoardRecord
    packages: tuple[PackageRecord, ...]
    defects: tuple[Defect, ...]
    methods: tuple[Method, ...]

    @classmethod
    def by(cls, inspection: Inspection) -> "Found":
        """What this inspection found."""
        return cls(inspection.board, inspection.packages, defects_in(inspection.joints), methods(inspection))


def from_inspection(inspection: Inspection, handle: str) -> Iterator[Message]:
    """All messages of a record, in order."""
    found = Found.by(inspection)
    return (message(found, part, handle) for part in parts(found.methods))


def parts(by: Iterable[Method]) -> tuple[str, ...]:
    """The messages of a record, in order: WorkStarted, one UnitsInspected a method, WorkCompleted."""
    return (_STARTED, *(f"{_UNITS}/{method}" for method in by), _COMPLETED)


def about(record: BoardRecord, part: str) -> tuple[str, str, str]:
    """Identifier, name and time of this part of a record's messages."""
    kind = f"CFX.Production.{'TestAndInspection.' if part.startswith(_UNITS) else ''}{part.partition('/')[0]}"
    at = record.started_at if part == _STARTED else record.finished_at
    return str(uuid5(NAMESPACE, f"{record.record}/{part}")), kind, at


def message(found: Found, part: str, handle: str) -> Message:
    """One of a record's messages, whole."""
    board = found.board
    unique, _, at = about(board, part)
    return to_message(_envelope(UUID(unique), at, _body(found, part), handle), board.record, at)


def methods(inspection: Inspection) -> tuple[Method, ...]:
    """By which methods the board was looked at: AOI from height maps, AXI from slices; AXI alone where nothing is known."""
    joints, packages = inspection.joints, inspection.packages
    stages = {"pre_stack", "post_reflow"}
    seen = {name.rpartition("/")[2] in stages for name in inspection.placements}
    aoi = True in seen or any(math.isfinite(p.warpage_um) or math.isfinite(p.stack_height_um) for p in packages)
    axi = False in seen or bool(np.isfinite(joints["diameter_um"]).any())
    return (*([Method.AOI] if aoi else []), *([Method.AXI] if axi or not aoi else []))


def from_decision(board: BoardRecord, defects: Sequence[Defect], decision: Decision, handle: str) -> Message:
    """A person's decision about one joint: a UnitsInspected by a human with the state of its verification."""
    state = VerificationState.DEFECT_CONFIRMED if decision.state == _MISSED else VerificationState(decision.state)
    key = "/".join(("decision", decision.refdes, decision.interface, decision.ball, decision.decided_by, decision.decided_at))
    known = next(
        (d for d in defects if (d.refdes, d.interface, d.ball) == (decision.refdes, decision.interface, decision.ball)), None
    )
    step = of_joints.decided(board.record, decision, known, state)
    body = _unit_message(board, Method.HUMAN, step.Result, (step,), 1, state, person=decision.decided_by)
    return _message(board.record, f"UnitsInspected/{key}", decision.decided_at, body, handle)


def from_fault(path: str, reason: str, code: str, at: str, handle: str) -> Message:
    """A board that could not be inspected: production stops there until somebody looked."""
    path, reason = printable(path), printable(reason)
    occurrence = f"fault/{path}/{reason}"
    fault = StationFault(
        Cause=FaultCause.QUALITY_CHECK,
        Severity=FaultSeverity.ERROR,
        FaultCode=code,
        FaultOccurrenceId=uuid5(NAMESPACE, occurrence),
        Description=f"{path}: {reason}",
        OccurredAt=datetime.fromisoformat(at),
    )
    return _message(None, occurrence, at, FaultOccurred(Fault=fault), handle)


def heartbeat(handle: str, every_s: float, at: str, faults: Iterable[StationFault] = ()) -> Envelope:
    """The station is there. Never kept in the outbox: an old heartbeat says nothing."""
    seconds = round(every_s)
    every = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    body = Heartbeat(CFXHandle=handle, HeartbeatFrequency=every, ActiveFaults=tuple(faults))
    return _envelope(uuid5(NAMESPACE, f"heartbeat/{handle}/{at}"), at, body, handle)


def to_message(envelope: Envelope, record: str | None, created_at: str) -> Message:
    """The envelope as the outbox keeps it."""
    return Message(str(envelope.UniqueID), envelope.MessageName, envelope.to_json(), created_at, record=record)


def _body(found: Found, part: str) -> UnitsInspected | WorkStarted | WorkCompleted:
    board = found.board
    transaction, primary = of_record(board.record), board.panel or board.serial
    if part == _STARTED:
        unit = UnitPosition(UnitIdentifier=board.serial, PositionNumber=board.position or 1)
        return WorkStarted(PrimaryIdentifier=primary, TransactionID=transaction, UnitCount=1, Units=(unit,))
    if part == _COMPLETED:
        return WorkCompleted(PrimaryIdentifier=primary, TransactionID=transaction, Result=WorkResult.COMPLETED)
    return _units(found, Method(part.partition("/")[2]))


def _units(found: Found, method: Method) -> UnitsInspected:
    board = found.board
    alone = found.methods == (method,)
    steps: tuple[UnitInspection, ...] = ()
    total = 0
    if method is Method.AOI:
        steps, total = of_packages.steps(board.record, found.packages), len(found.packages)
    if method is Method.AXI or alone:
        steps, total = (*steps, *of_joints.steps(board.record, found.defects)), total + board.n_joints
    result = _overall(board, steps, decides=method is Method.AXI or alone)
    return _unit_message(board, method, result, steps, total, VerificationState.NOT_VERIFIED_YET)


def _overall(board: BoardRecord, steps: Sequence[UnitInspection], *, decides: bool) -> TestResult:
    """Of a unit by one method: passed only where the board passed or the verdict is told by the other method."""
    if not decides or board.verdict == "pass":
        return TestResult.PASSED
    failed = board.verdict == "fail" or any(s.Result is TestResult.FAILED for s in steps)
    return TestResult.FAILED if failed else TestResult.ERROR


def _unit_message(
    board: BoardRecord,
    method: Method,
    result: TestResult,
    steps: tuple[UnitInspection, ...],
    total: int,
    verification: VerificationState,
    person: str | None = None,
) -> UnitsInspected:
    unit = InspectedUnit(
        UnitIdentifier=board.serial,
        UnitPositionNumber=board.position,
        OverallResult=result,
        Inspections=steps,
        Verification=verification,
        TotalInspectionCount=total,
    )
    actor = Operator(
        OperatorIdentifier=person or f"inspect_pop {board.software}", ActorType=Actor.HUMAN if person else Actor.REMOTE_SYSTEM
    )
    return UnitsInspected(
        PrimaryIdentifier=board.panel or board.serial,
        TransactionId=of_record(board.record),
        InspectionMethod=method,
        SamplingInformation=SamplingInformation(),
        Inspector=actor,
        RecipeName=board.recipe,
        RecipeRevision=str(board.recipe_revision),
        InspectedUnits=(unit,),
    )


def _message(record: str | None, kind: str, at: str, body: Body, handle: str) -> Message:
    unique = uuid5(NAMESPACE, f"{record}/{kind}" if record else kind)
    return to_message(_envelope(unique, at, body, handle), record, at)


def _envelope(unique: UUID, at: str, body: Body, handle: str) -> Envelope:
    name = body.type_.partition(",")[0]
    return Envelope(
        MessageName=name, Version=VERSION, TimeStamp=datetime.fromisoformat(at), UniqueID=unique, Source=handle, MessageBody=body
    )

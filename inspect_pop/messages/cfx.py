"""Make CFX messages from a record, a decision or a fault: pure functions, the same input gives the same messages.

Every identifier follows from the record (uuid5), so that a receiver which keeps messages by `UniqueID` keeps a message that
was made or sent twice once. The standard has no method that combines two: what the X-ray slices show and what the height maps
show each goes as a `UnitsInspected` of its own, in one transaction. The joints' verdicts go with the slices (AXI), or with the
height maps (AOI) for a board without slices. A board in review is reported as failed and not verified yet: a person decides.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from inspect_pop.core.classes import CLASSES, GOOD, joint_class
from inspect_pop.core.columns import COLUMNS
from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.messages.cfx_schema import (
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
from inspect_pop.store import Decision, DefectRecord, Message, extract_defects
from inspect_pop.store.types import PASS_CONFIRMED, WITHDRAWN, escape_text

__all__ = [
    "NAMESPACE",
    "Fields",
    "RecordContent",
    "build_decision_step",
    "build_joint_steps",
    "build_message",
    "build_package_steps",
    "from_decision",
    "from_drift",
    "from_fault",
    "from_inspection",
    "from_verification",
    "identify_part",
    "list_methods",
    "list_parts",
    "make_heartbeat",
    "make_measurement",
    "make_record_uuid",
    "to_message",
]

NAMESPACE = UUID("6a1d2f0e-7c53-5a0b-9a55-1f5e0c0ffee5")  # random and fixed: with another one every message counts as new
# Fields of a model. The step that holds them validates all at once, in a third of the time that one model each takes.
Fields = dict[str, Any]

_SI_UNITS = {"um": ("m", 1e-6), "1": ("1", 1.0)}
# (column, name in the message, SI unit, factor from the column's unit): sizes and shares, then offsets, which have a sign.
_MEASUREMENTS = tuple(
    (c.name, c.cfx, *_SI_UNITS[c.unit])
    for c in sorted(COLUMNS, key=lambda c: c.display is not None and c.display.signed)
    if c.cfx
)
_NOT_YET = VerificationState.NOT_VERIFIED_YET
_REJECTED_CODE = "POP-REJECTED"  # good by its class, beyond a limit of the acceptance profile
_STARTED, _UNITS, _COMPLETED = "WorkStarted", "UnitsInspected", "WorkCompleted"
# A state of the store that CFX does not know: the defect is confirmed, by the person who found it.
_MISSED = "DefectMissed"


@lru_cache(maxsize=16)  # every measurement of a board needs it
def make_record_uuid(record: str) -> UUID:
    """Return the work transaction of a record, which is also the namespace of everything within it."""
    return uuid5(NAMESPACE, record)


def build_joint_steps(record: str, bad: Iterable[DefectRecord]) -> tuple[UnitInspection, ...]:
    """Build one step per joint that did not pass, in order of its name; `TotalInspectionCount` counts the others."""
    steps = []
    for defect in sorted(bad, key=lambda d: (d.refdes, d.interface, d.ball)):
        if defect.verdict == "pass":
            continue
        row = vars(defect) | defect.measured | {"found": defect.verdict}
        name = f"{defect.refdes}.{defect.interface}.{defect.ball}"
        common: Fields = {
            "UniqueIdentifier": uuid5(make_record_uuid(record), name),
            "InspectionName": name,
            "Verification": _NOT_YET,
        }
        if defect.label is None:
            steps.append(UnitInspection(**common, Result=TestResult.ERROR, Error=str(defect.reason)))
            continue
        # That something is wrong here, in percent; the standard's scale begins at 1.
        p_good = defect.measured.get(f"p_{GOOD}")
        if defect.label not in CLASSES or p_good is None or not math.isfinite(p_good):
            p_good = 1.0
        if _is_rejected(row):  # a limit is exceeded, whatever the classifier makes of the joint
            p_good = 0.0
        found: Any = _make_defect(record, row, name, _NOT_YET, confidence=round(min(100.0, max(1.0, 100.0 * (1.0 - p_good))), 1))
        comments = str(defect.reason) or None
        steps.append(UnitInspection(**common, Comments=comments, Result=TestResult.FAILED, DefectsFound=(found,)))
    return tuple(steps)


def build_decision_step(
    record: str, decision: Decision, known: DefectRecord | None, state: VerificationState, *, has_defect: bool = True
) -> UnitInspection:
    """Build the step of a joint as a person decided it.

    Args:
        record: The record that the decision is about.
        decision: Which joint, by whom, when, and what the joint is.
        known: What the inspection found at the joint; None for a joint that passed.
        state: The decision in CFX's words.
        has_defect: Whether anybody, machine or person, ever called a defect there; without one the step passed and names none.
    """
    row: dict[str, Any] = {"refdes": decision.refdes, "interface": decision.interface, "ball": decision.ball}
    row |= {"verdict": "fail", "reason": "", "label": (known.label if known else decision.label) or GOOD}
    row["found"] = known.verdict if known else None
    row |= known.measured if known else {}
    rejected = state in (VerificationState.DEFECT_REJECTED, VerificationState.DEFECT_ACCEPTED)
    name = f"{decision.refdes}.{decision.interface}.{decision.ball}"
    defect: Any = _make_defect(record, row, name, state, confidence=100.0)
    return UnitInspection(
        UniqueIdentifier=uuid5(make_record_uuid(record), f"{name}/{decision.decided_by}/{decision.decided_at}"),
        InspectionName=name,
        Comments=decision.note or None,
        Result=TestResult.PASSED if rejected or not has_defect else TestResult.FAILED,
        Verification=state,
        VerificationDetail=decision.label,
        DefectsFound=(defect,) if has_defect else (),
    )


def _is_rejected(row: Mapping[str, Any]) -> bool:
    """Tell whether the joint is good by its class and failed all the same, by an acceptance criterion."""
    return bool(row["label"] == GOOD and row["found"] == "fail")


def _make_defect(record: str, row: Mapping[str, Any], name: str, state: VerificationState, *, confidence: float) -> Fields:
    """Return a defect with its measurements; `row` holds the joint's columns, null or NaN where not measured.

    `found` in it is the machine's verdict, None for a joint that it passed. A good joint that fails, by an acceptance criterion,
    has a code of its own.
    """
    of_class, rejected = joint_class(row["label"]), _is_rejected(row)
    pin, what = f"{row['refdes']}.{row['ball']}", "rejected" if rejected else row["label"]
    present = [(cfx, float(row[c]) * factor, unit) for c, cfx, unit, factor in _MEASUREMENTS if _is_number(row.get(c))]
    measured = tuple(
        make_measurement(record, name, pin, cfx, value, unit, i, limit=0) for i, (cfx, value, unit) in enumerate(present, 1)
    )
    return {
        "UniqueIdentifier": uuid5(make_record_uuid(record), f"{name}/defect/{_NOT_YET}"),  # one identity, whoever verifies it
        "DefectCode": _REJECTED_CODE if rejected else of_class.cfx_code,
        "DefectCategory": "SolderDefect" if rejected else of_class.cfx_category,
        "Description": f"{what} at {row['ball']}, {row['interface']} interface of {row['refdes']}",
        "ComponentOfInterest": {"ReferenceDesignator": pin},
        "Priority": 1 if row["verdict"] == "fail" else 2,
        "ConfidenceLevel": confidence,
        "RelatedMeasurements": measured,
        "Verification": state,
    }


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(float(value))


def make_measurement(
    record: str, place: str, crds: str, name: str, value: float, unit: str, sequence: int, *, limit: float = math.inf
) -> Fields:
    """Return the fields of one measured number.

    Args:
        record, place, name: The identifier follows from these: record, step and name of the measurement.
        crds: The component or pin that was measured.
        value, unit: The number in SI units: `m`, `rad`, or `1` for a ratio.
        sequence: Its number within the step, from 1.
        limit: The largest magnitude that is accepted; 0 for evidence of a defect, which is never accepted.
    """
    measured: Fields = {"Value": value, "ValueUnits": unit}
    if 0 < limit < math.inf:
        measured |= {"MinimumAcceptableValue": -limit, "MinimumAcceptableValueUnits": unit}
        measured |= {"MaximumAcceptableValue": limit, "MaximumAcceptableValueUnits": unit}
    return {
        "MeasuredValue": measured,
        "UniqueIdentifier": uuid5(make_record_uuid(record), f"{place}/{name}"),
        "MeasurementName": name,
        "Sequence": sequence,
        "Result": TestResult.PASSED if limit > 0 and abs(value) <= limit else TestResult.FAILED,
        "CRDs": crds,
    }


def build_package_steps(record: str, packages: Iterable[PackageRecord]) -> tuple[UnitInspection, ...]:
    """Build one step per package with its warpage (against its limit), stack height, offset and rotation.

    A warpage beyond its limit is a failed measurement. The step passes all the same: joints decide a board's verdict.
    """
    steps = []
    for package in packages:
        name = f"{package.refdes}.package"
        warpage_limit = package.warpage_limit_um * 1e-6 if package.warpage_limit_um > 0 else math.inf
        values = (
            ("Warpage", package.warpage_um * 1e-6, "m", warpage_limit),
            ("StackHeight", package.stack_height_um * 1e-6, "m", math.inf),
            ("OffsetX", package.offset_x_um * 1e-6, "m", math.inf),
            ("OffsetY", package.offset_y_um * 1e-6, "m", math.inf),
            ("Rotation", math.radians(package.rotation_deg), "rad", math.inf),
        )
        present = [v for v in values if math.isfinite(v[1])]
        measured: Any = tuple(
            make_measurement(record, name, package.refdes, what, value, unit, i, limit=limit)
            for i, (what, value, unit, limit) in enumerate(present, 1)
        )
        steps.append(
            UnitInspection(
                UniqueIdentifier=uuid5(make_record_uuid(record), name),
                InspectionName=name,
                Result=TestResult.PASSED,
                Verification=_NOT_YET,
                Measurements=measured,
            )
        )
    return tuple(steps)


@dataclass(frozen=True)
class RecordContent:
    """What a record's messages say: the same from an inspection in memory and from the record in the store."""

    board: BoardRecord
    packages: tuple[PackageRecord, ...]
    defects: tuple[DefectRecord, ...]
    methods: tuple[Method, ...]


def from_inspection(inspection: Inspection, handle: str) -> Iterator[Message]:
    """Make all messages of a record, in order; `handle` is the station's name in messages."""
    methods = list_methods(inspection)
    content = RecordContent(inspection.board, inspection.packages, extract_defects(inspection.joints), methods)
    return (build_message(content, part, handle) for part in list_parts(methods))


def list_methods(inspection: Inspection) -> tuple[Method, ...]:
    """Return the methods of an inspection: AOI for height maps, AXI for slices; AXI alone where nothing is known."""
    joints, packages = inspection.joints, inspection.packages
    stages = {"pre_stack", "post_reflow"}
    of_height_map = {name.rpartition("/")[2] in stages for name in inspection.placements}
    aoi = True in of_height_map or any(math.isfinite(p.warpage_um) or math.isfinite(p.stack_height_um) for p in packages)
    axi = False in of_height_map or bool(np.isfinite(joints["diameter_um"]).any())
    return (*([Method.AOI] if aoi else []), *([Method.AXI] if axi or not aoi else []))


def list_parts(methods: Iterable[Method]) -> tuple[str, ...]:
    """Name the messages of a record, in order: WorkStarted, one UnitsInspected per method, WorkCompleted."""
    return (_STARTED, *(f"{_UNITS}/{method}" for method in methods), _COMPLETED)


def identify_part(board: BoardRecord, part: str) -> tuple[str, str, str]:
    """Return identifier, message name and ISO 8601 time of one of a record's messages."""
    kind = f"CFX.Production.{'TestAndInspection.' if part.startswith(_UNITS) else ''}{part.partition('/')[0]}"
    at = board.started_at if part == _STARTED else board.finished_at
    return str(uuid5(NAMESPACE, f"{board.record}/{part}")), kind, at


def build_message(content: RecordContent, part: str, handle: str) -> Message:
    """Make one of a record's messages, complete; `part` is one of `list_parts`."""
    board = content.board
    unique, _, at = identify_part(board, part)
    transaction, primary = make_record_uuid(board.record), (board.panel or "").strip() or board.serial
    body: UnitsInspected | WorkStarted | WorkCompleted
    if part == _STARTED:
        unit = UnitPosition(UnitIdentifier=board.serial, PositionNumber=_number_position(board))
        body = WorkStarted(PrimaryIdentifier=primary, TransactionID=transaction, UnitCount=1, Units=(unit,))
    elif part == _COMPLETED:
        body = WorkCompleted(PrimaryIdentifier=primary, TransactionID=transaction, Result=WorkResult.COMPLETED)
    else:
        body = _build_machine_body(content, Method(part.partition("/")[2]))
    return to_message(_make_envelope(UUID(unique), at, body, handle), board.record, at)


def _number_position(board: BoardRecord) -> int:
    """Return the board's number on its panel, in all its messages: 0 is a number, and a board without one is the first."""
    return 1 if board.position is None else board.position


def _build_machine_body(content: RecordContent, method: Method) -> UnitsInspected:
    board = content.board
    has_joints = method is Method.AXI or content.methods == (method,)
    steps: tuple[UnitInspection, ...] = ()
    total = 0
    if method is Method.AOI:
        steps, total = build_package_steps(board.record, content.packages), len(content.packages)
    if has_joints:
        steps, total = (*steps, *build_joint_steps(board.record, content.defects)), total + board.n_joints
    # A unit passes by one method only where the board passed, or where the other method has the verdict.
    if not has_joints or board.verdict == "pass":
        result = TestResult.PASSED
    elif board.verdict == "fail" or any(s.Result is TestResult.FAILED for s in steps):
        result = TestResult.FAILED
    else:
        result = TestResult.ERROR
    return _build_units_inspected(board, method, result, steps, total, _NOT_YET)


def from_verification(
    board: BoardRecord,
    defects: Sequence[DefectRecord],
    decision: Decision,
    handle: str,
    before: str | None,
    after: str | None,
) -> Message:
    """Make the message that follows from a decision, withdrawn ones included.

    `before` and `after` are the states that counted before the decision and that count now, None where there is none. A
    withdrawal sends the state that counts again. CFX has no word for a joint that passed and that a person found good: it is
    `DefectRejected` without a defect, so that who counts false calls by their defects counts none.
    """
    joint = (decision.refdes, decision.interface, decision.ball)
    is_suspect = any((d.refdes, d.interface, d.ball) == joint and d.verdict != "pass" for d in defects)
    has_defect = is_suspect or not {before, after} <= {None, PASS_CONFIRMED}
    state = _find_state(after if decision.state == WITHDRAWN else decision.state)
    return from_decision(board, defects, decision, handle, state=state, has_defect=has_defect)


def _find_state(state: str | None) -> VerificationState:
    """Return what CFX calls a decision's state; a joint without one is not verified."""
    if state is None:
        return _NOT_YET
    if state == PASS_CONFIRMED:
        return VerificationState.DEFECT_REJECTED
    return VerificationState.DEFECT_CONFIRMED if state == _MISSED else VerificationState(state)


def from_decision(
    board: BoardRecord,
    defects: Sequence[DefectRecord],
    decision: Decision,
    handle: str,
    *,
    state: VerificationState | None = None,
    has_defect: bool = True,
) -> Message:
    """Make the message of a person's decision about one joint: a UnitsInspected by a human with the verification's state.

    `state` takes the place of the decision's own; `has_defect` is as in `build_decision_step`.
    """
    state = _find_state(decision.state) if state is None else state
    joint = (decision.refdes, decision.interface, decision.ball)
    known = next((d for d in defects if (d.refdes, d.interface, d.ball) == joint), None)
    step = build_decision_step(board.record, decision, known, state, has_defect=has_defect)
    body = _build_units_inspected(board, Method.HUMAN, step.Result, (step,), 1, state, person=decision.decided_by)
    key = "/".join(("decision", *joint, decision.decided_by, decision.decided_at))
    unique = uuid5(NAMESPACE, f"{board.record}/{_UNITS}/{key}")
    return to_message(_make_envelope(unique, decision.decided_at, body, handle), board.record, decision.decided_at)


def from_fault(
    path: str, reason: str, code: str, at: str, handle: str, *, serial: str | None = None, content: str | None = None
) -> Message:
    """Make the message of a board that could not be inspected: production of it stops until a person has checked it.

    Args:
        path, reason: Where the board's export is and what is wrong with it. The same pair and content are the same fault.
        code: The fault's kind, as `PopError.about` has it.
        at: ISO 8601 time with an offset.
        handle: The station's name in messages.
        serial: The board's serial, where its manifest can be read.
        content: The manifest's digest, which tells the boards apart that a machine exports into one folder.
    """
    path, reason = escape_text(path), escape_text(reason)
    occurrence = f"fault/{path}/{reason}" if content is None else f"fault/{content}/{reason}"
    named = path if serial is None else f"{path} (serial {escape_text(serial)})"
    fault = StationFault(
        Cause=FaultCause.QUALITY_CHECK,
        Severity=FaultSeverity.ERROR,
        FaultCode=code,
        FaultOccurrenceId=uuid5(NAMESPACE, occurrence),
        Description=f"{named}: {reason}",
        OccurredAt=datetime.fromisoformat(at),
    )
    return to_message(_make_envelope(uuid5(NAMESPACE, occurrence), at, FaultOccurred(Fault=fault), handle), None, at)


def from_drift(machine: str, figure: str, words: str, since: str, at: str, handle: str) -> Message:
    """Make the message of a machine that is called drifting: a warning, production goes on.

    Args:
        machine: Line and station of the machine.
        figure: The figure by which it drifts.
        words: The figure's values, in words.
        since: ISO 8601 time of the board since which it drifts. The same machine, figure and time are the same fault.
        at: ISO 8601 time with an offset.
        handle: The station's name in messages.
    """
    occurrence = uuid5(NAMESPACE, f"drift/{machine}/{figure}/{since}")
    fault = StationFault(
        Cause=FaultCause.QUALITY_CHECK,
        Severity=FaultSeverity.WARNING,
        FaultCode="machine drifting",
        FaultOccurrenceId=occurrence,
        Description=f"{escape_text(machine)} drifts since {since}: {words}",
        OccurredAt=datetime.fromisoformat(since),
    )
    return to_message(_make_envelope(occurrence, at, FaultOccurred(Fault=fault), handle), None, at)


def make_heartbeat(handle: str, every_s: float, at: str, faults: Iterable[StationFault] = ()) -> Envelope:
    """Make a heartbeat: the station runs. It never goes into the outbox, since an old heartbeat says nothing."""
    seconds = round(every_s)
    every = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    body = Heartbeat(CFXHandle=handle, HeartbeatFrequency=every, ActiveFaults=tuple(faults))
    return _make_envelope(uuid5(NAMESPACE, f"heartbeat/{handle}/{at}"), at, body, handle)


def to_message(envelope: Envelope, record: str | None, created_at: str) -> Message:
    """Return the envelope as the outbox stores it."""
    return Message(str(envelope.UniqueID), envelope.MessageName, envelope.to_json(), created_at, record=record)


def _build_units_inspected(
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
        UnitPositionNumber=_number_position(board),
        OverallResult=result,
        Inspections=steps,
        Verification=verification,
        TotalInspectionCount=total,
    )
    actor = Operator(
        OperatorIdentifier=person or f"inspect_pop {board.software}", ActorType=Actor.HUMAN if person else Actor.REMOTE_SYSTEM
    )
    return UnitsInspected(
        PrimaryIdentifier=(board.panel or "").strip() or board.serial,
        TransactionId=make_record_uuid(board.record),
        InspectionMethod=method,
        SamplingInformation=SamplingInformation(),
        Inspector=actor,
        RecipeName=board.recipe,
        RecipeRevision=str(board.recipe_revision),
        InspectedUnits=(unit,),
    )


def _make_envelope(unique: UUID, at: str, body: Body, handle: str) -> Envelope:
    return Envelope(
        MessageName=body.type_.partition(",")[0],
        Version=VERSION,
        TimeStamp=datetime.fromisoformat(at),
        UniqueID=unique,
        Source=handle,
        MessageBody=body,
    )

"""Identifiers that follow from what they name: the same record gives the same messages, wherever they are made.

Joints that did not pass, as steps of a CFX inspection with their defects and measurements.

What the height maps show of each package, as steps of a CFX inspection.

From a record, a decision or a fault to CFX messages: pure functions, the same input gives the same messages.

Every identifier follows from the record (uuid5), so a message that is made or sent twice is one message to whoever keeps
them by `UniqueID`. The standard knows no fused method: what the X-ray slices and what the height maps show goes as one
`UnitsInspected` each, in one transaction; the joints' verdicts go with the slices (AXI), or with the height maps (AOI)
where a board came without slices. A board for review is reported as failed and not verified yet: a person must look.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha1
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.core.joint_table import CLASSES
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
from inspect_pop.store import Decision, Defect, Message, defects_in
from inspect_pop.store.types import printable

__all__ = [
    "NAMESPACE",
    "Fields",
    "Found",
    "about",
    "decided",
    "from_decision",
    "from_fault",
    "from_inspection",
    "heartbeat",
    "joint_steps",
    "measurement",
    "message",
    "methods",
    "of_record",
    "package_steps",
    "parts",
    "to_message",
    "within",
]

# ---- station/cfx/identity
NAMESPACE = UUID("6a1d2f0e-7c53-5a0b-9a55-1f5e0c0ffee5")  # drawn once; another one would send every message anew


@lru_cache(maxsize=16)  # asked for each measurement of a board
def of_record(record: str) -> UUID:
    """The work transaction of a record, and the namespace of everything within it."""
    return uuid5(NAMESPACE, record)


def within(record: str, name: str) -> bytes:
    """The 16 bytes of `uuid5(of_record(record), name)`, in a third of its time: a board has hundreds (RFC 4122, 4.3)."""
    digest = bytearray(sha1(_namespace(record) + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


@lru_cache(maxsize=16)
def _namespace(record: str) -> bytes:
    return of_record(record).bytes


# ---- station/cfx/joints
Fields = dict[
    str, Any
]  # of a model; the step that holds them validates all at once, in a third of the time that each by itself takes

# The standard's suggested categories have no open and no head-in-pillow (FIELD NOTES, standards): the code tells them apart.
_CATEGORIES = {
    "bridged": ("POP-BRIDGED", "Short"),
    "starved": ("POP-STARVED", "InsufficientSolder"),
    "open": ("POP-OPEN", "SolderDefect"),
    "head_in_pillow": ("POP-HEAD-IN-PILLOW", "SolderDefect"),
    "good": ("POP-DOUBT", "Miscellaneous"),
}
# column, name in the message, SI unit, factor from the column's unit
_MEASURES = (
    ("diameter_um", "Diameter", "m", 1e-6),
    ("volume_ratio", "VolumeRatio", "1", 1.0),
    ("void_fraction", "VoidFraction", "1", 1.0),
    ("standoff_um", "Standoff", "m", 1e-6),
    ("clearance_um", "Clearance", "m", 1e-6),
    ("dx_um", "OffsetX", "m", 1e-6),
    ("dy_um", "OffsetY", "m", 1e-6),
)
_NOT_YET = VerificationState.NOT_VERIFIED_YET


def joint_steps(record: str, bad: Iterable[Defect]) -> tuple[UnitInspection, ...]:
    """One step for each joint that did not pass, in order of its name; `TotalInspectionCount` tells of the others."""
    named = sorted(bad, key=lambda d: (d.refdes, d.interface, d.ball))
    return tuple(_step(record, vars(d) | d.measured) for d in named if d.verdict != "pass")


def decided(record: str, decision: Decision, known: Defect | None, state: VerificationState) -> UnitInspection:
    """A joint as a person decided it; `known` is what the inspection had found there, None where it had passed."""
    row: dict[str, Any] = {"refdes": decision.refdes, "interface": decision.interface, "ball": decision.ball}
    row |= {"verdict": "fail", "reason": "", "label": (known.label if known else decision.label) or "good"}
    row |= known.measured if known else {}
    rejected = state in (VerificationState.DEFECT_REJECTED, VerificationState.DEFECT_ACCEPTED)
    name = ".".join((decision.refdes, decision.interface, decision.ball))
    defect: Any = _defect(record, row, name, state, confidence=100.0)
    return UnitInspection(
        UniqueIdentifier=uuid5(of_record(record), f"{name}/{decision.decided_by}/{decision.decided_at}"),
        InspectionName=name,
        Comments=decision.note or None,
        Result=TestResult.PASSED if rejected else TestResult.FAILED,
        Verification=state,
        VerificationDetail=decision.label,
        DefectsFound=(defect,),
    )


def measurement(
    record: str, where: str, crds: str, name: str, value: float, unit: str, sequence: int, *, limit: float = math.inf
) -> Fields:
    """One number in SI units; its magnitude is accepted up to `limit`, and not at all as evidence of a defect (0)."""
    measured: Fields = {"Value": value, "ValueUnits": unit}
    if 0 < limit < math.inf:
        measured |= {"MinimumAcceptableValue": -limit, "MinimumAcceptableValueUnits": unit}
        measured |= {"MaximumAcceptableValue": limit, "MaximumAcceptableValueUnits": unit}
    return {
        "MeasuredValue": measured,
        "UniqueIdentifier": within(record, f"{where}/{name}"),
        "MeasurementName": name,
        "Sequence": sequence,
        "Result": TestResult.PASSED if limit > 0 and abs(value) <= limit else TestResult.FAILED,
        "CRDs": crds,
    }


def _step(record: str, row: Mapping[str, Any]) -> UnitInspection:
    name = ".".join(str(row[c]) for c in ("refdes", "interface", "ball"))
    step: Fields = {"UniqueIdentifier": within(record, name), "InspectionName": name, "Verification": _NOT_YET}
    if row["label"] is None:
        return UnitInspection(**step, Result=TestResult.ERROR, Error=str(row["reason"]))
    defect: Any = _defect(record, row, name, _NOT_YET, confidence=_confidence(row))
    return UnitInspection(**step, Comments=str(row["reason"]) or None, Result=TestResult.FAILED, DefectsFound=(defect,))


def _defect(record: str, row: Mapping[str, Any], name: str, state: VerificationState, *, confidence: float) -> Fields:
    code, category = _CATEGORIES[row["label"]]
    pin = f"{row['refdes']}.{row['ball']}"
    present = [(n, float(row[c]) * f, u) for c, n, u, f in _MEASURES if _is_number(row.get(c))]
    measured = tuple(measurement(record, name, pin, n, v, u, i, limit=0) for i, (n, v, u) in enumerate(present, 1))
    return {
        "UniqueIdentifier": within(record, f"{name}/defect/{state}"),
        "DefectCode": code,
        "DefectCategory": category,
        "Description": f"{row['label']} at {row['ball']}, {row['interface']} interface of {row['refdes']}",
        "ComponentOfInterest": {"ReferenceDesignator": pin},
        "Priority": 1 if row["verdict"] == "fail" else 2,
        "ConfidenceLevel": confidence,
        "RelatedMeasurements": measured,
        "Verification": state,
    }


def _confidence(row: Mapping[str, Any]) -> float:
    """That something is wrong here, in percent; the standard's scale begins at 1."""
    p = 1.0 - float(row["p_good"]) if row["label"] in CLASSES and _is_number(row.get("p_good")) else 0.0
    return round(min(100.0, max(1.0, 100.0 * p)), 1)


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(float(value))


# ---- station/cfx/packages
def package_steps(record: str, packages: Iterable[PackageRecord]) -> tuple[UnitInspection, ...]:
    """One step a package with its warpage (against its limit), stack height, offset and rotation.

    A warpage beyond its limit is a failed measurement; the step passes, since joints decide what becomes of a board.
    """
    return tuple(_package_step(record, package) for package in packages)


def _package_step(record: str, package: PackageRecord) -> UnitInspection:
    name = f"{package.refdes}.package"
    measured: Any = _measurements(record, name, package)
    return UnitInspection(
        UniqueIdentifier=uuid5(of_record(record), name),
        InspectionName=name,
        Result=TestResult.PASSED,
        Verification=VerificationState.NOT_VERIFIED_YET,
        Measurements=measured,
    )


def _measurements(record: str, name: str, package: PackageRecord) -> tuple[Fields, ...]:
    values = (
        ("Warpage", package.warpage_um * 1e-6, "m", _limit_m(package)),
        ("StackHeight", package.stack_height_um * 1e-6, "m", math.inf),
        ("OffsetX", package.offset_x_um * 1e-6, "m", math.inf),
        ("OffsetY", package.offset_y_um * 1e-6, "m", math.inf),
        ("Rotation", math.radians(package.rotation_deg), "rad", math.inf),
    )
    present = [v for v in values if math.isfinite(v[1])]
    return tuple(
        measurement(record, name, package.refdes, what, value, unit, i, limit=limit)
        for i, (what, value, unit, limit) in enumerate(present, 1)
    )


def _limit_m(package: PackageRecord) -> float:
    limit = package.warpage_limit_um * 1e-6
    return limit if limit > 0 else math.inf


# ---- station/cfx/build
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
    step = decided(board.record, decision, known, state)
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
        steps, total = package_steps(board.record, found.packages), len(found.packages)
    if method is Method.AXI or alone:
        steps, total = (*steps, *joint_steps(board.record, found.defects)), total + board.n_joints
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

"""Joints that did not pass, as steps of a CFX inspection with their defects and measurements."""

import math
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid5

from inspect_pop.joints import CLASSES
from inspect_pop.station.cfx.identity import of_record, within
from inspect_pop.station.cfx.messages import (
    TestResult,
    UnitInspection,
    VerificationState,
)
from inspect_pop.store import Decision, Defect

__all__ = ["Fields", "decided", "measurement", "steps"]

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


def steps(record: str, bad: Iterable[Defect]) -> tuple[UnitInspection, ...]:
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

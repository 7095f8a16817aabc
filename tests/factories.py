"""Inspections made by hand, for tests of everything that comes after the decision: store, yields, report, station."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from inspect_pop.core.classes import DEFECTS, GOOD
from inspect_pop.core.columns import CLASSES, COLUMNS, JointTable, concat
from inspect_pop.core.flags import bit
from inspect_pop.core.geometry import Grid, HeightMap, Placement
from inspect_pop.core.inspection import BoardRecord, Crops, Inspection, PackageRecord

ROWS = "ABCDEFGHJKLMNPRTUVWY"  # JEDEC JEP95 skips I, O, Q, S, X, Z
PITCH_UM = {"lower": 400.0, "upper": 500.0}
DIAMETER_UM = {"lower": 272.0, "upper": 325.0}


def make_inspection(
    serial: str = "PB2411-000123",
    *,
    defects: Mapping[str, str] | None = None,
    reviews: Mapping[str, str] | None = None,
    undecided: Iterable[str] = (),
    side: Mapping[str, int] | None = None,
    refdes: tuple[str, ...] = ("U1",),
    construction: str = "tmv",
    missing: tuple[str, ...] = (),
    cause: str | None = "none",
    cause_evidence: str = "",
    warpage_um: float = 31.0,
    offset_um: tuple[float, float] = (12.0, -7.0),
    measures: Mapping[str, Mapping[str, float]] | None = None,
    pictures: bool = False,
    seed: int = 0,
    **board: Any,
) -> Inspection:
    """One board with square arrays of `side[interface]` balls a side (4 and 3 if not told).

    Joints are named `U1.lower.A1`: `defects` gives a label (verdict fail), `reviews` a reason (verdict review, label
    good, or the label of `defects`), `undecided` a null label; `measures` sets single columns of single joints.
    Everything in `board` goes over the board record as it stands (`lot`, `line`, `record`, `inspected_at`, …).
    """
    side = side or {"lower": 4, "upper": 3}
    rng = np.random.default_rng([seed, *serial.encode()])
    tables = [_interface(serial, r, name, n, rng) for r in refdes for name, n in side.items()]
    joints = _decided(concat(tables), defects or {}, reviews or {}, set(undecided), measures or {})
    packages = tuple(
        PackageRecord(
            serial,
            r,
            "POP12-TMV",
            construction,
            *offset_um,
            0.12,
            warpage_um,
            1352.0,
            cause,
            cause_evidence,
            _counts(joints, r),
            80.0,
        )
        for r in refdes
    )
    record = _board(serial, joints, packages, missing, cause, cause_evidence, board)
    if not pictures:
        return Inspection(record, packages, joints)
    return Inspection(
        record,
        packages,
        joints,
        crops=_crops(joints, rng),
        heights=tuple(_height(r, warpage_um, max(side.values()), rng) for r in refdes),
        placements={f"{r}/{name}": Placement(*offset_um, 0.12, 2.5) for r in refdes for name in side},
        timings_ms={"ingest": 12.0, "measure": 80.0, "classify": 210.0},
    )


def again(inspection: Inspection, **board: Any) -> Inspection:
    """The same board inspected once more: another record of the same serial."""
    fields = {"inspected_at": "2026-03-02T11:20:00+01:00"} | board
    fields.setdefault("record", _digest(inspection.board.record, fields["inspected_at"]))
    return replace(inspection, board=replace(inspection.board, **fields))


def joint_name(joints: JointTable, row: int) -> str:
    """`U1.lower.A1` of one row."""
    return ".".join(str(joints[c][row]) for c in ("refdes", "interface", "ball"))


def _interface(serial: str, refdes: str, interface: str, side: int, rng: np.random.Generator) -> JointTable:
    row, col = (a.ravel() for a in np.mgrid[0:side, 0:side])
    n, pitch, diameter = side * side, PITCH_UM[interface], DIAMETER_UM[interface]
    x, y = (col - (side - 1) / 2) * pitch, ((side - 1) / 2 - row) * pitch
    dx, dy = rng.normal(0, 6, (2, n))
    values = {
        "serial": [serial] * n,
        "refdes": [refdes] * n,
        "interface": [interface] * n,
        "ball": [f"{ROWS[r]}{c + 1}" for r, c in zip(row, col, strict=True)],
        "x_um": x + dx,
        "y_um": y + dy,
        "dx_um": dx,
        "dy_um": dy,
        "diameter_um": rng.normal(diameter, 4, n),
        "diameter_low_um": rng.normal(diameter * 0.85, 4, n),
        "diameter_high_um": rng.normal(diameter * 0.85, 4, n),
        "waist": rng.normal(0.97, 0.01, n),
        "roundness": rng.normal(0.96, 0.01, n),
        "grey": rng.normal(1, 0.03, n),
        "volume_ratio": rng.normal(1, 0.05, n),
        "void_fraction": rng.uniform(0, 0.08, n),
        "standoff_um": rng.normal(170 if interface == "lower" else 220, 4, n),
        "clearance_um": pitch - rng.normal(diameter, 4, n),
        "dome_um": rng.normal(0, 4, n) if interface == "upper" else np.full(n, np.nan),
        **{f"z_{k}": rng.normal(0, 1, n) for k in ("low", "mid", "high")},
        "flags": np.zeros(n, np.int64),
        "model": [_digest("model")] * n,
        "recipe": [_digest("recipe")] * n,
    }
    more = {c.name: rng.normal(0, 1, n) for c in COLUMNS if c.kind == "float32" and c.name not in values and c.name[:2] != "p_"}
    return JointTable(values | more)


def _decided(
    joints: JointTable,
    defects: Mapping[str, str],
    reviews: Mapping[str, str],
    undecided: set[str],
    measures: Mapping[str, Mapping[str, float]],
) -> JointTable:
    names = [joint_name(joints, i) for i in range(len(joints))]
    unknown = (set(defects) | set(reviews) | undecided | set(measures)) - set(names)
    if unknown:
        raise KeyError(f"no such joints: {sorted(unknown)}")
    label = [None if n in undecided else defects.get(n, "good") for n in names]
    reason = [reviews.get(n, "no slices" if n in undecided else "") for n in names]
    verdict = ["review" if r else "pass" if x == "good" else "fail" for r, x in zip(reason, label, strict=True)]
    flags = np.array([bit("no_slices") if n in undecided else 0 for n in names], np.int64)
    probabilities = {f"p_{c}": _probability(c, label) for c in CLASSES}
    changed = {}
    for column in {c for values in measures.values() for c in values}:
        changed[column] = [measures.get(n, {}).get(column, v) for n, v in zip(names, joints[column], strict=True)]
    return joints.replace(label=label, reason=reason, verdict=verdict, flags=flags, **probabilities, **changed)


def _probability(name: str, labels: list[str | None]) -> list[float]:
    """0.96 for the label, 0.01 for good where a joint is defective, the rest evenly for the others."""
    others = {GOOD: 0.04 / len(DEFECTS)} | dict.fromkeys(DEFECTS, 0.01 if name == GOOD else 0.03 / (len(DEFECTS) - 1))
    return [np.nan if x is None else 0.96 if x == name else others[x] for x in labels]


def _counts(joints: JointTable, refdes: str) -> dict[str, dict[str, int]]:
    counts = {}
    for name in dict.fromkeys(joints["interface"]):
        rows = joints.take((joints["refdes"] == refdes) & (joints["interface"] == name))
        labels = list(rows["label"])
        counts[str(name)] = {c: labels.count(c) for c in CLASSES} | {
            "none": labels.count(None),
            "review": list(rows["verdict"]).count("review"),
            "rejected": 0,
        }
    return counts


def _board(
    serial: str,
    joints: JointTable,
    packages: tuple[PackageRecord, ...],
    missing: tuple[str, ...],
    cause: str | None,
    cause_evidence: str,
    changes: Mapping[str, Any],
) -> BoardRecord:
    labels, verdicts = list(joints["label"]), list(joints["verdict"])
    verdict = "fail" if "fail" in verdicts else "review" if "review" in verdicts else "pass"
    defects = sum(labels.count(c) for c in CLASSES[1:])
    inspected_at = str(changes.get("inspected_at", "2026-03-02T08:15:00+01:00"))
    values: dict[str, Any] = {
        "record": _digest(serial, inspected_at),
        "serial": serial,
        "panel": "P-77",
        "position": 1,
        "product": "APX-17",
        "lot": "L-2411",
        "work_order": "WO-9",
        "line": "SMT-1",
        "station": "AXI-1",
        "operator": None,
        "recipe": "apx17-pop",
        "recipe_revision": 4,
        "recipe_digest": _digest("recipe"),
        "inspected_at": inspected_at,
        "started_at": "2026-03-02T07:15:01+00:00",
        "finished_at": "2026-03-02T07:15:02+00:00",
        "verdict": verdict,
        "n_joints": len(joints),
        **{f"n_{c}": labels.count(c) for c in CLASSES},
        "n_undecided": labels.count(None),
        "n_review": verdicts.count("review"),
        "n_rejected": 0,
        "fpy": 1.0 if verdict == "pass" else 0.0,
        "dpmo": 1e6 * defects / (len(joints) + 4 * len(packages)),
        "cause": cause,
        "cause_evidence": cause_evidence,
        "disposition": {"pass": "ship", "review": "review", "fail": "rework_stack"}[verdict],
        "missing": missing,
        "export_digest": _digest("export", serial, inspected_at),
        "model_digest": _digest("model"),
        "limits_digest": _digest("limits"),
        "software": "0.1.0",
    }
    return BoardRecord(**(values | dict(changes)))


def _crops(joints: JointTable, rng: np.random.Generator, size: int = 32, channels: int = 5) -> Crops:
    suspects = np.flatnonzero(joints["verdict"] != "pass")
    good = np.flatnonzero(joints["verdict"] == "pass")
    references = [int(good[joints["interface"][good] == joints["interface"][i]][0]) for i in suspects]
    row = np.array([*suspects, *dict.fromkeys(references)], np.int64)
    reference = np.array([*references, *[-1] * (len(row) - len(suspects))], np.int64)
    r = np.hypot(*(np.mgrid[0:size, 0:size] - size / 2))
    radius = np.array([7, 9, 10, 9, 7]) if channels == 5 else np.full(channels, 9)
    ball = 200.0 / (1 + np.exp((r[None] - radius[:, None, None]) / 0.8)) + 30
    pixels = ball[None] + rng.normal(0, 6, (len(row), channels, size, size))
    return Crops(row, np.clip(pixels, 0, 255).astype(np.uint8), reference)


def _height(refdes: str, warpage_um: float, side: int, rng: np.random.Generator) -> HeightMap:
    pixel, n = 24.0, max(32, int(side * 500 / 24))
    y, x = np.mgrid[0:n, 0:n] / (n - 1) - 0.5
    bowl = -warpage_um * 2 * (x**2 + y**2)
    height = 1352.0 + warpage_um + bowl + rng.normal(0, 1, (n, n))
    height[: n // 10, : n // 10] = np.nan
    half = (n - 1) / 2 * pixel
    return HeightMap(refdes, "post_reflow", height.astype(np.float32), Grid((n, n), pixel, (-half, half)))


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()

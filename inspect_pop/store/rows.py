"""From an inspection to rows and back, without any database. NaN is null in the store."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.core.joint_table import JointTable
from inspect_pop.store.schema import COUNTS, MEASURED
from inspect_pop.store.types import Decision, Defect, Message, instant, instant_us

__all__ = [
    "RecordRows",
    "Row",
    "count_key",
    "decision_of",
    "defect_of",
    "defects_in",
    "digests_row",
    "from_rows",
    "key_of",
    "message_row",
    "position_rows",
    "record_rows",
]

Row = dict[str, Any]
_AS_IS = ("record", "serial", "panel", "position", "operator", "export_digest", "inspected_at", "started_at", "finished_at")
_MORE = ("verdict", "n_joints", "fpy", "dpmo", "cause", "cause_evidence", "disposition")
_CONTEXT = ("product", "lot", "work_order", "line", "station", "recipe", "recipe_revision")
_MADE = ("model_digest", "limits_digest", "software")
_BOARD_KEPT = (*_AS_IS, *_MORE, *COUNTS, *_CONTEXT, *_MADE, "recipe_digest", "missing")
_PLACED = ("offset_x_um", "offset_y_um", "rotation_deg", "warpage_um", "stack_height_um")
_PACKAGE_KEPT = (*_PLACED, "serial", "refdes", "part", "construction", "cause", "cause_evidence", "counts", "warpage_limit_um")


@dataclass(frozen=True)
class RecordRows:
    """All rows of one record, but for the ids that the database gives; places of packages and what they hold in parallel."""

    record: BoardRecord
    board: Row
    context: Row
    sites: tuple[Row, ...]
    packages: tuple[Row, ...]
    interfaces: tuple[list[Row], ...]
    defects: list[Row]


def record_rows(inspection: Inspection) -> RecordRows:
    """The rows of one inspection; raises `StoreFault` for a time that is none."""
    packages, joints = inspection.packages, inspection.joints
    return RecordRows(
        record=inspection.board,
        board=_board_row(inspection),
        context=_context_row(inspection.board),
        sites=tuple(_site_row(p) for p in packages),
        packages=tuple(_package_row(p, seat) for seat, p in enumerate(packages)),
        interfaces=tuple(_interface_rows(p, joints) for p in packages),
        defects=_defect_rows(joints),
    )


def key_of(*values: Any) -> str:
    """One text for several values, null among them; different values give different texts."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def local_day(inspected_at: str) -> str:
    """The day on the wall clock where the board was inspected: the date in the time's own offset."""
    return instant(inspected_at, "inspected_at").date().isoformat()


def _context_row(board: BoardRecord) -> Row:
    """What this board shares with others of its day, lot and line."""
    row = {"day": local_day(board.inspected_at)} | {n: getattr(board, n) for n in _CONTEXT}
    return {"key": key_of(*row.values())} | row


def digests_row(board: BoardRecord, recipe_id: int) -> Row:
    """What made the record."""
    row = {"recipe_id": recipe_id} | {n: getattr(board, n) for n in _MADE}
    return {"key": key_of(*row.values())} | row


def _site_row(package: PackageRecord) -> Row:
    """What is the same of this package on every board."""
    row = {n: getattr(package, n) for n in ("refdes", "part", "construction")} | {
        "warpage_limit_um": _null(package.warpage_limit_um)
    }
    return {"key": key_of(*row.values())} | row


def _board_row(inspection: Inspection) -> Row:
    """The board's own row, but for ids and its standing."""
    board = inspection.board
    names = (*_AS_IS, *_MORE, *COUNTS)
    return {n: _null(getattr(board, n)) for n in names} | {
        "inspected_us": instant_us(board.inspected_at, f"{board.serial}: inspected_at"),
        "n_packages": len(inspection.packages),
        "missing": json.dumps(board.missing, ensure_ascii=False),
        "more": _more(board, _BOARD_KEPT),
        "final": {"pass": "pass", "review": "pending"}.get(board.verdict, "fail"),
    }


def message_row(message: Message) -> Row:
    """The message as the outbox keeps it, but for what becomes of it."""
    names = ("id", "record", "kind", "created_at", "attempts")
    return {n: getattr(message, n) for n in names} | {"payload": message.text}


def _package_row(package: PackageRecord, seat: int) -> Row:
    """One package's row, but for ids; `seat` is its place in the recipe."""
    values = {n: _null(getattr(package, n)) for n in _PLACED}
    return {
        "seat": seat,
        "cause": package.cause,
        "cause_evidence": package.cause_evidence,
        "more": _more(package, _PACKAGE_KEPT),
    } | values


def _interface_rows(package: PackageRecord, joints: JointTable) -> list[Row]:
    """Counts by label and, over the interface's joints, the means and extremes that control charts follow."""
    rows = []
    of_package = joints["refdes"] == package.refdes
    for name, counts in package.counts.items():
        own = of_package & (joints["interface"] == name)
        verdicts = joints["verdict"][own]
        failed = bool((verdicts == "fail").any())
        passed = not failed and bool((verdicts == "pass").all())
        tally = {n: counts[count_key(n)] for n in COUNTS}
        final = "pass" if passed else "fail" if failed else "pending"
        rows.append({"interface": name, **tally, "passed": int(passed), "final": final, **_aggregates(joints, own)})
    return rows


def count_key(column: str) -> str:
    """The key of a count column in `PackageRecord.counts`."""
    return "none" if column == "n_undecided" else column.removeprefix("n_")


def _defect_rows(joints: JointTable) -> list[Row]:
    """A row for every joint that is not good and pass, but for the board's id."""
    own = ~((joints["label"] == "good") & (joints["verdict"] == "pass"))
    names = ("refdes", "interface", "ball", "label", "verdict", "reason", *MEASURED, "flags")
    columns = [_nulls(joints[n][own]) for n in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def defects_in(joints: JointTable) -> tuple[Defect, ...]:
    """Every joint that is not good and pass, as the store keeps it."""
    return tuple(defect_of(row) for row in _defect_rows(joints))


def position_rows(joints: JointTable) -> list[Row]:
    """Every ball with the place that the design gives it, as well as this board tells: found place minus deviation."""
    x, y = joints["x_um"] - joints["dx_um"], joints["y_um"] - joints["dy_um"]
    columns = [list(joints[n]) for n in ("refdes", "interface", "ball")] + [_nulls(x), _nulls(y)]
    names = ("refdes", "interface", "ball", "x_um", "y_um")
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def from_rows(
    board: Mapping[str, Any], packages: Sequence[Mapping[str, Any]], interfaces: Sequence[Mapping[str, Any]]
) -> tuple[BoardRecord, tuple[PackageRecord, ...]]:
    """The records again from a board's row (joined with its context and digests), its packages' and interfaces'."""
    values: Row = {n: board[n] for n in _BOARD_KEPT} | json.loads(board["more"])
    values |= {"missing": tuple(json.loads(board["missing"])), "fpy": float(board["fpy"]), "dpmo": _nan(board["dpmo"])}
    return BoardRecord(**values), tuple(_package(board["serial"], p, interfaces) for p in packages)


def defect_of(row: Mapping[str, Any]) -> Defect:
    """A defect from its row."""
    names = ("refdes", "interface", "ball", "label", "verdict", "reason", "flags")
    return Defect(**{n: row[n] for n in names}, measured={n: row[n] for n in MEASURED})


def decision_of(row: Mapping[str, Any]) -> Decision:
    """A decision from its row (joined with its board's record)."""
    return Decision(**{n: row[n] for n in Decision.__dataclass_fields__})


def _package(serial: str, row: Mapping[str, Any], interfaces: Sequence[Mapping[str, Any]]) -> PackageRecord:
    own = [i for i in interfaces if i["site_id"] == row["site_id"]]
    counts = {i["interface"]: {count_key(n): i[n] for n in COUNTS} for i in own}
    values: Row = {n: row[n] for n in ("refdes", "part", "construction", "cause", "cause_evidence")} | json.loads(row["more"])
    values |= {n: _nan(row[n]) for n in (*_PLACED, "warpage_limit_um")}
    return PackageRecord(serial=serial, counts=counts, **values)


def _more(record: BoardRecord | PackageRecord, kept: tuple[str, ...]) -> str:
    """Fields without a column of their own, as JSON: a record that grows loses nothing."""
    return json.dumps({f.name: getattr(record, f.name) for f in fields(record) if f.name not in kept}, ensure_ascii=False)


def _aggregates(joints: JointTable, own: NDArray[np.bool_]) -> Row:
    def over(name: str, how: Any) -> float | None:
        known = joints[name][own].astype(np.float64) if name in joints else np.empty(0)
        known = known[np.isfinite(known)]
        return float(how(known)) if len(known) else None

    means = {n: over(n, np.mean) for n in ("diameter_um", "volume_ratio", "void_fraction", "standoff_um")}
    lows = {f"{n}_min": over(n, np.min) for n in ("volume_ratio", "clearance_um")}
    return means | lows | {"void_fraction_max": over("void_fraction", np.max)}


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _nan(value: Any) -> float:
    return math.nan if value is None else float(value)


def _nulls(values: NDArray[Any]) -> list[Any]:
    return [_null(v) for v in values.tolist()]

"""Inspections as rows of the tables and back, and reading them from the store."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, select

from inspect_pop.core.classes import GOOD
from inspect_pop.core.columns import AGGREGATES, JointTable
from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import DEFAULT_SAMPLE, BoardRecord, Inspection, PackageRecord, choose_sample
from inspect_pop.store.joint_files import RECORD_SCHEMA, JointFiles, from_arrow, joint_file_path
from inspect_pop.store.schema import (
    COUNT_COLUMNS,
    MEASURED_COLUMNS,
    boards,
    contexts,
    decisions,
    defects,
    digests,
    files,
    interfaces,
    packages,
    recipes,
    sites,
)
from inspect_pop.store.types import (
    Decision,
    DefectRecord,
    InspectionSequence,
    Message,
    StoredBoard,
    StoreMark,
    parse_local_day,
    parse_time_us,
)

__all__ = [
    "RecordRows",
    "Row",
    "count_key",
    "decision_from_row",
    "defect_from_row",
    "extract_defects",
    "find_changes",
    "find_joint_paths",
    "make_digests_row",
    "make_key",
    "make_message_row",
    "make_position_rows",
    "make_record_rows",
    "read_boards",
    "read_inspection",
    "read_joints",
    "record_from_rows",
]

Row = dict[str, Any]

# Fields of a record by the table that holds them.
_BOARD_TEXTS = ("record", "serial", "panel", "position", "operator", "export_digest", "inspected_at", "started_at", "finished_at")
_BOARD_RESULTS = ("verdict", "n_joints", "fpy", "dpmo", "cause", "cause_evidence", "disposition", *COUNT_COLUMNS)
_CONTEXT_FIELDS = ("product", "lot", "work_order", "line", "station", "recipe", "recipe_revision")
_DIGEST_FIELDS = ("model_digest", "limits_digest", "software")
_BOARD_FIELDS = (*_BOARD_TEXTS, *_BOARD_RESULTS, *_CONTEXT_FIELDS, *_DIGEST_FIELDS, "recipe_digest", "missing")
_PACKAGE_MEASURES = ("offset_x_um", "offset_y_um", "rotation_deg", "warpage_um", "stack_height_um")
_SITE_FIELDS = ("refdes", "part", "construction", "warpage_limit_um")
_PACKAGE_FIELDS = (*_PACKAGE_MEASURES, *_SITE_FIELDS, "serial", "cause", "cause_evidence", "counts")
_JOINT_KEY = ("refdes", "interface", "ball")
_DEFECT_FIELDS = (*_JOINT_KEY, "label", "verdict", "reason", "flags")

_LONGEST_KEY = 600  # characters, of four bytes at most
_REDUCTIONS: dict[str, Callable[[NDArray[np.float64]], Any]] = {"mean": np.mean, "min": np.min, "max": np.max}


@dataclass(frozen=True)
class RecordRows:
    """All rows of one record, without the numbers that the database gives.

    `sites`, `packages` and `interfaces` are in the same order: a package's site, its row, the rows of its interfaces. `samples`
    are the joints that passed and that a person looks at, too.
    """

    record: BoardRecord
    board: Row
    context: Row
    sites: tuple[Row, ...]
    packages: tuple[Row, ...]
    interfaces: tuple[list[Row], ...]
    defects: list[Row]
    samples: list[Row]


def make_record_rows(inspection: Inspection, time_zone: str | None = None, verify_sample: int = DEFAULT_SAMPLE) -> RecordRows:
    """Make the rows of one inspection; its day is that in a time zone. Raises `StoreFault` for a time without an offset.

    `verify_sample` is the number of joints that passed and that a person looks at.
    """
    board, packages, joints = inspection.board, inspection.packages, inspection.joints
    board_row = {n: _to_null(getattr(board, n)) for n in (*_BOARD_TEXTS, *_BOARD_RESULTS)} | {
        "inspected_us": parse_time_us(board.inspected_at, f"{board.serial}: inspected_at"),
        "n_packages": len(packages),
        "decides": int(not _is_undecided(inspection)),
        "missing": json.dumps(board.missing, ensure_ascii=False),
        "extra": _dump_extra(board, _BOARD_FIELDS),
        "final": {"pass": "pass", "review": "pending"}.get(board.verdict, "fail"),
    }
    package_rows = [
        {
            **{n: _to_null(getattr(package, n)) for n in _PACKAGE_MEASURES},
            "package_index": index,
            "cause": package.cause,
            "cause_evidence": package.cause_evidence,
            "extra": _dump_extra(package, _PACKAGE_FIELDS),
        }
        for index, package in enumerate(packages)
    ]
    day = {"day": parse_local_day(board.inspected_at, time_zone)}
    sample = choose_sample(board.record, joints, verify_sample)
    return RecordRows(
        record=board,
        board=board_row,
        context=_add_key(day | {n: getattr(board, n) for n in _CONTEXT_FIELDS}),
        sites=tuple(_add_key({n: _to_null(getattr(package, n)) for n in _SITE_FIELDS}) for package in packages),
        packages=tuple(package_rows),
        interfaces=tuple(_make_interface_rows(package, joints) for package in packages),
        defects=_make_defect_rows(joints),
        samples=[{name: str(joints[name][row]) for name in _JOINT_KEY} for row in sample],
    )


def _is_undecided(inspection: Inspection) -> bool:
    """Return whether the board is in review only because no joint was seen: no interface has a picture from X-ray."""
    unseen = {f"{p.refdes}/{name} slices" for p in inspection.packages for name in p.counts}
    is_unseen = bool(unseen) and unseen <= set(inspection.board.missing)
    return is_unseen and inspection.board.verdict == "review" and inspection.board.n_undecided == inspection.board.n_joints


def make_digests_row(board: BoardRecord, recipe_id: int) -> Row:
    """Make the row of what produced the record: recipe, model, limits, software."""
    return _add_key({"recipe_id": recipe_id} | {n: getattr(board, n) for n in _DIGEST_FIELDS})


def make_message_row(message: Message) -> Row:
    """Make the outbox row of a message that has not been sent."""
    names = ("id", "record", "kind", "created_at", "attempts")
    return {n: getattr(message, n) for n in names} | {"payload": message.text}


def make_key(*values: Any) -> str:
    """Make one text of several values, null among them. Different values give different texts.

    A long text is replaced by its digest: PostgreSQL's indexes take 2,704 bytes.
    """
    key = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if len(key) <= _LONGEST_KEY:
        return key
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _add_key(row: Row) -> Row:
    return {"key": make_key(*row.values())} | row


def _make_interface_rows(package: PackageRecord, joints: JointTable) -> list[Row]:
    """Make a row per interface: counts by label, and the aggregates of its joints that control charts follow."""
    rows = []
    of_package = joints["refdes"] == package.refdes
    for name, counts in package.counts.items():
        of_interface = of_package & (joints["interface"] == name)
        verdicts = joints["verdict"][of_interface]
        failed = bool((verdicts == "fail").any())
        passed = not failed and bool((verdicts == "pass").all())
        row: Row = {"interface": name, **{n: counts[count_key(n)] for n in COUNT_COLUMNS}}
        row |= {"passed": int(passed), "final": "pass" if passed else "fail" if failed else "pending"}
        for aggregate in AGGREGATES:
            values = joints[aggregate.column][of_interface].astype(np.float64) if aggregate.column in joints else np.empty(0)
            values = values[np.isfinite(values)]
            row[aggregate.name] = float(_REDUCTIONS[aggregate.how](values)) if len(values) else None
        rows.append(row)
    return rows


def count_key(column: str) -> str:
    """Return the key in `PackageRecord.counts` of a count column: `none` for `n_undecided`."""
    return "none" if column == "n_undecided" else column.removeprefix("n_")


def _make_defect_rows(joints: JointTable) -> list[Row]:
    """Make a row, without its `board_id`, for every joint that is not both good and pass."""
    bad = ~((joints["label"] == GOOD) & (joints["verdict"] == "pass"))
    names = (*_DEFECT_FIELDS, *MEASURED_COLUMNS)
    columns = [_to_nulls(joints[n][bad]) for n in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def extract_defects(joints: JointTable) -> tuple[DefectRecord, ...]:
    """Return every joint that is not both good and pass, as the store keeps it."""
    return tuple(defect_from_row(row) for row in _make_defect_rows(joints))


def make_position_rows(joints: JointTable) -> list[Row]:
    """Make a row, without its `recipe_id`, for every ball, with the place that the recipe gives it in um.

    The place follows from this board: found place minus deviation. It is null where the board does not show the joint.
    """
    x, y = joints["x_um"] - joints["dx_um"], joints["y_um"] - joints["dy_um"]
    columns = [list(joints[n]) for n in _JOINT_KEY] + [_to_nulls(x), _to_nulls(y)]
    return [dict(zip((*_JOINT_KEY, "x_um", "y_um"), values, strict=True)) for values in zip(*columns, strict=True)]


def record_from_rows(
    board: Mapping[str, Any], packages: Sequence[Mapping[str, Any]], interfaces: Sequence[Mapping[str, Any]]
) -> tuple[BoardRecord, tuple[PackageRecord, ...]]:
    """Rebuild the records from a board's row (joined with context, digests and recipe), its packages and its interfaces."""
    values: Row = {n: board[n] for n in _BOARD_FIELDS} | json.loads(board["extra"])
    values |= {"missing": tuple(json.loads(board["missing"])), "fpy": float(board["fpy"]), "dpmo": _to_nan(board["dpmo"])}
    records = []
    for row in packages:
        parts = [i for i in interfaces if i["site_id"] == row["site_id"]]
        counts = {i["interface"]: {count_key(n): i[n] for n in COUNT_COLUMNS} for i in parts}
        package: Row = {n: row[n] for n in ("refdes", "part", "construction", "cause", "cause_evidence")}
        package |= json.loads(row["extra"]) | {n: _to_nan(row[n]) for n in (*_PACKAGE_MEASURES, "warpage_limit_um")}
        records.append(PackageRecord(serial=board["serial"], counts=counts, **package))
    return BoardRecord(**values), tuple(records)


def defect_from_row(row: Mapping[str, Any]) -> DefectRecord:
    """Make a defect from its row."""
    return DefectRecord(**{n: row[n] for n in _DEFECT_FIELDS}, measured={n: row[n] for n in MEASURED_COLUMNS})


def decision_from_row(row: Mapping[str, Any]) -> Decision:
    """Make a decision from its row, joined with its board's record."""
    return Decision(**{n: row[n] for n in Decision.__dataclass_fields__})


def _dump_extra(record: BoardRecord | PackageRecord, with_column: tuple[str, ...]) -> str:
    """Return the fields without a column as JSON, so that a record that grows loses nothing."""
    extra = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in with_column}
    return json.dumps(extra, ensure_ascii=False)


def _to_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_nulls(values: NDArray[Any]) -> list[Any]:
    return [_to_null(v) for v in values.tolist()]


def _to_nan(value: Any) -> float:
    return math.nan if value is None else float(value)


# Read records and joints. Only what the database lists is read; a file whose record is not in the database does not count.


_LATE_ROWS = 64  # that may become visible after a row with a higher number: some for each process that writes
_CHANGES_AT_ONCE = 256
_NO_FILE = "They were deleted by age, or written by a store opened without files; the database has their counts and defects."


def read_boards(connection: Connection, *, serial: str | None = None, record: str | None = None) -> list[StoredBoard]:
    """Read the records of a serial, board by board in order of inspection, or the one record. Empty if there is none."""
    query = _select_boards().order_by(boards.c.first_id, boards.c.inspection_no)
    query = query.where(boards.c.record == record) if serial is None else query.where(boards.c.serial == serial)
    found = []
    for row in _read_rows(connection, query):
        parts = _read_interfaces(connection, row["id"])
        board, package_records = record_from_rows(row, _read_packages(connection, row["id"]), parts)
        bad = select(defects).where(defects.c.board_id == row["id"])
        bad = bad.order_by(defects.c.refdes, defects.c.interface, defects.c.ball)
        decided = select(decisions).where(decisions.c.board_id == row["id"])
        decided = decided.order_by(decisions.c.id)
        found.append(
            StoredBoard(
                board,
                InspectionSequence(row["inspection_no"], row["first_record"], float(row["first_verdict"] == "pass")),
                row["board_final"],
                package_records,
                tuple({k: v for k, v in part.items() if k not in ("board_id", "site_id")} for part in parts),
                tuple(defect_from_row(d) for d in _read_rows(connection, bad)),
                tuple(decision_from_row({**d, "record": row["record"]}) for d in _read_rows(connection, decided)),
            )
        )
    return found


def find_changes(connection: Connection, since: StoreMark | None) -> tuple[list[str], StoreMark]:
    """Find the records that were written or decided about since a mark, in that order, and the mark up to which they reach.

    Without a mark nothing is new, and the mark is that of now.
    """
    written = select(boards.c.id, boards.c.record)
    decided = select(decisions.c.id, boards.c.record).join_from(decisions, boards, boards.c.id == decisions.c.board_id)
    records: list[str] = []
    marks = []
    for query, number, seen in (
        (written, boards.c.id, since.boards if since else ()),
        (decided, decisions.c.id, since.decisions if since else ()),
    ):
        if since is None:
            rows = connection.execute(query.order_by(number.desc()).limit(_LATE_ROWS)).all()
        else:
            later = query.where(number > max(seen, default=0) - _LATE_ROWS, number.not_in(seen))
            rows = connection.execute(later.order_by(number).limit(_CHANGES_AT_ONCE)).all()
            records += [row.record for row in rows]
        marks.append(tuple(sorted([*seen, *(row.id for row in rows)])[-_LATE_ROWS:]))
    return list(dict.fromkeys(records)), StoreMark(*marks)


def read_inspection(connection: Connection, joint_files: JointFiles, record: str) -> Inspection:
    """Read an inspection as it was written, without pictures.

    Raises `StoreFault` if the record is not in the store or has no file of joints, FileNotFoundError if that file is gone.
    """
    row = next(iter(_read_rows(connection, _select_boards().where(boards.c.record == record))), None)
    if row is None:
        raise StoreFault(f"record {record}", expected="a record in the store", found="none", remedy="See its serial's records.")
    board, parts = record_from_rows(row, _read_packages(connection, row["id"]), _read_interfaces(connection, row["id"]))
    path = row["path"] or (joint_file_path(row["day"], row["lot"], record) if row["has_record_file"] else None)
    if path is None:
        raise StoreFault(f"record {record}", expected="a file of its joints", found="none", remedy=_NO_FILE)
    return Inspection(board, parts, from_arrow(joint_files.read(path, [record])))


def find_joint_paths(
    connection: Connection, *, day: str | None = None, lot: str | None = None, record: str | None = None
) -> list[tuple[str, str]]:
    """Return (record, path of the file that holds its joints), in order of inspection.

    The path is empty for a record that was written by a store without files.
    """
    query = select(boards.c.record, contexts.c.day, contexts.c.lot, boards.c.has_record_file, files.c.path)
    query = query.join_from(boards, contexts, contexts.c.id == boards.c.context_id)
    query = query.outerjoin(files, files.c.id == boards.c.file_id)
    for column, value in ((contexts.c.day, day), (contexts.c.lot, lot), (boards.c.record, record)):
        query = query if value is None else query.where(column == value)
    rows = connection.execute(query.order_by(boards.c.inspected_us, boards.c.record))
    return [
        (name, path or (joint_file_path(its_day, its_lot, name) if has_record_file else ""))
        for name, its_day, its_lot, has_record_file, path in rows
    ]


def read_joints(joint_files: JointFiles, located: Sequence[tuple[str, str]]) -> pa.Table:
    """Read the joints of some records, given with their paths as `find_joint_paths` returns them.

    Returns one Arrow table: `record` and the declared columns, records in the given order. Raises `StoreFault` if a record
    has no path.
    """
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for record, path in located:
        paths[path].append(record)
    if "" in paths:
        found = f"{len(paths[''])} records without one, such as {paths[''][0]}"
        raise StoreFault("joints", expected="a file for every record", found=found, remedy=_NO_FILE)
    if not paths:
        return RECORD_SCHEMA.empty_table()
    table = pa.concat_tables([joint_files.read(path, records) for path, records in paths.items()])
    rank = pc.index_in(table["record"], pa.array([record for record, _ in located], pa.string()))
    keys = pa.table({"rank": rank, "row": np.arange(len(rank))})
    return table.take(pc.sort_indices(keys, [("rank", "ascending"), ("row", "ascending")]))


def _select_boards() -> Select[Any]:
    """Select boards with context, digests, first record and file."""
    first = boards.alias("first")
    return (
        select(
            boards,
            *(c for c in contexts.c if c.name not in ("id", "key")),
            recipes.c.digest.label("recipe_digest"),
            *(digests.c[n] for n in ("model_digest", "limits_digest", "software")),
            first.c.record.label("first_record"),
            first.c.verdict.label("first_verdict"),
            first.c.final.label("board_final"),
            files.c.path,
        )
        .join_from(boards, contexts, contexts.c.id == boards.c.context_id)
        .join(digests, digests.c.id == boards.c.digests_id)
        .join(recipes, recipes.c.id == digests.c.recipe_id)
        .join(first, first.c.id == boards.c.first_id)
        .outerjoin(files, files.c.id == boards.c.file_id)
    )


def _read_packages(connection: Connection, board_id: int) -> list[dict[str, Any]]:
    names = ("refdes", "part", "construction", "warpage_limit_um")
    query = select(packages, *(sites.c[n] for n in names)).join_from(packages, sites, sites.c.id == packages.c.site_id)
    return _read_rows(connection, query.where(packages.c.board_id == board_id).order_by(packages.c.package_index))


def _read_interfaces(connection: Connection, board_id: int) -> list[dict[str, Any]]:
    query = select(sites.c.refdes, interfaces).join_from(interfaces, sites, sites.c.id == interfaces.c.site_id)
    return _read_rows(connection, query.where(interfaces.c.board_id == board_id).order_by(sites.c.refdes, interfaces.c.interface))


def _read_rows(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    return [row._asdict() for row in connection.execute(query)]

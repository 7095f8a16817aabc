"""Read records and joints. Only what the database lists is read; a file whose record is not in the database does not count."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Select, select

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.store.joint_files import RECORD_SCHEMA, JointFiles, from_arrow, joint_file_path
from inspect_pop.store.rows import decision_from_row, defect_from_row, record_from_rows
from inspect_pop.store.schema import boards, contexts, decisions, defects, digests, files, interfaces, packages, recipes, sites
from inspect_pop.store.types import InspectionSequence, StoredBoard, StoreMark

__all__ = ["find_changes", "find_joint_paths", "read_boards", "read_inspection", "read_joints"]

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

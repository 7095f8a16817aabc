"""Find records again. Only what the database lists is read; a file without its record is not there."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Select, select

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.store.joint_files import RECORD_SCHEMA, JointFiles, file_of, from_arrow
from inspect_pop.store.rows import decision_of, defect_of, from_rows
from inspect_pop.store.schema import boards, contexts, decisions, defects, digests, files, interfaces, packages, recipes, sites
from inspect_pop.store.types import Standing, StoredBoard

__all__ = ["inspection_of", "joint_paths", "read_joints", "stored_boards"]

_NO_FILE = "They were written by a store opened without files; the database has their counts and defects."
_SPELLED = ("day", "product", "lot", "work_order", "line", "station", "recipe", "recipe_revision")


def stored_boards(connection: Connection, *, serial: str | None = None, record: str | None = None) -> list[StoredBoard]:
    """The records of a serial in order of inspection, or the one record; empty where there is none."""
    query = _spelled().order_by(boards.c.inspection_no)
    query = query.where(boards.c.record == record) if serial is None else query.where(boards.c.serial == serial)
    return [_stored(connection, row) for row in _dicts(connection, query)]


def inspection_of(connection: Connection, held: JointFiles, record: str) -> Inspection:
    """What was written, again, without its pictures; raises `StoreFault` where there is no such record."""
    row = next(iter(_dicts(connection, _spelled().where(boards.c.record == record))), None)
    if row is None:
        raise StoreFault(f"record {record}", expected="a record in the store", found="none", remedy="See its serial's records.")
    board, parts = from_rows(row, _packages(connection, row["id"]), _interfaces(connection, row["id"]))
    path = row["path"] or (file_of(row["day"], row["lot"], record) if row["own_file"] else None)
    if path is None:
        raise StoreFault(f"record {record}", expected="a file of its joints", found="none", remedy=_NO_FILE)
    return Inspection(board, parts, from_arrow(held.read(path, [record])))


def joint_paths(
    connection: Connection, *, day: str | None = None, lot: str | None = None, record: str | None = None
) -> list[tuple[str, str]]:
    """(record, path of the file that holds its joints), in order of inspection.

    The path of a record that was written without a place for files is empty.
    """
    query = select(boards.c.record, contexts.c.day, contexts.c.lot, boards.c.own_file, files.c.path)
    query = query.join_from(boards, contexts, contexts.c.id == boards.c.context_id).outerjoin(
        files, files.c.id == boards.c.file_id
    )
    for column, value in ((contexts.c.day, day), (contexts.c.lot, lot), (boards.c.record, record)):
        query = query if value is None else query.where(column == value)
    found = connection.execute(query.order_by(boards.c.inspected_us, boards.c.record))
    return [(name, path or (file_of(its_day, its_lot, name) if own else "")) for name, its_day, its_lot, own, path in found]


def read_joints(held: JointFiles, located: Sequence[tuple[str, str]]) -> pa.Table:
    """The joints of these records as one Arrow table: `record` and the declared columns, records in the given order."""
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for record, path in located:
        paths[path].append(record)
    if "" in paths:
        found = f"{len(paths[''])} records without one, such as {paths[''][0]}"
        raise StoreFault("joints", expected="a file for every record", found=found, remedy=_NO_FILE)
    if not paths:
        return RECORD_SCHEMA.empty_table()
    table = pa.concat_tables([held.read(path, records) for path, records in paths.items()])
    rank = pc.index_in(table["record"], pa.array([record for record, _ in located], pa.string()))
    keys = pa.table({"rank": rank, "row": np.arange(len(rank))})
    return table.take(pc.sort_indices(keys, [("rank", "ascending"), ("row", "ascending")]))


def _spelled() -> Select[Any]:
    """Boards with their context, digests, first record and file spelled out."""
    first = boards.alias("first")
    return (
        select(
            boards,
            *(contexts.c[n] for n in _SPELLED),
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


def _stored(connection: Connection, row: dict[str, Any]) -> StoredBoard:
    parts = _interfaces(connection, row["id"])
    board, own = from_rows(row, _packages(connection, row["id"]), parts)
    bad = select(defects).where(defects.c.board_id == row["id"]).order_by(defects.c.refdes, defects.c.interface, defects.c.ball)
    told = select(decisions).where(decisions.c.board_id == row["id"]).order_by(decisions.c.decided_us, decisions.c.id)
    hidden = ("board_id", "site_id")
    return StoredBoard(
        board,
        Standing(row["inspection_no"], row["first_record"], float(row["first_verdict"] == "pass")),
        row["board_final"],
        own,
        tuple({k: v for k, v in part.items() if k not in hidden} for part in parts),
        tuple(defect_of(d) for d in _dicts(connection, bad)),
        tuple(decision_of({**d, "record": row["record"]}) for d in _dicts(connection, told)),
    )


def _packages(connection: Connection, board_id: int) -> list[dict[str, Any]]:
    names = ("refdes", "part", "construction", "warpage_limit_um")
    query = select(packages, *(sites.c[n] for n in names)).join_from(packages, sites, sites.c.id == packages.c.site_id)
    return _dicts(connection, query.where(packages.c.board_id == board_id).order_by(packages.c.seat))


def _interfaces(connection: Connection, board_id: int) -> list[dict[str, Any]]:
    query = select(sites.c.refdes, interfaces).join_from(interfaces, sites, sites.c.id == interfaces.c.site_id)
    order = (sites.c.refdes, interfaces.c.interface)
    return _dicts(connection, query.where(interfaces.c.board_id == board_id).order_by(*order))


def _dicts(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    return [row._asdict() for row in connection.execute(query)]

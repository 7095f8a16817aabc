"""Keep the joints' files tidy: merge a partition's small files, and remove what a crash left behind."""

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from sqlalchemy import Connection, Engine, insert, select, update

from inspect_pop.store.engine import faults, reading, shown, writing
from inspect_pop.store.joint_files import JointFiles, file_of, partition_of
from inspect_pop.store.schema import boards, contexts, files

__all__ = ["Compacted", "compact_files", "repair_files"]


_BOARDS_A_GROUP = 32  # reading one record decodes this many


@dataclass(frozen=True)
class Compacted:
    """How many small files were merged, and into how many."""

    merged: int
    into: int


def compact_files(engine: Engine, held: JointFiles, before: str | None, largest: int) -> Compacted:
    """See `Store.compact`."""
    with reading(engine) as connection:
        partitions = _partitions(connection, before)
    merged = into = 0
    for day, lot in partitions:
        with reading(engine) as connection:
            records = _loose(connection, day, lot)
        for start in range(0, len(records), largest):
            part = records[start : start + largest]
            if len(part) > 1:
                merged, into = merged + _merge(engine, held, day, lot, part), into + 1
    return Compacted(merged, into)


def repair_files(engine: Engine, held: JointFiles, older_than_s: float) -> list[str]:
    """See `Store.repair`."""
    latest = time.time() - older_than_s
    by_day: defaultdict[str, list[str]] = defaultdict(list)
    with faults(shown(engine.url)):
        for path, changed in held.listed():
            if changed <= latest:
                by_day[path.split("/")[1].removeprefix("day=")].append(path)
    removed = []
    for day, paths in sorted(by_day.items()):
        with writing(engine, alone=True) as connection:  # nobody is between placing a file and its commit
            for path in sorted(set(paths) - _trusted(connection, day)):
                now = held.changed(path)  # an upload comes before its transaction: it may have replaced what was listed
                if now is not None and now <= latest:
                    held.remove(path)
                    removed.append(path)
    return removed


def _partitions(connection: Connection, before: str | None) -> list[tuple[str, str | None]]:
    query = select(contexts.c.day, contexts.c.lot).distinct().order_by(contexts.c.day, contexts.c.lot)
    query = query if before is None else query.where(contexts.c.day < before)
    return [(day, lot) for day, lot in connection.execute(query)]


def _loose(connection: Connection, day: str, lot: str | None) -> list[str]:
    """Records of a partition that still have their own file, in the order in which they are read."""
    query = select(boards.c.record).join_from(boards, contexts, contexts.c.id == boards.c.context_id)
    query = query.where(contexts.c.day == day, contexts.c.lot.is_not_distinct_from(lot), boards.c.own_file == 1)
    return list(connection.scalars(query.order_by(boards.c.inspected_us, boards.c.record)))


def _merge(engine: Engine, held: JointFiles, day: str, lot: str | None, records: list[str]) -> int:
    """Write the merged file, turn the records to it in one transaction, then remove the small ones."""
    path = f"{partition_of(day, lot)}/merged-{hashlib.sha256('|'.join(records).encode()).hexdigest()[:32]}.parquet"
    with faults(shown(engine.url)):
        waiting = held.write(path, _tables(held, day, lot, records), "zstd")
    try:
        with faults(shown(engine.url)):
            held.secure(waiting)
        with writing(engine, alone=True) as connection:
            loose = set(_loose(connection, day, lot))
            if not loose.issuperset(records):
                return 0  # another one merged them meanwhile
            row = {"path": path, "day": day, "lot": lot, "n_boards": len(records)}
            file_id = connection.execute(insert(files).returning(files.c.id), row).scalar_one()
            connection.execute(update(boards).where(boards.c.record.in_(records)).values(file_id=file_id, own_file=0))
            held.place(waiting)
    finally:
        held.discard(waiting)
    with faults(shown(engine.url)):
        for record in records:
            held.remove(file_of(day, lot, record))
    return len(records)


def _tables(held: JointFiles, day: str, lot: str | None, records: list[str]) -> Iterator[pa.Table]:
    """Sorted by record, so that a single one is found by the row groups' statistics."""
    names = sorted(records)
    for start in range(0, len(names), _BOARDS_A_GROUP):
        yield pa.concat_tables([held.read(file_of(day, lot, r)) for r in names[start : start + _BOARDS_A_GROUP]])


def _trusted(connection: Connection, day: str) -> set[str]:
    """All paths of a day that the database knows."""
    query = select(boards.c.record, contexts.c.lot).join_from(boards, contexts, contexts.c.id == boards.c.context_id)
    own = connection.execute(query.where(contexts.c.day == day, boards.c.own_file == 1))
    merged = connection.scalars(select(files.c.path).where(files.c.day == day))
    return {file_of(day, lot, record) for record, lot in own} | set(merged)

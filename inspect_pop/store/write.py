"""Rows that many boards share, kept once: what a board needs of them is looked up together, and made where it is missing.

Write one inspection: its file and its rows, or neither; once, however often and by however many it is asked.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import (
    BindParameter,
    Connection,
    Engine,
    Select,
    TableClause,
    bindparam,
    false,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    union_all,
    update,
)

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.store import rows
from inspect_pop.store.engine import Run, adding, faults, insert_or_skip, prepared, reading, shown, writing
from inspect_pop.store.joint_files import Beside, JointFiles
from inspect_pop.store.outcome import Looked, settle
from inspect_pop.store.rollup import contribute
from inspect_pop.store.schema import (
    boards,
    contexts,
    decisions,
    defects,
    digests,
    interfaces,
    messages,
    packages,
    positions,
    recipes,
    sites,
)
from inspect_pop.store.types import Message, Standing, Written

__all__ = ["Shared", "add_messages", "first_of", "insert_new", "lock_serial", "resettle", "standing_of", "write_inspection"]


# ---- store/shared
def insert_new(connection: Connection, table: TableClause, row: rows.Row, key: str) -> bool:
    """Insert a row unless one with the same `key`, a unique column, is there; whether it was inserted."""
    statement = insert_or_skip(table, connection.dialect.name).on_conflict_do_nothing(index_elements=[key])
    return connection.execute(statement.returning(literal(1)), row).first() is not None


class Shared:
    """What the database knows already of one record, its serial and the rows that it shares, by one query."""

    def __init__(self, connection: Connection, record: rows.RecordRows) -> None:
        self._connection, self._record = connection, record
        board = record.record
        wanted = {"record": board.record, "serial": board.serial, "recipe": board.recipe_digest, "context": record.context["key"]}
        places = {f"site{i}": site["key"] for i, site in enumerate(record.sites)}
        found = _lookup(connection.dialect, len(places))(connection, wanted | places)
        self._ids = {(what, key): int(number) for what, key, number in found}

    @property
    def is_known(self) -> bool:
        """Whether the record is there."""
        return ("record", self._record.record.record) in self._ids

    @property
    def first(self) -> int | None:
        """The id of the serial's first inspection."""
        return self._ids.get(("serial", self._record.record.serial))

    @property
    def recipe(self) -> int:
        """The recipe's id."""
        return self._id("recipe", recipes, {"digest": self._record.record.recipe_digest}, "digest")

    @property
    def context(self) -> int:
        """The id of day, lot and line."""
        return self._id("context", contexts, self._record.context)

    @property
    def digests(self) -> int:
        """The id of what made the record."""
        return self._id("digests", digests, rows.digests_row(self._record.record, self.recipe))

    def site(self, row: rows.Row) -> int:
        """The id of a package's place."""
        return self._id("site", sites, row)

    def _id(self, what: str, table: TableClause, row: rows.Row, key: str = "key") -> int:
        """The id of a shared row, which is made where it is missing; another writer may make it at the same time."""
        named = (what, row[key])
        if named not in self._ids:
            query = select(table.c.id).where(table.c[key] == row[key])
            found = self._connection.scalar(query)
            if found is None:
                insert_new(self._connection, table, row, key)
                found = self._connection.execute(query).scalar_one()
            self._ids[named] = int(found)
        return self._ids[named]


@cache
def _lookup(dialect: Any, n_sites: int) -> Run:
    """(what, key, id) of all that is there."""
    places: list[BindParameter[str]] = [bindparam(f"site{i}") for i in range(n_sites)]
    statement = union_all(
        _known("record", boards, "record"),
        _known("serial", boards, "serial").where(boards.c.inspection_no == 1),
        _known("recipe", recipes, "digest"),
        _known("context", contexts, "key"),
        select(literal("site"), sites.c.key, sites.c.id).where(or_(false(), *(sites.c.key == place for place in places))),
    )
    return prepared(statement, dialect)


def _known(what: str, table: TableClause, key: str) -> Select[Any]:
    return select(literal(what), table.c[key], table.c.id).where(table.c[key] == bindparam(what))


# ---- store/write
_RECORDS_AT_ONCE = 1000  # a statement takes a limited number of values
_NOTHING_DECIDED = {"n_confirmed": 0, "n_false_calls": 0, "n_cleared": 0, "n_escapes": 0}


def write_inspection(
    engine: Engine, files: JointFiles | None, inspection: Inspection, sent: Iterable[Message] = (), run: str | None = None
) -> Written:
    """See `Store.write`. A record that is there already needs no room, nor a second upload."""
    if files is not None and not files.is_near and (known := _known_write(engine, inspection.board.record)):
        return known
    try:
        return _write(engine, files, inspection, sent, run)
    except StoreFault:
        with suppress(StoreFault):
            if known := _known_write(engine, inspection.board.record):
                return known
        raise


def _known_write(engine: Engine, record: str) -> Written | None:
    with reading(engine) as connection:
        found = standing_of(connection, [record])
    return Written(record, False, found[record]) if found else None


def _write(engine: Engine, files: JointFiles | None, inspection: Inspection, sent: Iterable[Message], run: str | None) -> Written:
    """The joints' file goes to the disk while the rows are made and inserted."""
    board = inspection.board
    with faults(shown(engine.url)), Beside(files, inspection) as file:
        record, told = rows.record_rows(inspection), list(sent)
        if files is not None and not files.is_near:
            file.wait()
        with writing(engine) as connection:
            lock_serial(connection, board.serial)
            shared = Shared(connection, record)
            if shared.is_known:
                return Written(board.record, False, standing_of(connection, [board.record])[board.record])
            _insert(connection, inspection, record, shared, {"run_id": run, "own_file": int(files is not None)})
            add_messages(connection, told)
            standing = Standing(1, board.record, float(board.verdict == "pass"))
            if shared.first is not None:
                standing = standing_of(connection, [board.record])[board.record]
            file.place()  # the last step before the commit
    return Written(board.record, True, standing)


def lock_serial(connection: Connection, serial: str) -> None:
    """Let two writers of one serial follow each other; SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(1, hashtext(:serial))"), {"serial": serial})


def _one_reinspection_at_a_time(connection: Connection) -> None:
    """A re-inspection may change the sums of two contexts; two of them, in either order, would wait for each other."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(2, 0)"))


def standing_of(connection: Connection, records: Sequence[str]) -> dict[str, Standing]:
    """The place of each of these records among its serial's inspections; a record that is not there is left out."""
    first = boards.alias("first")
    query = select(boards.c.record, boards.c.inspection_no, first.c.record, first.c.verdict)
    query = query.join_from(boards, first, first.c.id == boards.c.first_id)
    found = {}
    for start in range(0, len(records), _RECORDS_AT_ONCE):
        some = query.where(boards.c.record.in_(records[start : start + _RECORDS_AT_ONCE]))
        found.update({r: Standing(no, one, float(verdict == "pass")) for r, no, one, verdict in connection.execute(some)})
    return found


def add_messages(connection: Connection, sent: Sequence[Message]) -> None:
    """Add messages to the outbox, in order and in one statement; those that are there already are left as they are."""
    if sent:
        its = [rows.message_row(m) for m in sent]
        _messages(connection.dialect, tuple(its[0]))(connection, its)


def first_of(connection: Connection, serial: str) -> int | None:
    """The id of a serial's first inspection."""
    return connection.scalar(select(boards.c.id).where(boards.c.serial == serial, boards.c.inspection_no == 1))


def resettle(connection: Connection, serial: str) -> None:
    """Number the serial's inspections by their time, and keep on the first what became of the board."""
    query = select(boards.c.id, boards.c.verdict).where(boards.c.serial == serial).order_by(boards.c.inspected_us, boards.c.id)
    found = connection.execute(query).all()
    first = found[0].id
    for number, row in enumerate(found, 1):
        values = {"inspection_no": number, "first_id": first, "n_inspections": len(found)}
        connection.execute(update(boards).where(boards.c.id == row.id).values(values))
    board, parts = settle([_looked(connection, r.id, r.verdict) for r in found])
    connection.execute(update(boards).where(boards.c.id == first).values(**vars(board)))
    for (refdes, interface), settled in parts.items():
        site = select(sites.c.id).where(sites.c.refdes == refdes)
        which = (interfaces.c.board_id == first) & (interfaces.c.interface == interface) & interfaces.c.site_id.in_(site)
        connection.execute(update(interfaces).where(which).values(**vars(settled)))


def _insert(connection: Connection, inspection: Inspection, record: rows.RecordRows, shared: Shared, more: rows.Row) -> None:
    more = more | {"context_id": shared.context, "digests_id": shared.digests, "inspection_no": 1, "n_inspections": 1}
    own = record.board | _NOTHING_DECIDED | more
    board_id = _board(connection.dialect, tuple(own))(connection, own).scalar_one()
    _is_first(connection.dialect)(connection, {"own": board_id})
    _insert_parts(connection, record, shared, board_id)
    _insert_positions(connection, inspection, shared.recipe)
    if shared.first is None:
        contribute(connection, board_id, 1)
        return
    _one_reinspection_at_a_time(connection)
    contribute(connection, shared.first, -1)
    resettle(connection, record.record.serial)
    contribute(connection, first_of(connection, record.record.serial) or board_id, 1)


def _insert_parts(connection: Connection, record: rows.RecordRows, shared: Shared, board_id: int) -> None:
    seats = [{"board_id": board_id, "site_id": shared.site(site)} for site in record.sites]
    parts = [own | _NOTHING_DECIDED | part for own, its in zip(seats, record.interfaces, strict=True) for part in its]
    for table, its in (
        (packages, [own | package for own, package in zip(seats, record.packages, strict=True)]),
        (interfaces, parts),
        (defects, [{"board_id": board_id} | row for row in record.defects]),
    ):
        adding(connection, table, its)


@cache
def _board(dialect: Any, names: tuple[str, ...]) -> Run:
    return prepared(insert(boards).returning(boards.c.id), dialect, names)


@cache
def _is_first(dialect: Any) -> Run:
    own: BindParameter[int] = bindparam("own")
    return prepared(update(boards).where(boards.c.id == own).values(first_id=own), dialect)


@cache
def _messages(dialect: Any, names: tuple[str, ...]) -> Run:
    statement = insert_or_skip(messages, dialect.name).on_conflict_do_nothing(index_elements=["id"])
    return prepared(statement, dialect, names)


@cache
def _known_positions(dialect: Any) -> Run:
    counts = select(func.count(), func.count(positions.c.x_um))
    return prepared(counts.where(positions.c.recipe_id == bindparam("recipe")), dialect)


def _insert_positions(connection: Connection, inspection: Inspection, recipe: int) -> None:
    """Keep the recipe's balls once; a later board fills in the places that the ones before did not show."""
    joints = inspection.joints
    known, placed = _known_positions(connection.dialect)(connection, {"recipe": recipe}).one()
    if known >= len(joints) and placed >= int(np.isfinite(joints["x_um"] - joints["dx_um"]).sum()):
        return
    statement = insert_or_skip(positions, connection.dialect.name)
    fill = {n: func.coalesce(positions.c[n], statement.excluded[n]) for n in ("x_um", "y_um")}
    keys = ["recipe_id", "refdes", "interface", "ball"]
    upsert = statement.on_conflict_do_update(index_elements=keys, set_=fill)
    connection.execute(upsert, [{"recipe_id": recipe} | row for row in rows.position_rows(joints)])


def _looked(connection: Connection, board_id: int, verdict: str) -> Looked:
    part = select(sites.c.refdes, interfaces.c.interface).join_from(interfaces, sites, sites.c.id == interfaces.c.site_id)
    bad = select(defects.c.refdes, defects.c.interface, defects.c.ball, defects.c.verdict).where(defects.c.board_id == board_id)
    told = select(decisions.c.refdes, decisions.c.interface, decisions.c.ball, decisions.c.state).where(
        decisions.c.board_id == board_id
    )
    states: dict[tuple[str, str, str], list[str]] = {}
    for refdes, interface, ball, state in connection.execute(told.order_by(decisions.c.decided_us, decisions.c.id)):
        states.setdefault((refdes, interface, ball), []).append(state)
    return Looked(
        verdict,
        frozenset((r, i) for r, i in connection.execute(part.where(interfaces.c.board_id == board_id))),
        {(r, i, b): v for r, i, b, v in connection.execute(bad) if v != "pass"},
        states,
    )

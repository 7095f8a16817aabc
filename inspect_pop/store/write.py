"""Write inspections, each in one transaction: all of its rows and its file, or nothing; once, however often asked.

The transaction begins with one query for what the database knows already, and ends with the sums and the file's name.
"""

import re
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

from inspect_pop.core.columns import JointTable
from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import DEFAULT_SAMPLE, BoardRecord, Inspection
from inspect_pop.core.system import LARGEST_AHEAD_S
from inspect_pop.store import rows
from inspect_pop.store.engine import (
    PreparedStatement,
    hide_password,
    insert_rows,
    make_upsert,
    prepare_statement,
    reading,
    translate_errors,
    writing,
)
from inspect_pop.store.joint_files import BackgroundJointWriter, JointFiles
from inspect_pop.store.schema import (
    OUTCOME_COLUMNS,
    boards,
    contexts,
    defects,
    digests,
    interfaces,
    messages,
    packages,
    positions,
    recipes,
    sites,
)
from inspect_pop.store.summaries import add_contribution, add_to_queue, read_standing, refresh_queue
from inspect_pop.store.types import InspectionSequence, InspectionState, Message, WriteResult, parse_time_us, resolve_outcome

__all__ = [
    "DimensionKeys",
    "add_messages",
    "find_sequences",
    "insert_new",
    "lock_serial",
    "update_outcome",
    "write_inspection",
]

# What scanners and programs write where they read nothing; and signs and zeros alone, signs that show nothing among them.
_NO_SERIAL = re.compile(
    r"[\W_0\u115f\u1160\u3164\uffa0]*|\W*(?:no[\W_]?(?:read|code|serial|barcode)|n[\W_]?[ar]|none|null|nil|nan|unknown|undefined|error)\W*",
    re.IGNORECASE,
)
_RECORDS_PER_QUERY = 1000  # a statement takes a limited number of values
_NO_JUDGEMENTS = dict.fromkeys(OUTCOME_COLUMNS[1:], 0)


def insert_new(connection: Connection, table: TableClause, row: rows.Row, key: str) -> bool:
    """Insert a row unless one with the same `key`, a unique column, exists. Return whether it was inserted."""
    statement = make_upsert(table, connection.dialect.name).on_conflict_do_nothing(index_elements=[key])
    return connection.execute(statement.returning(literal(1)), row).first() is not None


class DimensionKeys:
    """The numbers (`id`) of the rows that a record shares with others: recipe, context, digests and sites.

    One query finds those that exist, together with the record and whether its serial is known. Properties create a row
    that is missing.
    """

    def __init__(self, connection: Connection, record: rows.RecordRows) -> None:
        self._connection, self._record = connection, record
        board = record.record
        wanted = {"record": board.record, "serial": board.serial, "recipe": board.recipe_digest, "context": record.context["key"]}
        places = {f"site{i}": site["key"] for i, site in enumerate(record.sites)}
        found = _prepare_lookup(connection.dialect, len(places))(connection, wanted | places)
        self._ids = {(kind, key): int(number) for kind, key, number in found}

    @property
    def is_known(self) -> bool:
        """Whether the record is in the store."""
        return ("record", self._record.record.record) in self._ids

    @property
    def has_serial(self) -> bool:
        """Whether the store has an inspection of the serial."""
        return ("serial", self._record.record.serial) in self._ids

    @property
    def recipe(self) -> int:
        """The recipe's number."""
        return self._get_or_create("recipe", recipes, {"digest": self._record.record.recipe_digest}, "digest")

    @property
    def context(self) -> int:
        """The number of day, lot and line."""
        return self._get_or_create("context", contexts, self._record.context)

    @property
    def digests(self) -> int:
        """The number of what produced the record."""
        return self._get_or_create("digests", digests, rows.make_digests_row(self._record.record, self.recipe))

    def site(self, row: rows.Row) -> int:
        """Return the number of a package's site."""
        return self._get_or_create("site", sites, row)

    def _get_or_create(self, kind: str, table: TableClause, row: rows.Row, key: str = "key") -> int:
        """Return a row's number. Another writer may create the row at the same time."""
        named = (kind, row[key])
        if named not in self._ids:
            find, wanted = _prepare_find(self._connection.dialect, table, key), {"value": row[key]}
            found = find(self._connection, wanted).scalar()
            if found is None:
                insert_new(self._connection, table, row, key)
                found = find(self._connection, wanted).scalar_one()
            self._ids[named] = int(found)
        return self._ids[named]


@cache
def _prepare_find(dialect: Any, table: TableClause, key: str) -> PreparedStatement:
    return prepare_statement(select(table.c.id).where(table.c[key] == bindparam("value")), dialect)


@cache
def _prepare_lookup(dialect: Any, n_sites: int) -> PreparedStatement:
    """Prepare the query for (kind, key, id) of everything that exists."""

    def find(kind: str, table: TableClause, key: str) -> Select[Any]:
        return select(literal(kind), table.c[key], table.c.id).where(table.c[key] == bindparam(kind))

    places: list[BindParameter[str]] = [bindparam(f"site{i}") for i in range(n_sites)]
    statement = union_all(
        find("record", boards, "record"),
        find("serial", boards, "serial").where(boards.c.inspection_no == 1),
        find("recipe", recipes, "digest"),
        find("context", contexts, "key"),
        select(literal("site"), sites.c.key, sites.c.id).where(or_(false(), *(sites.c.key == place for place in places))),
    )
    return prepare_statement(statement, dialect)


def write_inspection(
    engine: Engine,
    joint_files: JointFiles | None,
    inspection: Inspection,
    sent: Iterable[Message] = (),
    run: str | None = None,
    time_zone: str | None = None,
    verify_sample: int = DEFAULT_SAMPLE,
) -> WriteResult:
    """Write an inspection, under the day in a time zone, with a sample for the verify station. See `Store.write`.

    The file of joints goes to the disk while the rows are made and inserted. A record that is in the store already needs no
    space on the disk, and no second upload.
    """
    board = inspection.board

    def find_known() -> WriteResult | None:
        with reading(engine) as connection:
            found = find_sequences(connection, [board.record])
        return WriteResult(board.record, False, found[board.record]) if found else None

    is_far = joint_files is not None and not joint_files.is_near
    if is_far and (known := find_known()):
        return known
    try:
        with translate_errors(hide_password(engine.url)), BackgroundJointWriter(joint_files, inspection, time_zone) as file:
            record, outgoing = rows.make_record_rows(inspection, time_zone, verify_sample), list(sent)
            if is_far:
                file.wait()
            with writing(engine) as connection:
                lock_serial(connection, board.serial)
                keys = DimensionKeys(connection, record)
                if keys.is_known:
                    return WriteResult(board.record, False, find_sequences(connection, [board.record])[board.record])
                first = _find_board(connection, board) if keys.has_serial and not _NO_SERIAL.fullmatch(board.serial) else None
                board_id = _insert_rows(connection, inspection, record, keys, run, has_file=joint_files is not None)
                _add_inspection(connection, board_id, first)
                add_messages(connection, outgoing)
                sequence = InspectionSequence(1, board.record, float(board.verdict == "pass"))
                if first is not None:
                    sequence = find_sequences(connection, [board.record])[board.record]
                file.place()  # the last step before the commit
        return WriteResult(board.record, True, sequence)
    except StoreFault:
        with suppress(StoreFault):
            if known := find_known():
                return known
        raise


def lock_serial(connection: Connection, serial: str) -> None:
    """Make writers of one serial wait for each other. SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(1, hashtext(:serial))"), {"serial": serial})


def find_sequences(connection: Connection, records: Sequence[str]) -> dict[str, InspectionSequence]:
    """Return the place of each record among its serial's inspections. A record that is not in the store is left out."""
    first = boards.alias("first")
    query = select(boards.c.record, boards.c.inspection_no, first.c.record, first.c.verdict)
    query = query.join_from(boards, first, first.c.id == boards.c.first_id)
    found = {}
    for start in range(0, len(records), _RECORDS_PER_QUERY):
        some = query.where(boards.c.record.in_(records[start : start + _RECORDS_PER_QUERY]))
        for record, number, first_record, verdict in connection.execute(some):
            found[record] = InspectionSequence(number, first_record, float(verdict == "pass"))
    return found


def add_messages(connection: Connection, sent: Sequence[Message]) -> None:
    """Add messages to the outbox, in order and in one statement. Those that are there already stay unchanged."""
    if sent:
        message_rows = [rows.make_message_row(m) for m in sent]
        _prepare_messages(connection.dialect, tuple(message_rows[0]))(connection, message_rows)


@cache
def _prepare_messages(dialect: Any, names: tuple[str, ...]) -> PreparedStatement:
    return prepare_statement(make_upsert(messages, dialect.name).on_conflict_do_nothing(index_elements=["id"]), dialect, names)


def _find_board(connection: Connection, board: BoardRecord) -> int | None:
    """Return the first inspection of the board that a record is about; None for a board that the store does not know.

    A board is known by serial, product and panel, and by its position where the serial may be the panel's: where it is the same
    as the panel, or no panel is given. Panel and position tell boards apart only where both inspections give them, since not
    every machine reads them; blanks are none. Neither a serial of blanks nor one such as NOREAD names a board. A record that
    would fit several boards is a board of its own.
    """
    query = select(boards.c.first_id, boards.c.panel, boards.c.position, contexts.c.product).distinct()
    query = query.join_from(boards, contexts, contexts.c.id == boards.c.context_id).where(boards.c.serial == board.serial)
    fits: dict[int, bool] = {}
    exact: set[int] = set()
    its_panel = (board.panel or "").strip()
    for first, written_panel, position, product in connection.execute(query):
        panel = (written_panel or "").strip()
        is_same_panel = not panel or not its_panel or panel == its_panel
        has_unique_serial = all(p and p != board.serial for p in (panel, its_panel))
        is_same_place = has_unique_serial or position is None or board.position is None or position == board.position
        fits[first] = fits.get(first, True) and is_same_panel and is_same_place and product == board.product
        if (panel, position) == (its_panel, board.position):
            exact.add(first)
    found = [first for first, is_fit in fits.items() if is_fit]
    found = [first for first in found if first in exact] or found
    return found[0] if len(found) == 1 else None


def _insert_rows(
    connection: Connection,
    inspection: Inspection,
    record: rows.RecordRows,
    keys: DimensionKeys,
    run: str | None,
    *,
    has_file: bool,
) -> int:
    """Insert all rows of a record, as of a board that is inspected for the first time. Return the record's number."""
    ids = {"context_id": keys.context, "digests_id": keys.digests, "run_id": run, "has_record_file": int(has_file)}
    ids |= {"inspection_no": 1, "n_inspections": 1, "verified_passed": int(inspection.board.verdict == "pass")}
    board_row = record.board | _NO_JUDGEMENTS | ids
    insert_board, set_first = _prepare_board(connection.dialect, tuple(board_row))
    board_id = int(insert_board(connection, board_row).scalar_one())
    set_first(connection, {"board": board_id})
    package_keys = [{"board_id": board_id, "site_id": keys.site(site)} for site in record.sites]
    package_rows = [key | row for key, row in zip(package_keys, record.packages, strict=True)]
    interface_rows = [
        key | _NO_JUDGEMENTS | row | {"verified_passed": row["passed"]}
        for key, of_package in zip(package_keys, record.interfaces, strict=True)
        for row in of_package
    ]
    insert_rows(connection, packages, package_rows)
    insert_rows(connection, interfaces, interface_rows)
    insert_rows(connection, defects, [{"board_id": board_id} | row for row in record.defects])
    add_to_queue(connection, board_id, record)
    _insert_positions(connection, inspection.joints, keys.recipe)
    return board_id


def _add_inspection(connection: Connection, board_id: int, first: int | None) -> None:
    """Add an inspection to the outcome and the sums of its board, whose first inspection until now is `first`."""
    if first is None:
        add_contribution(connection, board_id, 1)
        return
    if connection.dialect.name == "postgresql":
        # A re-inspection may change the sums of two contexts; two of them, in either order, would wait for each other.
        connection.execute(text("SELECT pg_advisory_xact_lock(2, 0)"))
    add_contribution(connection, first, -1)
    first = _number_inspections(connection, board_id, first)
    update_outcome(connection, first)
    add_contribution(connection, first, 1)
    refresh_queue(connection, first)


@cache
def _prepare_board(dialect: Any, names: tuple[str, ...]) -> tuple[PreparedStatement, PreparedStatement]:
    """Prepare the insert of a board that returns its number, and the update that makes it the first of its serial."""
    board: BindParameter[int] = bindparam("board")
    set_first = update(boards).where(boards.c.id == board).values(first_id=board)
    return prepare_statement(insert(boards).returning(boards.c.id), dialect, names), prepare_statement(set_first, dialect)


def _insert_positions(connection: Connection, joints: JointTable, recipe: int) -> None:
    """Insert the recipe's balls once. A later board fills in the places of joints that earlier boards did not show."""
    known, placed = _prepare_position_counts(connection.dialect)(connection, {"recipe": recipe}).one()
    if known >= len(joints) and placed >= int(np.isfinite(joints["x_um"] - joints["dx_um"]).sum()):
        return
    statement = make_upsert(positions, connection.dialect.name)
    fill = {n: func.coalesce(positions.c[n], statement.excluded[n]) for n in ("x_um", "y_um")}
    keys = ["recipe_id", "refdes", "interface", "ball"]
    upsert = statement.on_conflict_do_update(index_elements=keys, set_=fill)
    connection.execute(upsert, [{"recipe_id": recipe} | row for row in rows.make_position_rows(joints)])


@cache
def _prepare_position_counts(dialect: Any) -> PreparedStatement:
    counts = select(func.count(), func.count(positions.c.x_um))
    return prepare_statement(counts.where(positions.c.recipe_id == bindparam("recipe")), dialect)


def _number_inspections(connection: Connection, board_id: int, first: int) -> int:
    """Give a new inspection its number among those of its board, and return the board's first inspection.

    Inspections are numbered in the order in which they arrive; a clock may be wrong. Only within a run, whose boards arrive in
    any order, their times decide; one in the future says nothing, and comes before the others. An inspection that saw no
    joint is not the first if another one saw them.
    """
    query = select(boards.c.id, boards.c.inspected_us, boards.c.started_at, boards.c.run_id, boards.c.decides)
    new = connection.execute(query.where(boards.c.id == board_id)).one()
    of_board = boards.c.first_id == first
    n_later = 0
    if new.run_id is not None:  # all others have no run in common
        later = select(func.count()).where(of_board, boards.c.run_id == new.run_id, boards.c.inspected_us > _find_order_us(new))
        n_later = int(connection.scalar(later) or 0)
    first_decides = connection.scalar(select(boards.c.decides).where(boards.c.id == first))
    if not n_later and (first_decides or not new.decides):
        last = int(connection.scalar(select(func.max(boards.c.inspection_no)).where(of_board)) or 0)
        values = {"inspection_no": last + 1, "first_id": first}
        connection.execute(update(boards).where(boards.c.id == board_id).values(values))
        return first
    found = [*connection.execute(query.where(of_board)), new]
    arrival: dict[str | int, int] = {}
    for row in sorted(found, key=lambda row: row.id):
        arrival.setdefault(row.run_id or row.id, row.id)
    found.sort(key=lambda row: (arrival[row.run_id or row.id], _find_order_us(row), row.id))
    head = next((row for row in found if row.decides), found[0])
    found.sort(key=lambda row: row is not head)
    for number, row in enumerate(found, 1):
        values = {"inspection_no": number, "first_id": found[0].id}
        connection.execute(update(boards).where(boards.c.id == row.id).values(values))
    return int(found[0].id)


def _find_order_us(row: Any) -> int:
    """Return the time by which an inspection is ordered within a run: its own, 0 for one that was in the future."""
    ahead_us = row.inspected_us - parse_time_us(row.started_at, "started_at")
    return 0 if ahead_us > LARGEST_AHEAD_S * 1e6 else int(row.inspected_us)


def update_outcome(connection: Connection, first: int) -> None:
    """Store the board's outcome with its first inspection. Only the first and the last ones matter, however many there are."""
    query = select(boards.c.id, boards.c.verdict, boards.c.inspection_no, boards.c.decides).where(boards.c.first_id == first)
    head = connection.execute(query.where(boards.c.id == first)).one()
    query = query.where(boards.c.id != first, boards.c.decides == head.decides).order_by(boards.c.inspection_no.desc())
    state = _read_state(connection, first, head.verdict)
    covered: set[tuple[str, str]] = set()
    states, n_inspections = [], head.inspection_no
    for row in connection.execute(query):
        later = _read_state(connection, row.id, row.verdict)
        n_inspections = max(n_inspections, row.inspection_no)
        states.append(later)
        covered |= later.interfaces
        if state.interfaces <= covered:
            break
    board, parts = resolve_outcome([state, *reversed(states)])
    values = vars(board) | {"n_inspections": n_inspections}
    connection.execute(update(boards).where(boards.c.id == first).values(values))
    for (refdes, interface), outcome in parts.items():
        site = select(sites.c.id).where(sites.c.refdes == refdes)
        which = (interfaces.c.board_id == first) & (interfaces.c.interface == interface) & interfaces.c.site_id.in_(site)
        connection.execute(update(interfaces).where(which).values(**vars(outcome)))


def _read_state(connection: Connection, board_id: int, verdict: str) -> InspectionState:
    part = select(sites.c.refdes, interfaces.c.interface).join_from(interfaces, sites, sites.c.id == interfaces.c.site_id)
    bad = select(defects.c.refdes, defects.c.interface, defects.c.ball, defects.c.verdict).where(defects.c.board_id == board_id)
    decided = {key: [state for state, _ in entries] for key, entries in read_standing(connection, board_id).items()}
    return InspectionState(
        verdict,
        frozenset((r, i) for r, i in connection.execute(part.where(interfaces.c.board_id == board_id))),
        {(r, i, b): v for r, i, b, v in connection.execute(bad) if v != "pass"},
        decided,
    )

"""How long records and joint files are kept: by days, never what waits for a person or a receiver.

A board is deleted with all its inspections, when the newest of them is old by the machine's time and by this computer's. It is
kept while a person has to decide about it, or while a message about it is not delivered. The sums of yield tables stay.

Boards are deleted some at a time, each time in one transaction with a row of the audit trail. Files are removed before their
record where only the record names them, and after it where `Store.repair` finds those that nobody names: an interruption at any
moment leaves a whole store, and the next call goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Select, and_, delete, exists, func, or_, select, update

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.system import utc_now
from inspect_pop.store.accounts import add_audit
from inspect_pop.store.engine import hide_password, reading, translate_errors, writing
from inspect_pop.store.joint_files import JointFiles, joint_file_path
from inspect_pop.store.schema import boards, contexts, decisions, defects, files, interfaces, messages, packages, queue, samples
from inspect_pop.store.types import parse_local_day, parse_time_us

__all__ = ["Pruned", "find_first_day", "find_old_records", "find_waiting_records", "prune_joints", "prune_records"]

BOARDS_PER_STEP = 100  # how many inspections a transaction deletes, roughly: the line's writes wait for so long

# The inspections of one board share `first_id`.
_OF_BOARD, _HEAD = boards.alias("of_board"), boards.alias("head")


@dataclass(frozen=True)
class Pruned:
    """What was deleted, or would be: inspections and joint files; and the inspections that are as old and wait."""

    records: int = 0
    joint_files: int = 0
    waiting: int = 0


def find_first_day(connection: Connection, days: int, *, today: str | None = None, time_zone: str | None = None) -> str:
    """Return the first day (YYYY-MM-DD) that is kept.

    Days are counted back from `today`; by default from the day of the latest inspection or from today, whichever is earlier: a
    clock that is ahead deletes nothing. Raises `UsageFault` for a negative number of days or a `today` that is no day.
    """
    if days < 0:
        raise UsageFault("days to keep", expected="0 or more", found=str(days))
    if today is None:
        latest = connection.scalar(select(boards.c.finished_at).order_by(boards.c.id.desc()).limit(1))
        known = [parse_local_day(text, time_zone) for text in (utc_now(), latest) if text is not None]
        today = min(known)
    try:
        return (date.fromisoformat(today) - timedelta(days=days)).isoformat()
    except (ValueError, OverflowError) as error:
        raise UsageFault("--today", expected="a day such as 2026-03-01", found=repr(today)) from error


def _select_old(first_day: str) -> Select[Any]:
    """Select record, day, lot and board of every inspection of a board that has none of `first_day` or later."""
    its_context = contexts.alias("its_context")
    is_newer = or_(its_context.c.day >= first_day, _OF_BOARD.c.finished_at >= first_day)
    newer = select(_OF_BOARD.c.id).join_from(_OF_BOARD, its_context, its_context.c.id == _OF_BOARD.c.context_id)
    newer = newer.where(_OF_BOARD.c.first_id == boards.c.first_id, is_newer)
    query = select(boards.c.id, boards.c.record, contexts.c.day, contexts.c.lot, boards.c.first_id)
    query = query.join_from(boards, contexts, contexts.c.id == boards.c.context_id).where(contexts.c.day < first_day)
    return query.where(~exists(newer)).order_by(boards.c.first_id, boards.c.id)


def _waits() -> Any:
    """Return the condition that somebody still has to decide about the board, or receive a message about it."""
    undecided = select(_HEAD.c.id).where(_HEAD.c.id == boards.c.first_id, _HEAD.c.final == "pending")
    to_decide = or_(and_(queue.c.waits_operator == 1, queue.c.n_undecided > 0), queue.c.waits_repair == 1)
    in_queue = select(queue.c.board_id).where(queue.c.board_id == boards.c.first_id, to_decide)
    unsent = select(messages.c.seq).join_from(messages, _OF_BOARD, _OF_BOARD.c.record == messages.c.record)
    unsent = unsent.where(messages.c.delivered_at.is_(None), _OF_BOARD.c.first_id == boards.c.first_id)
    return or_(exists(undecided), exists(in_queue), exists(unsent))


def find_old_records(connection: Connection, first_day: str) -> tuple[list[str], list[str]]:
    """Return the records of boards without an inspection of `first_day` or later: those that may go, and those that wait."""
    old = _select_old(first_day)
    free, waiting = (connection.execute(old.where(which)).all() for which in (~_waits(), _waits()))
    return [row.record for row in free], [row.record for row in waiting]


def find_waiting_records(connection: Connection) -> set[str]:
    """Return the records of all boards about which a person still has to decide, or a receiver has to hear."""
    return set(connection.scalars(select(boards.c.record).where(_waits())))


def prune_records(
    engine: Engine,
    joint_files: JointFiles | None,
    first_day: str,
    *,
    who: str,
    dry_run: bool = False,
    remove_page: Callable[[str], object] | None = None,
) -> Pruned:
    """Delete the boards that have no inspection of `first_day` or later, with their files. See the module.

    Parameters
    ----------
    engine, joint_files
        The store's database and files.
    who
        Who asks for it, for the audit trail.
    dry_run
        Count only.
    remove_page
        Removes the page of a record.

    Raises `StoreFault`.
    """
    old = _select_old(first_day)
    with reading(engine) as connection:
        found = connection.execute(old.where(~_waits())).all()
        total = int(connection.scalar(select(func.count()).select_from(old.subquery())) or 0)
    waiting, removed, n_files = total - len(found), 0, 0
    if dry_run:
        return Pruned(len(found), 0, waiting)
    for step in _split_by_board(found):
        with translate_errors(hide_password(engine.url)):
            for row in step:
                if remove_page is not None:
                    remove_page(row.record)
                if joint_files is not None:
                    joint_files.remove(joint_file_path(row.day, row.lot, row.record).replace("joints/", "windows/", 1))
        with writing(engine, alone=True) as connection:
            again = old.where(~_waits(), boards.c.first_id.in_([row.first_id for row in step]))
            rows = connection.execute(again).all()  # somebody may have inspected or decided meanwhile
            paths = _release_files(connection, rows)
            _delete_rows(connection, rows)
            _add_row(connection, who, "records deleted", first_day, rows)
        n_files += _remove_files(engine, joint_files, paths)
        removed += len(rows)
    return Pruned(removed, n_files, waiting)


def prune_joints(engine: Engine, joint_files: JointFiles, first_day: str, *, who: str, dry_run: bool = False) -> Pruned:
    """Delete the joint files of the boards that have no inspection of `first_day` or later; their records stay.

    Counts and defects stay with the records. Parameters as for `prune_records`.
    """
    old = _select_old(first_day).where(or_(boards.c.has_record_file == 1, boards.c.file_id.is_not(None)))
    with reading(engine) as connection:
        found = connection.execute(old.where(~_waits())).all()
        total = int(connection.scalar(select(func.count()).select_from(old.subquery())) or 0)
    n_files = 0
    for step in [] if dry_run else _split_by_board(found):
        with writing(engine, alone=True) as connection:
            rows = connection.execute(old.where(~_waits(), boards.c.first_id.in_([row.first_id for row in step]))).all()
            paths = _release_files(connection, rows)
            _add_row(connection, who, "joints deleted", first_day, rows)
        n_files += _remove_files(engine, joint_files, paths)
    return Pruned(len(found), n_files, total - len(found))


def _split_by_board(found: Sequence[Any]) -> list[list[Any]]:
    """Split rows in order of their board into steps that keep boards whole."""
    steps: list[list[Any]] = []
    for row in found:
        if not steps or (len(steps[-1]) >= BOARDS_PER_STEP and row.first_id != steps[-1][-1].first_id):
            steps.append([])
        steps[-1].append(row)
    return steps


def _release_files(connection: Connection, rows: Sequence[Any]) -> list[str]:
    """Make inspections refer to no joint file; return the paths of the files that no inspection refers to any more."""
    of_rows = boards.c.id.in_([row.id for row in rows])
    single = set(connection.scalars(select(boards.c.id).where(of_rows, boards.c.has_record_file == 1)))
    merged = set(connection.scalars(select(boards.c.file_id).where(of_rows, boards.c.file_id.is_not(None))))
    connection.execute(update(boards).where(of_rows).values(has_record_file=0, file_id=None))
    unused = select(files.c.id, files.c.path).where(files.c.id.in_(merged))
    unused = unused.where(~exists(select(boards.c.id).where(boards.c.file_id == files.c.id)))
    unnamed = connection.execute(unused).all()
    connection.execute(delete(files).where(files.c.id.in_([row.id for row in unnamed])))
    return [joint_file_path(row.day, row.lot, row.record) for row in rows if row.id in single] + [row.path for row in unnamed]


def _delete_rows(connection: Connection, rows: Sequence[Any]) -> None:
    """Delete inspections and all that belongs to them but the sums."""
    ids, records = [row.id for row in rows], [row.record for row in rows]
    connection.execute(delete(queue).where(queue.c.board_id.in_(ids)))
    for table in (samples, decisions, defects, interfaces, packages):
        connection.execute(delete(table).where(table.c.board_id.in_(ids)))
    connection.execute(delete(messages).where(messages.c.record.in_(records), messages.c.delivered_at.is_not(None)))
    connection.execute(delete(boards).where(boards.c.id.in_(ids)))


def _add_row(connection: Connection, who: str, action: str, first_day: str, rows: Sequence[Any]) -> None:
    if rows:
        before = {"records": [row.record for row in rows]}
        add_audit(connection, parse_time_us(utc_now(), "now"), who, action, f"before {first_day}", before=before)


def _remove_files(engine: Engine, joint_files: JointFiles | None, paths: Sequence[str]) -> int:
    if joint_files is None:
        return 0
    with translate_errors(hide_password(engine.url)):
        for path in paths:
            joint_files.remove(path)
    return len(paths)

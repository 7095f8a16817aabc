"""Decisions of people about joints: checked, kept in order, several at once or none, and what follows from them.

The operator decides first; the repair station may overrule. A decision names the latest one that its author saw: if another came
in between, or the joint was inspected again, it is refused, so that nobody overwrites what he has not seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, case, select, update

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import ConflictFault, StageFault, StoreFault, SupersededFault, UsageFault
from inspect_pop.store import rows
from inspect_pop.store.accounts import add_audit
from inspect_pop.store.schema import boards, decisions, defects, digests, interfaces, positions, rollups, sites
from inspect_pop.store.summaries import add_contribution, fill_queue, read_standing, refresh_queue
from inspect_pop.store.types import (
    DECISION_STATES,
    PASS_CONFIRMED,
    STAGES,
    UNCHECKED,
    WITHDRAWN,
    Decision,
    Message,
    escape_text,
    parse_time_us,
)
from inspect_pop.store.write import add_messages, insert_new, lock_serial, update_outcome

__all__ = ["MakeMessage", "fill_added", "insert_decisions"]

# Makes the message of a decision from the state that counted before and the one that counts now, None where there is none.
MakeMessage = Callable[[Decision, str | None, str | None], Message | None]

_SINCE_VERIFIED = 3  # the version of the schema that has the column
_SAME = ("state", "decided_by", "label", "note", "stage")
_ANY_VERDICT = {"DefectRepaired", "DefectClosed", "DefectRejected", WITHDRAWN}
_FOR_PASSES = {"DefectMissed", PASS_CONFIRMED}


def insert_decisions(
    connection: Connection, given: Sequence[Decision], seen: Sequence[int | None], make_message: MakeMessage
) -> list[tuple[int, bool]]:
    """Insert decisions about one record and update its board's outcome. Any that is refused leaves none.

    Parameters
    ----------
    given
        Decisions about different joints of one record.
    seen
        For each, the `id` of the latest decision about the joint that its author saw, None for none, `UNCHECKED` for a machine.
    make_message
        Makes a message of each decision that is new.

    Returns
    -------
    For each decision its `id`, and whether it is new: one that was in the store already changes nothing.

    Raises
    ------
    UsageFault
        An unknown record, joint, state, stage or class; a state that does not fit the joint; two decisions about one joint.
    ConflictFault
        Another decision came in between.
    SupersededFault
        `seen` is given, and the joint was inspected again since.
    StageFault
        The operator would overrule the repair station.
    """
    times_us = [_check_decision(decision) for decision in given]
    record = given[0].record
    joints = {(d.record, d.refdes, d.interface, d.ball) for d in given}
    if len(joints) < len(given) or {d.record for d in given} != {record}:
        raise UsageFault("decisions", expected="different joints of one record", found="others")
    columns = (boards.c.id, boards.c.serial, boards.c.digests_id, boards.c.inspection_no)
    board = connection.execute(select(*columns).where(boards.c.record == record)).first()
    if board is None:
        raise UsageFault(f"record {record}", expected="a record in the store", found="none")
    lock_serial(connection, board.serial)
    first = int(connection.scalar(select(boards.c.first_id).where(boards.c.id == board.id)) or board.id)
    add_contribution(connection, first, -1)
    standing = read_standing(connection, board.id)
    newer = _find_newer(connection, first, board.inspection_no)
    done = []
    for decision, decided_us, seen_id in zip(given, times_us, seen, strict=True):
        _check_decided_joint(connection, board.id, board.digests_id, decision)
        place = {n: getattr(decision, n) for n in ("refdes", "interface", "ball")}
        about = select(decisions).where(decisions.c.board_id == board.id).filter_by(**place)
        latest = connection.execute(about.order_by(decisions.c.id.desc()).limit(1)).first()
        if latest is not None and all(getattr(latest, n) == getattr(decision, n) for n in _SAME):
            done.append((int(latest.id), False))  # an answer that did not come: it is asked again
            continue
        before = standing.get((decision.refdes, decision.interface, decision.ball), [])
        _check_order(decision, latest, seen_id, before, newer.get((decision.refdes, decision.interface)))
        done.append(_write_decision(connection, board, decision, decided_us, before, make_message))
    update_outcome(connection, first)
    add_contribution(connection, first, 1)
    refresh_queue(connection, first)
    return done


def fill_added(connection: Connection, version: int) -> None:
    """Fill what was added since a version of the schema: the queue, and which boards people found good."""
    fill_queue(connection, version)
    if version >= _SINCE_VERIFIED:
        return
    connection.execute(update(boards).values(verified_passed=case((boards.c.verdict == "pass", 1), else_=0)))
    for table in (interfaces, rollups):  # sums of boards that were deleted since keep what the machine said
        connection.execute(update(table).values(verified_passed=table.c.passed))
    decided = select(boards.c.first_id).distinct().join_from(decisions, boards, boards.c.id == decisions.c.board_id)
    for first in connection.scalars(decided).all():
        add_contribution(connection, int(first), -1)
        update_outcome(connection, int(first))
        add_contribution(connection, int(first), 1)


def _find_newer(connection: Connection, first: int, number: int) -> dict[tuple[str, str], Any]:
    """Return by `(refdes, interface)` the latest inspection after the one of a number; one that saw no joint does not count."""
    query = select(sites.c.refdes, interfaces.c.interface, boards.c.record, boards.c.inspected_at)
    query = query.join_from(boards, interfaces, interfaces.c.board_id == boards.c.id).join(
        sites, sites.c.id == interfaces.c.site_id
    )
    query = query.where(boards.c.first_id == first, boards.c.inspection_no > number, boards.c.decides == 1)
    return {(row.refdes, row.interface): row for row in connection.execute(query.order_by(boards.c.inspection_no))}


def _write_decision(
    connection: Connection,
    board: Any,
    decision: Decision,
    decided_us: int,
    before: list[tuple[str, str]],
    make_message: MakeMessage,
) -> tuple[int, bool]:
    """Write a decision with its message and audit row; return its `id`, and whether it is new."""
    row: dict[str, Any] = {n: getattr(decision, n) for n in Decision.__dataclass_fields__ if n not in ("record", "id")}
    row |= {"board_id": board.id, "decided_us": decided_us}
    row |= {n: escape_text(row[n]) for n in ("decided_by", "note")}
    parts = ("refdes", "interface", "ball", "state", "decided_by", "decided_at")
    row["key"] = rows.make_key(decision.record, *(row[n] for n in parts))
    is_new = insert_new(connection, decisions, row, "key")
    number = int(connection.scalar(select(decisions.c.id).where(decisions.c.key == row["key"])) or 0)
    if is_new:
        key = (decision.refdes, decision.interface, decision.ball)
        after = read_standing(connection, board.id).get(key, [])
        states = [entries[-1][0] if entries else None for entries in (before, after)]
        message = make_message(decision, *states)
        add_messages(connection, [] if message is None else [message])
        words = {n: v for n, v in asdict(decision).items() if n in ("state", "label", "stage", "note", "decided_at")}
        subject = f"{board.serial} {'.'.join(key)} of {decision.record}"
        add_audit(connection, decided_us, decision.decided_by, "decision", subject, before={"state": states[0]}, after=words)
    return number, is_new


def _check_order(decision: Decision, latest: Any, seen: int | None, standing: list[tuple[str, str]], newer: Any) -> None:
    """Check that the author saw the latest inspection and decision, that the stage may decide, and that a withdrawal has one."""
    name = f"{decision.refdes}.{decision.interface}.{decision.ball}"
    if newer is not None and seen != UNCHECKED:
        expected, found = f"the latest inspection of {name}", f"a later one: record {newer.record} of {newer.inspected_at}"
        raise SupersededFault(
            f"record {decision.record}", expected=expected, found=found, remedy="Open that one, and look again."
        )
    number = None if latest is None else int(latest.id)
    if seen not in (UNCHECKED, number):
        found = "none" if latest is None else f"{latest.state} by {latest.decided_by}"
        raise ConflictFault(name, expected="the decision that you saw", found=found, remedy="Look at it, then decide again.")
    if standing and STAGES.index(standing[-1][1]) > STAGES.index(decision.stage):
        expected = f"a decision of stage {decision.stage} where the stage {standing[-1][1]} has not decided"
        raise StageFault(name, expected=expected, found=standing[-1][0], remedy="Ask the repair station.")
    if decision.state == WITHDRAWN and decision.stage not in {stage for _, stage in standing}:
        raise UsageFault(name, expected=f"a decision of stage {decision.stage} to withdraw", found="none")


def _check_decision(decision: Decision) -> int:
    """Check what can be checked without the database; return the decision's time in microseconds since 1970."""
    if decision.state not in DECISION_STATES:
        raise UsageFault("state", expected=f"one of {', '.join(DECISION_STATES)}", found=repr(decision.state))
    if decision.stage not in STAGES:
        raise UsageFault("stage", expected=f"one of {', '.join(STAGES)}", found=repr(decision.stage))
    if decision.label is not None and decision.label not in CLASSES:
        raise UsageFault("label", expected=f"one of {', '.join(CLASSES)}", found=repr(decision.label))
    if not decision.decided_by:
        raise UsageFault("decided_by", expected="the person who decided", found="nothing")
    try:
        return parse_time_us(decision.decided_at, "decided_at")
    except StoreFault as error:
        raise UsageFault(error.thing, expected=error.expected, found=error.found) from error


def _check_decided_joint(connection: Connection, board_id: int, digests_id: int, decision: Decision) -> None:
    """Check that the joint exists, and that the state fits its verdict."""
    name = f"{decision.refdes}.{decision.interface}.{decision.ball}"
    place = {n: getattr(decision, n) for n in ("refdes", "interface", "ball")}
    recipe = select(digests.c.recipe_id).where(digests.c.id == digests_id).scalar_subquery()
    known = select(positions.c.ball).where(positions.c.recipe_id == recipe).filter_by(**place)
    if connection.scalar(known) is None:
        raise UsageFault(name, expected="a joint of the record's recipe", found="none of that name")
    verdict = connection.scalar(select(defects.c.verdict).where(defects.c.board_id == board_id).filter_by(**place)) or "pass"
    if decision.state in _ANY_VERDICT:
        return
    if (verdict == "pass") != (decision.state in _FOR_PASSES):
        remedy = "DefectMissed is for a joint that passed, as is PassConfirmed; others are for one that failed or is in review."
        expected = f"a state for a joint whose verdict is {verdict}"
        raise UsageFault(name, expected=expected, found=decision.state, remedy=remedy)

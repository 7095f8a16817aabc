"""Keep what a person decided, if it can be."""

from typing import Any

from sqlalchemy import Connection, select

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.store.rollup import contribute
from inspect_pop.store.rows import key_of
from inspect_pop.store.schema import boards, decisions, defects, digests, positions
from inspect_pop.store.types import STATES, Decision, instant_us
from inspect_pop.store.write import first_of, insert_new, lock_serial, resettle

__all__ = ["insert_decision"]


def insert_decision(connection: Connection, decision: Decision) -> bool:
    """Insert a decision and settle its board again; False where it was there. See `Store.add_decision`."""
    _check_words(decision)
    query = select(boards.c.id, boards.c.serial, boards.c.digests_id).where(boards.c.record == decision.record)
    board = connection.execute(query).first()
    if board is None:
        raise UsageFault(f"record {decision.record}", expected="a record in the store", found="none")
    lock_serial(connection, board.serial)
    _check_joint(connection, board.id, board.digests_id, decision)
    row: dict[str, Any] = {n: getattr(decision, n) for n in Decision.__dataclass_fields__ if n != "record"}
    row |= {"board_id": board.id, "decided_us": instant_us(decision.decided_at, "decided_at")}
    row["key"] = key_of(decision.record, *(row[n] for n in ("refdes", "interface", "ball", "state", "decided_by", "decided_at")))
    first = first_of(connection, board.serial) or board.id
    if not insert_new(connection, decisions, row, "key"):
        return False
    contribute(connection, first, -1)
    resettle(connection, board.serial)
    contribute(connection, first, 1)
    return True


def _check_words(decision: Decision) -> None:
    if decision.state not in STATES:
        raise UsageFault("state", expected=f"one of {', '.join(STATES)}", found=repr(decision.state))
    if decision.label is not None and decision.label not in CLASSES:
        raise UsageFault("label", expected=f"one of {', '.join(CLASSES)}", found=repr(decision.label))
    if not decision.decided_by:
        raise UsageFault("decided_by", expected="who decided", found="nothing")
    try:
        instant_us(decision.decided_at, "decided_at")
    except StoreFault as error:
        raise UsageFault(error.thing, expected=error.expected, found=error.found) from error


def _check_joint(connection: Connection, board_id: int, digests_id: int, decision: Decision) -> None:
    """The joint exists, and only a joint that passed can have been missed."""
    name = f"{decision.refdes}.{decision.interface}.{decision.ball}"
    place = {n: getattr(decision, n) for n in ("refdes", "interface", "ball")}
    recipe = select(digests.c.recipe_id).where(digests.c.id == digests_id).scalar_subquery()
    known = select(positions.c.ball).where(positions.c.recipe_id == recipe).filter_by(**place)
    if connection.scalar(known) is None:
        raise UsageFault(name, expected="a joint of the record's recipe", found="none of that name")
    verdict = connection.scalar(select(defects.c.verdict).where(defects.c.board_id == board_id).filter_by(**place))
    missed = verdict in (None, "pass")
    if missed != (decision.state == "DefectMissed") and decision.state not in (
        "DefectRepaired",
        "DefectClosed",
        "DefectRejected",
    ):
        remedy = "DefectMissed is for a joint that passed; the others are for one that failed or is in review."
        raise UsageFault(
            name, expected=f"a state for a joint whose verdict is {verdict or 'pass'}", found=decision.state, remedy=remedy
        )

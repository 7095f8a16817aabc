"""Sums over first inspections, kept up to date by every write: what makes a yield table instant, however many boards.

A row of `rollups` sums the boards of one context (day, lot, line, station, …) at one level: the board, its packages,
parts or constructions, each as a whole or by interface. A board counts once a row, and passed where all that the row covers
passed. Rows are changed in the transaction of the write, as the last step, by adding what one board now contributes and
taking away what it contributed before; a context belongs to one station, so stations do not wait for one another.
"""

from functools import cache, reduce
from operator import add
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    true,
    union_all,
)

from inspect_pop.store.engine import Run, insert_or_skip, prepared
from inspect_pop.store.schema import COUNTS, SETTLED, SUMS, boards, interfaces, rollups, sites

__all__ = ["LEVELS", "contribute", "rebuild", "summed"]

LEVELS = {  # level: the columns of sites that its rows name
    "board": (),
    "interface": (),
    "package": ("refdes", "part", "construction"),
    "part": ("part", "construction"),
    "construction": ("construction",),
    "package,interface": ("refdes", "part", "construction"),
    "part,interface": ("part", "construction"),
    "construction,interface": ("construction",),
}
_NAMES = ("refdes", "part", "construction", "interface")
_DECIDED = SETTLED[1:]
_OF_AN_INTERFACE = 2  # one placement and one component: with both interfaces, a PoP site has two and two (IPC-7912)


def contribute(connection: Connection, board_id: int, sign: int) -> None:
    """Add (+1) or take away (-1) what a board contributes, if it is a first inspection."""
    _contributing(connection.dialect)(connection, {"board_id": board_id, "sign": sign})


def rebuild(connection: Connection) -> None:
    """Sum everything again, from the boards."""
    connection.execute(delete(rollups))
    connection.execute(_statement(connection.dialect.name, False), {"sign": 1})


def summed(level: str, which: ColumnElement[bool] | None = None, parts: ColumnElement[bool] | None = None) -> Select[Any]:
    """The rows of `rollups` of a level, summed from the boards: all first inspections, or those for which `which` holds.

    `parts` may say the same of `interfaces`, so that the database looks at those alone.
    """
    chosen = and_(boards.c.inspection_no == 1, true() if which is None else which)
    source = _boards(chosen) if level == "board" else _parts(level, chosen, true() if parts is None else parts)
    names = [source.c[n] if n in source.c else literal("").label(n) for n in _NAMES]
    keys = [source.c.context_id, *(source.c[n] for n in _NAMES if n in source.c)]
    query = select(source.c.context_id, literal(level).label("level"), *names, *(func.sum(source.c[n]).label(n) for n in SUMS))
    return query.group_by(*keys)


@cache
def _contributing(dialect: Any) -> Run:
    return prepared(_statement(dialect.name, True), dialect)


def _statement(dialect: str, one: bool) -> Any:
    """The upsert of one board's contribution (`board_id`), or of all."""
    which = (boards.c.id == bindparam("board_id"), interfaces.c.board_id == bindparam("board_id")) if one else ()
    of = union_all(*(summed(level, *which) for level in LEVELS)).subquery("own")
    keys = ("context_id", "level", *_NAMES)
    signed = select(*(of.c[n] for n in keys), *((of.c[n] * bindparam("sign")).label(n) for n in SUMS)).where(true())
    statement = insert_or_skip(rollups, dialect).from_select([*keys, *SUMS], signed)
    total = {n: rollups.c[n] + statement.excluded[n] for n in SUMS}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=total)


def _boards(chosen: ColumnElement[bool]) -> FromClause:
    """One row a board."""
    c = boards.c
    return (
        select(
            c.context_id,
            literal(1).label("boards"),
            _one_if(c.verdict == "pass").label("passed"),
            c.n_joints.label("joints"),
            (c.n_joints + 2 * _OF_AN_INTERFACE * c.n_packages).label("opportunities"),
            _one_if(c.n_inspections > 1).label("reinspected"),
            _one_if(c.final == "pass").label("final_passed"),
            _one_if(c.final == "pending").label("pending"),
            *(c[n] for n in (*COUNTS, *_DECIDED)),
        )
        .where(chosen)
        .subquery("single")
    )


def _parts(level: str, chosen: ColumnElement[bool], parts: ColumnElement[bool]) -> FromClause:
    """One row a board and what the level names."""
    c = interfaces.c
    keys: list[ColumnElement[Any]] = [sites.c[n] for n in LEVELS[level]]
    keys += [c.interface] if "interface" in level else []
    joints = reduce(add, (c[n] for n in COUNTS if n != "n_review"))
    worst = func.max(case((c.final == "fail", 2), (c.final == "pending", 1), else_=0))
    return (
        select(
            boards.c.context_id,
            *keys,
            literal(1).label("boards"),
            func.min(c.passed).label("passed"),
            func.sum(joints).label("joints"),
            func.sum(joints + _OF_AN_INTERFACE).label("opportunities"),
            func.max(_one_if(boards.c.n_inspections > 1)).label("reinspected"),
            _one_if(worst == 0).label("final_passed"),
            _one_if(worst == 1).label("pending"),
            *(func.sum(c[n]).label(n) for n in (*COUNTS, *_DECIDED)),
        )
        .join_from(interfaces, boards, boards.c.id == c.board_id)
        .join(sites, sites.c.id == c.site_id)
        .where(chosen, parts)
        .group_by(c.board_id, boards.c.context_id, *keys)
        .subquery("single")
    )


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return case((condition, 1), else_=0)

"""Maintain sums over first inspections, which make a yield table instant for any number of boards.

A row of `rollups` sums the boards of one context (day, lot, line, station, …) at one level: the board, its packages, parts
or constructions, each as a whole or by interface. A board counts once per row, as passed if everything that the row covers
passed. Rows are changed in the transaction of the write, as its last step: what the board contributed before is subtracted,
what it contributes now is added. A context belongs to one station, so stations do not wait for one another.
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

from inspect_pop.core.recipe import CONSTRUCTIONS, OPPORTUNITIES_PER_INTERFACE
from inspect_pop.store.engine import PreparedStatement, make_upsert, prepare_statement
from inspect_pop.store.schema import (
    COUNT_COLUMNS,
    LABEL_COUNTS,
    OUTCOME_COLUMNS,
    SUM_COLUMNS,
    boards,
    interfaces,
    packages,
    rollups,
    sites,
)

__all__ = ["LEVELS", "add_contribution", "rebuild_rollups", "select_sums"]

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
_JUDGEMENT_COUNTS = OUTCOME_COLUMNS[1:]


def add_contribution(connection: Connection, board_id: int, sign: int) -> None:
    """Add (+1) or subtract (-1) what a board contributes to the sums. Does nothing for a re-inspection."""
    _prepare_contribution(connection.dialect)(connection, {"board_id": board_id, "sign": sign})


@cache
def _prepare_contribution(dialect: Any) -> PreparedStatement:
    return prepare_statement(_make_contribution(dialect.name, one_board=True), dialect)


def rebuild_rollups(connection: Connection) -> None:
    """Compute all sums again from the boards."""
    connection.execute(delete(rollups))
    connection.execute(_make_contribution(connection.dialect.name, one_board=False), {"sign": 1})


def select_sums(
    level: str, of_boards: ColumnElement[bool] | None = None, of_interfaces: ColumnElement[bool] | None = None
) -> Select[Any]:
    """Select the rows of `rollups` of a level, computed from the boards.

    Parameters
    ----------
    level
        One of `LEVELS`.
    of_boards
        A condition on `boards`; None for all first inspections.
    of_interfaces
        The same condition in terms of `interfaces`, so that the database reads only those.
    """
    chosen = and_(boards.c.inspection_no == 1, true() if of_boards is None else of_boards)
    if level == "board":
        source = _select_boards(chosen)
    else:
        source = _select_interfaces(level, chosen, true() if of_interfaces is None else of_interfaces)
    names = [source.c[n] if n in source.c else literal("").label(n) for n in _NAMES]
    keys = [source.c.context_id, *(source.c[n] for n in _NAMES if n in source.c)]
    sums = (func.sum(source.c[n]).label(n) for n in SUM_COLUMNS)
    return select(source.c.context_id, literal(level).label("level"), *names, *sums).group_by(*keys)


def _make_contribution(dialect: str, *, one_board: bool) -> Any:
    """Make the upsert that adds `sign` times the sums of one board (`board_id`), or of all boards."""
    which = (boards.c.id == bindparam("board_id"), interfaces.c.board_id == bindparam("board_id")) if one_board else ()
    sums = union_all(*(select_sums(level, *which) for level in LEVELS)).subquery("sums")
    keys = ("context_id", "level", *_NAMES)
    signed = select(*(sums.c[n] for n in keys), *((sums.c[n] * bindparam("sign")).label(n) for n in SUM_COLUMNS)).where(true())
    statement = make_upsert(rollups, dialect).from_select([*keys, *SUM_COLUMNS], signed)
    total = {n: rollups.c[n] + statement.excluded[n] for n in SUM_COLUMNS}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=total)


def _select_boards(chosen: ColumnElement[bool]) -> FromClause:
    """Select one row per board."""
    c = boards.c
    per_package = case({name: k.opportunities for name, k in CONSTRUCTIONS.items()}, value=sites.c.construction, else_=4)
    of_packages = (
        select(func.sum(per_package))
        .join_from(packages, sites, sites.c.id == packages.c.site_id)
        .where(packages.c.board_id == c.id)
        .scalar_subquery()
    )
    return (
        select(
            c.context_id,
            literal(1).label("boards"),
            _one_if(c.verdict == "pass").label("passed"),
            c.n_joints.label("joints"),
            (c.n_joints + func.coalesce(of_packages, 0)).label("opportunities"),
            _one_if(c.n_inspections > 1).label("reinspected"),
            _one_if(c.final == "pass").label("final_passed"),
            _one_if(c.final == "pending").label("pending"),
            *(c[n] for n in (*COUNT_COLUMNS, *_JUDGEMENT_COUNTS)),
        )
        .where(chosen)
        .subquery("single")
    )


def _select_interfaces(level: str, of_boards: ColumnElement[bool], of_interfaces: ColumnElement[bool]) -> FromClause:
    """Select one row per board and package, part, construction or interface, as the level names them."""
    c = interfaces.c
    keys: list[ColumnElement[Any]] = [sites.c[n] for n in LEVELS[level]]
    keys += [c.interface] if "interface" in level else []
    joints = reduce(add, (c[n] for n in LABEL_COUNTS))
    worst = func.max(case((c.final == "fail", 2), (c.final == "pending", 1), else_=0))
    return (
        select(
            boards.c.context_id,
            *keys,
            literal(1).label("boards"),
            func.min(c.passed).label("passed"),
            func.sum(joints).label("joints"),
            func.sum(joints + OPPORTUNITIES_PER_INTERFACE).label("opportunities"),
            func.max(_one_if(boards.c.n_inspections > 1)).label("reinspected"),
            _one_if(worst == 0).label("final_passed"),
            _one_if(worst == 1).label("pending"),
            *(func.sum(c[n]).label(n) for n in (*COUNT_COLUMNS, *_JUDGEMENT_COUNTS[:-1])),
            func.min(c.verified_passed).label("verified_passed"),
        )
        .join_from(interfaces, boards, boards.c.id == c.board_id)
        .join(sites, sites.c.id == c.site_id)
        .where(of_boards, of_interfaces)
        .group_by(c.board_id, boards.c.context_id, *keys)
        .subquery("single")
    )


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return case((condition, 1), else_=0)

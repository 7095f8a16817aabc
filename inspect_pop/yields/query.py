"""Sums over the boards of a period, group by group, as one statement of SQL each.

Only first inspections are counted. Boards are summed by context (day, lot, line, …) before their names are joined, so that
a table over 100,000 boards joins a few hundred rows; packages and interfaces are first brought to one row a board and key,
so that a board counts once however many packages share a key.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, case, func, select

from inspect_pop.errors import UsageFault
from inspect_pop.store.schema import COUNTS, boards, contexts, interfaces, sites
from inspect_pop.yields.selection import CONTEXT_KEYS, Selection

__all__ = ["KEYS", "check_keys", "interface_passes", "sums"]

_PARTS: dict[str, ColumnElement[Any]] = {
    "interface": interfaces.c.interface,
    "package": sites.c.refdes,
    "part": sites.c.part,
    "construction": sites.c.construction,
}
KEYS = (*CONTEXT_KEYS, *_PARTS)
_DECIDED = ("n_confirmed", "n_false_calls", "n_cleared", "n_escapes")
_JUDGED = 2  # one placement and one component an interface of a package: with both, a PoP site has two and two


def check_keys(by: Sequence[str]) -> tuple[str, ...]:
    """The keys, each once; raises `UsageFault` for one that is not known."""
    for key in by:
        if key not in KEYS:
            raise UsageFault("--by", expected=f"some of {', '.join(KEYS)}", found=repr(key))
    return tuple(dict.fromkeys(by))


def sums(connection: Connection, by: Sequence[str], chosen: Selection) -> list[dict[str, Any]]:
    """Per group in order of its keys: the keys, boards, passed, joints, opportunities, counts, final and decided counts."""
    source = _by_board(chosen) if set(by) <= set(CONTEXT_KEYS) else _by_part([k for k in by if k in _PARTS], chosen)
    return _grouped(connection, source, by, chosen)


def interface_passes(connection: Connection, by: Sequence[str], chosen: Selection) -> list[dict[str, Any]]:
    """The same with the interface as another key: what rolled yield multiplies."""
    keys = [*(k for k in by if k != "interface"), "interface"]
    return sums(connection, keys, chosen)


def _grouped(connection: Connection, source: FromClause, by: Sequence[str], chosen: Selection) -> list[dict[str, Any]]:
    keys = [contexts.c[k] if k in CONTEXT_KEYS else source.c[k] for k in by]
    names = ("boards", "passed", "joints", "opportunities", "reinspected", "final_passed", "pending", *COUNTS, *_DECIDED)
    query = select(*keys, *(func.sum(source.c[n]).label(n) for n in names))
    query = query.join_from(source, contexts, contexts.c.id == source.c.context_id).where(chosen.contexts)
    rows = [row._asdict() for row in connection.execute(query.group_by(*keys))]
    rows.sort(key=lambda row: [(row[k] is None, row[k]) for k in by])  # databases differ in how they sort text and null
    return [{k: v if k in by else int(v or 0) for k, v in row.items()} for row in rows]


def _by_board(chosen: Selection) -> FromClause:
    """Boards summed by context."""
    c = boards.c
    query = select(
        c.context_id,
        func.count().label("boards"),
        _times(c.verdict == "pass").label("passed"),
        func.sum(c.n_joints).label("joints"),
        func.sum(c.n_joints + 2 * _JUDGED * c.n_packages).label("opportunities"),
        _times(c.n_inspections > 1).label("reinspected"),
        _times(c.final == "pass").label("final_passed"),
        _times(c.final == "pending").label("pending"),
        *(func.sum(c[n]).label(n) for n in (*COUNTS, *_DECIDED)),
    )
    return chosen.limit(query).group_by(c.context_id).subquery("by_context")


def _by_part(parts: Sequence[str], chosen: Selection) -> FromClause:
    """Boards summed by context and the keys of their parts."""
    one = _one_a_board(parts)
    query = select(
        boards.c.context_id,
        *(one.c[k] for k in parts),
        func.count().label("boards"),
        func.sum(one.c.passed).label("passed"),
        func.sum(one.c.joints).label("joints"),
        func.sum(one.c.joints + _JUDGED * one.c.parts).label("opportunities"),
        _times(boards.c.n_inspections > 1).label("reinspected"),
        _times(one.c.worst == 0).label("final_passed"),
        _times(one.c.worst == 1).label("pending"),
        *(func.sum(one.c[n]).label(n) for n in (*COUNTS, *_DECIDED)),
    )
    query = query.join_from(one, boards, boards.c.id == one.c.board_id)
    return chosen.limit(query).group_by(boards.c.context_id, *(one.c[k] for k in parts)).subquery("by_context")


def _one_a_board(parts: Sequence[str]) -> FromClause:
    """One row a board and key: it passed where all of its interfaces with that key did."""
    c = interfaces.c
    keys = [_PARTS[k].label(k) for k in parts]
    query: Select[Any] = select(
        c.board_id,
        *keys,
        func.min(c.passed).label("passed"),
        func.count().label("parts"),
        func.sum(reduce(add, (c[n] for n in COUNTS if n != "n_review"))).label("joints"),
        func.max(case((c.final == "fail", 2), (c.final == "pending", 1), else_=0)).label("worst"),
        *(func.sum(c[n]).label(n) for n in (*COUNTS, *_DECIDED)),
    )
    query = query.join_from(interfaces, sites, sites.c.id == c.site_id)
    return query.group_by(c.board_id, *(_PARTS[k] for k in parts)).subquery("parts")


def _times(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.sum(case((condition, 1), else_=0))

"""Rank what fails most, and find where: counts of defective joints at first inspections.

A good joint that an acceptance criterion rejected is a defect without a class: its label is `REJECTED`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, and_, case, func, or_, select

from inspect_pop.core.classes import DEFECTS, GOOD
from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Store
from inspect_pop.store.schema import boards, contexts, defects, digests, interfaces, positions, sites
from inspect_pop.yields.selection import CONTEXT_KEYS, GroupKey, Selection, make_selection

__all__ = ["PARETO_KEYS", "REJECTED", "ParetoBar", "PositionMap", "map_positions", "rank_causes", "rank_defects"]

_JOINT_KEYS = ("label", "refdes", "interface", "ball")
PARETO_KEYS = (*_JOINT_KEYS, *CONTEXT_KEYS)
REJECTED = "rejected"
_RANKED = (*DEFECTS, REJECTED)


@dataclass(frozen=True)
class ParetoBar:
    """One bar of a Pareto chart.

    Attributes:
        keys: What the bar is about, such as `{"label": "open"}`.
        count: How many.
        share: Its share of all, 0 to 1.
        cumulative: The share of it and all larger ones together, 0 to 1.
    """

    keys: dict[str, GroupKey]
    count: int
    share: float
    cumulative: float


@dataclass(frozen=True)
class PositionMap:
    """Every ball of the recipes in a selection: parallel arrays in order of refdes, interface and ball.

    Attributes:
        refdes, interface, ball: (n,) text.
        x_um, y_um: (n,) float64, package frame; NaN where no board showed the joint.
        boards: (n,) int64, boards that have the joint.
        defects: (n, number of `DEFECTS`) int64, how often the joint had each class.
        rejected: (n,) int64, how often a criterion rejected it though it was good.
    """

    refdes: NDArray[Any]
    interface: NDArray[Any]
    ball: NDArray[Any]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    boards: NDArray[np.int64]
    defects: NDArray[np.int64]
    rejected: NDArray[np.int64]


def rank_defects(
    store: Store,
    by: Sequence[str] = ("label",),
    *,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, GroupKey] | None = None,
) -> list[ParetoBar]:
    """Count defective joints by any of `PARETO_KEYS`, most first. Empty if there are none.

    `since`, `until` and `only` select boards as in `make_selection`. Raises `UsageFault` for an unknown key or selection.
    """
    for key in by:
        if key not in PARETO_KEYS:
            raise UsageFault("by", expected=f"some of {', '.join(PARETO_KEYS)}", found=repr(key))
    selection = make_selection(since, until, only)
    count = _count_by_joint if "ball" in by else _count_by_interface
    with store.reading() as connection:
        return _make_bars(list(by), count(connection, by, selection))


def rank_causes(
    store: Store, *, since: str | None = None, until: str | None = None, only: Mapping[str, GroupKey] | None = None
) -> list[ParetoBar]:
    """Count boards with a defect by their diagnosed cause, most first. Parameters as for `rank_defects`."""
    n_bad = reduce(add, (boards.c[f"n_{label}"] for label in _RANKED))
    query = select(boards.c.cause, func.count()).where(n_bad > 0)
    query = make_selection(since, until, only).limit(query).group_by(boards.c.cause)
    with store.reading() as connection:
        return _make_bars(["cause"], {(cause,): int(n) for cause, n in connection.execute(query)})


def map_positions(
    store: Store, *, since: str | None = None, until: str | None = None, only: Mapping[str, GroupKey] | None = None
) -> PositionMap:
    """Count the defects of each ball position over a lot, or over any selection. Parameters as for `rank_defects`."""
    selection = make_selection(since, until, only)
    by_recipe = select(digests.c.recipe_id, func.count()).join_from(boards, digests, digests.c.id == boards.c.digests_id)
    with store.reading() as connection:
        rows = connection.execute(selection.limit(by_recipe).group_by(digests.c.recipe_id))
        n_boards = {int(recipe): int(n) for recipe, n in rows}
        places = select(positions).where(positions.c.recipe_id.in_(list(n_boards)))
        found = [row._asdict() for row in connection.execute(places)]
        failed = _count_by_joint(connection, ("refdes", "interface", "ball", "label"), selection)
    joints: dict[tuple[str, str, str], list[float]] = {}
    for place in sorted(found, key=lambda p: (p["refdes"], p["interface"], p["ball"], -p["recipe_id"])):
        x, y = (np.nan if place[n] is None else place[n] for n in ("x_um", "y_um"))
        joint = joints.setdefault((place["refdes"], place["interface"], place["ball"]), [x, y, 0])
        joint[2] += n_boards[place["recipe_id"]]
    counts = [[failed.get((*joint, label), 0) for label in DEFECTS] for joint in joints]
    names = np.array(list(joints), dtype=object).reshape(-1, 3)
    values = np.array(list(joints.values()), dtype=np.float64).reshape(-1, 3)
    return PositionMap(
        refdes=names[:, 0],
        interface=names[:, 1],
        ball=names[:, 2],
        x_um=values[:, 0],
        y_um=values[:, 1],
        boards=values[:, 2].astype(np.int64),
        defects=np.array(counts, dtype=np.int64).reshape(-1, len(DEFECTS)),
        rejected=np.array([failed.get((*joint, REJECTED), 0) for joint in joints], dtype=np.int64),
    )


def _count_by_joint(connection: Connection, by: Sequence[str], selection: Selection) -> dict[tuple[GroupKey, ...], int]:
    """Count from the joints, for keys that only joints have."""
    rejected = and_(defects.c.label == GOOD, defects.c.verdict == "fail")
    joint_keys = {k: defects.c[k] for k in _JOINT_KEYS} | {"label": case((rejected, REJECTED), else_=defects.c.label)}
    keys = [joint_keys[k] if k in joint_keys else contexts.c[k] for k in by]
    query = select(*keys, func.count()).join_from(defects, boards, boards.c.id == defects.c.board_id)
    query = selection.limit(_join_contexts(query, by)).where(or_(defects.c.label.in_(DEFECTS), rejected)).group_by(*keys)
    return {tuple(row[:-1]): int(row[-1]) for row in connection.execute(query)}


def _count_by_interface(connection: Connection, by: Sequence[str], selection: Selection) -> dict[tuple[GroupKey, ...], int]:
    """Count from the interfaces' counts, which are a hundredth as many rows."""
    interface_keys = {"refdes": sites.c.refdes, "interface": interfaces.c.interface}
    keys = [interface_keys[k] if k in interface_keys else contexts.c[k] for k in by if k != "label"]
    query = select(*keys, *(func.sum(interfaces.c[f"n_{label}"]) for label in _RANKED))
    query = query.join_from(interfaces, boards, boards.c.id == interfaces.c.board_id)
    query = _join_contexts(query.join(sites, sites.c.id == interfaces.c.site_id), by)
    counts: dict[tuple[GroupKey, ...], int] = {}
    for row in connection.execute(selection.limit(query).group_by(*keys)):
        for label, n in zip(_RANKED, row[-len(_RANKED) :], strict=True):
            values = iter(row[: -len(_RANKED)])
            key = tuple(label if k == "label" else next(values) for k in by)
            counts[key] = counts.get(key, 0) + int(n or 0)
    return counts


def _join_contexts(query: Select[Any], by: Sequence[str]) -> Select[Any]:
    """Join day, lot, line, …, if a key needs them."""
    return query.join(contexts, contexts.c.id == boards.c.context_id) if set(by) & set(CONTEXT_KEYS) else query


def _make_bars(by: Sequence[str], counts: Mapping[tuple[GroupKey, ...], int]) -> list[ParetoBar]:
    total, running, bars = sum(counts.values()), 0, []
    for keys, n in sorted(counts.items(), key=lambda item: (-item[1], [str(k) for k in item[0]])):
        if n:
            running += n
            bars.append(ParetoBar(dict(zip(by, keys, strict=True)), n, n / total, running / total))
    return bars

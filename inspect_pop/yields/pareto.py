"""What fails most, and where: counts of defective joints at first inspections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Select, func, select

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.store import Store
from inspect_pop.store.schema import boards, contexts, defects, digests, interfaces, positions, sites
from inspect_pop.yields.selection import CONTEXT_KEYS, Key, Selection, selection

__all__ = ["PARETO_KEYS", "Bar", "PositionMap", "causes", "pareto", "position_map"]

_JOINT_KEYS = ("label", "refdes", "interface", "ball")
PARETO_KEYS = (*_JOINT_KEYS, *CONTEXT_KEYS)
_BAD = CLASSES[1:]


@dataclass(frozen=True)
class Bar:
    """One bar: what it is about, how many, its share of all, and the share of it and all larger ones together."""

    keys: dict[str, Key]
    count: int
    share: float
    cumulative: float


@dataclass(frozen=True)
class PositionMap:
    """Every ball of the recipes in a selection: parallel arrays in order of refdes, interface and ball.

    `x_um`, `y_um` float64 (NaN where no board showed the joint), `boards` int64: boards that have the joint;
    `defects` int64 (n, 4): how often it was bridged, open, starved, head-in-pillow.
    """

    refdes: NDArray[Any]
    interface: NDArray[Any]
    ball: NDArray[Any]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    boards: NDArray[np.int64]
    defects: NDArray[np.int64]


def pareto(
    store: Store,
    by: Sequence[str] = ("label",),
    *,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, Key] | None = None,
) -> list[Bar]:
    """Defective joints by any of `PARETO_KEYS`, most first; empty where there are none. Raises `UsageFault`."""
    for key in by:
        if key not in PARETO_KEYS:
            raise UsageFault("by", expected=f"some of {', '.join(PARETO_KEYS)}", found=repr(key))
    chosen = selection(since, until, only)
    with store.reading() as connection:
        counted = _by_interface(connection, by, chosen) if "ball" not in by else _by_joint(connection, by, chosen)
    return _bars(list(by), counted)


def causes(
    store: Store, *, since: str | None = None, until: str | None = None, only: Mapping[str, Key] | None = None
) -> list[Bar]:
    """Boards with a defect by their suspected cause, most first."""
    chosen = selection(since, until, only)
    query = chosen.limit(select(boards.c.cause, func.count()).where(_n_bad(boards) > 0)).group_by(boards.c.cause)
    with store.reading() as connection:
        return _bars(["cause"], {(cause,): int(n) for cause, n in connection.execute(query)})


def position_map(
    store: Store, *, since: str | None = None, until: str | None = None, only: Mapping[str, Key] | None = None
) -> PositionMap:
    """Which ball positions fail over a lot, or over any selection."""
    chosen = selection(since, until, only)
    with store.reading() as connection:
        n_boards = _boards_by_recipe(connection, chosen)
        places = select(positions).where(positions.c.recipe_id.in_(list(n_boards)))
        found = [row._asdict() for row in connection.execute(places)]
        failed = _by_joint(connection, ("refdes", "interface", "ball", "label"), chosen)
    rows: dict[tuple[str, str, str], list[float]] = {}
    for place in sorted(found, key=lambda p: (p["refdes"], p["interface"], p["ball"], -p["recipe_id"])):
        row = rows.setdefault(
            (place["refdes"], place["interface"], place["ball"]), [_or_nan(place["x_um"]), _or_nan(place["y_um"]), 0]
        )
        row[2] += n_boards[place["recipe_id"]]
    counts = [[failed.get((*joint, label), 0) for label in _BAD] for joint in rows]
    names = np.array(list(rows), dtype=object).reshape(-1, 3)
    values = np.array(list(rows.values()), dtype=np.float64).reshape(-1, 3)
    defect_counts = np.array(counts, dtype=np.int64).reshape(-1, len(_BAD))
    return PositionMap(
        names[:, 0], names[:, 1], names[:, 2], values[:, 0], values[:, 1], values[:, 2].astype(np.int64), defect_counts
    )


def _by_joint(connection: Connection, by: Sequence[str], chosen: Selection) -> dict[tuple[Key, ...], int]:
    """Counts from the joints themselves: for keys that only they have."""
    keys = [defects.c[k] if k in _JOINT_KEYS else contexts.c[k] for k in by]
    query = select(*keys, func.count()).join_from(defects, boards, boards.c.id == defects.c.board_id)
    query = chosen.limit(_with_contexts(query, by)).where(defects.c.label.in_(_BAD)).group_by(*keys)
    return {tuple(row[:-1]): int(row[-1]) for row in connection.execute(query)}


def _by_interface(connection: Connection, by: Sequence[str], chosen: Selection) -> dict[tuple[Key, ...], int]:
    """Counts from the interfaces' sums, which are a hundredth as many rows."""
    own = {"refdes": sites.c.refdes, "interface": interfaces.c.interface}
    keys = [own[k] if k in own else contexts.c[k] for k in by if k != "label"]
    query = select(*keys, *(func.sum(interfaces.c[f"n_{label}"]) for label in _BAD))
    query = query.join_from(interfaces, boards, boards.c.id == interfaces.c.board_id)
    query = _with_contexts(query.join(sites, sites.c.id == interfaces.c.site_id), by)
    counted: dict[tuple[Key, ...], int] = {}
    for row in connection.execute(chosen.limit(query).group_by(*keys)):
        for label, n in zip(_BAD, row[-len(_BAD) :], strict=True):
            place = iter(row[: -len(_BAD)])
            key = tuple(label if k == "label" else next(place) for k in by)
            counted[key] = counted.get(key, 0) + int(n or 0)
    return counted


def _boards_by_recipe(connection: Connection, chosen: Selection) -> dict[int, int]:
    query = select(digests.c.recipe_id, func.count()).join_from(boards, digests, digests.c.id == boards.c.digests_id)
    return {int(recipe): int(n) for recipe, n in connection.execute(chosen.limit(query).group_by(digests.c.recipe_id))}


def _with_contexts(query: Select[Any], by: Sequence[str]) -> Select[Any]:
    """Join what names the day, lot or line, where it is asked for."""
    return query.join(contexts, contexts.c.id == boards.c.context_id) if set(by) & set(CONTEXT_KEYS) else query


def _bars(by: Sequence[str], counted: Mapping[tuple[Key, ...], int]) -> list[Bar]:
    total, running, bars = sum(counted.values()), 0, []
    for keys, n in sorted(counted.items(), key=lambda item: (-item[1], [str(k) for k in item[0]])):
        if n:
            running += n
            bars.append(Bar(dict(zip(by, keys, strict=True)), n, n / total, running / total))
    return bars


def _n_bad(table: Any) -> ColumnElement[Any]:
    bridged, opened, starved, pillow = (table.c[f"n_{label}"] for label in _BAD)
    total: ColumnElement[Any] = bridged + opened + starved + pillow
    return total


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value

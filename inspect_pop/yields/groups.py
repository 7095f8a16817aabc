"""Compute yield by group, and rank what fails most.

Every figure is about boards at their first inspection, which a later one never changes. Only final yield is about the same
boards at their last inspection. Formulas and sources: docs/yield.md. Groups can be written as JSON, CSV, or a table on the
terminal.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, Select, and_, case, func, or_, select

from inspect_pop.core.classes import DEFECTS, GOOD, joint_class
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.statistics import Interval, clopper_pearson, poisson_interval, product_interval
from inspect_pop.core.text import escape_controls, format_csv
from inspect_pop.store import Store, open_store
from inspect_pop.store.schema import COUNT_COLUMNS, boards, contexts, defects, digests, interfaces, positions, sites
from inspect_pop.yields.selection import CONTEXT_KEYS, GroupKey, Selection, check_group_keys, make_selection, sum_groups

__all__ = [
    "PARETO_KEYS",
    "REJECTED",
    "ParetoBar",
    "PositionMap",
    "YieldGroup",
    "as_csv",
    "as_json",
    "as_table",
    "compute_yield",
    "fill_days",
    "map_positions",
    "rank_causes",
    "rank_defects",
    "report_yield",
]

_JUDGEMENTS = ("confirmed", "false_calls", "cleared", "escapes")
# What a table leaves out where it does not fit, the least important first.
_LEAST_FIRST = ("rolled %", "verified %", *(joint_class(c).heading for c in reversed(DEFECTS)), "final %", "95 %", "review")
_GAP = 3  # columns between two of the table
_ENOUGH_NAME = 12  # columns for a name that is folded; other columns make room for them


@dataclass(frozen=True)
class YieldGroup:
    """Counts of one group; every figure follows from them. A share without a base is None, its interval (0, 1).

    Attributes:
        keys: The group's keys, in the order in which they were requested.
        boards, passed: Boards, and those that passed at their first inspection.
        joints, opportunities: Joints, and opportunities for a defect.
        counts: Joints by label, with `n_undecided`, `n_review` and `n_rejected`.
        reinspected, final_passed, pending: Boards inspected again, and boards by their final state.
        verified_passed: Boards that people found good at their first inspection.
        confirmed, false_calls, cleared, escapes: Joints by what a person decided.
        interface_passed: For each interface, its name, the boards that passed there and those that have it. Empty if the
            group is about a single interface.
    """

    keys: dict[str, GroupKey]
    boards: int
    passed: int
    joints: int
    opportunities: int
    counts: dict[str, int]
    reinspected: int = 0
    final_passed: int = 0
    pending: int = 0
    verified_passed: int = 0
    confirmed: int = 0
    false_calls: int = 0
    cleared: int = 0
    escapes: int = 0
    interface_passed: tuple[tuple[str, int, int], ...] = ()

    @property
    def fpy(self) -> float | None:
        """First-pass yield: boards that passed at their first inspection over boards."""
        return _divide(self.passed, self.boards)

    @property
    def fpy_interval(self) -> Interval:
        """Clopper-Pearson, 95 %."""
        return clopper_pearson(self.passed, self.boards)

    @property
    def final(self) -> float | None:
        """Final yield: boards that are good after re-inspection and people's decisions, over boards."""
        return _divide(self.final_passed, self.boards)

    @property
    def final_interval(self) -> Interval:
        """Clopper-Pearson, 95 %."""
        return clopper_pearson(self.final_passed, self.boards)

    @property
    def defects(self) -> int:
        """Joints that the machine labelled with a class other than good, whatever the verdict, and good ones that it rejected."""
        return sum(self.counts[f"n_{c}"] for c in DEFECTS) + self.counts["n_rejected"]

    @property
    def dpmo(self) -> float | None:
        """Defects per million opportunities (joints, placements and components; IPC-7912)."""
        share = _divide(self.defects, self.opportunities)
        return None if share is None else 1e6 * share

    @property
    def dpmo_interval(self) -> Interval:
        """Clopper-Pearson, 95 %, as if joints failed independently: it is too narrow where defects come in clusters."""
        low, high = clopper_pearson(self.defects, self.opportunities)
        return 1e6 * low, 1e6 * high

    @property
    def dpu(self) -> float | None:
        """Defects per unit: defects over boards."""
        return _divide(self.defects, self.boards)

    @property
    def dpu_interval(self) -> Interval | None:
        """Garwood, 95 %, as if joints failed independently."""
        return poisson_interval(self.defects, self.boards)

    @property
    def rolled(self) -> float | None:
        """Rolled yield: the product of the interfaces' first-pass yields."""
        parts = [k / n for _, k, n in self.interface_passed if n]
        return math.prod(parts, start=1.0) if parts else None

    @property
    def rolled_interval(self) -> Interval | None:
        """Product of Clopper-Pearson intervals at 97.5 % each (Bonferroni)."""
        parts = [(k, n) for _, k, n in self.interface_passed if n]
        return product_interval(parts) if parts else None

    @property
    def false_call_ppm(self) -> float | None:
        """Failed joints that a person found good, per million joints; a lower bound until all failed joints are reviewed."""
        share = _divide(self.false_calls, self.joints)
        return None if share is None else 1e6 * share

    @property
    def verified_fpy(self) -> float | None:
        """First-pass yield as people found it: boards whose calls were all false and that hid no escape, over boards.

        None until a person has judged a joint; a lower bound until every joint that failed or is in review has been judged.
        """
        judged = self.confirmed + self.false_calls + self.cleared + self.escapes
        return _divide(self.verified_passed, self.boards) if judged else None

    @property
    def verified_fpy_interval(self) -> Interval:
        """Clopper-Pearson, 95 %."""
        return clopper_pearson(self.verified_passed, self.boards)

    @property
    def verified_dpmo(self) -> float | None:
        """Defects that people confirmed or found, per million opportunities; None until a person has judged a joint.

        A lower bound until every joint that failed or is in review has been judged.
        """
        judged = self.confirmed + self.false_calls + self.cleared + self.escapes
        share = _divide(self.confirmed + self.escapes, self.opportunities)
        return None if share is None or not judged else 1e6 * share

    @property
    def verified_dpmo_interval(self) -> Interval:
        """Clopper-Pearson, 95 %, as if joints failed independently."""
        low, high = clopper_pearson(self.confirmed + self.escapes, self.opportunities)
        return 1e6 * low, 1e6 * high

    @property
    def escape_rate(self) -> float | None:
        """Defects that a person found at joints that had passed, over all defects that a person confirmed or found."""
        return _divide(self.escapes, self.escapes + self.confirmed)

    @property
    def escape_interval(self) -> Interval:
        """Clopper-Pearson, 95 %."""
        return clopper_pearson(self.escapes, self.escapes + self.confirmed)

    def to_dict(self) -> dict[str, Any]:
        """Return keys, counts and figures as flat plain values; the bounds of a figure's interval end in `_low` and `_high`."""
        figures: dict[str, Any] = {"boards": self.boards, "passed": self.passed}
        figures |= _with_bounds("fpy", self.fpy, self.fpy_interval)
        figures |= {"joints": self.joints, "defects": self.defects, "opportunities": self.opportunities}
        figures |= _with_bounds("dpmo", self.dpmo, self.dpmo_interval) | self.counts
        figures |= _with_bounds("dpu", self.dpu, self.dpu_interval)
        figures |= _with_bounds("rolled_yield", self.rolled, self.rolled_interval)
        figures |= {"reinspected": self.reinspected, "final_passed": self.final_passed, "pending": self.pending}
        figures |= _with_bounds("final_yield", self.final, self.final_interval)
        figures |= {n: getattr(self, n) for n in (*_JUDGEMENTS, "false_call_ppm")}
        figures |= _with_bounds("escape_rate", self.escape_rate, self.escape_interval)
        figures |= {"verified_passed": self.verified_passed}
        figures |= _with_bounds("verified_fpy", self.verified_fpy, self.verified_fpy_interval)
        figures |= _with_bounds("verified_dpmo", self.verified_dpmo, self.verified_dpmo_interval)
        return {**self.keys, **figures}


def compute_yield(
    store: Store,
    by: Sequence[str] = (),
    *,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, GroupKey] | None = None,
) -> list[YieldGroup]:
    """Compute the yield of each group that has boards, in order of its keys.

    Without keys the result is the one group of all boards, even of none.

    Parameters
    ----------
    store
        The store to read.
    by
        Any of `selection.KEYS`: day, lot, line, station, product, recipe, recipe_revision, work_order, interface, package,
        part, construction. `day` is the date in the offset of `inspected_at`.
    since, until
        A day (included) or an instant; see `selection.make_selection`.
    only
        The one lot, line, … to look at.

    Raises
    ------
    UsageFault
        An unknown key, or a bound that is neither a day nor a time with its offset.
    StoreFault
        The store cannot be read.
    """
    keys, selection = check_group_keys(by), make_selection(since, until, only)
    with store.reading() as connection:
        rows = sum_groups(connection, keys, selection)
        parts = [] if "interface" in keys else sum_groups(connection, [*keys, "interface"], selection)
    passed: dict[tuple[GroupKey, ...], list[tuple[str, int, int]]] = {}
    for part in parts:
        passed.setdefault(tuple(part[k] for k in keys), []).append((part["interface"], part["passed"], part["boards"]))
    names = ("boards", "passed", "joints", "opportunities", "reinspected", "final_passed", "pending", "verified_passed")
    return [
        YieldGroup(
            keys={k: row[k] for k in keys},
            counts={n: row[n] for n in COUNT_COLUMNS},
            interface_passed=tuple(passed.get(tuple(row[k] for k in keys), ())),
            **{n: row[n] for n in names},
            **{n: row[f"n_{n}"] for n in _JUDGEMENTS},
        )
        for row in rows
    ]


def report_yield(
    store_url: str,
    by: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, GroupKey] | None = None,
) -> list[dict[str, Any]]:
    """Return what `inspect-pop yield --json` prints: the groups of an existing store, as plain values.

    Parameters and errors are those of `compute_yield`; `StoreFault` also if there is no such store.
    """
    with open_store(store_url, must_exist=True) as store:
        return [group.to_dict() for group in compute_yield(store, by, since=since, until=until, only=only)]


def fill_days(found: Sequence[YieldGroup]) -> list[YieldGroup]:
    """Add an empty group for each day without boards to groups by day alone, so that a trend shows its gaps."""
    if not found:
        return []
    by_day = {str(group.keys["day"]): group for group in found}
    first, last = date.fromisoformat(min(by_day)), date.fromisoformat(max(by_day))
    days = [(first + timedelta(days=d)).isoformat() for d in range((last - first).days + 1)]
    return [by_day.get(day) or YieldGroup({"day": day}, 0, 0, 0, 0, dict.fromkeys(COUNT_COLUMNS, 0)) for day in days]


def _divide(k: int, n: int) -> float | None:
    return k / n if n else None


def _with_bounds(name: str, value: float | None, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval if interval is not None else (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def as_json(groups: Sequence[YieldGroup]) -> str:
    """Return groups as a JSON list of flat objects. A figure without a base is null."""
    return json.dumps([g.to_dict() for g in groups], ensure_ascii=False, indent=2, allow_nan=False)


def as_csv(groups: Sequence[YieldGroup]) -> str:
    """Return groups as CSV: a header and one line per group, with the fields of the JSON. Null is empty.

    The text is empty without groups. No cell of it is a formula.
    """
    rows = [g.to_dict() for g in groups]
    return format_csv(list(rows[0]), [list(row.values()) for row in rows]) if rows else ""


def as_table(groups: Sequence[YieldGroup], width: int = 80) -> Table:
    """Return groups as a table for people that fits a terminal of `width` columns.

    The columns in which a group is named stay, and boards, first-pass yield and DPMO; others are left out from the least
    important on, and the caption says so. A name is never cut short: a long one goes on in the next line. What a name holds is
    shown as it is: no part of it is markup, and signs that control a terminal are escaped.
    """
    keys = list(groups[0].keys) if groups else []
    names = [[_show_key(group.keys[key]) for group in groups] for key in keys]
    figures = _make_figures(groups)
    widths = {heading: max(map(len, (heading, *cells))) for heading, cells in figures.items()}
    name_widths = [max((cell_len(text) for text in (key, *cells)), default=0) for key, cells in zip(keys, names, strict=True)]
    shown, left_out = list(figures), []
    for heading in _LEAST_FIRST:
        if sum(min(n, _ENOUGH_NAME) for n in name_widths) + _GAP * len(keys) + sum(widths[h] + _GAP for h in shown) <= width:
            break
        shown.remove(heading)
        left_out.append(heading)
    caption = "Intervals: 95 %, Clopper-Pearson. FPY and DPMO at the first inspection; verified: FPY as people found it."
    if left_out:
        caption += f" Not shown in {width} columns: {', '.join(h for h in figures if h in left_out)} (--csv has all figures)."
    table = Table(title="Yield", caption=caption, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for key in keys:
        table.add_column(key, overflow="fold")
    for heading in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    for k in range(len(groups)):
        table.add_row(*(Text(cells[k]) for cells in names), *(figures[heading][k] for heading in shown))
    return table


def _make_figures(groups: Sequence[YieldGroup]) -> dict[str, list[str]]:
    """Return the table's figures as text, by heading, in the order in which they stand."""
    figures: dict[str, list[str]] = {
        "boards": [f"{g.boards:,}" for g in groups],
        "FPY %": [_format_percent(g.fpy) for g in groups],
        "95 %": [f"{100 * g.fpy_interval[0]:.1f}–{100 * g.fpy_interval[1]:.1f}" for g in groups],
        "rolled %": [_format_percent(g.rolled) for g in groups],
        "verified %": [_format_percent(g.verified_fpy) for g in groups],
        "final %": [_format_percent(g.final) for g in groups],
        "DPMO": ["-" if g.dpmo is None else f"{g.dpmo:,.0f}" for g in groups],
    }
    for name in (*DEFECTS, "review"):
        heading = "review" if name == "review" else joint_class(name).heading
        figures[heading] = [f"{g.counts[f'n_{name}']:,}" for g in groups]
    return figures


def _show_key(value: GroupKey) -> str:
    return "-" if value is None else escape_controls(str(value))


def _format_percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


# Rank what fails most, and find where: counts of defective joints at first inspections.
#
# A good joint that an acceptance criterion rejected is a defect without a class: its label is `REJECTED`.


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

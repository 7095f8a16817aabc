"""Select boards, sum them by group, and read one measurement per board.

Sums come from the store's rollups: a table over any number of boards adds a few hundred rows. A selection that begins or
ends within a day takes the days that lie completely inside from the rollups, and sums the boards of the days at its ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, func, select, true

from inspect_pop.core.columns import AGGREGATES, Aggregate, column
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.store import Store
from inspect_pop.store.schema import SUM_COLUMNS, boards, contexts, interfaces, packages, rollups, sites
from inspect_pop.store.summaries import select_sums

__all__ = [
    "CONTEXT_KEYS",
    "KEYS",
    "MEASURES",
    "GroupKey",
    "ProcessMeasure",
    "Selection",
    "Series",
    "check_group_keys",
    "make_selection",
    "read_series",
    "sum_groups",
]

GroupKey = str | int | None
CONTEXT_KEYS = ("day", "lot", "line", "station", "product", "recipe", "recipe_revision", "work_order")
_PART_COLUMNS = {"interface": "interface", "package": "refdes", "part": "part", "construction": "construction"}
KEYS = (*CONTEXT_KEYS, *_PART_COLUMNS)
_LARGEST_OFFSET = timedelta(hours=14)  # no wall clock is further from UTC


@dataclass(frozen=True)
class Selection:
    """Which boards to count.

    Attributes:
        first_day, last_day: Bounds on the local day (YYYY-MM-DD), both included.
        from_us, before_us: Bounds on the instant in microseconds since 1970, the end not included.
        only: The one value of some of `CONTEXT_KEYS`.
    """

    first_day: str | None = None
    last_day: str | None = None
    from_us: int | None = None
    before_us: int | None = None
    only: Mapping[str, GroupKey] = field(default_factory=dict)

    @property
    def contexts(self) -> ColumnElement[bool]:
        """The condition on contexts."""
        clauses = [contexts.c[k].is_not_distinct_from(v) for k, v in self.only.items()]
        if self.first_day is not None:
            clauses.append(contexts.c.day >= self.first_day)
        if self.last_day is not None:
            clauses.append(contexts.c.day <= self.last_day)
        return and_(true(), *clauses)

    def limit(self, query: Select[Any]) -> Select[Any]:
        """Limit a query that joins boards to the first inspections of the selection."""
        query = query.where(boards.c.inspection_no == 1)
        if self.only or self.first_day is not None or self.last_day is not None:
            query = query.where(boards.c.context_id.in_(select(contexts.c.id).where(self.contexts)))
        if self.from_us is not None:
            query = query.where(boards.c.inspected_us >= self.from_us)
        if self.before_us is not None:
            query = query.where(boards.c.inspected_us < self.before_us)
        return query


def make_selection(since: str | None = None, until: str | None = None, only: Mapping[str, GroupKey] | None = None) -> Selection:
    """Make a selection from what a user gives.

    Parameters
    ----------
    since, until
        Either a day such as `2026-03-02`, on the wall clock where boards were inspected; it belongs to the period at either
        end. Or an instant such as `2026-03-02T06:00:00+01:00`: from it on, or up to but without it.
    only
        The one value of some of `CONTEXT_KEYS`.

    Raises
    ------
    UsageFault
        A bound is neither a day nor a time with its offset, or a key of `only` is unknown.
    """
    first, last = _parse_bound(since, "--since"), _parse_bound(until, "--until")
    for key in only or {}:
        if key not in CONTEXT_KEYS:
            raise UsageFault("only", expected=f"some of {', '.join(CONTEXT_KEYS)}", found=repr(key))
    return Selection(
        first if isinstance(first, str) else None,
        last if isinstance(last, str) else None,
        first if isinstance(first, int) else None,
        last if isinstance(last, int) else None,
        dict(only or {}),
    )


def _parse_bound(text: str | None, option: str) -> str | int | None:
    """Return a day as text, an instant in microseconds since 1970."""
    if text is None:
        return None
    try:
        if len(text) == 10:
            return date.fromisoformat(text).isoformat()
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        expected = "a day or a time, such as 2026-03-02 or 2026-03-02T06:00+01:00"
        raise UsageFault(option, expected=expected, found=repr(text)) from error
    if moment.tzinfo is None:
        raise UsageFault(option, expected="a time with its offset, such as 2026-03-02T06:00+01:00", found=repr(text))
    return round(moment.timestamp() * 1_000_000)


def check_group_keys(by: Sequence[str]) -> tuple[str, ...]:
    """Return the keys, each once. Raises `UsageFault` for one that is not in `KEYS`."""
    for key in by:
        if key not in KEYS:
            raise UsageFault("--by", expected=f"some of {', '.join(KEYS)}", found=repr(key))
    return tuple(dict.fromkeys(by))


def sum_groups(connection: Connection, by: Sequence[str], selection: Selection) -> list[dict[str, Any]]:
    """Sum the boards of a selection by group.

    Returns a row per group, in order of its keys: the keys and `SUM_COLUMNS`. Groups without boards are left out; without keys
    there is always one row.
    """
    body = next((k for k in ("package", "part", "construction") if k in by), None)
    level = ",".join([k for k in (body, "interface" if "interface" in by else None) if k]) or "board"
    whole_days, instants = _split_days(selection)
    sources: list[tuple[FromClause, ColumnElement[bool]]] = [(rollups, and_(rollups.c.level == level, whole_days))]
    if instants is not None:
        at_the_ends = boards.c.context_id.in_(select(contexts.c.id).where(selection.contexts, ~whole_days))
        sources.append((select_sums(level, and_(at_the_ends, instants)).subquery("sums"), selection.contexts))
    groups: dict[tuple[Any, ...], dict[str, Any]] = {} if by else {(): dict.fromkeys(SUM_COLUMNS, 0)}
    for source, condition in sources:
        keys = [contexts.c[k] if k in CONTEXT_KEYS else source.c[_PART_COLUMNS[k]] for k in by]
        query = select(
            *(c.label(k) for c, k in zip(keys, by, strict=True)), *(func.sum(source.c[n]).label(n) for n in SUM_COLUMNS)
        )
        query = query.join_from(source, contexts, contexts.c.id == source.c.context_id)
        for row in connection.execute(query.where(selection.contexts, condition).group_by(*keys)).mappings():
            group = groups.setdefault(tuple(row[k] for k in by), {k: row[k] for k in by} | dict.fromkeys(SUM_COLUMNS, 0))
            group.update({n: group[n] + int(row[n] or 0) for n in SUM_COLUMNS})
    rows = [row for row in groups.values() if row["boards"] or not by]
    return sorted(rows, key=lambda row: [(row[k] is None, row[k]) for k in by])  # databases differ in how they sort


def _split_days(selection: Selection) -> tuple[ColumnElement[bool], ColumnElement[bool] | None]:
    """Return the condition on days that lie completely between the instants, and the instants for all other days.

    The second is None for a selection without instants, whose days are all complete.
    """
    whole_days: list[ColumnElement[bool]] = []
    instants: list[ColumnElement[bool]] = []
    if selection.from_us is not None:
        whole_days.append(contexts.c.day > _find_day(selection.from_us, _LARGEST_OFFSET))
        instants.append(boards.c.inspected_us >= selection.from_us)
    if selection.before_us is not None:
        whole_days.append(contexts.c.day < _find_day(selection.before_us, -_LARGEST_OFFSET))
        instants.append(boards.c.inspected_us < selection.before_us)
    return (and_(*whole_days), and_(*instants)) if whole_days else (contexts.c.id == contexts.c.id, None)


def _find_day(instant_us: int, offset: timedelta) -> str:
    """Return the day on a wall clock with this offset from UTC."""
    return (datetime.fromtimestamp(instant_us / 1e6, UTC) + offset).date().isoformat()


# Read one measurement per board, in order of time: what control charts are drawn from.


_REDUCTION_WORDS = {"mean": "mean", "min": "smallest", "max": "largest"}
_LOWEST_VOLUME_RATIO = 2 / 3


@dataclass(frozen=True)
class ProcessMeasure:
    """A measurement that can be followed over time.

    Attributes:
        name: The column of `packages` or `interfaces`; `offset_um` is computed from two columns.
        unit: `um`, `deg`, or `1` for a ratio.
        meaning: One line for people.
        per_interface: Whether each interface of a package has one.
        joint_column: The joint column that it aggregates; empty for a measurement of the package.
    """

    name: str
    unit: str
    meaning: str
    per_interface: bool
    joint_column: str = ""


def _aggregate_measure(aggregate: Aggregate) -> ProcessMeasure:
    of = column(aggregate.column)
    words = of.display.words if of.display is not None else of.meaning
    meaning = f"{words}: {_REDUCTION_WORDS[aggregate.how]} of the interface's joints"
    return ProcessMeasure(aggregate.name, of.unit, meaning, per_interface=True, joint_column=aggregate.column)


MEASURES = {
    m.name: m
    for m in (
        ProcessMeasure("warpage_um", "um", "warpage of the package's top, with its sign", per_interface=False),
        ProcessMeasure("offset_um", "um", "length of the package's offset", per_interface=False),
        ProcessMeasure("offset_x_um", "um", "the package's offset to the right", per_interface=False),
        ProcessMeasure("offset_y_um", "um", "the package's offset upwards", per_interface=False),
        ProcessMeasure("rotation_deg", "deg", "the package's rotation, counter-clockwise", per_interface=False),
        ProcessMeasure("stack_height_um", "um", "height of the stack", per_interface=False),
        *(_aggregate_measure(a) for a in AGGREGATES),
    )
}


@dataclass(frozen=True)
class Series:
    """A measurement at first inspections, in order of `inspected_at`.

    Attributes:
        measure: What is measured.
        serial: (n,) serials, text.
        at_us: (n,) int64, microseconds since 1970.
        value: (n,) float64, in the measure's unit, finite.
        left_out: How many boards have no value, and are left out.
        low, high: The limits of the specification, in the same unit; None where there is none.
    """

    measure: ProcessMeasure
    serial: NDArray[Any]
    at_us: NDArray[np.int64]
    value: NDArray[np.float64]
    left_out: int
    low: float | None
    high: float | None


def read_series(
    store: Store,
    measure: str,
    *,
    interface: str | None = None,
    refdes: str | None = None,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, GroupKey] | None = None,
    limits: Limits | None = None,
) -> Series:
    """Read one of `MEASURES` over time.

    Limits of the specification: warpage within the package's limit on either side (the narrowest, if packages differ), volume
    from two thirds to `limits.excess_volume` of nominal, voids up to `limits.void_fraction`.

    Parameters
    ----------
    store
        The store to read.
    measure
        A name in `MEASURES`.
    interface
        `lower` or `upper`; required for a measure that each interface has.
    refdes
        Only this package; None for all.
    since, until, only
        Which boards; see `make_selection`.
    limits
        The acceptance limits; None for the defaults.

    Raises
    ------
    UsageFault
        An unknown measure, a missing `interface`, or a selection that `make_selection` refuses.
    StoreFault
        The store cannot be read.
    """
    what = MEASURES.get(measure)
    if what is None:
        raise UsageFault("measure", expected=f"one of {', '.join(MEASURES)}", found=repr(measure))
    if what.per_interface and interface is None:
        raise UsageFault("interface", expected=f"lower or upper, for {measure}", found="none")
    selection = make_selection(since, until, only)
    table = interfaces if what.per_interface else packages
    columns = [table.c[n] for n in (("offset_x_um", "offset_y_um") if measure == "offset_um" else (measure,))]
    query = select(boards.c.serial, boards.c.inspected_us, table.c.site_id, *columns)
    query = query.join_from(table, boards, boards.c.id == table.c.board_id)
    if what.per_interface:
        query = query.where(interfaces.c.interface == interface)
    if refdes is not None:
        query = query.where(table.c.site_id.in_(select(sites.c.id).where(sites.c.refdes == refdes)))
    with store.reading() as connection:
        rows = connection.execute(selection.limit(query)).all()
        limit_of = {row.id: row.warpage_limit_um for row in connection.execute(select(sites.c.id, sites.c.warpage_limit_um))}
    serial, at_us, site, *values = zip(*rows, strict=True) if rows else ((), (), (), *((),) * len(columns))
    components = np.array(values, dtype=np.float64)
    value = components[0] if len(components) == 1 else np.hypot(*components)
    time = np.array(at_us, dtype=np.int64)
    order = np.argsort(time, kind="stable")
    order = order[np.isfinite(value[order])]
    warpage_limits = [v for v in (limit_of[s] for s in set(site)) if v is not None]
    low, high = _find_specification(what, limits or Limits(), min(warpage_limits, default=None))
    return Series(what, np.array(serial, dtype=object)[order], time[order], value[order], len(time) - len(order), low, high)


def _find_specification(
    measure: ProcessMeasure, limits: Limits, warpage_limit_um: float | None
) -> tuple[float | None, float | None]:
    if measure.name == "warpage_um" and warpage_limit_um is not None:
        return -warpage_limit_um, warpage_limit_um
    if measure.joint_column == "volume_ratio":
        return _LOWEST_VOLUME_RATIO, limits.excess_volume
    if measure.joint_column == "void_fraction":
        return None, limits.void_fraction
    return None, None

"""What a yield page or a lot's page shows: gathered once from the store, so that the pages themselves read nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from sqlalchemy import select

from inspect_pop.core.joint_table import CLASSES
from inspect_pop.diagnose import Cause, LotDefects, suspect_lot
from inspect_pop.store import Store
from inspect_pop.store.schema import boards as board_table
from inspect_pop.store.schema import contexts
from inspect_pop.yields import (
    Bar,
    Capability,
    Chart,
    PositionMap,
    Series,
    YieldGroup,
    capability,
    causes,
    control_chart,
    fill_days,
    groups,
    p_chart,
    pareto,
    position_map,
    series,
    u_chart,
)
from inspect_pop.yields.selection import Key, selection

__all__ = ["BREAKDOWNS", "FailedBoard", "MeasureView", "YieldView", "lot_causes", "yield_view"]

# What the yield is told apart by, beside days, each where it has more than one value.
BREAKDOWNS = ("line", "station", "product", "lot", "recipe", "interface", "construction")
# (measure, interface) of each chart of a measurement.
_MEASURES = (
    ("warpage_um", None),
    ("offset_um", None),
    ("stack_height_um", None),
    *((name, interface) for interface in ("lower", "upper") for name in ("volume_ratio", "diameter_um", "void_fraction_max")),
)
# The newest points of a longer series are charted: more cannot be told apart on a screen. Capability is that of all.
_MOST_POINTS = 240
_MOST_BARS = 15
_MOST_DAYS = 120
_MOST_FAILED = 300


class _Where(TypedDict):
    since: str | None
    until: str | None
    only: Mapping[str, Key]


@dataclass(frozen=True)
class FailedBoard:
    """One board that did not pass at its first inspection; `final` is its state after review: pass, fail or pending."""

    record: str
    serial: str
    inspected_at: str
    verdict: str
    final: str
    defects: int
    review: int
    cause: str | None
    disposition: str


@dataclass(frozen=True)
class MeasureView:
    """One measurement over time: all of it as `series` and `capability`, its newest points as `chart`."""

    interface: str | None
    series: Series
    chart: Chart
    capability: Capability


@dataclass(frozen=True)
class YieldView:
    """Everything on a yield page. `only` is the lot, line, … that it is about; empty for all that the store holds."""

    title: str
    only: Mapping[str, Key]
    since: str | None
    until: str | None
    total: YieldGroup
    days: Sequence[YieldGroup]
    breakdowns: Mapping[str, Sequence[YieldGroup]]
    failing: Chart
    defects: Chart
    by_label: Sequence[Bar]
    by_ball: Sequence[Bar]
    by_cause: Sequence[Bar]
    positions: PositionMap
    measures: Sequence[MeasureView]
    failed: Sequence[FailedBoard]
    causes: Mapping[str, Cause]


def yield_view(
    store: Store,
    title: str,
    *,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, Key] | None = None,
) -> YieldView:
    """Gather a page's figures. Raises `UsageFault` for a bound that is no time, `StoreFault` where the store cannot be read."""
    where = _Where(since=since, until=until, only=dict(only or {}))
    days = fill_days(groups(store, ["day"], **where))[-_MOST_DAYS:]
    positions = position_map(store, **where)
    by_cause = causes(store, **where)
    breakdowns = {key: groups(store, [key], **where) for key in BREAKDOWNS if key not in where["only"]}
    return YieldView(
        title=title,
        only=where["only"],
        since=since,
        until=until,
        total=groups(store, **where)[0],
        days=days,
        breakdowns={key: found for key, found in breakdowns.items() if len(found) > 1},
        failing=p_chart(days),
        defects=u_chart(days),
        by_label=pareto(store, **where),
        by_ball=pareto(store, ["refdes", "interface", "ball"], **where)[:_MOST_BARS],
        by_cause=by_cause,
        positions=positions,
        measures=_measures(store, where),
        failed=_failed(store, where),
        causes=lot_causes(positions, by_cause),
    )


def lot_causes(positions: PositionMap, by_cause: Sequence[Bar]) -> dict[str, Cause]:
    """The suspected cause of each package's failures, by refdes; boards' causes are not known by package and count for each."""
    votes = {str(bar.keys["cause"]): bar.count for bar in by_cause if bar.keys["cause"] is not None}
    found = {}
    for refdes in dict.fromkeys(positions.refdes.tolist()):
        own = positions.refdes == refdes
        boards = int(positions.boards[own].max(initial=0))
        lot = LotDefects(boards, positions.interface[own], positions.ball[own], positions.defects[own])
        found[str(refdes)] = suspect_lot(lot, votes)
    return found


def _measures(store: Store, where: _Where) -> list[MeasureView]:
    found = []
    for name, interface in _MEASURES:
        whole = series(store, name, interface=interface, **where)
        if len(whole.value) < 2:
            continue
        newest = slice(-_MOST_POINTS, None)
        part = replace(whole, serial=whole.serial[newest], at_us=whole.at_us[newest], value=whole.value[newest])
        found.append(MeasureView(interface, whole, control_chart(part).values, capability(whole)))
    return found


def _failed(store: Store, where: _Where) -> list[FailedBoard]:
    """The newest boards that did not pass, newest first."""
    chosen, b = selection(where["since"], where["until"], where["only"]), board_table.c
    columns = (b.record, b.serial, b.inspected_at, b.verdict, b.final, b.cause, b.disposition, b.n_review)
    defects = sum((b[f"n_{c}"] for c in CLASSES[2:]), b[f"n_{CLASSES[1]}"])
    query = select(*columns, defects.label("defects")).join_from(board_table, contexts, contexts.c.id == b.context_id)
    query = chosen.limit(query.where(chosen.contexts, b.verdict != "pass")).order_by(b.inspected_us.desc()).limit(_MOST_FAILED)
    with store.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [FailedBoard(review=row["n_review"], **{k: row[k] for k in row if k != "n_review"}) for row in rows]

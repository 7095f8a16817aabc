"""Yield pages of all that a store holds, or of one lot: trend, Pareto, control charts, position heat maps.

A page's figures are read from the store first, so that drawing needs no store. Charts are vector pictures made by matplotlib,
the same everywhere: no script, and letters drawn as outlines, so that the reader's machine needs no font. Each is an `<img>`,
which keeps its styles and names apart from the page's. matplotlib takes half a second to import: import this module only where
a yield page is made.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray
from sqlalchemy import select

from inspect_pop.core.classes import DEFECTS, GOOD, joint_class
from inspect_pop.core.text import pluralize
from inspect_pop.diagnose import Cause, LotDefects, diagnose_lot
from inspect_pop.report.page import format_number, render, to_words
from inspect_pop.store import Store
from inspect_pop.store.schema import boards as board_table
from inspect_pop.store.schema import contexts
from inspect_pop.yields import (
    REJECTED,
    RULES,
    Capability,
    Chart,
    ParetoBar,
    PositionMap,
    Series,
    YieldGroup,
    chart_series,
    compute_capability,
    compute_yield,
    fill_days,
    map_positions,
    p_chart,
    rank_causes,
    rank_defects,
    read_series,
    u_chart,
)
from inspect_pop.yields.selection import GroupKey, make_selection

__all__ = [
    "BREAKDOWNS",
    "FailedBoard",
    "HeatMap",
    "MeasureView",
    "ProductView",
    "YieldView",
    "diagnose_packages",
    "draw_control_chart",
    "draw_heat_maps",
    "draw_measure_chart",
    "draw_pareto",
    "draw_trend",
    "read_yield_view",
    "render_yield_page",
]

# What yield is broken down by, besides days; each where it has more than one value.
BREAKDOWNS = ("line", "station", "product", "lot", "recipe", "interface", "construction")
# (measure, interface, title) of each chart of a measurement.
_CHARTS: tuple[tuple[str, str | None, str], ...] = (
    ("warpage_um", None, "warpage"),
    ("offset_um", None, "package offset"),
    ("stack_height_um", None, "stack height"),
    *(
        (name, interface, f"{title}, {interface} interface")
        for interface in ("lower", "upper")
        for name, title in (
            ("volume_ratio", "mean volume over nominal"),
            ("diameter_um", "mean diameter at mid height"),
            ("void_fraction_max", "largest void area over ball area"),
        )
    ),
)
_UNITS = {"um": "µm", "deg": "°", "1": ""}
# A longer series is charted from its newest points: a screen cannot show more. Its capability is that of all points.
_MOST_POINTS = 240
_MOST_BARS = 15
_MOST_DAYS = 120
_MOST_FAILED = 300
_MOST_PRODUCTS = 6  # products and recipes with maps and charts of their own: a page with those of all would be too large
# More names than this along an axis cannot be read.
_MOST_NAMES = 12
_FONT = "DejaVu Sans"
_STYLE = {
    "svg.fonttype": "path",
    "svg.hashsalt": "inspect_pop",
    "font.family": _FONT,
    "font.size": 9,
    "text.parse_math": False,  # a serial may hold a dollar sign
    "axes.edgecolor": "#8a97a2",
    "axes.labelcolor": "#16202a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#55636f",
    "ytick.color": "#55636f",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e3e8ec",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_INK, _POINT, _LIMIT, _SIGNAL = "#16202a", "#0067a8", "#55636f", "#a3241c"
_BAND = "#cfe0ee"


class _Where(TypedDict):
    since: str | None
    until: str | None
    only: Mapping[str, GroupKey]


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
    """One measurement over time: all of it as `read_series` and `compute_capability`, its newest points as `chart`."""

    title: str
    series: Series
    chart: Chart
    capability: Capability


@dataclass(frozen=True)
class ProductView:
    """What a page shows of the boards of one product and recipe: their places and limits are their own.

    Attributes:
        name: Product and recipe, for people.
        boards: The number of its boards.
        positions: Every ball of its packages.
        measures: Its measurements over time, each package's apart.
        causes: The probable cause of each package's failures, by refdes.
    """

    name: str
    boards: int
    positions: PositionMap
    measures: Sequence[MeasureView]
    causes: Mapping[str, Cause]


@dataclass(frozen=True)
class YieldView:
    """Everything that a yield page shows. `only` is the lot, line, … that it is about; empty for all that the store holds."""

    title: str
    only: Mapping[str, GroupKey]
    since: str | None
    until: str | None
    total: YieldGroup
    days: Sequence[YieldGroup]
    breakdowns: Mapping[str, Sequence[YieldGroup]]
    failing: Chart
    defects: Chart
    by_label: Sequence[ParetoBar]
    by_ball: Sequence[ParetoBar]
    by_cause: Sequence[ParetoBar]
    products: Sequence[ProductView]
    products_left_out: int
    failed: Sequence[FailedBoard]


def read_yield_view(
    store: Store,
    title: str,
    *,
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, GroupKey] | None = None,
) -> YieldView:
    """Read a page's figures from the store.

    Args:
        store: The store.
        title: The page's title.
        since, until: ISO 8601 bounds of the time of inspection; None for no bound.
        only: The lot, line, … that the page is about, by key; empty for all.

    Raises:
        UsageFault: A bound is no time.
        StoreFault: The store cannot be read.
    """
    where = _Where(since=since, until=until, only=dict(only or {}))
    days = fill_days(compute_yield(store, ["day"], **where))[-_MOST_DAYS:]
    groups = _group_products(store, where)
    by_cause = rank_causes(store, **where)
    breakdowns = {key: compute_yield(store, [key], **where) for key in BREAKDOWNS if key not in where["only"]}
    ball_keys = ["refdes", "interface", "ball"] if len(groups) == 1 else ["product", "recipe", "refdes", "interface", "ball"]
    return YieldView(
        title=title,
        only=where["only"],
        since=since,
        until=until,
        total=compute_yield(store, **where)[0],
        days=days,
        breakdowns={key: found for key, found in breakdowns.items() if len(found) > 1},
        failing=p_chart(days),
        defects=u_chart(days),
        by_label=rank_defects(store, **where),
        by_ball=rank_defects(store, ball_keys, **where)[:_MOST_BARS],
        by_cause=by_cause,
        products=[_read_product(store, where, group) for group in groups[:_MOST_PRODUCTS]],
        products_left_out=len(groups[_MOST_PRODUCTS:]),
        failed=_read_failed_boards(store, where),
    )


def _group_products(store: Store, where: _Where) -> list[YieldGroup]:
    """Return the boards by product and recipe, those of the most boards first."""
    return sorted(compute_yield(store, ["product", "recipe"], **where), key=lambda group: -group.boards)


def _read_product(store: Store, where: _Where, group: YieldGroup) -> ProductView:
    """Read the figures of one product and recipe."""
    within = _Where(since=where["since"], until=where["until"], only={**where["only"], **group.keys})
    positions = map_positions(store, **within)
    packages = list(dict.fromkeys(positions.refdes.tolist()))
    measures = []
    for refdes in packages:
        for name, interface, chart_title in _CHARTS:
            whole = read_series(store, name, interface=interface, refdes=str(refdes), **within)
            if len(whole.value) >= 2:
                newest = slice(-_MOST_POINTS, None)
                part = replace(whole, serial=whole.serial[newest], at_us=whole.at_us[newest], value=whole.value[newest])
                title = chart_title if len(packages) == 1 else f"{refdes}: {chart_title}"
                measures.append(MeasureView(title, whole, chart_series(part).values, compute_capability(whole)))
    name = f"{group.keys['product']}, recipe {group.keys['recipe']}"
    causes = diagnose_packages(positions, rank_causes(store, **within))
    return ProductView(name, group.boards, positions, measures, causes)


def _read_failed_boards(store: Store, where: _Where) -> list[FailedBoard]:
    """Return the newest boards that did not pass, newest first."""
    chosen, b = make_selection(where["since"], where["until"], where["only"]), board_table.c
    columns = (b.record, b.serial, b.inspected_at, b.verdict, b.final, b.cause, b.disposition, b.n_review.label("review"))
    first, *others = (b[f"n_{c}"] for c in DEFECTS)
    defects = sum(others, first)
    query = select(*columns, defects.label("defects")).join_from(board_table, contexts, contexts.c.id == b.context_id)
    query = chosen.limit(query.where(chosen.contexts, b.verdict != "pass")).order_by(b.inspected_us.desc()).limit(_MOST_FAILED)
    with store.reading() as connection:
        return [FailedBoard(**row) for row in connection.execute(query).mappings()]


def diagnose_packages(positions: PositionMap, by_cause: Sequence[ParetoBar]) -> dict[str, Cause]:
    """Return the probable cause of each package's failures, by refdes.

    The causes of single boards are not known by package: they count for each of a board's packages.
    """
    votes = {str(bar.keys["cause"]): bar.count for bar in by_cause if bar.keys["cause"] is not None}
    found = {}
    for refdes in dict.fromkeys(positions.refdes.tolist()):
        rows = positions.refdes == refdes
        boards = int(positions.boards[rows].max(initial=0))
        lot = LotDefects(boards, positions.interface[rows], positions.ball[rows], positions.defects[rows])
        found[str(refdes)] = diagnose_lot(lot, votes)
    return found


def _draw(draw: Callable[[Axes], None], size: tuple[float, float] = (5.6, 2.6)) -> str:
    """Return a `data:` URL of the SVG that `draw` makes; `size` in inches."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def draw_trend(groups: Sequence[YieldGroup], names: Sequence[str]) -> str:
    """Draw the first-pass yield of each group as a point with its 95 % interval, and the number of boards as bars behind."""

    def draw(axes: Axes) -> None:
        at = np.arange(len(groups))
        value = np.array([np.nan if g.fpy is None else g.fpy for g in groups])
        low, high = np.array([g.fpy_interval if g.boards else (np.nan, np.nan) for g in groups]).reshape(-1, 2).T
        boards = axes.twinx()
        boards.bar(at, [g.boards for g in groups], color="#e9eef2", width=0.8, zorder=0)
        boards.set(ylabel="boards")
        boards.grid(visible=False)
        boards.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        boards.spines["right"].set_visible(True)
        axes.set_zorder(boards.get_zorder() + 1)
        axes.errorbar(at, value, yerr=[value - low, high - value], color=_POINT, ecolor=_POINT, fmt="o", ms=4, lw=1.2, capsize=2)
        axes.set(ylabel="first-pass yield", ylim=(max(0.0, float(np.nanmin([*low, 1.0])) - 0.02), 1.01))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        _label_points(axes, names)

    return _draw(draw, (10.4, 2.6))


def draw_pareto(
    bars: Sequence[ParetoBar], keys: Sequence[str], colours: Sequence[str] | None = None, unit: str = "defective joints"
) -> str:
    """Draw bars, largest first, and as a line the share of each together with all larger ones.

    Args:
        bars: The bars.
        keys: The keys of a bar that make its name.
        colours: A colour per bar; None for one colour.
        unit: What is counted.
    """
    names = [" ".join("not diagnosed" if b.keys[k] is None else to_words(str(b.keys[k])) for k in keys) for b in bars]

    def draw(axes: Axes) -> None:
        at = np.arange(len(bars))
        axes.bar(at, [b.count for b in bars], color=list(colours) if colours else _POINT, width=0.7)
        axes.set(ylabel=unit, xticks=at)
        few = len(bars) <= 6
        axes.set_xticklabels([_fit_name(n) for n in names], rotation=0 if few else 40, ha="center" if few else "right")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        share = axes.twinx()
        share.plot(at, [b.cumulative for b in bars], color=_INK, marker="o", ms=3, lw=1.2)
        share.set(ylabel="cumulative", ylim=(0, 1.04))
        share.yaxis.set_major_formatter(PercentFormatter(1.0))
        share.grid(visible=False)
        share.spines["right"].set_visible(True)

    return _draw(draw)


def draw_control_chart(chart: Chart, unit: str, percent: bool = False) -> str:
    """Draw points, centre and limits; a point that ends a pattern is marked and bears the number of its test."""

    def draw(axes: Axes) -> None:
        _plot_control(axes, chart)
        axes.set(ylabel=unit)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        _label_points(axes, chart.labels)

    return _draw(draw)


def draw_measure_chart(chart: Chart, series: Series, unit: str) -> str:
    """Draw a control chart of one measurement with the specification's limits."""

    def draw(axes: Axes) -> None:
        _plot_control(axes, chart)
        for limit in (series.low, series.high):
            if limit is not None:
                axes.axhline(limit, color=_SIGNAL, lw=1.2, ls=(0, (6, 3)))
                axes.annotate(
                    f"limit {limit:.3g}",
                    (1, limit),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    va="bottom",
                    fontsize=8,
                    color=_SIGNAL,
                )
        axes.set(ylabel=unit)
        _label_points(axes, chart.labels)

    return _draw(draw)


def _plot_control(axes: Axes, chart: Chart) -> None:
    at: NDArray[Any] = np.arange(len(chart.value))
    axes.fill_between(at, chart.lower, chart.upper, step="mid", color=_BAND, alpha=0.5, lw=0)
    for limit in (chart.lower, chart.upper):
        axes.plot(at, limit, color=_LIMIT, lw=0.9, ls="--", drawstyle="steps-mid")
    if np.isfinite(chart.centre):
        axes.axhline(chart.centre, color=_LIMIT, lw=0.9)
    axes.plot(at, chart.value, color=_POINT, lw=0.8, marker="o", ms=3)
    rules: dict[int, list[int]] = {}
    for signal in chart.signals:
        rules.setdefault(signal.index, []).append(signal.rule)
    for index, numbers in rules.items():
        axes.plot(index, chart.value[index], marker="D", ms=6, mfc="none", mec=_SIGNAL, mew=1.4)
        text = ",".join(str(n) for n in sorted(set(numbers)))
        axes.annotate(
            text, (index, chart.value[index]), (0, 6), textcoords="offset points", ha="center", fontsize=8, color=_SIGNAL
        )


def _label_points(axes: Axes, names: Sequence[str]) -> None:
    """Write names along x, as many as can be read."""
    step = max(1, -(-len(names) // _MOST_NAMES))
    shown = range(0, len(names), step)
    axes.set_xticks(list(shown))
    long = any(len(names[k]) > 5 for k in shown)
    axes.set_xticklabels([_fit_name(names[k]) for k in shown], rotation=35 if long else 0, ha="right" if long else "center")
    axes.margins(x=0.02)


def _fit_name(name: str) -> str:
    """Return a name as the chart's font can draw it: letters that the font lacks become boxes, a long name is shortened."""
    font = get_font(findfont(_FONT))
    text = "".join(c if font.get_char_index(ord(c)) else "\N{WHITE SQUARE}" for c in name)
    return text if len(text) <= 22 else text[:21] + "…"


@dataclass(frozen=True)
class HeatMap:
    """How often each position of an interface failed; map units are 10 um, y points down.

    `marks` is SVG, `most` the largest count of all maps, `worst` names the positions that failed most.
    """

    refdes: str
    interface: str
    half: int
    radius: float
    marks: Markup
    boards: int
    most: int
    worst: tuple[str, ...]


def draw_heat_maps(positions: PositionMap) -> list[HeatMap]:
    """Draw a map per interface whose positions are known, shaded by how many boards failed there."""
    maps = []
    failures = positions.defects.sum(axis=1) + positions.rejected
    most = int(failures.max(initial=0))  # one scale for all maps: a good interface must look good
    for refdes, interface in dict.fromkeys(zip(positions.refdes.tolist(), positions.interface.tolist(), strict=True)):
        chosen = (positions.refdes == refdes) & (positions.interface == interface) & np.isfinite(positions.x_um)
        if not chosen.any():
            continue
        x_um, y_um, defects = positions.x_um[chosen], positions.y_um[chosen], positions.defects[chosen]
        balls, boards = positions.ball[chosen], positions.boards[chosen]
        # The pitch is the smallest step between columns or rows; places are measured, so steps under 50 um are one place.
        steps = np.concatenate([np.diff(np.unique(np.rint(v / 50) * 50)) for v in (x_um, y_um)])
        pitch = float(steps[steps > 50].min(initial=np.inf)) / 10
        pitch = pitch if np.isfinite(pitch) else 50.0
        x, y, total = np.rint(x_um / 10).astype(int), np.rint(-y_um / 10).astype(int), failures[chosen]
        rejected = positions.rejected[chosen].tolist()
        marks = []
        for k, shade in enumerate(np.ceil(total / max(most, 1) * 8).astype(int).tolist()):
            counts = [f"{n} {joint_class(c).words}" for n, c in zip(defects[k].tolist(), DEFECTS, strict=True) if n]
            counts += [f"{rejected[k]} {REJECTED}"] if rejected[k] else []
            tip = f"{balls[k]}: {', '.join(counts) if counts else 'never'} of {boards[k]} boards"
            circle = Markup('<circle class="heat h{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
            marks.append(circle.format(shade, x[k], y[k], round(pitch * 0.38, 1), tip))
        worst = tuple(f"{balls[k]}: {total[k]}" for k in np.argsort(-total, kind="stable")[:5] if total[k])
        half = int(max(np.abs(x).max(), np.abs(y).max()) + pitch)
        maps.append(HeatMap(str(refdes), str(interface), half, pitch, Markup("").join(marks), int(boards.max()), most, worst))
    half = max((m.half for m in maps), default=0)
    return [replace(m, half=half) for m in maps]


@dataclass(frozen=True)
class _Panel:
    """One measurement's chart with its figures in words."""

    title: str
    picture: str
    words: str
    signals: tuple[str, ...]


def render_yield_page(view: YieldView, pages: Mapping[str, str] | None = None) -> str:
    """Render one self-contained HTML page.

    Args:
        view: The page's figures.
        pages: The address of a board's own page by record; a board may have none.
    """
    has_boards = bool(view.total.boards)
    labels = (str(b.keys["label"]) for b in view.by_label)
    colours = [joint_class(GOOD if label == REJECTED else label).colour for label in labels]
    return render(
        "yields.html",
        view=view,
        pages=pages or {},
        trend_chart=draw_trend(view.days, [str(g.keys["day"]) for g in view.days]) if has_boards else "",
        failing_chart=draw_control_chart(view.failing, "share of boards", percent=True) if has_boards else "",
        failing_signals=_describe_signals(view.failing),
        defect_chart=draw_control_chart(view.defects, "defects per board") if has_boards else "",
        defect_signals=_describe_signals(view.defects),
        pareto_label=draw_pareto(view.by_label, ["label"], colours) if view.by_label else "",
        pareto_ball=draw_pareto(view.by_ball, list(view.by_ball[0].keys)) if view.by_ball else "",
        pareto_cause=draw_pareto(view.by_cause, ["cause"], unit="boards with a defect") if view.by_cause else "",
        products=[(p, draw_heat_maps(p.positions), [_make_panel(m) for m in p.measures]) for p in view.products],
    )


def _describe_signals(chart: Chart) -> tuple[str, ...]:
    """Return what the run rules found, in words."""
    return tuple(
        f"{chart.labels[s.index] if chart.labels else s.index + 1}: {RULES[s.rule]} (test {s.rule})" for s in chart.signals
    )


def _make_panel(measure: MeasureView) -> _Panel:
    c = measure.capability
    unit = _UNITS.get(measure.series.measure.unit, measure.series.measure.unit)
    decimals = 0 if unit == "µm" else 2
    mean, spread = format_number(c.mean, decimals, unit), format_number(c.sigma_overall, decimals + 1, unit)
    words = [f"mean {mean}, spread {spread} over {pluralize(c.n, 'board')}"]
    if c.cpk is not None and c.cpk_low is not None and c.cpk_high is not None:
        words.append(f"Cpk {format_number(c.cpk, 2)} ({format_number(c.cpk_low, 2)} to {format_number(c.cpk_high, 2)})")
    if measure.series.low is not None or measure.series.high is not None:
        words.append(f"{c.outside} outside the limits")
    if measure.series.left_out:
        words.append(f"{pluralize(measure.series.left_out, 'board')} without the figure")
    if len(measure.chart.value) < c.n:
        words.append(f"chart of the newest {len(measure.chart.value)}")
    picture = draw_measure_chart(measure.chart, measure.series, unit)
    return _Panel(measure.title, picture, "; ".join(words), _describe_signals(measure.chart))

"""Charts with axes, by matplotlib, as pictures that a page carries: vector, no script, the same everywhere.

matplotlib takes half a second to import, so nothing imports this module but a page that draws a chart. Letters are drawn
as outlines: no font needs to be on the reader's machine. A picture is an `<img>`: its styles and names stay its own.

Yield pages: trend, Pareto, control charts, position heat map; of all that a store holds, or of one lot.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from inspect_pop.core.joint_table import CLASSES
from inspect_pop.report.page import number, render
from inspect_pop.report.style import CLASS_LOOKS
from inspect_pop.report.yield_data import MeasureView, YieldView
from inspect_pop.yields import RULES, Bar, Chart, PositionMap, Series, YieldGroup

__all__ = ["HeatMap", "chart_picture", "heat_maps", "measure_picture", "pareto_picture", "trend_picture", "yields_page"]

# ---- report/charts
_STYLE = {
    "svg.fonttype": "path",
    "svg.hashsalt": "inspect_pop",
    "font.family": "DejaVu Sans",
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
_INK, _SOFT, _POINT, _LIMIT, _SIGNAL = "#16202a", "#8a97a2", "#0067a8", "#55636f", "#a3241c"
_BAND = "#cfe0ee"
# More names than this along an axis cannot be read.
_MOST_NAMES = 12


def _picture(draw: Callable[[Axes], None], size: tuple[float, float] = (5.6, 2.6)) -> str:
    """A `data:` address of the SVG that `draw` makes; `size` in inches."""
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def trend_picture(groups: Sequence[YieldGroup], names: Sequence[str]) -> str:
    """First-pass yield of each group as a point with its 95 % interval, and the number of boards as bars behind."""

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
        _name(axes, names)

    return _picture(draw, (10.4, 2.6))


def pareto_picture(
    bars: Sequence[Bar], names: Sequence[str], colours: Sequence[str] | None = None, what: str = "defective joints"
) -> str:
    """Bars, most first, and the share of each and all larger ones as a line."""

    def draw(axes: Axes) -> None:
        at = np.arange(len(bars))
        axes.bar(at, [b.count for b in bars], color=list(colours) if colours else _POINT, width=0.7)
        axes.set(ylabel=what, xticks=at)
        axes.set_xticklabels(
            [_drawable(n) for n in names],
            rotation=0 if len(bars) <= 6 else 40,
            ha="center" if len(bars) <= 6 else "right",
        )
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        share = axes.twinx()
        share.plot(at, [b.cumulative for b in bars], color=_INK, marker="o", ms=3, lw=1.2)
        share.set(ylabel="cumulative", ylim=(0, 1.04))
        share.yaxis.set_major_formatter(PercentFormatter(1.0))
        share.grid(visible=False)
        share.spines["right"].set_visible(True)

    return _picture(draw)


def chart_picture(chart: Chart, unit: str, percent: bool = False) -> str:
    """A control chart: points, centre, limits; points that end a pattern are marked and numbered by its test."""

    def draw(axes: Axes) -> None:
        at = np.arange(len(chart.value))
        _control(axes, at, chart)
        axes.set(ylabel=unit)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        _name(axes, chart.labels)

    return _picture(draw)


def measure_picture(chart: Chart, series: Series, unit: str) -> str:
    """A control chart of one measurement with the specification's limits."""

    def draw(axes: Axes) -> None:
        _control(axes, np.arange(len(chart.value)), chart)
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
        _name(axes, chart.labels)

    return _picture(draw)


def _control(axes: Axes, at: NDArray[Any], chart: Chart) -> None:
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


def _name(axes: Axes, names: Sequence[str]) -> None:
    """Names along x, as many as can be read."""
    step = max(1, -(-len(names) // _MOST_NAMES))
    shown = range(0, len(names), step)
    axes.set_xticks(list(shown))
    long = any(len(names[k]) > 5 for k in shown)
    axes.set_xticklabels([_drawable(names[k]) for k in shown], rotation=35 if long else 0, ha="right" if long else "center")
    axes.margins(x=0.02)


def _drawable(name: str) -> str:
    """A name as the chart's font can draw it: letters that it has not become boxes, and a long name is cut."""
    text = "".join(c if ord(c) in _letters() else "\N{WHITE SQUARE}" for c in name)
    return text if len(text) <= 22 else text[:21] + "…"


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


# ---- report/yields_page
_UNITS = {"um": "µm", "deg": "°", "1": ""}
_TITLES = {
    "warpage_um": "warpage",
    "offset_um": "package offset",
    "stack_height_um": "stack height",
    "volume_ratio": "mean volume over nominal",
    "diameter_um": "mean diameter at mid height",
    "void_fraction_max": "largest void area over ball area",
}
_COLOURS = {look.name: look.colour for look in CLASS_LOOKS}


@dataclass(frozen=True)
class HeatMap:
    """How often each position of an interface failed; map units are 10 um, y downwards. `marks` is SVG."""

    refdes: str
    interface: str
    half: int
    radius: float
    marks: Markup
    boards: int
    most: int
    worst: tuple[str, ...]


@dataclass(frozen=True)
class _Panel:
    """One measurement's chart with its figures in words."""

    title: str
    picture: str
    words: str
    signals: tuple[str, ...]


def yields_page(view: YieldView, pages: Mapping[str, str] | None = None) -> str:
    """One self-contained HTML page; `pages` gives the address of a board's own page by record, where there is one."""
    shown = bool(view.total.boards)
    return render(
        "yields.html",
        view=view,
        pages=pages or {},
        labels=[c for c in CLASSES if c != "good"],
        trend=trend_picture(view.days, [str(g.keys["day"]) for g in view.days]) if shown else "",
        failing=chart_picture(view.failing, "share of boards", percent=True) if shown else "",
        failing_signals=_signals(view.failing),
        defects=chart_picture(view.defects, "defects a board") if shown else "",
        defects_signals=_signals(view.defects),
        pareto_label=_label_pareto(view.by_label) if view.by_label else "",
        pareto_ball=_pareto(view.by_ball, ("refdes", "interface", "ball")) if view.by_ball else "",
        pareto_cause=_pareto(view.by_cause, ("cause",), "boards with a defect") if view.by_cause else "",
        maps=heat_maps(view.positions) if shown else [],
        panels=[_panel(m) for m in view.measures],
        keys={key: [_name_yields_page(g, key) for g in found] for key, found in view.breakdowns.items()},
    )


def heat_maps(positions: PositionMap) -> list[HeatMap]:
    """A map for each interface whose positions are known, shaded by how many boards failed there."""
    maps = []
    pairs = dict.fromkeys(zip(positions.refdes.tolist(), positions.interface.tolist(), strict=True))
    for refdes, interface in pairs:
        own = (positions.refdes == refdes) & (positions.interface == interface) & np.isfinite(positions.x_um)
        if own.any():
            maps.append(_heat_map(positions, own, str(refdes), str(interface)))
    half = max((m.half for m in maps), default=0)
    return [replace(m, half=half) for m in maps]


def _heat_map(positions: PositionMap, own: NDArray[np.bool_], refdes: str, interface: str) -> HeatMap:
    x, y = np.rint(positions.x_um[own] / 10).astype(int), np.rint(-positions.y_um[own] / 10).astype(int)
    total = positions.defects[own].sum(axis=1)
    most = int(positions.defects.sum(axis=1).max())  # one scale for all maps: an interface that is fine must look so
    pitch = _pitch(positions.x_um[own], positions.y_um[own]) / 10
    shade = np.ceil(total / max(most, 1) * 8).astype(int)
    text = [_tip(positions, k) for k in np.flatnonzero(own).tolist()]
    marks = Markup("").join(
        Markup('<circle class="heat h{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
            s, cx, cy, round(pitch * 0.38, 1), t
        )
        for s, cx, cy, t in zip(shade.tolist(), x.tolist(), y.tolist(), text, strict=True)
    )
    worst = np.argsort(-total, kind="stable")[:5]
    balls = positions.ball[own]
    half = int(max(np.abs(x).max(), np.abs(y).max()) + pitch)
    boards = int(positions.boards[own].max())
    return HeatMap(
        refdes, interface, half, pitch, marks, boards, most, tuple(f"{balls[k]}: {total[k]}" for k in worst if total[k])
    )


def _tip(positions: PositionMap, k: int) -> str:
    counts = [f"{n} {c.replace('_', '-')}" for n, c in zip(positions.defects[k].tolist(), CLASSES[1:], strict=True) if n]
    return f"{positions.ball[k]}: {', '.join(counts) if counts else 'never'} of {positions.boards[k]} boards"


def _pitch(x_um: NDArray[np.float64], y_um: NDArray[np.float64]) -> float:
    """The smallest step between columns or rows; places were measured, so steps under 50 um are one place."""
    steps = np.concatenate([np.diff(np.unique(np.rint(v / 50) * 50)) for v in (x_um, y_um)])
    steps = steps[steps > 50]
    return float(steps.min()) if len(steps) else 500.0


def _label_pareto(bars: Sequence[Bar]) -> str:
    names = [str(b.keys["label"]) for b in bars]
    return pareto_picture(bars, [n.replace("_", "-") for n in names], [_COLOURS[n] for n in names])


def _pareto(bars: Sequence[Bar], keys: Sequence[str], what: str = "defective joints") -> str:
    names = [" ".join("not asked" if b.keys[k] is None else str(b.keys[k]) for k in keys).replace("_", " ") for b in bars]
    return pareto_picture(bars, names, what=what)


def _signals(chart: Chart) -> tuple[str, ...]:
    """What the run rules found, in words."""
    return tuple(
        f"{chart.labels[s.index] if chart.labels else s.index + 1}: {RULES[s.rule]} (test {s.rule})" for s in chart.signals
    )


def _panel(measure: MeasureView) -> _Panel:
    of, c = measure.series.measure, measure.capability
    unit = _UNITS.get(of.unit, of.unit)
    title = _TITLES.get(of.name, of.meaning) + (f", {measure.interface} interface" if measure.interface else "")
    decimals = 0 if unit == "µm" else 2
    words = [f"mean {number(c.mean, decimals, unit)}, spread {number(c.sigma_overall, decimals + 1, unit)} over {c.n} boards"]
    if c.cpk is not None and c.cpk_low is not None and c.cpk_high is not None:
        words.append(f"Cpk {number(c.cpk, 2)} ({number(c.cpk_low, 2)} to {number(c.cpk_high, 2)})")
    if measure.series.low is not None or measure.series.high is not None:
        words.append(f"{c.outside} outside the limits")
    if measure.series.left_out:
        words.append(f"{measure.series.left_out} boards without the figure")
    if len(measure.chart.value) < c.n:
        words.append(f"the newest {len(measure.chart.value)} are drawn")
    return _Panel(title, measure_picture(measure.chart, measure.series, unit), "; ".join(words), _signals(measure.chart))


def _name_yields_page(group: YieldGroup, key: str) -> str:
    value = group.keys[key]
    return "none" if value is None else str(value).replace("_", " ")

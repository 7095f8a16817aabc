"""Charts with axes, by matplotlib, as pictures that a page carries: vector, no script, the same everywhere.

matplotlib takes half a second to import, so nothing imports this module but a page that draws a chart. Letters are drawn
as outlines: no font needs to be on the reader's machine. A picture is an `<img>`: its styles and names stay its own.
"""

import base64
import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from inspect_pop.yields import Bar, Chart, Series, YieldGroup

__all__ = ["chart_picture", "measure_picture", "pareto_picture", "trend_picture"]

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

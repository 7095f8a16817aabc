"""Yield pages: trend, Pareto, control charts, position heat map; of all that a store holds, or of one lot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from inspect_pop.joints import CLASSES
from inspect_pop.report.charts import chart_picture, measure_picture, pareto_picture, trend_picture
from inspect_pop.report.look import CLASS_LOOKS
from inspect_pop.report.page import number, render
from inspect_pop.report.yield_view import MeasureView, YieldView
from inspect_pop.yields import RULES, Bar, Chart, PositionMap, YieldGroup

__all__ = ["HeatMap", "heat_maps", "yields_page"]

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
        keys={key: [_name(g, key) for g in found] for key, found in view.breakdowns.items()},
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


def _name(group: YieldGroup, key: str) -> str:
    value = group.keys[key]
    return "none" if value is None else str(value).replace("_", " ")

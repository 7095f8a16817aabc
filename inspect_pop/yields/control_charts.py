"""Control charts, run rules and process capability: arithmetic on counts and series.

Limits are Shewhart's three sigma. Formulas as in Montgomery, 'Introduction to Statistical Quality Control', chapters 6 to 8;
constants as in ASTM's 'Manual on Presentation of Data and Control Chart Analysis' (STP 15D), table of control chart factors.

Run rules are patterns that seldom arise by chance in a series of standardised points: the eight tests of Nelson, 'The Shewhart
Control Chart: Tests for Special Causes', Journal of Quality Technology 16 (1984), 237-239. Tests 1, 5 and 6 are those of the
Western Electric handbook (1956), whose run on one side is eight long.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import UsageFault
from inspect_pop.yields.groups import YieldGroup
from inspect_pop.yields.selection import Series

__all__ = [
    "ROUTINE",
    "RULES",
    "WESTERN_ELECTRIC",
    "Capability",
    "Chart",
    "ControlChart",
    "Signal",
    "apply_run_rules",
    "chart_series",
    "compute_capability",
    "individuals_chart",
    "p_chart",
    "u_chart",
    "xbar_r_chart",
]

Floats = NDArray[np.float64]

RULES = {
    1: "one point beyond 3 sigma",
    2: "nine points in a row on one side of the centre",
    3: "six points in a row, all rising or all falling",
    4: "fourteen points in a row, alternating up and down",
    5: "two of three points in a row beyond 2 sigma on one side",
    6: "four of five points in a row beyond 1 sigma on one side",
    7: "fifteen points in a row within 1 sigma",
    8: "eight points in a row beyond 1 sigma on either side",
    9: "eight points in a row on one side of the centre (Western Electric)",
}
ROUTINE = (1, 2, 3, 4)  # Nelson: the first four are for routine use, the others where an early warning pays
WESTERN_ELECTRIC = (1, 5, 6, 9)

FACTORS = {  # subgroup size: d2, D3, D4
    2: (1.128, 0.0, 3.267),
    3: (1.693, 0.0, 2.574),
    4: (2.059, 0.0, 2.282),
    5: (2.326, 0.0, 2.114),
    6: (2.534, 0.0, 2.004),
    7: (2.704, 0.076, 1.924),
    8: (2.847, 0.136, 1.864),
    9: (2.970, 0.184, 1.816),
    10: (3.078, 0.223, 1.777),
}


@dataclass(frozen=True)
class Signal:
    """A rule that holds, at the index of the point that completes its pattern."""

    rule: int
    index: int

    @property
    def text(self) -> str:
        """The pattern, in words."""
        return RULES[self.rule]


@dataclass(frozen=True)
class Chart:
    """The points of a chart with centre and limits.

    Attributes:
        title: What the points are.
        labels: (n,) names of the points.
        value: (n,) float64; NaN for an empty subgroup.
        centre: The centre line.
        lower, upper: (n,) float64, the limits at each point; NaN for an empty subgroup.
        signals: Rules that hold.
    """

    title: str
    labels: tuple[str, ...]
    value: Floats
    centre: float
    lower: Floats
    upper: Floats
    signals: tuple[Signal, ...]


@dataclass(frozen=True)
class ControlChart:
    """A chart of values, and the chart of their spread that its limits come from.

    `sigma` is the standard deviation within subgroups.
    """

    values: Chart
    spread: Chart
    sigma: float


@dataclass(frozen=True)
class Capability:
    """How a series lies between its specification limits. None where a limit or any spread is lacking.

    Attributes:
        n: Number of values.
        mean: Their mean.
        sigma_within, sigma_overall: Standard deviation within subgroups, and of all values.
        cp, cpk: Indices by `sigma_within`.
        cpk_low, cpk_high: Bissell's 95 % interval of `cpk` (Applied Statistics 39, 1990, 331-340).
        pp, ppk: Indices by `sigma_overall`.
        outside: Number of values outside the limits.
    """

    n: int
    mean: float
    sigma_within: float
    sigma_overall: float
    cp: float | None
    cpk: float | None
    cpk_low: float | None
    cpk_high: float | None
    pp: float | None
    ppk: float | None
    outside: int


def p_chart(groups: Sequence[YieldGroup], rules: Sequence[int] = ROUTINE) -> Chart:
    """Chart the share of boards that did not pass at their first inspection.

    Each group has limits for its number of boards.
    """
    n = np.array([g.boards for g in groups], dtype=np.float64)
    failed = n - np.array([g.passed for g in groups], dtype=np.float64)
    mean = failed.sum() / n.sum() if n.sum() else np.nan
    sigma = np.sqrt(mean * (1 - mean) / np.where(n > 0, n, np.nan))
    return _chart_counts("boards failing at first inspection", groups, failed, mean, sigma, 1.0, rules)


def u_chart(groups: Sequence[YieldGroup], rules: Sequence[int] = ROUTINE) -> Chart:
    """Chart defects per board. Each group has limits for its number of boards.

    The limits assume a Poisson distribution. Where defects come in clusters (a bridge is at least two joints), more points lie
    outside than chance allows.
    """
    n = np.array([g.boards for g in groups], dtype=np.float64)
    found = np.array([g.defects for g in groups], dtype=np.float64)
    mean = found.sum() / n.sum() if n.sum() else np.nan
    return _chart_counts("defects per board", groups, found, mean, np.sqrt(mean / np.where(n > 0, n, np.nan)), np.inf, rules)


def _chart_counts(
    title: str,
    groups: Sequence[YieldGroup],
    count: Floats,
    mean: float,
    sigma: Floats,
    most: float,
    rules: Sequence[int],
) -> Chart:
    """Chart `count` per board; values lie between 0 and `most`."""
    n = np.array([g.boards for g in groups], dtype=np.float64)
    value = count / np.where(n > 0, n, np.nan)
    labels = tuple(" ".join("none" if v is None else str(v) for v in g.keys.values()) for g in groups)
    z = (value - mean) / np.where(sigma > 0, sigma, np.nan)
    signals = tuple(apply_run_rules(z, rules))
    return Chart(title, labels, value, float(mean), np.maximum(mean - 3 * sigma, 0), np.minimum(mean + 3 * sigma, most), signals)


def individuals_chart(value: Floats, labels: Sequence[str] = (), rules: Sequence[int] = ROUTINE) -> ControlChart:
    """Chart individual values, (n,), and their moving ranges of two.

    Limits: mean +- 3 MR / 1.128, ranges up to 3.267 MR.
    """
    ranges = np.abs(np.diff(value))
    return _chart_values(value, ranges, 2, 1, tuple(labels), ("values", "moving ranges of two"), rules)


def xbar_r_chart(value: Floats, size: int = 5, labels: Sequence[str] = (), rules: Sequence[int] = ROUTINE) -> ControlChart:
    """Chart means and ranges of subgroups of `size` (2 to 10) consecutive values; an unfinished last one is left out.

    Limits: mean +- 3 R / (d2 sqrt(size)), ranges from D3 R to D4 R. A label is that of its subgroup's last value. Raises
    `UsageFault` for another size.
    """
    if size not in FACTORS:
        raise UsageFault("subgroup size", expected="2 to 10", found=str(size))
    subgroups = value[: len(value) // size * size].reshape(-1, size)
    ranges = np.ptp(subgroups, axis=1) if len(subgroups) else np.empty(0)
    names = tuple(labels)[size - 1 :: size][: len(subgroups)]
    return _chart_values(subgroups.mean(axis=1), ranges, size, size, names, (f"means of {size}", f"ranges of {size}"), rules)


def _chart_values(
    value: Floats,
    ranges: Floats,
    range_size: int,
    size: int,
    labels: tuple[str, ...],
    titles: tuple[str, str],
    rules: Sequence[int],
) -> ControlChart:
    """Chart values of `size` points each, and ranges of `range_size` points each."""
    d2, d3, d4 = FACTORS[range_size]
    mean_range = float(ranges.mean()) if len(ranges) else float("nan")
    sigma = mean_range / d2
    centre = float(value.mean()) if len(value) else float("nan")
    half = 3 * sigma / np.sqrt(size)
    z = (value - centre) / (half / 3) if half > 0 else np.zeros(len(value))
    ones = np.ones(len(value))
    signals = tuple(apply_run_rules(z, rules))
    values = Chart(titles[0], labels, value, centre, ones * (centre - half), ones * (centre + half), signals)
    ones = np.ones(len(ranges))
    signals = tuple(Signal(1, int(i)) for i in np.flatnonzero(ranges > d4 * mean_range))
    names = labels[len(labels) - len(ranges) :] if labels else ()
    spread = Chart(titles[1], names, ranges, mean_range, ones * d3 * mean_range, ones * d4 * mean_range, signals)
    return ControlChart(values, spread, sigma)


def chart_series(of: Series, kind: str = "individuals", rules: Sequence[int] = ROUTINE) -> ControlChart:
    """Chart a series; `kind` is `individuals_chart` or `xbar_r_chart`. Points are named by serial. Raises `UsageFault`."""
    if kind not in ("individuals", "xbar_r"):
        raise UsageFault("kind", expected="individuals or xbar_r", found=repr(kind))
    names = of.serial.tolist()
    return individuals_chart(of.value, names, rules) if kind == "individuals" else xbar_r_chart(of.value, 5, names, rules)


def compute_capability(of: Series) -> Capability:
    """Compute Cp, Cpk, Pp and Ppk of a series against its limits. A single limit gives Cpk and Ppk only."""
    value, n = of.value, len(of.value)
    mean = float(value.mean()) if n else float("nan")
    within = float(np.abs(np.diff(value)).mean()) / FACTORS[2][0] if n > 1 else 0.0
    overall = float(value.std(ddof=1)) if n > 1 else 0.0
    cp, cpk = _compute_indices(mean, within, of.low, of.high)
    pp, ppk = _compute_indices(mean, overall, of.low, of.high)
    half = None if cpk is None else 1.96 * float(np.sqrt(1 / (9 * n) + cpk**2 / (2 * (n - 1))))
    outside = np.zeros(n, bool)
    if of.low is not None:
        outside |= value < of.low
    if of.high is not None:
        outside |= value > of.high
    low, high = (None, None) if cpk is None or half is None else (cpk - half, cpk + half)
    return Capability(n, mean, within, overall, cp, cpk, low, high, pp, ppk, int(outside.sum()))


def _compute_indices(mean: float, sigma: float, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Return the index of both limits (None without both), and that of the nearer limit."""
    if sigma <= 0:
        return None, None
    sides = [(mean - low) / (3 * sigma)] if low is not None else []
    sides += [(high - mean) / (3 * sigma)] if high is not None else []
    both = (high - low) / (6 * sigma) if low is not None and high is not None else None
    return both, min(sides, default=None)


def apply_run_rules(z: NDArray[np.float64], rules: Sequence[int] = ROUTINE) -> list[Signal]:
    """Find the signals in a series of distances from the centre in sigma, (n,), in order of index.

    Points that are NaN are skipped. Raises `UsageFault` for a rule that is not in `RULES`.
    """
    for rule in rules:
        if rule not in RULES:
            raise UsageFault("rule", expected=f"one of {', '.join(map(str, RULES))}", found=repr(rule))
    index = np.flatnonzero(np.isfinite(z))
    known = np.asarray(z, dtype=np.float64)[index]
    signals = [Signal(rule, int(index[i])) for rule in rules for i in np.flatnonzero(_ends_pattern(rule, known))]
    return sorted(signals, key=lambda s: (s.index, s.rule))


def _ends_pattern(rule: int, z: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether a rule's pattern ends at each point, (n,)."""
    if rule == 1:
        return np.abs(z) > 3
    if rule in (2, 9):
        return _find_one_sided(z, 0, 9 if rule == 2 else 8, 9 if rule == 2 else 8)
    if rule in (5, 6):
        return _find_one_sided(z, 2, 3, 2) if rule == 5 else _find_one_sided(z, 1, 5, 4)
    if rule in (7, 8):
        return _find_runs(np.abs(z) < 1, 15, 15) if rule == 7 else _find_runs(np.abs(z) > 1, 8, 8)
    step = np.sign(np.diff(z, prepend=np.nan))
    if rule == 3:
        return _find_runs(step > 0, 5, 5) | _find_runs(step < 0, 5, 5)
    turn = np.zeros(len(z), bool)
    turn[2:] = step[2:] * step[1:-1] < 0
    return _find_runs(turn, 12, 12)


def _find_one_sided(z: NDArray[np.float64], sigma: float, window: int, least: int) -> NDArray[np.bool_]:
    return _find_runs(z > sigma, window, least) | _find_runs(z < -sigma, window, least)


def _find_runs(true: NDArray[np.bool_], window: int, least: int) -> NDArray[np.bool_]:
    """Return whether a point is true, and with it at least `least` of the last `window` points."""
    total = np.cumsum(true)
    before = np.concatenate([np.zeros(min(window, len(true)), total.dtype), total[:-window]])
    holds: NDArray[np.bool_] = true & (total - before >= least)
    return holds

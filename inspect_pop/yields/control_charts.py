"""Patterns that chance alone seldom makes, in a series of standardised points.

The eight tests of Nelson, 'The Shewhart Control Chart: Tests for Special Causes', Journal of Quality Technology 16
(1984), 237-239. Tests 1, 5 and 6 are those of the Western Electric handbook (1956), whose run on one side is eight long.

Control charts and capability: pure arithmetic on counts and series.

Limits are Shewhart's three sigma. Formulas as in Montgomery, 'Introduction to Statistical Quality Control', chapters 6 to 8;
constants as in ASTM's 'Manual on Presentation of Data and Control Chart Analysis' (STP 15D), table of control chart factors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import UsageFault
from inspect_pop.yields.groups import YieldGroup
from inspect_pop.yields.series import Series

__all__ = [
    "ROUTINE",
    "RULES",
    "WESTERN_ELECTRIC",
    "Capability",
    "Chart",
    "ControlChart",
    "Signal",
    "capability",
    "control_chart",
    "individuals",
    "p_chart",
    "run_rules",
    "u_chart",
    "xbar_r",
]

# ---- yields/rules
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


@dataclass(frozen=True)
class Signal:
    """A test that holds, at the point that completes its pattern."""

    rule: int
    index: int

    @property
    def text(self) -> str:
        """The pattern, in words."""
        return RULES[self.rule]


def run_rules(z: NDArray[np.float64], rules: Sequence[int] = ROUTINE) -> list[Signal]:
    """Signals in a series of distances from the centre in sigma, (n,), by index; points that are NaN are passed over.

    Raises `UsageFault` for a rule that is not in `RULES`.
    """
    for rule in rules:
        if rule not in RULES:
            raise UsageFault("rule", expected=f"one of {', '.join(map(str, RULES))}", found=repr(rule))
    there = np.flatnonzero(np.isfinite(z))
    known = np.asarray(z, dtype=np.float64)[there]
    found = [Signal(rule, int(there[i])) for rule in rules for i in np.flatnonzero(_holds(rule, known))]
    return sorted(found, key=lambda s: (s.index, s.rule))


def _holds(rule: int, z: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether a test's pattern ends at each point."""
    if rule == 1:
        return np.abs(z) > 3
    if rule in (2, 9):
        return _either(z, 0, 9 if rule == 2 else 8, 9 if rule == 2 else 8)
    if rule in (5, 6):
        return _either(z, 2, 3, 2) if rule == 5 else _either(z, 1, 5, 4)
    if rule in (7, 8):
        return _run(np.abs(z) < 1, 15, 15) if rule == 7 else _run(np.abs(z) > 1, 8, 8)
    step = np.sign(np.diff(z, prepend=np.nan))
    if rule == 3:
        return _run(step > 0, 5, 5) | _run(step < 0, 5, 5)
    turn = np.zeros(len(z), bool)
    turn[2:] = step[2:] * step[1:-1] < 0
    return _run(turn, 12, 12)


def _either(z: NDArray[np.float64], sigma: float, window: int, least: int) -> NDArray[np.bool_]:
    return _run(z > sigma, window, least) | _run(z < -sigma, window, least)


def _run(true: NDArray[np.bool_], window: int, least: int) -> NDArray[np.bool_]:
    """Whether at least so many of the last `window` points are true, this one among them."""
    total = np.cumsum(true)
    before = np.concatenate([np.zeros(min(window, len(true)), total.dtype), total[:-window]])
    holds: NDArray[np.bool_] = true & (total - before >= least)
    return holds


# ---- yields/charts
Floats = NDArray[np.float64]
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
class Chart:
    """Points (n,) with centre and limits; NaN where a subgroup is empty. `labels` name the points."""

    title: str
    labels: tuple[str, ...]
    value: Floats
    centre: float
    lower: Floats
    upper: Floats
    signals: tuple[Signal, ...]


@dataclass(frozen=True)
class ControlChart:
    """A chart of values and the chart of their spread that its limits come from; `sigma` is the spread within subgroups."""

    values: Chart
    spread: Chart
    sigma: float


@dataclass(frozen=True)
class Capability:
    """How a series lies between its limits; None where a limit or any spread is lacking.

    `cp`, `cpk` by the spread within subgroups, `pp`, `ppk` by that of all values; `cpk_low` and `cpk_high` are Bissell's
    95 % interval (Applied Statistics 39, 1990, 331-340).
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
    """Share of boards that did not pass at their first inspection, with a limit for each group's own number of boards."""
    n = np.array([g.boards for g in groups], dtype=np.float64)
    failed = n - np.array([g.passed for g in groups], dtype=np.float64)
    mean = failed.sum() / n.sum() if n.sum() else np.nan
    sigma = np.sqrt(mean * (1 - mean) / np.where(n > 0, n, np.nan))
    return _counted("boards failing at first inspection", groups, failed, n, mean, sigma, 1.0, rules)


def u_chart(groups: Sequence[YieldGroup], rules: Sequence[int] = ROUTINE) -> Chart:
    """Defects a board, with a limit for each group's own number of boards.

    The limits take defects for Poisson. Where they come in clusters (a bridge is two joints at least), more points than
    chance allows lie outside.
    """
    n = np.array([g.boards for g in groups], dtype=np.float64)
    found = np.array([g.defects for g in groups], dtype=np.float64)
    mean = found.sum() / n.sum() if n.sum() else np.nan
    return _counted("defects a board", groups, found, n, mean, np.sqrt(mean / np.where(n > 0, n, np.nan)), np.inf, rules)


def individuals(value: Floats, labels: Sequence[str] = (), rules: Sequence[int] = ROUTINE) -> ControlChart:
    """Individuals and moving ranges of two: limits mean +- 3 MR / 1.128, ranges up to 3.267 MR."""
    ranges = np.abs(np.diff(value))
    return _two(value, ranges, 2, 1, tuple(labels), ("values", "moving ranges of two"), rules)


def xbar_r(value: Floats, size: int = 5, labels: Sequence[str] = (), rules: Sequence[int] = ROUTINE) -> ControlChart:
    """Means and ranges of subgroups of `size` (2 to 10) points in a row; an unfinished last one is left out.

    Limits: mean +- 3 R / (d2 sqrt(size)), ranges from D3 R to D4 R. A label is that of its subgroup's last point.
    """
    if size not in FACTORS:
        raise UsageFault("subgroup size", expected="2 to 10", found=str(size))
    whole = value[: len(value) // size * size].reshape(-1, size)
    ranges = np.ptp(whole, axis=1) if len(whole) else np.empty(0)
    names = tuple(labels)[size - 1 :: size][: len(whole)]
    return _two(whole.mean(axis=1), ranges, size, size, names, (f"means of {size}", f"ranges of {size}"), rules)


def control_chart(of: Series, kind: str = "individuals", rules: Sequence[int] = ROUTINE) -> ControlChart:
    """The chart of a series, of `kind` individuals or xbar_r; points are named by serial."""
    if kind not in ("individuals", "xbar_r"):
        raise UsageFault("kind", expected="individuals or xbar_r", found=repr(kind))
    names = of.serial.tolist()
    return individuals(of.value, names, rules) if kind == "individuals" else xbar_r(of.value, 5, names, rules)


def capability(of: Series) -> Capability:
    """Cp, Cpk, Pp and Ppk of a series against its own limits; one limit alone gives Cpk and Ppk."""
    value, n = of.value, len(of.value)
    mean = float(value.mean()) if n else float("nan")
    within = float(np.abs(np.diff(value)).mean()) / FACTORS[2][0] if n > 1 else 0.0
    overall = float(value.std(ddof=1)) if n > 1 else 0.0
    cp, cpk = _indices(mean, within, of.low, of.high)
    pp, ppk = _indices(mean, overall, of.low, of.high)
    half = None if cpk is None else 1.96 * float(np.sqrt(1 / (9 * n) + cpk**2 / (2 * (n - 1))))
    beyond = np.zeros(n, bool)
    if of.low is not None:
        beyond |= value < of.low
    if of.high is not None:
        beyond |= value > of.high
    low, high = (None, None) if cpk is None or half is None else (cpk - half, cpk + half)
    return Capability(n, mean, within, overall, cp, cpk, low, high, pp, ppk, int(beyond.sum()))


def _indices(mean: float, sigma: float, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    if sigma <= 0:
        return None, None
    sides = [(mean - low) / (3 * sigma)] if low is not None else []
    sides += [(high - mean) / (3 * sigma)] if high is not None else []
    both = (high - low) / (6 * sigma) if low is not None and high is not None else None
    return both, min(sides, default=None)


def _counted(
    title: str,
    groups: Sequence[YieldGroup],
    count: Floats,
    n: Floats,
    mean: float,
    sigma: Floats,
    most: float,
    rules: Sequence[int],
) -> Chart:
    value = count / np.where(n > 0, n, np.nan)
    labels = tuple(" ".join("none" if v is None else str(v) for v in g.keys.values()) for g in groups)
    z = (value - mean) / np.where(sigma > 0, sigma, np.nan)
    signals = tuple(run_rules(z, rules))
    return Chart(title, labels, value, float(mean), np.maximum(mean - 3 * sigma, 0), np.minimum(mean + 3 * sigma, most), signals)


def _two(
    value: Floats, ranges: Floats, of: int, size: int, labels: tuple[str, ...], titles: tuple[str, str], rules: Sequence[int]
) -> ControlChart:
    """Charts of values and ranges; `of` points made a range, `size` a value."""
    d2, d3_low, d4_high = FACTORS[of]
    mean_range = float(ranges.mean()) if len(ranges) else float("nan")
    sigma = mean_range / d2
    centre = float(value.mean()) if len(value) else float("nan")
    half = 3 * sigma / np.sqrt(size)
    z = (value - centre) / (half / 3) if half > 0 else np.zeros(len(value))
    flat = np.ones(len(value))
    values = Chart(titles[0], labels, value, centre, flat * (centre - half), flat * (centre + half), tuple(run_rules(z, rules)))
    level = np.ones(len(ranges))
    above = tuple(Signal(1, int(i)) for i in np.flatnonzero(ranges > d4_high * mean_range))
    names = labels[len(labels) - len(ranges) :] if labels else ()
    spread = Chart(titles[1], names, ranges, mean_range, level * d3_low * mean_range, level * d4_high * mean_range, above)
    return ControlChart(values, spread, sigma)

"""Patterns that chance alone seldom makes, in a series of standardised points.

The eight tests of Nelson, 'The Shewhart Control Chart: Tests for Special Causes', Journal of Quality Technology 16
(1984), 237-239. Tests 1, 5 and 6 are those of the Western Electric handbook (1956), whose run on one side is eight long.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.errors import UsageFault

__all__ = ["ROUTINE", "RULES", "WESTERN_ELECTRIC", "Signal", "run_rules"]

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

"""How much a figure or a pattern speaks for a cause: log-likelihood ratios and surprises, natural logarithm.

A *ratio* compares how likely a measured figure is with the cause and without it; it is negative where the figure speaks
against the cause. A *surprise* is -ln(p), one-sided, of a pattern where defects fall by chance alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, log_ndtr, pdtrc

__all__ = [
    "Cluster",
    "binomial_surprise",
    "bounded",
    "cluster",
    "mixture_ratio",
    "normal_ratio",
    "rayleigh_ratio",
    "trend_surprise",
    "without_plane",
]

_FLOOR = 1e-300
# The mix of classes differs from board to board without a cause, more than counting alone would make it: the ratio of
# counts is weighed down by this much, as if that many of ten defects were independent.
_TEMPER = 0.6
_WEIGHTS = np.linspace(0.0, 0.95, 20)


def bounded(value: float, most: float) -> float:
    """The value, no further from 0 than `most`: one figure alone must not decide against all others."""
    return min(max(value, -most), most)


def normal_ratio(value: float, expected: float, scatter: float, spread: float) -> float:
    """ln of N(value; expected, sqrt(scatter^2 + spread^2)) over N(value; 0, spread); 0 where the value was not measured.

    `spread` is how figures scatter from board to board without a cause, `scatter` how strongly the cause acts.
    """
    if not math.isfinite(value):
        return 0.0
    wide = math.hypot(scatter, spread)
    return 0.5 * (value / spread) ** 2 - 0.5 * ((value - expected) / wide) ** 2 + math.log(spread / wide)


def rayleigh_ratio(length: float, expected: float, scatter: float, spread: float) -> float:
    """ln of N(length; expected, scatter) over the length of a vector whose two parts scatter by `spread`; 0 where unmeasured."""
    if not math.isfinite(length):
        return 0.0
    length = max(length, 0.05 * spread)
    chance = math.log(length / spread**2) - 0.5 * (length / spread) ** 2
    return -0.5 * ((length - expected) / scatter) ** 2 - math.log(scatter * math.sqrt(2 * math.pi)) - chance


def mixture_ratio(counts: NDArray[np.float64], chance: NDArray[np.float64], cause: NDArray[np.float64]) -> float:
    """How much better counts (k,) follow when a share of them comes from `cause` (k,) rather than all from `chance` (k,).

    The share is that of the greatest likelihood; what a share costs that chance alone would ask for is taken off, so
    that counts without a cause give about 0 or less.
    """
    total = counts.sum()
    if total <= 0:
        return 0.0
    mixed = (1 - _WEIGHTS[:, None]) * chance + _WEIGHTS[:, None] * cause
    gain = (counts * np.log(mixed / chance)).sum(axis=1)
    return _TEMPER * float(gain.max()) - 1.0


def binomial_surprise(hits: int, trials: int, share: float) -> float:
    """-ln P(X >= hits), X binomial."""
    return 0.0 if hits <= 0 else float(-np.log(max(bdtrc(hits - 1, trials, share), _FLOOR)))


def trend_surprise(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """-ln p that the marked values are no larger than the others (Mann-Whitney, normal approximation); NaN are left out."""
    known = np.isfinite(values)
    marked = mask & known
    n, m = int(marked.sum()), int((known & ~mask).sum())
    if n < 3 or m < 3:
        return 0.0
    order = np.sort(values[known & ~mask])
    below = np.searchsorted(order, values[marked], "left")
    above = np.searchsorted(order, values[marked], "right")
    u = float((below + above).sum()) / 2
    z = (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
    return float(-log_ndtr(-z))


def without_plane(x_um: NDArray[np.float64], y_um: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values without their least-squares plane over (x, y): what a tilt of the whole stack adds is taken out."""
    known = np.isfinite(values)
    if known.sum() < 6:
        return np.full(len(values), np.nan)
    terms = np.stack([np.ones_like(x_um), x_um, y_um], axis=1)
    plane = np.linalg.lstsq(terms[known], values[known], rcond=None)[0]
    rest: NDArray[np.float64] = values - terms @ plane
    return rest


@dataclass(frozen=True, eq=False)
class Cluster:
    """The densest neighbourhood of marked joints: its surprise, its members (n,) and its centre (um)."""

    surprise: float
    members: NDArray[np.bool_]
    x_um: float
    y_um: float


def cluster(x_um: NDArray[np.float64], y_um: NDArray[np.float64], mask: NDArray[np.bool_], radius_um: float) -> Cluster:
    """Where the marked joints stand together most, within `radius_um` of one of them.

    A scan statistic: marked joints within the circle against the Poisson expectation of the interface's mean rate,
    Bonferroni-corrected for the number of circles.
    """
    marked = np.flatnonzero(mask)
    if len(marked) < 3:
        return Cluster(0.0, np.zeros(len(mask), bool), np.nan, np.nan)
    near = np.hypot(x_um[marked][:, None] - x_um[None], y_um[marked][:, None] - y_um[None]) <= radius_um
    others = near[:, marked].sum(axis=1) - 1
    expected = (len(marked) - 1) / (len(mask) - 1) * (near.sum(axis=1) - 1)
    surprise = -np.log(np.maximum(pdtrc(others - 1, np.maximum(expected, 1e-9)), _FLOOR))
    surprise = np.where(others > 0, surprise, 0.0) - np.log(len(marked))
    best = int(np.argmax(surprise))
    return Cluster(max(float(surprise[best]), 0.0), near[best] & mask, float(x_um[marked[best]]), float(y_um[marked[best]]))

"""How surprising a pattern is where defects fall by chance alone. Every figure is -ln(p), one-sided."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, log_ndtr, pdtrc

__all__ = ["Cluster", "cluster", "share_surprise", "trend_surprise"]

from dataclasses import dataclass

_FLOOR = 1e-300


def share_surprise(hits: int, trials: int, share: float) -> float:
    """-ln P(X >= hits), X binomial(trials, share): more of a kind than its share of the chances."""
    return 0.0 if hits <= 0 else float(-np.log(max(bdtrc(hits - 1, trials, share), _FLOOR)))


def trend_surprise(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """-ln p that the marked values are not larger than the others (Mann-Whitney, normal approximation); NaN are left out."""
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


@dataclass(frozen=True, eq=False)
class Cluster:
    """The densest neighbourhood of marked joints: its surprise, its members and its centre (um)."""

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

"""How surprising a pattern is where defects fall by chance alone. Every figure is -ln(p), one-sided, and at least 0."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln, log_ndtr, pdtrc

__all__ = ["Cluster", "cluster", "share_surprise", "shift_surprise", "trend_surprise", "without_plane"]

_FLOOR = 1e-300
# The mix of classes differs from board to board without a cause; it scatters as if it were drawn from this many joints.
_MIX = 40.0


def share_surprise(hits: int, trials: int, share: float, mix: float = _MIX) -> float:
    """-ln P(X >= hits), X beta-binomial: `trials` draws whose share itself scatters about `share` from board to board.

    It scatters as a share seen on `mix` joints would; a large `mix` gives the plain binomial.
    """
    if hits <= 0:
        return 0.0
    k = np.arange(hits, trials + 1, dtype=float)
    a, b = mix * share, mix * (1 - share)
    choose = gammaln(trials + 1) - gammaln(k + 1) - gammaln(trials - k + 1)
    tail = float(np.exp(choose + betaln(k + a, trials - k + b) - betaln(a, b)).sum())
    return float(-np.log(min(max(tail, _FLOOR), 1.0)))


def shift_surprise(shift: float, spread: float) -> float:
    """-ln of the normal density at a shift over that at none: half the square of the shift in spreads; 0 where unmeasured."""
    return 0.5 * (shift / spread) ** 2 if np.isfinite(shift) else 0.0


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

"""How much a figure or a pattern speaks for a cause: log-likelihood ratios and surprises, natural logarithm.

A *ratio* compares how likely a measured figure is with the cause and without it; it is negative where the figure speaks
against the cause. A *surprise* is -ln(p), one-sided, of a pattern where defects fall by chance alone.

What a rule may look at, and what it answers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, log_ndtr, pdtrc

from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Package
from inspect_pop.diagnose.cause import PackageState
from inspect_pop.diagnose.interface_joints import Sites

__all__ = [
    "CAP",
    "Board",
    "Clue",
    "Cluster",
    "binomial_surprise",
    "bounded",
    "cluster",
    "mixture_ratio",
    "normal_ratio",
    "percent",
    "place_mm",
    "rayleigh_ratio",
    "trend_surprise",
    "without_plane",
]

# ---- causes/pattern
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


# ---- causes/clues
# No single kind of evidence counts for more than this: e^12 is odds of 160,000.
CAP = 12.0
_LABELS = ("bridged", "open", "starved", "head_in_pillow")
# Shares among defects without a cause, a bridge counted once for its two joints. Of the 191 defects labelled on the sample
# lines, with and without causes, 12 % are bridges (24 % of the joints), 26 % open, 20 % starved, 31 % head-in-pillow.
_CHANCE = {"bridged": 0.19, "open": 0.27, "starved": 0.27, "head_in_pillow": 0.27}
_EVENTS = {"bridged": 0.5, "open": 1.0, "starved": 1.0, "head_in_pillow": 1.0}


@dataclass(frozen=True, eq=False)
class Board:
    """Joints by interface, the package as designed and as measured, limits."""

    sites: Mapping[str, Sites]
    package: Package
    state: PackageState
    limits: Limits

    def count(self, interface: str, *labels: str) -> int:
        """Joints of an interface with one of these labels; 0 for an interface that the package has not."""
        return int(self.sites[interface].marked(*labels).sum()) if interface in self.sites else 0

    def count_all(self, *labels: str) -> int:
        """Joints of the whole package with one of these labels."""
        return sum(self.count(name, *labels) for name in self.sites)

    @property
    def n_defects(self) -> int:
        """Defective joints of the whole package."""
        return self.count_all(*_LABELS)

    def names(self, interface: str, *labels: str) -> tuple[str, ...]:
        """Names of an interface's joints with these labels."""
        return self.sites[interface].names(self.sites[interface].marked(*labels)) if interface in self.sites else ()

    def names_all(self, *labels: str) -> tuple[str, ...]:
        """Names of the whole package's joints with these labels."""
        return tuple(name for interface in self.sites for name in self.names(interface, *labels))

    def median_good(self, interface: str, column: str) -> float:
        """Median of a measured column over an interface's good joints; NaN with fewer than eight of them."""
        if interface not in self.sites:
            return math.nan
        sites = self.sites[interface]
        values = sites.measured[column][sites.marked("good")]
        values = values[np.isfinite(values)]
        return float(np.median(values)) if len(values) >= 8 else math.nan

    def mix(self, interface: str, **shares: float) -> float:
        """How much the counts of all classes speak for extra defects in one interface, `shares` of each class.

        `interface` may be `both`: the extra defects then spread over both by their number of joints.
        """
        sizes = {name: len(s.ball) for name, s in self.sites.items()}
        total = sum(sizes.values())
        where = sizes if interface == "both" else {interface: sizes.get(interface, 0)}
        cells = [(name, label) for name in sizes for label in _LABELS]
        counts = np.array([self.count(name, label) * _EVENTS[label] for name, label in cells])
        chance = np.array([sizes[name] / total * _CHANCE[label] for name, label in cells])
        extra = np.array([where.get(name, 0) / max(sum(where.values()), 1) * shares.get(label, 0.0) for name, label in cells])
        return mixture_ratio(counts, chance, extra) if extra.any() else 0.0

    def best_mix(self, **shares: float) -> tuple[float, str]:
        """`mix` in the interface, or in both, that speaks most, and which it is."""
        return max((self.mix(name, **shares), name) for name in (*self.sites, "both"))


@dataclass(frozen=True)
class Clue:
    """What speaks for one cause: a log-likelihood ratio against chance, the words, and the joints they rest on."""

    name: str
    strength: float
    evidence: str
    joints: tuple[str, ...]


def percent(ratio: float) -> str:
    """A ratio to nominal as a deviation in percent."""
    return f"{100 * (ratio - 1):+.0f} %" if math.isfinite(ratio) else "not measured"


def place_mm(x_um: float, y_um: float) -> str:
    """A place of the package frame in millimetres."""
    return f"({x_um / 1000:+.1f}, {y_um / 1000:+.1f}) mm"

"""Weigh evidence for a cause: the joints of a package, log-likelihood ratios and surprises (natural logarithm).

A *ratio* compares how likely a measured figure is with the cause and without it; it is negative where the figure speaks
against the cause. A *surprise* is -ln(p), one-sided, of a pattern where defects fall by chance alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, log_ndtr, ndtr, pdtrc

from inspect_pop.core.classes import DEFECTS, GOOD, joint_class
from inspect_pop.core.columns import COLUMNS, JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Package
from inspect_pop.measure.height_maps import Bulge

__all__ = [
    "CAP",
    "Cluster",
    "Hypothesis",
    "InterfaceJoints",
    "PackageContext",
    "PackageState",
    "binomial_surprise",
    "cap",
    "collect_joints",
    "find_cluster",
    "format_percent",
    "format_place",
    "mixture_ratio",
    "normal_ratio",
    "range_ratio",
    "rayleigh_ratio",
    "remove_plane",
    "trend_surprise",
]

# No single kind of evidence counts for more than this: e^12 is odds of 160,000.
CAP = 12.0
_FLOOR = 1e-300
# The mix of classes differs from board to board without a cause, more than counting alone would make it: the ratio of
# counts is weighed down by this much, as if that many of ten defects were independent.
_TEMPER = 0.6
_WEIGHTS = np.linspace(0.0, 0.95, 20)
_FLOAT_COLUMNS = tuple(c.name for c in COLUMNS if c.kind == "float32")


@dataclass(frozen=True)
class PackageState:
    """What the height map showed of a package; NaN or None where it was not measured.

    `warpage_um` is signed (positive: convex, edges down).
    """

    warpage_um: float = math.nan
    stack_height_um: float = math.nan
    bulge: Bulge | None = None


@dataclass(frozen=True, eq=False)
class InterfaceJoints:
    """All joints of one interface, in the recipe's order; every array is (n,).

    `label` is object (None where undecided); `x_um`, `y_um` float64 are the designed places in the package frame;
    `measured` holds the float columns of the joint table by name, NaN where a value or a whole column is missing.
    """

    interface: str
    pitch_um: float
    ball: tuple[str, ...]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    label: NDArray[np.object_]
    measured: dict[str, NDArray[np.float64]]

    def has_label(self, *labels: str) -> NDArray[np.bool_]:
        """Return which joints carry one of these labels, (n,) bool."""
        mask = np.zeros(len(self.ball), bool)
        for label in labels:
            mask |= self.label == label
        return mask

    @property
    def defective(self) -> NDArray[np.bool_]:
        """Which joints carry a label that is not good, (n,) bool."""
        return self.has_label(*DEFECTS)

    def names(self, mask: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return `lower C4` of every joint that the mask holds."""
        return tuple(f"{self.interface} {self.ball[i]}" for i in np.flatnonzero(mask))


def collect_joints(joints: JointTable, package: Package) -> dict[str, InterfaceJoints]:
    """Collect a package's joints by interface name; a joint without a row in the table is an undecided one."""
    of_package = joints.take(joints["refdes"] == package.refdes)
    rows = {(i, b): k for k, (i, b) in enumerate(zip(of_package["interface"], of_package["ball"], strict=True))}
    collected = {}
    for interface in package.interfaces:
        row = np.array([rows.get((interface.name, b), -1) for b in interface.ball], np.int64)
        there = row >= 0
        label = np.full(len(row), None, object)
        label[there] = of_package["label"][row[there]]
        measured = {name: np.full(len(row), np.nan) for name in _FLOAT_COLUMNS}
        for name in of_package.names:
            if name in measured:
                measured[name][there] = of_package[name][row[there]]
        collected[interface.name] = InterfaceJoints(
            interface.name, interface.pitch_um, interface.ball, interface.x_um, interface.y_um, label, measured
        )
    return collected


@dataclass(frozen=True, eq=False)
class PackageContext:
    """What a rule may use of one package: its joints by interface, the package as designed and as measured, limits."""

    interfaces: Mapping[str, InterfaceJoints]
    package: Package
    state: PackageState
    limits: Limits

    def count(self, interface: str, *labels: str) -> int:
        """Count joints of an interface with one of these labels; 0 for an interface that the package has not."""
        return int(self.interfaces[interface].has_label(*labels).sum()) if interface in self.interfaces else 0

    def count_all(self, *labels: str) -> int:
        """Count joints of the whole package with one of these labels."""
        return sum(self.count(name, *labels) for name in self.interfaces)

    @property
    def n_defects(self) -> int:
        """Defective joints of the whole package."""
        return self.count_all(*DEFECTS)

    def names(self, interface: str, *labels: str) -> tuple[str, ...]:
        """Return the names of an interface's joints with these labels."""
        if interface not in self.interfaces:
            return ()
        return self.interfaces[interface].names(self.interfaces[interface].has_label(*labels))

    def names_all(self, *labels: str) -> tuple[str, ...]:
        """Return the names of the whole package's joints with these labels."""
        return tuple(name for interface in self.interfaces for name in self.names(interface, *labels))

    def median_good(self, interface: str, column: str) -> float:
        """Return the median of a measured column over an interface's good joints; NaN with fewer than eight of them."""
        if interface not in self.interfaces:
            return math.nan
        joints = self.interfaces[interface]
        values = joints.measured[column][joints.has_label(GOOD)]
        values = values[np.isfinite(values)]
        return float(np.median(values)) if len(values) >= 8 else math.nan

    def mix_ratio(self, interface: str, **shares: float) -> float:
        """Return how much the counts of all classes speak for extra defects in one interface, `shares` of each class.

        `interface` may be `both`: the extra defects then spread over both by their number of joints. Shares among defects
        without a cause, and how many independent events a joint stands for, come from the table of classes.
        """
        sizes = {name: len(joints.ball) for name, joints in self.interfaces.items()}
        total = sum(sizes.values())
        where = sizes if interface == "both" else {interface: sizes.get(interface, 0)}
        cells = [(name, joint_class(label)) for name in sizes for label in DEFECTS]
        counts = np.array([self.count(name, c.name) * c.events for name, c in cells])
        chance = np.array([sizes[name] / total * c.chance for name, c in cells])
        extra = np.array([where.get(name, 0) / max(sum(where.values()), 1) * shares.get(c.name, 0.0) for name, c in cells])
        return mixture_ratio(counts, chance, extra) if extra.any() else 0.0

    def best_mix_ratio(self, **shares: float) -> tuple[float, str]:
        """Return `mix_ratio` in the interface, or in both, that speaks most, and which it is."""
        return max((self.mix_ratio(name, **shares), name) for name in (*self.interfaces, "both"))


@dataclass(frozen=True)
class Hypothesis:
    """What speaks for one cause: a log-likelihood ratio against chance, the words, and the joints they rest on."""

    name: str
    strength: float
    evidence: str
    joints: tuple[str, ...]


def cap(value: float, most: float) -> float:
    """Limit a value to `most` either side of 0: one figure alone must not decide against all others."""
    return min(max(value, -most), most)


def normal_ratio(value: float, expected: float, scatter: float, spread: float) -> float:
    """Return ln of N(value; expected, sqrt(scatter^2 + spread^2)) over N(value; 0, spread); 0 where unmeasured (NaN).

    `spread` is how figures scatter from board to board without a cause, `scatter` how strongly the cause acts.
    """
    if not math.isfinite(value):
        return 0.0
    wide = math.hypot(scatter, spread)
    return 0.5 * (value / spread) ** 2 - 0.5 * ((value - expected) / wide) ** 2 + math.log(spread / wide)


def range_ratio(value: float, least: float, most: float, spread: float) -> float:
    """Return ln of the density of `value` where the cause moves it by anything from `least` to `most`, over N(value; 0, spread).

    Both scatter by `spread`. 0 where the value was not measured (NaN).
    """
    if not math.isfinite(value):
        return 0.0
    inside = float(ndtr((most - value) / spread) - ndtr((least - value) / spread)) / (most - least)
    chance = -0.5 * (value / spread) ** 2 - math.log(spread * math.sqrt(2 * math.pi))
    return math.log(max(inside, _FLOOR)) - chance


def rayleigh_ratio(length: float, expected: float, scatter: float, spread: float) -> float:
    """Return ln of N(length; expected, scatter) over the length of a vector whose two parts scatter by `spread`.

    0 where the length was not measured (NaN).
    """
    if not math.isfinite(length):
        return 0.0
    length = max(length, 0.05 * spread)
    chance = math.log(length / spread**2) - 0.5 * (length / spread) ** 2
    return -0.5 * ((length - expected) / scatter) ** 2 - math.log(scatter * math.sqrt(2 * math.pi)) - chance


def mixture_ratio(counts: NDArray[np.float64], chance: NDArray[np.float64], cause: NDArray[np.float64]) -> float:
    """Return how much better counts (k,) follow when a share of them comes from `cause` (k,), not all from `chance` (k,).

    The share is that of the greatest likelihood; the gain that chance alone brings is taken off, so that counts without
    a cause give about 0 or less.
    """
    total = counts.sum()
    if total <= 0:
        return 0.0
    mixed = (1 - _WEIGHTS[:, None]) * chance + _WEIGHTS[:, None] * cause
    gain = (counts * np.log(mixed / chance)).sum(axis=1)
    return _TEMPER * float(gain.max()) - 1.0


def binomial_surprise(hits: int, trials: int, share: float) -> float:
    """Return -ln P(X >= hits), X binomial."""
    return 0.0 if hits <= 0 else float(-np.log(max(bdtrc(hits - 1, trials, share), _FLOOR)))


def trend_surprise(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """Return -ln p that the marked values are no larger than the others (Mann-Whitney, normal approximation).

    NaN values are left out.
    """
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


def remove_plane(x_um: NDArray[np.float64], y_um: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract the least-squares plane over (x, y): what a tilt of the whole stack adds. All NaN with fewer than 6 values."""
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


def find_cluster(x_um: NDArray[np.float64], y_um: NDArray[np.float64], mask: NDArray[np.bool_], radius_um: float) -> Cluster:
    """Find where the marked joints stand together most, within `radius_um` of one of them.

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


def format_percent(ratio: float) -> str:
    """Format a ratio to nominal as a deviation in percent."""
    return f"{100 * (ratio - 1):+.0f} %" if math.isfinite(ratio) else "not measured"


def format_place(x_um: float, y_um: float) -> str:
    """Format a place of the package frame in millimetres."""
    return f"({x_um / 1000:+.1f}, {y_um / 1000:+.1f}) mm"

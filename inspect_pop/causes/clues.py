"""What a rule may look at, and what it answers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inspect_pop.causes.pattern import mixture_ratio
from inspect_pop.causes.sites import Sites
from inspect_pop.causes.values import PackageState
from inspect_pop.limits import Limits
from inspect_pop.recipe import Package

__all__ = ["CAP", "Board", "Clue", "percent", "place_mm"]

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

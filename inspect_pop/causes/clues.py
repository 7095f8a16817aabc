"""What a rule may look at, and what it answers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inspect_pop.causes.sites import Sites
from inspect_pop.causes.values import PackageState
from inspect_pop.limits import Limits
from inspect_pop.recipe import Package

__all__ = ["CAP", "SHARES", "Board", "Clue", "percent", "place_mm"]

# Share of each class among defects that have no common cause: none is favoured. Of the 191 defects labelled on the sample
# lines, with and without causes, 24 % are bridged, 26 % open, 20 % starved, 31 % head-in-pillow.
SHARES = {"bridged": 0.25, "open": 0.25, "starved": 0.25, "head_in_pillow": 0.25}
# One overwhelming figure must not outvote everything else.
CAP = 25.0


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
        return sum(int(s.defective.sum()) for s in self.sites.values())

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

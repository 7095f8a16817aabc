"""The recipe: what was built, as packages, interfaces and the joints that should exist; and the table of constructions.

Plain values; `ingest.recipe_file` reads and checks the files. A package on package has two interfaces, two placements and
two components; a plain BGA has one of each. IPC-7912 and IPC-9261 count joints, placements and components separately as
opportunities for a defect.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CONSTRUCTIONS",
    "DISPOSITION_ORDER",
    "DISPOSITION_WORDS",
    "HEIGHT_ERROR_UM",
    "OPPORTUNITIES_PER_INTERFACE",
    "SLICE_HEIGHTS",
    "Construction",
    "Interface",
    "Package",
    "Recipe",
    "describe_construction",
    "describe_disposition",
]

# A machine's heights are up to 10 um off (export format, version 1), and a stack is some um higher or lower than designed.
HEIGHT_ERROR_UM = 15.0
# Where the classifier looks at a joint, and a converter takes slices: fractions of the way from the lower to the upper pad.
# Near both pads, at the waist of a dome on a dome, and at mid height, as five-slice machines do (TRI, SMT Magazine, Aug 2014).
SLICE_HEIGHTS = (0.03, 0.265, 0.5, 0.735, 0.97)


@dataclass(frozen=True, eq=False)
class Interface:
    """One row of joints between two bodies; `lower` joins package to board, `upper` memory to package.

    `ball` (n,), `x_um` and `y_um` (n,) float64 in the package frame, in the order of the joints' table.
    `pads_z_um` are the nominal heights of the lower and the upper pad above the board's surface.
    """

    name: str
    ball: tuple[str, ...]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    pitch_um: float
    ball_diameter_um: float
    pad_diameter_um: float
    pad_definition: str
    pads_z_um: tuple[float, float]
    solder: str

    @property
    def gap_um(self) -> float:
        """Nominal stand-off in um: the distance between the two pads."""
        return self.pads_z_um[1] - self.pads_z_um[0]

    def may_miss(self, z_um: float) -> bool:
        """Return whether a slice at this nominal height may lie beyond a pad, where there is no joint."""
        return z_um < self.pads_z_um[0] + HEIGHT_ERROR_UM or z_um > self.pads_z_um[1] - HEIGHT_ERROR_UM

    @property
    def nominal_volume_um3(self) -> float:
        """Volume of the truncated sphere that wets both pads: pi h (6 a^2 + h^2) / 6 (export format, version 1)."""
        a, h = self.pad_diameter_um / 2, self.gap_um
        return math.pi * h * (6 * a * a + h * h) / 6

    @property
    def nominal_mid_diameter_um(self) -> float:
        """Widest diameter of that truncated sphere: 2 sqrt(a^2 + h^2 / 4)."""
        return 2 * math.hypot(self.pad_diameter_um / 2, self.gap_um / 2)


@dataclass(frozen=True)
class Package:
    """One package: its body (width, height) in um, its interfaces, and what its top must look like."""

    refdes: str
    part: str
    construction: str
    body_um: tuple[float, float]
    stack_height_um: float
    warpage_limit_um: float
    interfaces: tuple[Interface, ...]
    a1_corner: str = "upper_left"
    underfill: bool = False

    def interface(self, name: str) -> Interface:
        """Return the interface of that name. Raises `KeyError` where the package has none."""
        for interface in self.interfaces:
            if interface.name == name:
                return interface
        raise KeyError(name)


@dataclass(frozen=True)
class Recipe:
    """A product as built. `digest` is the sha256 over the recipe file and its tables of joints."""

    name: str
    revision: int
    product: str
    packages: tuple[Package, ...]
    digest: str

    @property
    def n_joints(self) -> int:
        """Number of joints that should exist on a board."""
        return sum(len(i.ball) for p in self.packages for i in p.interfaces)


# Constructions: what each kind of package consists of, and what follows from that

# Of one interface besides its joints: each construction has a placement and a component for each of its interfaces.
OPPORTUNITIES_PER_INTERFACE = 2
DISPOSITION_ORDER = ("ship", "review", "rework_memory", "rework_stack")  # by how much of the package comes off
DISPOSITION_WORDS = {
    "ship": "Ship the board",
    "review": "A person decides before the board moves",
    "rework_memory": "Rework: take the memory package off",
    "rework_stack": "Rework: take the whole stack off",
}


@dataclass(frozen=True)
class Construction:
    """One construction.

    `interfaces` and `height_maps` are those that a complete export shows; what is absent of them is `missing`.
    `raised_middle`: a cap or a die of unknown height stands on the surface on which the upper joints land.
    `rework` are the words for `rework_stack`, the disposition that takes everything off.
    """

    name: str
    words: str
    interfaces: tuple[str, ...]
    height_maps: tuple[str, ...]
    placements: int
    components: int
    raised_middle: bool
    rework: str = DISPOSITION_WORDS["rework_stack"]

    @property
    def opportunities(self) -> int:
        """Opportunities for a defect besides the joints."""
        return self.placements + self.components


_BOTH, _MAPS = ("lower", "upper"), ("pre_stack", "post_reflow")
CONSTRUCTIONS = {
    c.name: c
    for c in (
        Construction("standard", "standard PoP, mould cap in the middle", _BOTH, _MAPS, 2, 2, True),
        Construction("tmv", "PoP with through-mould vias", _BOTH, _MAPS, 2, 2, False),
        Construction("exposed_die_tmv", "PoP with through-mould vias and a bare die", _BOTH, _MAPS, 2, 2, True),
        Construction("psfccsp", "PoP on a flip-chip CSP", _BOTH, _MAPS, 2, 2, True),
        Construction("bga", "plain BGA", ("lower",), ("post_reflow",), 1, 1, False, "Rework: remove the package"),
    )
}


def describe_construction(name: str) -> Construction:
    """Return the construction of this name. Raises `KeyError` for a name that is not in the table."""
    return CONSTRUCTIONS[name]


def describe_disposition(disposition: str, constructions: Iterable[str]) -> str:
    """Return the words for a disposition; `constructions` are those of the faulty packages. An unknown one stays as it is."""
    words = DISPOSITION_WORDS.get(disposition, disposition)
    if disposition != "rework_stack":
        return words
    rework = dict.fromkeys(CONSTRUCTIONS[name].rework for name in constructions if name in CONSTRUCTIONS)
    return "; ".join(rework) or words

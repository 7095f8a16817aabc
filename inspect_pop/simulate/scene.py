"""What an X-ray beam passes: a board cut into thin layers of plain shapes, in the package frame.

Everything is measured as attenuation relative to solder (solder is 1). Layers are `LAYER_UM` thick; layer `i` lies from
`i * LAYER_UM` to `(i + 1) * LAYER_UM` above the board's surface (negative below it).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["LAYER_UM", "Capsules", "Discs", "Scene", "Sheet", "Solids"]

LAYER_UM = 10.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Discs:
    """Discs of one thin layer each: `layer` (n,) int, `x_um`, `y_um`, `radius_um`, `weight` (n,)."""

    layer: NDArray[np.int64]
    x_um: Floats
    y_um: Floats
    radius_um: Floats
    weight: Floats


@dataclass(frozen=True)
class Capsules:
    """Thick segments of one thin layer each: `ends_um` (n, 4) = x0, y0, x1, y1; `half_width_um`, `weight` (n,)."""

    layer: NDArray[np.int64]
    ends_um: Floats
    half_width_um: Floats
    weight: Floats


@dataclass(frozen=True)
class Sheet:
    """Shapes at one height: a tall part is a few sheets above one another, which is how its ghosts look in the samples.

    Weights are relative attenuation times thickness in um. `rectangles` (n, 5): x, y, width, height, turn in radians;
    `discs` (n, 3): x, y, radius; `lines` (n, 5): x0, y0, x1, y1, half width.
    """

    z_um: float
    rectangles: Floats = field(default_factory=lambda: np.zeros((0, 5)))
    rectangle_weight: Floats = field(default_factory=lambda: np.zeros(0))
    discs: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    disc_weight: Floats = field(default_factory=lambda: np.zeros(0))
    lines: Floats = field(default_factory=lambda: np.zeros((0, 5)))
    line_weight: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Solids:
    """Solder: the union of bodies and webs, less the voids."""

    bodies: Discs
    webs: Capsules
    voids: Discs


@dataclass(frozen=True)
class Scene:
    """All that lies in the beam: solder in thin layers, and sheets of everything else."""

    solder: Solids
    sheets: tuple[Sheet, ...]

"""Images and where they lie: pixel grids, placements, slices and height maps.

One convention everywhere: micrometres; x to the right, y up, seen from the top. Row 0 is an image's upper edge and
`(x, y)` is the *centre* of a pixel: `x = origin_x + col * pixel`, `y = origin_y - row * pixel`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FloatArray", "Grid", "HeightMap", "Placement", "SliceStack"]

FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class Grid:
    """A pixel grid: its shape (rows, cols), its pixel size and the centre (x, y) of pixel (0, 0), in um."""

    shape: tuple[int, int]
    pixel_um: float
    origin_um: tuple[float, float]

    def to_pixel(self, x_um: FloatArray, y_um: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (row, col), as floats, of points given in um."""
        return (self.origin_um[1] - y_um) / self.pixel_um, (x_um - self.origin_um[0]) / self.pixel_um

    def to_um(self, row: FloatArray, col: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the (x, y) in um of points given in pixels."""
        return self.origin_um[0] + col * self.pixel_um, self.origin_um[1] - row * self.pixel_um


@dataclass(frozen=True)
class Placement:
    """Where a package sits in one image: the transform from the package frame to the image frame.

    `x' = cos(r) x - sin(r) y + offset_x`, `y' = sin(r) x + cos(r) y + offset_y`; r counter-clockwise, seen from the top.
    `residual_um` is the rms distance between found and expected places after the fit. `confident` is False where another
    placement fits nearly as well.
    """

    offset_x_um: float
    offset_y_um: float
    rotation_deg: float
    residual_um: float
    confident: bool = True

    def apply(self, x_um: FloatArray, y_um: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Transform points from the package frame to the image frame, in um."""
        c, s = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        return c * x_um - s * y_um + self.offset_x_um, s * x_um + c * y_um + self.offset_y_um

    def undo(self, x_um: FloatArray, y_um: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Transform points from the image frame to the package frame, in um."""
        c, s = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        dx, dy = x_um - self.offset_x_um, y_um - self.offset_y_um
        return c * dx + s * dy, -s * dx + c * dy


@dataclass(frozen=True)
class SliceStack:
    """X-ray slices of one interface.

    `values` is (slices, rows, cols) as the machine wrote it: uint8, uint16 or float32, never converted in place.
    `z_um` holds one rising height per slice, as the machine gives it: up to 10 um off, all slices together. `lost` holds
    the numbers of slices that show nothing (one value everywhere); such a slice must not be read as 'no solder'.
    `polarity` is `solder_bright` or `solder_dark`; `method` is `laminography`, `ct` or `transmission`.
    """

    refdes: str
    interface: str
    values: NDArray[np.generic]
    z_um: tuple[float, ...]
    grid: Grid
    polarity: str
    method: str
    lost: tuple[int, ...] = ()


@dataclass(frozen=True)
class HeightMap:
    """Heights above the board's surface: (rows, cols) float32 in um, NaN where there is no data.

    `stage` is `pre_stack` or `post_reflow`.
    """

    refdes: str
    stage: str
    height_um: NDArray[np.float32]
    grid: Grid

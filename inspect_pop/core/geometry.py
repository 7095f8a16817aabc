"""Images with their place in the world.

One convention everywhere: micrometres; x to the right, y up, seen from the top; row 0 is an image's upper edge and
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
    """A pixel grid: its shape (rows, cols), pitch and the place of pixel (0, 0)'s centre, in um."""

    shape: tuple[int, int]
    pixel_um: float
    origin_um: tuple[float, float]

    def to_pixel(self, x_um: FloatArray, y_um: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(row, col) as floats of points given in um."""
        return (self.origin_um[1] - y_um) / self.pixel_um, (x_um - self.origin_um[0]) / self.pixel_um

    def to_um(self, row: FloatArray, col: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(x, y) in um of points given in pixels."""
        return self.origin_um[0] + col * self.pixel_um, self.origin_um[1] - row * self.pixel_um


@dataclass(frozen=True)
class Placement:
    """Where a package really sits in one image: package frame -> image frame.

    `x' = cos(r) x - sin(r) y + offset_x`, `y' = sin(r) x + cos(r) y + offset_y`; r counter-clockwise, seen from the top.
    `residual_um` is the rms distance between found and expected places after the fit; `confident` is False where
    another placement fits nearly as well.
    """

    offset_x_um: float
    offset_y_um: float
    rotation_deg: float
    residual_um: float
    confident: bool = True

    def apply(self, x_um: FloatArray, y_um: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points of the package frame, in the image's frame (um)."""
        c, s = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        return c * x_um - s * y_um + self.offset_x_um, s * x_um + c * y_um + self.offset_y_um

    def undo(self, x_um: FloatArray, y_um: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points of the image's frame, in the package frame (um)."""
        c, s = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        dx, dy = x_um - self.offset_x_um, y_um - self.offset_y_um
        return c * dx + s * dy, -s * dx + c * dy


@dataclass(frozen=True)
class SliceStack:
    """X-ray slices of one interface.

    `values` is (slices, rows, cols) as the machine wrote it: uint8, uint16 or float32, never converted in place.
    `z_um` rises, one height a slice (the machine's belief, up to 10 um off together). `lost` names slices that hold
    nothing (all one value) and must not be read as 'no solder'.
    """

    refdes: str
    interface: str
    values: NDArray[np.generic]
    z_um: tuple[float, ...]
    grid: Grid
    polarity: str  # solder_bright | solder_dark
    method: str  # laminography | ct | transmission
    lost: tuple[int, ...] = ()


@dataclass(frozen=True)
class HeightMap:
    """Heights above the board's surface: float32 (rows, cols) in um, NaN where there is no data."""

    refdes: str
    stage: str  # pre_stack | post_reflow
    height_um: NDArray[np.float32]
    grid: Grid

"""What the peer measures in height maps: the body's place, its top, warpage, stand-offs and domes.

The body is the largest region above Otsu's threshold; its place is that of the smallest rectangle around it. Its top is a
paraboloid fitted by least squares, without outliers.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from peer_slices import Array, Design
from scipy.spatial import cKDTree
from skimage.filters import threshold_otsu
from skimage.transform import EuclideanTransform

__all__ = ["HeightMap", "Top", "against_neighbours", "domes_um", "find_body", "find_pin1_corner", "measure_top", "standoffs_um"]

NEIGHBOURS = 12
_BOTTOM_BEND = 0.6  # of the memory's, where the bottom package was not seen
_CORNERS = {"upper_left": (-1, 1), "upper_right": (1, 1), "lower_left": (-1, -1), "lower_right": (1, -1)}


@dataclass(frozen=True, eq=False)
class HeightMap:
    """Heights (rows, cols) in um, NaN where there is none, and where they lie."""

    z_um: NDArray[np.float32]
    pixel_um: float
    origin_um: tuple[float, float]

    @staticmethod
    def of(values: NDArray[Any], entry: dict[str, Any]) -> "HeightMap":
        """From the file's values and its entry in the manifest."""
        z = values * np.float32(entry["scale_um"]) + np.float32(entry["offset_um"]) if values.dtype.kind == "u" else values
        if entry["no_data"] is not None:
            z = np.where(values == entry["no_data"], np.float32(np.nan), z)
        return HeightMap(z.astype(np.float32), entry["pixel_um"], tuple(entry["origin_um"]))


@dataclass(frozen=True, eq=False)
class Top:
    """The body's top, the board's tilt taken off: a paraboloid's six coefficients over mm, and what follows from it in um."""

    coefficients: Array
    warpage_um: float
    height_um: float
    points: Array  # (m, 2) places in the package's frame, um
    above_um: Array  # (m,) how far each lies above the paraboloid

    def at(self, places: Array) -> Array:
        """Height of the paraboloid at places (n, 2) in um."""
        return _terms(places) @ self.coefficients

    def bend(self, places: Array) -> Array:
        """The same without height and lean."""
        return _terms(places)[:, 3:] @ self.coefficients[3:]


def find_body(heights: HeightMap) -> EuclideanTransform:
    """From the package's frame to this map's, in um."""
    known = np.nan_to_num(heights.z_um)
    mask = (known > threshold_otsu(known)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (col, row), _, angle = cv2.minAreaRect(max(outlines, key=cv2.contourArea))
    turn = -((angle + 45) % 90 - 45)  # rows go down, so that the picture turns the other way
    x, y = heights.origin_um[0] + col * heights.pixel_um, heights.origin_um[1] - row * heights.pixel_um
    return EuclideanTransform(rotation=np.radians(turn), translation=(x, y))


def measure_top(heights: HeightMap, move: EuclideanTransform, body_um: tuple[float, float]) -> Top:
    """The paraboloid through the body's top, from every second pixel each way."""
    rows, cols = np.mgrid[: heights.z_um.shape[0] : 2, : heights.z_um.shape[1] : 2]
    z = heights.z_um[::2, ::2].ravel().astype(float)
    there = np.column_stack(
        [heights.origin_um[0] + cols.ravel() * heights.pixel_um, heights.origin_um[1] - rows.ravel() * heights.pixel_um]
    )
    places, half = move.inverse(there), np.array(body_um) / 2
    known = np.isfinite(z)
    on_top = known & (np.abs(places) < 0.96 * half).all(axis=1)
    board = known & (np.abs(places) > half + 200).any(axis=1) & (np.abs(z - np.median(z[known & ~on_top])) < 80)
    z = z - _terms(places)[:, 1:3] @ _fit_surface(places[board], z[board], 3)[1:3] if board.sum() > 400 else z
    places, z = places[on_top], z[on_top]
    high = z > np.median(z) - 60  # not the openings in the mold
    coefficients = _fit_surface(places[high], z[high], 6)
    edge = np.linspace(-1, 1, 21)
    grid = np.stack(np.meshgrid(edge * half[0], edge * half[1]), axis=-1).reshape(-1, 2)
    bent = _terms(grid)[:, 3:] @ coefficients[3:]
    bent = bent - _terms(grid)[:, :3] @ np.linalg.lstsq(_terms(grid)[:, :3], bent, rcond=None)[0]
    sign = -1.0 if coefficients[3] + coefficients[5] > 0 else 1.0
    return Top(coefficients, sign * float(np.ptp(bent)), float(coefficients[0]), places, z - _terms(places) @ coefficients)


def find_pin1_corner(top: Top, body_um: tuple[float, float]) -> str:
    """The corner whose surroundings lie lowest: that of the pin-1 mark."""
    unit = top.points / np.array(body_um)
    low = top.above_um < -15
    share = {}
    for name, (x, y) in _CORNERS.items():
        near = (unit[:, 0] * x > 0.35) & (unit[:, 1] * y > 0.35)
        share[name] = low[near].mean() if near.any() else 0.0
    return max(share, key=lambda name: share[name])


def standoffs_um(designs: dict[str, Design], after: Top, before: Top | None, stack_um: float) -> dict[str, Array]:
    """Distance between the pads of each joint of each interface, (n,) um.

    The lower gap has its share of what the whole stack sank or leans, and the bottom package's own bend; the upper has the rest.
    """
    names = list(designs)
    total = sum(d.gap for d in designs.values())
    share = designs[names[0]].gap / total
    bent = before.bend if before is not None else lambda places: _BOTTOM_BEND * after.bend(places)
    rest = bent(designs[names[0]].places).mean()
    out = {}
    for name, design in designs.items():
        rise = after.at(design.places) - stack_um
        bottom = share * (rise - after.bend(design.places)) + bent(design.places) - rest
        gap = design.gap + (rise if len(names) == 1 else bottom if name == names[0] else rise - bottom)
        out[name] = np.clip(gap, 0.5 * design.gap, 2 * design.gap)
    return out


def domes_um(heights: HeightMap, move: EuclideanTransform, before: Top, design: Design) -> Array:
    """Height of each upper joint's dome before stacking against its neighbours', (n,) um."""
    places = move(design.places)
    rows = np.rint((heights.origin_um[1] - places[:, 1]) / heights.pixel_um).astype(int)
    cols = np.rint((places[:, 0] - heights.origin_um[0]) / heights.pixel_um).astype(int)
    reach = max(1, round(0.25 * design.pad / heights.pixel_um))
    padded = np.pad(heights.z_um, reach, constant_values=np.nan)
    size = 2 * reach + 1
    around = np.stack([padded[r : r + size, c : c + size].ravel() for r, c in zip(rows, cols, strict=True)])
    return against_neighbours(np.nanmedian(around, axis=1) - before.at(design.places), design)[0]


def against_neighbours(values: Array, design: Design) -> tuple[Array, Array]:
    """Each value less the median of its nearest neighbours, and that in robust standard deviations, (n,) each."""
    _, near = cKDTree(design.places).query(design.places, k=min(NEIGHBOURS + 1, len(values)))
    around = values[near[:, 1:]]
    median = np.nanmedian(around, axis=1)
    spread = 1.4826 * np.nanmedian(np.abs(around - median[:, None]), axis=1)
    return values - median, (values - median) / np.maximum(spread, 1.0)


def _terms(places: Array) -> Array:
    x, y = (places / 1000).T
    return np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def _fit_surface(places: Array, z: Array, terms: int) -> Array:
    """Coefficients by least squares, three times, each time without what lies beyond three standard deviations."""
    basis, inliers = _terms(places)[:, :terms], np.ones(len(z), bool)
    for _ in range(3):
        solution = np.linalg.lstsq(basis[inliers], z[inliers], rcond=None)[0]
        error = z - basis @ solution
        inliers = np.abs(error) < 3 * 1.4826 * np.median(np.abs(error[inliers]))
    return np.asarray(solution)

"""A local rise of the mold, as popcorning leaves it (FIELD_NOTES, moisture): found against the shape of the rest of the top."""

import numpy as np
from numpy.typing import NDArray

from inspect_pop.causes.values import Bulge
from inspect_pop.geometry import HeightMap, Placement
from inspect_pop.recipe import Package
from inspect_pop.segment.surfaces import Points, top_points

__all__ = ["find_bulge"]

_CELLS = 24
_CENTRES = 7
# Radii at which a rise is looked for, over the body's shorter side: from a blister over a few joints to a swollen die.
_RADII = (0.1, 0.2)


def find_bulge(heights: HeightMap, placement: Placement, package: Package) -> Bulge | None:
    """The highest local rise of the top; None where too little of it is seen.

    The top is averaged over `_CELLS` x `_CELLS` cells. Around each of a grid of centres a disc is left out, a paraboloid
    with a quartic term along either axis is fitted to the rest, and the mean excess inside the disc is the rise. A warped
    body follows such a surface, a swollen one does not. A flat top has a highest rise too: of the fit's error, 1 to 4 um.
    """
    x, y, z = _cells(top_points(heights, placement, package), package)
    if len(z) < _CELLS * _CELLS / 2:
        return None
    side = min(package.body_um)
    terms = _terms(x / side, y / side)
    best = max(
        (_rise(x, y, z, terms, (cx, cy), radius * side) for radius in _RADII for cx, cy in _centres(package, radius * side)),
        key=lambda bulge: bulge.height_um,
    )
    return best if best.height_um > 0 else None


def _cells(points: Points, package: Package) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means over the cells that hold points, without what lies far off the top's middle height."""
    near = np.abs(points.z_um - np.median(points.z_um)) < 300.0 if len(points.z_um) else np.zeros(0, bool)
    x, y, z = points.x_um[near], points.y_um[near], points.z_um[near]
    width, depth = package.body_um
    column = np.clip(((x / width + 0.5) * _CELLS).astype(np.int64), 0, _CELLS - 1)
    row = np.clip(((y / depth + 0.5) * _CELLS).astype(np.int64), 0, _CELLS - 1)
    cell = row * _CELLS + column
    count = np.bincount(cell, minlength=_CELLS * _CELLS)
    held = count > 0
    mean_x, mean_y, mean_z = (np.bincount(cell, v, _CELLS * _CELLS)[held] / count[held] for v in (x, y, z))
    return mean_x, mean_y, mean_z


def _terms(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y, x**4, y**4], axis=1)


def _centres(package: Package, radius_um: float) -> list[tuple[float, float]]:
    """Places so far inside the body that a surface around the disc holds it from all sides."""
    reach = [max(side / 2 - 1.2 * radius_um, 0.0) for side in package.body_um]
    axes = [np.linspace(-r, r, _CENTRES) for r in reach]
    return [(float(cx), float(cy)) for cx in axes[0] for cy in axes[1]]


def _rise(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    terms: NDArray[np.float64],
    centre: tuple[float, float],
    radius_um: float,
) -> Bulge:
    distance = np.hypot(x - centre[0], y - centre[1])
    rest = distance > 1.3 * radius_um
    surface = np.linalg.lstsq(terms[rest], z[rest], rcond=None)[0]
    inside = distance <= radius_um
    excess = z[inside] - terms[inside] @ surface
    height = float(excess.mean()) if inside.sum() >= 4 else 0.0
    return Bulge(centre[0], centre[1], height, 2 * radius_um)

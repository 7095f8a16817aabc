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
_LEAST_CELLS = 4  # inside a disc, to speak of a rise there
_STEADY = 1e-9  # of one cell's weight: keeps the equations solvable where much of the top is not seen


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
    discs = np.array([(cx, cy, radius * side) for radius in _RADII for cx, cy in _centres(package, radius * side)])
    rise = _rises(x, y, z, _terms(x / side, y / side), discs)
    k = int(np.argmax(rise))
    cx, cy, radius = (float(v) for v in discs[k])
    return Bulge(cx, cy, float(rise[k]), 2 * radius) if rise[k] > 0 else None


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


def _rises(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], terms: NDArray[np.float64], discs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean excess inside each of the discs (k, 3) of x, y and radius over the surface fitted around it, (k,); 0 where too
    few cells lie inside. The normal equations of all discs are sums over the cells, and solved at once."""
    distance = np.hypot(x - discs[:, :1], y - discs[:, 1:2])
    rest = (distance > 1.3 * discs[:, 2:]).astype(np.float64)
    n = terms.shape[1]
    normal = (rest @ (terms[:, :, None] * terms[:, None, :]).reshape(-1, n * n)).reshape(-1, n, n)
    right = rest @ (terms * z[:, None])
    surface = np.linalg.solve(normal + _STEADY * np.eye(n), right[:, :, None])[:, :, 0]
    inside = distance <= discs[:, 2:]
    count = inside.sum(axis=1)
    excess = ((z - surface @ terms.T) * inside).sum(axis=1) / np.maximum(count, 1)
    return np.where(count >= _LEAST_CELLS, excess, 0.0)

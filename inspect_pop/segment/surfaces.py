"""Surfaces in a height map: the package's top, the board around it, the domes in a bottom package's openings."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from inspect_pop.core.geometry import FloatArray, HeightMap, Placement
from inspect_pop.core.recipe import Package
from inspect_pop.segment.windows import SAMPLES_PER_PITCH, SIZE

__all__ = ["Points", "Surface", "board_points", "dome_heights", "fit_surface", "smooth_surface", "top_points"]

EDGE_UM = 120.0  # left out inside a body's edge, where the outline's own error and rounded edges reach
BOARD_UM = 150.0  # and outside
_STEADY = 1e-6  # of one point's weight: keeps the equations of a few points solvable
POINTS = 12000  # some twenty in each cell: its median is known to 1 um with 3 um of noise
BOARD_POINTS = 4000  # a plane through so many is known to 0.1 um at the body's edge
CELLS = 24  # a side: a cell is wider than a stroke of lettering and narrower than a blister of the mold
SMOOTH_CELLS = 1.2  # standard deviation of the smoothing
MARK_CELLS = 5  # width of the median that passes over a mark
CHANCE = 3.0  # sigmas of the smoothed cells that are noise of the map
WAVES_UM = 3.0  # waviness of the machines' own (3 um across whole bodies on the sample boards)


@dataclass(frozen=True)
class Points:
    """Heights at places of the package frame: `x_um`, `y_um`, `z_um`, each (k,), all finite."""

    x_um: FloatArray
    y_um: FloatArray
    z_um: FloatArray


@dataclass(frozen=True)
class Surface:
    """A polynomial height over the body: powers `(i, j)` of x and y over `scale_um`, with their coefficients in um.

    `noise_um` is the robust standard deviation of the points about it. `bumps_um` (CELLS, CELLS), rows along y, is what
    departs from the polynomial, over a body of `body_um`; None where it was not looked for.
    """

    powers: tuple[tuple[int, int], ...]
    coefficients: FloatArray
    scale_um: float
    noise_um: float
    bumps_um: FloatArray | None = None
    body_um: tuple[float, float] = (1.0, 1.0)

    def height_um(self, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
        """Height at these places; beyond the body its edge's bumps."""
        height: FloatArray = _terms(x_um / self.scale_um, y_um / self.scale_um, self.powers) @ self.coefficients
        if self.bumps_um is not None:
            place = [(y_um / self.body_um[1] + 0.5) * CELLS - 0.5, (x_um / self.body_um[0] + 0.5) * CELLS - 0.5]
            height = height + ndimage.map_coordinates(self.bumps_um, place, order=1, mode="nearest")
        return height

    def coefficient(self, i: int, j: int) -> float:
        """Coefficient of `x^i y^j` in um per um^(i + j); 0 where the surface has no such term."""
        if (i, j) not in self.powers:
            return 0.0
        return float(self.coefficients[self.powers.index((i, j))]) / self.scale_um ** (i + j)


def top_points(heights: HeightMap, placement: Placement, package: Package) -> Points:
    """Points on the body's top; in a `pre_stack` map those beside the openings for the memory's joints."""
    x, y, z = _points(heights, placement)
    inside = (np.abs(x) < package.body_um[0] / 2 - EDGE_UM) & (np.abs(y) < package.body_um[1] / 2 - EDGE_UM)
    points = _thinned(x, y, z, inside & np.isfinite(z), POINTS)
    if heights.stage != "pre_stack":
        return points
    beside = ~_near_joints(points.x_um, points.y_um, package)
    return Points(points.x_um[beside], points.y_um[beside], points.z_um[beside])


def board_points(heights: HeightMap, placement: Placement, package: Package) -> Points:
    """Points around the body that are low enough to be the bare board."""
    x, y, z = _points(heights, placement)
    outside = (np.abs(x) > package.body_um[0] / 2 + BOARD_UM) | (np.abs(y) > package.body_um[1] / 2 + BOARD_UM)
    with np.errstate(invalid="ignore"):
        return _thinned(x, y, z, outside & (np.abs(z) < 120.0), BOARD_POINTS)


def fit_surface(points: Points, degree: int, scale_um: float) -> Surface:
    """Polynomial of this total degree through the points; lettering, marks, specks and dropouts do not pull it.

    Least squares, repeated on what lies within three robust sigma.
    """
    powers = tuple((i, j) for i in range(degree + 1) for j in range(degree + 1 - i))
    terms = _terms(points.x_um / scale_um, points.y_um / scale_um, powers)
    use = np.abs(points.z_um - np.median(points.z_um)) < 400.0
    sigma = float("nan")
    for _ in range(6):
        chosen = terms[use]
        coefficients = np.linalg.solve(chosen.T @ chosen + _STEADY * np.eye(len(powers)), chosen.T @ points.z_um[use])
        error = np.abs(points.z_um - terms @ coefficients)
        sigma = max(1.4826 * float(np.median(error[use])), 0.1)
        before, use = use, error < 3.0 * sigma
        if np.array_equal(before, use):
            break
    return Surface(powers, coefficients, scale_um, sigma)


def smooth_surface(points: Points, body_um: tuple[float, float]) -> Surface:
    """The smoothed top of a body: a quadratic, and what locally departs from it beyond chance.

    Medians over `CELLS` x `CELLS` cells pass over strokes of lettering and specks, and keep what is wider than a cell. A
    rise of any width is the part's (a blister of the mold); a dip counts only where it is wider than a mark made on purpose.
    """
    row, col = (
        np.clip(((v / side + 0.5) * CELLS).astype(np.intp), 0, CELLS - 1)
        for v, side in ((points.y_um, body_um[1]), (points.x_um, body_um[0]))
    )
    label = row * CELLS + col
    cell, medians = _medians(label, points.z_um)
    count = np.bincount(label)[cell]
    x, y = (np.bincount(label, v)[cell] / count for v in (points.x_um, points.y_um))
    shape = fit_surface(Points(x, y, medians), 2, max(body_um) / 2)
    rest = np.full(CELLS * CELLS, np.nan)
    rest[cell] = medians - shape.height_um(x, y)
    noise = 1.4826 * float(np.median(np.abs(points.z_um - medians[np.searchsorted(cell, label)])))
    chance = CHANCE * 1.25 * noise / np.sqrt(float(np.median(count))) / (2 * np.sqrt(np.pi) * SMOOTH_CELLS)
    bumps = _bumps(rest.reshape(CELLS, CELLS), max(chance, WAVES_UM))
    return replace(shape, noise_um=noise, bumps_um=bumps, body_um=body_um)


def _bumps(rest: FloatArray, chance: float) -> FloatArray:
    """Smoothed departures (CELLS, CELLS) beyond chance; NaN cells take their neighbours'; narrow dips are passed over."""
    known = np.isfinite(rest).astype(np.float64)
    filled = np.where(known > 0, rest, 0.0)
    wide = ndimage.median_filter(filled, MARK_CELLS, mode="nearest")
    both = []
    for values in (filled, wide):
        total = ndimage.gaussian_filter(values * known, SMOOTH_CELLS, mode="nearest")
        smooth = total / np.maximum(ndimage.gaussian_filter(known, SMOOTH_CELLS, mode="nearest"), 1e-3)
        both.append(smooth * np.clip(np.abs(smooth) / chance - 1, 0, 1))  # none at chance, all at twice
    bumps: FloatArray = np.maximum(both[0], 0) + np.minimum(both[1], 0)
    return bumps


def dome_heights(windows_um: NDArray[np.float32]) -> NDArray[np.float32]:
    """Height of what stands at each joint's place, um, (n,): the upper quartile within a fifth of a pitch; NaN unseen.

    `windows_um` (n, SIZE, SIZE) as `cut_height` gives them.
    """
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    core = np.hypot(axis[:, None], axis[None]) < 0.2 * SAMPLES_PER_PITCH
    values = np.sort(windows_um[:, core], axis=1)  # NaN last
    seen = np.isfinite(values).sum(axis=1)
    place = np.clip((0.75 * seen).astype(np.intp), 0, values.shape[1] - 1)
    height = np.take_along_axis(values, place[:, None], axis=1)[:, 0]
    return np.where(seen >= 0.3 * values.shape[1], height, np.nan).astype(np.float32)


def _points(heights: HeightMap, placement: Placement) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Every pixel's place in the package frame and its height; large maps are thinned evenly."""
    skip = max(1, int(np.sqrt(heights.height_um.size / (4 * POINTS))))
    z = heights.height_um[::skip, ::skip].astype(np.float64)
    row, col = np.meshgrid(*(np.arange(0, n, skip, dtype=np.float64) for n in heights.grid.shape), indexing="ij", sparse=True)
    x, y = placement.undo(*heights.grid.to_um(row, col))
    return x, y, z


def _thinned(x: FloatArray, y: FloatArray, z: FloatArray, use: NDArray[np.bool_], most: int) -> Points:
    """About `most` of the points in use, evenly."""
    chosen = np.flatnonzero(use)
    chosen = chosen[:: max(1, len(chosen) // most)]
    return Points(x.ravel()[chosen], y.ravel()[chosen], z.ravel()[chosen])


def _near_joints(x: FloatArray, y: FloatArray, package: Package) -> NDArray[np.bool_]:
    """Within the opening of an upper joint, which is narrower than the pitch."""
    near = np.zeros(x.shape, dtype=bool)
    for upper in (i for i in package.interfaces if i.name == "upper"):
        tree = cKDTree(np.column_stack([upper.x_um, upper.y_um]))
        distance, _ = tree.query(np.column_stack([x, y]), distance_upper_bound=0.55 * upper.pitch_um)
        near |= np.isfinite(distance)
    return near


def _medians(label: NDArray[np.intp], values: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """(labels that occur, median of each)."""
    order = np.argsort(values)
    order = order[np.argsort(label[order].astype(np.uint16), kind="stable")]  # few bits sort in one pass each
    found, first, count = np.unique(label[order], return_index=True, return_counts=True)
    ranked = values[order]
    median: FloatArray = (ranked[first + (count - 1) // 2] + ranked[first + count // 2]) / 2
    return found, median


def _terms(x: FloatArray, y: FloatArray, powers: tuple[tuple[int, int], ...]) -> FloatArray:
    def power(value: FloatArray, k: int) -> FloatArray:
        return np.ones_like(value) if k == 0 else value if k == 1 else value**k

    return np.stack([power(x, i) * power(y, j) for i, j in powers], axis=-1)

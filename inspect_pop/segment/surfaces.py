"""Find surfaces in a height map: the package's top, the board around it, the domes in a bottom package's openings."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inspect_pop.align.height_map import mask_upper_openings
from inspect_pop.core.geometry import FloatArray, HeightMap, Placement
from inspect_pop.core.recipe import Package
from inspect_pop.core.robust import group_median, mad_sigma
from inspect_pop.segment.windows import SAMPLES_PER_PITCH, SIZE

__all__ = [
    "FittedSurface",
    "Points",
    "find_dome_heights",
    "fit_surface",
    "sample_board",
    "sample_top",
    "smooth_surface",
]

EDGE_UM = 120.0  # left out inside a body's edge, where the outline's own error and rounded edges reach
BOARD_UM = 150.0  # and outside
_OPENING = 0.55  # radius around an upper joint in which there is no top before stacking, over the pitch
_RIDGE = 1e-6  # of one point's weight: keeps the equations of a few points solvable
POINTS = 12000  # some twenty in each cell: its median is known to 1 um with 3 um of noise
BOARD_POINTS = 4000  # a plane through so many is known to 0.1 um at the body's edge
CELLS = 24  # per side: a cell is wider than a stroke of lettering and narrower than a blister of the mold
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
class FittedSurface:
    """A polynomial height over the body: powers `(i, j)` of x and y over `scale_um`, with their coefficients in um.

    `noise_um` is the robust standard deviation of the points about it. `bumps_um` (CELLS, CELLS), rows along y, is what
    departs from the polynomial, over a body of `body_um`; None where no bumps were fitted.
    """

    powers: tuple[tuple[int, int], ...]
    coefficients: FloatArray
    scale_um: float
    noise_um: float
    bumps_um: FloatArray | None = None
    body_um: tuple[float, float] = (1.0, 1.0)

    def height_um(self, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
        """Return the height at these places; beyond the body its edge's bumps."""
        height: FloatArray = _evaluate_terms(x_um / self.scale_um, y_um / self.scale_um, self.powers) @ self.coefficients
        if self.bumps_um is not None:
            place = [(y_um / self.body_um[1] + 0.5) * CELLS - 0.5, (x_um / self.body_um[0] + 0.5) * CELLS - 0.5]
            height = height + ndimage.map_coordinates(self.bumps_um, place, order=1, mode="nearest")
        return height

    def coefficient(self, i: int, j: int) -> float:
        """Return the coefficient of `x^i y^j` in um per um^(i + j); 0 where the surface has no such term."""
        if (i, j) not in self.powers:
            return 0.0
        return float(self.coefficients[self.powers.index((i, j))]) / self.scale_um ** (i + j)


def sample_top(heights: HeightMap, placement: Placement, package: Package) -> Points:
    """Sample points on the body's top; in a `pre_stack` map those outside of the openings for the memory's joints."""
    x, y, z = _sample_pixels(heights, placement)
    inside = (np.abs(x) < package.body_um[0] / 2 - EDGE_UM) & (np.abs(y) < package.body_um[1] / 2 - EDGE_UM)
    points = _thin_out(x, y, z, inside & np.isfinite(z), POINTS)
    if heights.stage != "pre_stack":
        return points
    on_top = ~mask_upper_openings(points.x_um, points.y_um, package, _OPENING)
    return Points(points.x_um[on_top], points.y_um[on_top], points.z_um[on_top])


def sample_board(heights: HeightMap, placement: Placement, package: Package) -> Points:
    """Sample points around the body that are low enough to be the bare board."""
    x, y, z = _sample_pixels(heights, placement)
    outside = (np.abs(x) > package.body_um[0] / 2 + BOARD_UM) | (np.abs(y) > package.body_um[1] / 2 + BOARD_UM)
    with np.errstate(invalid="ignore"):
        return _thin_out(x, y, z, outside & (np.abs(z) < 120.0), BOARD_POINTS)


def fit_surface(points: Points, degree: int, scale_um: float) -> FittedSurface:
    """Fit a polynomial of this total degree to the points; lettering, marks, specks and dropouts do not pull it.

    Least squares, repeated on what lies within three robust sigma.
    """
    powers = tuple((i, j) for i in range(degree + 1) for j in range(degree + 1 - i))
    terms = _evaluate_terms(points.x_um / scale_um, points.y_um / scale_um, powers)
    use = np.abs(points.z_um - np.median(points.z_um)) < 400.0
    sigma = float("nan")
    for _ in range(6):
        chosen = terms[use]
        coefficients = np.linalg.solve(chosen.T @ chosen + _RIDGE * np.eye(len(powers)), chosen.T @ points.z_um[use])
        error = np.abs(points.z_um - terms @ coefficients)
        sigma = max(mad_sigma(error[use]), 0.1)
        before, use = use, error < 3.0 * sigma
        if np.array_equal(before, use):
            break
    return FittedSurface(powers, coefficients, scale_um, sigma)


def smooth_surface(points: Points, body_um: tuple[float, float]) -> FittedSurface:
    """Smooth the top of a body: a quadratic, and what locally departs from it beyond chance.

    Medians over `CELLS` x `CELLS` cells pass over strokes of lettering and specks, and keep what is wider than a cell. A
    rise of any width is the part's (a blister of the mold); a dip counts only where it is wider than a mark made on purpose.
    """
    row, col = (
        np.clip(((v / side + 0.5) * CELLS).astype(np.intp), 0, CELLS - 1)
        for v, side in ((points.y_um, body_um[1]), (points.x_um, body_um[0]))
    )
    label = row * CELLS + col
    cell, medians = group_median(label, points.z_um)
    count = np.bincount(label)[cell]
    x, y = (np.bincount(label, v)[cell] / count for v in (points.x_um, points.y_um))
    shape = fit_surface(Points(x, y, medians), 2, max(body_um) / 2)
    rest = np.full(CELLS * CELLS, np.nan)
    rest[cell] = medians - shape.height_um(x, y)
    noise = mad_sigma(points.z_um - medians[np.searchsorted(cell, label)])
    chance = CHANCE * 1.25 * noise / np.sqrt(float(np.median(count))) / (2 * np.sqrt(np.pi) * SMOOTH_CELLS)
    chance = max(chance, WAVES_UM)
    # Smoothed departures beyond chance; unknown cells take their neighbours', narrow dips are passed over.
    cells = rest.reshape(CELLS, CELLS)
    known = np.isfinite(cells).astype(np.float64)
    filled = np.where(known > 0, cells, 0.0)
    both = []
    for values in (filled, ndimage.median_filter(filled, MARK_CELLS, mode="nearest")):
        total = ndimage.gaussian_filter(values * known, SMOOTH_CELLS, mode="nearest")
        smooth = total / np.maximum(ndimage.gaussian_filter(known, SMOOTH_CELLS, mode="nearest"), 1e-3)
        both.append(smooth * np.clip(np.abs(smooth) / chance - 1, 0, 1))  # none at chance, all at twice
    bumps: FloatArray = np.maximum(both[0], 0) + np.minimum(both[1], 0)
    return replace(shape, noise_um=noise, bumps_um=bumps, body_um=body_um)


def find_dome_heights(windows_um: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the height of what stands at each joint's place, um, (n,) float32; NaN where it is not seen.

    The upper quartile within a fifth of a pitch. `windows_um` (n, SIZE, SIZE) come from `cut_height`.
    """
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    core = np.hypot(axis[:, None], axis[None]) < 0.2 * SAMPLES_PER_PITCH
    values = np.sort(windows_um[:, core], axis=1)  # NaN last
    seen = np.isfinite(values).sum(axis=1)
    place = np.clip((0.75 * seen).astype(np.intp), 0, values.shape[1] - 1)
    height = np.take_along_axis(values, place[:, None], axis=1)[:, 0]
    return np.where(seen >= 0.3 * values.shape[1], height, np.nan).astype(np.float32)


def _sample_pixels(heights: HeightMap, placement: Placement) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return every pixel's place in the package frame and its height; large maps are thinned out evenly."""
    skip = max(1, int(np.sqrt(heights.height_um.size / (4 * POINTS))))
    z = heights.height_um[::skip, ::skip].astype(np.float64)
    row, col = np.meshgrid(*(np.arange(0, n, skip, dtype=np.float64) for n in heights.grid.shape), indexing="ij", sparse=True)
    x, y = placement.undo(*heights.grid.to_um(row, col))
    return x, y, z


def _thin_out(x: FloatArray, y: FloatArray, z: FloatArray, use: NDArray[np.bool_], most: int) -> Points:
    """Return about `most` of the points in use, evenly."""
    chosen = np.flatnonzero(use)
    chosen = chosen[:: max(1, len(chosen) // most)]
    return Points(x.ravel()[chosen], y.ravel()[chosen], z.ravel()[chosen])


def _evaluate_terms(x: FloatArray, y: FloatArray, powers: tuple[tuple[int, int], ...]) -> FloatArray:
    def power(value: FloatArray, k: int) -> FloatArray:
        return np.ones_like(value) if k == 0 else value if k == 1 else value**k

    return np.stack([power(x, i) * power(y, j) for i, j in powers], axis=-1)

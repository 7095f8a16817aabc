"""Find surfaces in a height map: the package's top, the board around it, the domes in a bottom package's openings.

A mould cap or a bare die that stands on a package is a step, not a bend. `sample_top` gives the points of one surface
only: before stacking that on which the memory's joints land, else the one that the recipe's height belongs to.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from inspect_pop.align.height_map import mask_upper_openings
from inspect_pop.core.geometry import FloatArray, HeightMap, Placement
from inspect_pop.core.recipe import Package, describe_construction
from inspect_pop.core.robust import group_median, mad_sigma
from inspect_pop.segment.windows import SAMPLES_PER_PITCH, SIZE

__all__ = [
    "FittedSurface",
    "Points",
    "find_dome_heights",
    "find_levels",
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
STEP_UM = 25.0  # between neighbouring cells: a bent top of 12 mm rises 12 um there where it bends by 150 um
LEAST_LEVEL = 0.1  # share of the cells that makes a surface of its own; lettering and marks are smaller
SEAT_REACH = 1.2  # over the pitch: so near to an upper joint lies the surface that the memory's joints land on
SEAT_CORE = 0.75  # and so near to it there is no cap yet
LEAST_SEAT_POINTS = 100
LEVEL_UM = 10.0  # off the core's surface, that surface still
LEAST_SIDES = 7
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
    """Sample points of one surface of the body's top.

    In a `pre_stack` map that is the surface on which the memory's joints land, outside of their openings or pads; without
    upper joints, and after reflow, the surface whose height is nearest to the stack's. All of the top where it has no step;
    none where a cap or a die leaves a surface that does not show how the package bends.
    """
    x, y, z = _sample_pixels(heights, placement)
    inside = (np.abs(x) < package.body_um[0] / 2 - EDGE_UM) & (np.abs(y) < package.body_um[1] / 2 - EDGE_UM)
    points = _thin_out(x, y, z, inside & np.isfinite(z), POINTS)
    if not len(points.z_um):
        return points
    if heights.stage != "pre_stack" or not any(i.name == "upper" for i in package.interfaces):
        return _keep_level(points, package)
    points = _take(points, ~mask_upper_openings(points.x_um, points.y_um, package, _OPENING))
    return _keep_seat(points, package)


def sample_board(heights: HeightMap, placement: Placement, package: Package) -> Points:
    """Sample points around the body that are low enough to be the bare board."""
    x, y, z = _sample_pixels(heights, placement)
    outside = (np.abs(x) > package.body_um[0] / 2 + BOARD_UM) | (np.abs(y) > package.body_um[1] / 2 + BOARD_UM)
    with np.errstate(invalid="ignore"):
        return _thin_out(x, y, z, outside & (np.abs(z) < 120.0), BOARD_POINTS)


def find_levels(points: Points, body_um: tuple[float, float]) -> tuple[NDArray[np.intp], list[NDArray[np.intp]]]:
    """Find the surfaces that steps part: the cell of each point, and for each surface its cells, the largest surface first.

    Cells are numbered as in a (CELLS, CELLS) grid. Neighbouring cells belong together where their median heights differ by
    less than `STEP_UM`. Surfaces of less than `LEAST_LEVEL` of the seen cells are left out.
    """
    label = _find_cells(points, body_um)
    cell, medians = group_median(label, points.z_um)
    height = np.full(CELLS * CELLS, np.nan)
    height[cell] = medians
    grid, number = height.reshape(CELLS, CELLS), np.arange(CELLS * CELLS).reshape(CELLS, CELLS)
    with np.errstate(invalid="ignore"):
        across, along = np.abs(np.diff(grid, axis=1)) < STEP_UM, np.abs(np.diff(grid, axis=0)) < STEP_UM
    first = np.r_[number[:, :-1][across], number[:-1][along]]
    second = np.r_[number[:, 1:][across], number[1:][along]]
    links = coo_array((np.ones(len(first)), (first, second)), shape=(CELLS * CELLS, CELLS * CELLS))
    piece = connected_components(links, directed=False)[1][cell]
    sizes = np.bincount(piece)
    large = [k for k in np.argsort(-sizes, kind="stable") if sizes[k] >= LEAST_LEVEL * len(cell)]
    # One bend for all pieces, and a height for each: pieces that openings part have the same height, steps differ.
    known = np.isin(piece, large)
    y, x = (np.array(np.unravel_index(cell[known], (CELLS, CELLS))) + 0.5) / CELLS - 0.5
    bend = _evaluate_terms(x, y, ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2)))
    terms = np.column_stack([*(piece[known] == k for k in large), bend])
    heights = np.linalg.lstsq(terms, medians[known], rcond=None)[0][: len(large)]
    order = np.argsort(heights, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(heights[order]) >= STEP_UM) + 1)
    levels = [cell[np.isin(piece, np.array(large)[part])] for part in parts if len(part)]
    return label, sorted(levels, key=len, reverse=True)


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
    label = _find_cells(points, body_um)
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


def _keep_level(points: Points, package: Package) -> Points:
    """Keep the points of the surface that is nearest to the stack's height; all points where there is one surface."""
    label, levels = find_levels(points, package.body_um)
    if len(levels) < 2:
        return points
    away = [abs(float(np.median(points.z_um[np.isin(label, cells)])) - package.stack_height_um) for cells in levels]
    points = _take(points, on_level := np.isin(label, levels[int(np.argmin(away))]))
    cell, medians = group_median(label[on_level], points.z_um)  # a cell at the step has points of both surfaces
    return _take(points, np.abs(points.z_um - medians[np.searchsorted(cell, label[on_level])]) < STEP_UM)


def _keep_seat(points: Points, package: Package) -> Points:
    """Keep the points near the upper joints where a cap or a die stands, or may stand, on the package; else all points."""
    if not describe_construction(package.construction).raised_middle and len(find_levels(points, package.body_um)[1]) < 2:
        return points
    distance = np.full(len(points.z_um), np.inf)  # to the nearest upper joint, in pitches
    for upper in (i for i in package.interfaces if i.name == "upper"):
        joints = cKDTree(np.column_stack([upper.x_um, upper.y_um]))
        away_um = joints.query(np.column_stack([points.x_um, points.y_um]))[0]
        distance = np.minimum(distance, away_um / upper.pitch_um)
    # The surface just around the joints, and what is level with it further away: a cap may come near.
    core = _take(points, distance < SEAT_CORE)
    if len(core.z_um) < LEAST_SEAT_POINTS:
        return core
    surface = fit_surface(core, 2, max(package.body_um) / 2)
    away_um = np.abs(points.z_um - surface.height_um(points.x_um, points.y_um))
    seat = _take(points, (distance < SEAT_REACH) & (away_um < max(4 * surface.noise_um, LEVEL_UM)))
    # A quadratic over all of the body needs points on all of its sides: seven of the eight ninths around the middle one.
    across, along = (
        np.clip(np.floor((v / side + 0.5) * 3), 0, 2) for v, side in zip((seat.x_um, seat.y_um), package.body_um, strict=True)
    )
    seen = set((3 * across + along).tolist()) - {4.0}
    return seat if len(seen) >= LEAST_SIDES else _take(seat, np.zeros(len(seat.z_um), dtype=bool))


def _take(points: Points, use: NDArray[np.bool_]) -> Points:
    return Points(points.x_um[use], points.y_um[use], points.z_um[use])


def _find_cells(points: Points, body_um: tuple[float, float]) -> NDArray[np.intp]:
    """Return the number of each point's cell in a (CELLS, CELLS) grid over the body."""
    row, col = (
        np.clip(((v / side + 0.5) * CELLS).astype(np.intp), 0, CELLS - 1)
        for v, side in ((points.y_um, body_um[1]), (points.x_um, body_um[0]))
    )
    cells: NDArray[np.intp] = row * CELLS + col
    return cells


def _thin_out(x: FloatArray, y: FloatArray, z: FloatArray, use: NDArray[np.bool_], most: int) -> Points:
    """Return about `most` of the points in use, evenly."""
    chosen = np.flatnonzero(use)
    chosen = chosen[:: max(1, len(chosen) // most)]
    return Points(x.ravel()[chosen], y.ravel()[chosen], z.ravel()[chosen])


def _evaluate_terms(x: FloatArray, y: FloatArray, powers: tuple[tuple[int, int], ...]) -> FloatArray:
    def power(value: FloatArray, k: int) -> FloatArray:
        return np.ones_like(value) if k == 0 else value if k == 1 else value**k

    return np.stack([power(x, i) * power(y, j) for i, j in powers], axis=-1)

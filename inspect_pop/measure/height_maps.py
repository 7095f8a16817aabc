"""Measure what height maps show: warpage, stack height, tilt, local stand-off, domes before stacking, local bulges."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import FloatArray, HeightMap, Placement
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.measure.joints import compare_with_neighbours
from inspect_pop.segment.surfaces import (
    FittedSurface,
    Points,
    find_dome_heights,
    fit_surface,
    sample_board,
    sample_top,
    smooth_surface,
)

__all__ = [
    "Bulge",
    "TopShape",
    "find_bulge",
    "level_windows",
    "measure_domes",
    "measure_standoff",
    "measure_top",
    "top_deviation_um",
]

LEAST_POINTS = 400
BOTTOM_BEND = 0.6  # bend of the bottom package over the memory's; 0.4 to 0.7 on the sample boards, whose memories bend more
LARGEST_DEVIATION = 0.35  # of an interface's median gap over nominal; 0.2 with the strongest placement force simulated
GRID = 41  # points per side at which the smooth surface is sampled

# Of the search for a bulge.
_CELLS = 24
_CENTRES = 7
# Radii of the discs over the body's shorter side: from a blister over a few joints to a swollen die.
_RADII = (0.1, 0.2)
_LEAST_CELLS = 4  # inside a disc, to speak of a rise there
_RIDGE = 1e-9  # of one cell's weight: keeps the equations solvable where much of the top is not seen


@dataclass(frozen=True)
class TopShape:
    """The top of a body in one height map, the machine's tilt removed where the board is in view.

    `warpage_um`: highest minus lowest point of the smooth surface over the body after its best plane is taken off;
    positive: convex, edges down. `height_um` is the best plane's height at the body's middle. `tilt_x_deg`, `tilt_y_deg`:
    the rise of the top along x and y against the board's. `surface` is the smooth surface itself, `plane` its best plane:
    height at the middle (um) and slopes along x and y. `points` are what it was fitted to.
    """

    warpage_um: float
    height_um: float
    tilt_x_deg: float
    tilt_y_deg: float
    surface: FittedSurface
    plane: tuple[float, float, float]
    points: Points


@dataclass(frozen=True)
class Bulge:
    """A local rise of the package's top: its centre (package frame), height and width at half height, in um."""

    x_um: float
    y_um: float
    height_um: float
    width_um: float


def measure_top(heights: HeightMap, placement: Placement, package: Package) -> TopShape | None:
    """Measure the shape of the body's top; None where too little of it is seen."""
    points = sample_top(heights, placement, package)
    if len(points.z_um) < LEAST_POINTS:
        return None
    surface = smooth_surface(points, package.body_um)
    axis = np.linspace(-0.5, 0.5, GRID)
    x, y = (v.ravel() for v in np.meshgrid(axis * package.body_um[0], axis * package.body_um[1]))
    z = surface.height_um(x, y)
    middle, slope_x, slope_y = (float(v) for v in np.linalg.lstsq(np.column_stack([np.ones_like(x), x, y]), z, rcond=None)[0])
    flat = z - middle - slope_x * x - slope_y * y
    # Convex where the best-fitting paraboloid of revolution falls towards the edges.
    terms = np.column_stack([np.ones_like(x), x, y, x * x + y * y])
    sign = -1.0 if np.linalg.lstsq(terms / np.abs(terms).max(axis=0), flat, rcond=None)[0][3] > 0 else 1.0
    # The slopes of the bare board are the machine's own tilt; zero where too little board is in view.
    board, board_x, board_y = sample_board(heights, placement, package), 0.0, 0.0
    if len(board.z_um) >= LEAST_POINTS and min(np.ptp(board.x_um), np.ptp(board.y_um)) >= 0.5 * max(package.body_um):
        board_plane = fit_surface(board, 1, 1000.0)
        board_x, board_y = board_plane.coefficient(1, 0), board_plane.coefficient(0, 1)
    return TopShape(
        warpage_um=sign * float(np.ptp(flat)),
        height_um=middle,
        tilt_x_deg=float(np.degrees(np.arctan(slope_x - board_x))),
        tilt_y_deg=float(np.degrees(np.arctan(slope_y - board_y))),
        surface=surface,
        plane=(middle, slope_x, slope_y),
        points=points,
    )


def measure_standoff(
    interface: Interface, package: Package, after: TopShape | None, before: TopShape | None
) -> NDArray[np.float32]:
    """Measure the local distance between the pads of each joint, (n,) um float32; NaN without the map after reflow.

    The finished top, the board's tilt taken off, lies above nominal by what both gaps together deviate. The lower gap
    deviates by the bottom package's own bend, seen before stacking, and by its share (in proportion to the nominal gaps)
    of what the whole stack sank or leans; a bent package rests on its joints, so its bend has no mean over them. The upper
    gap has the rest. Without the map before stacking the bottom package is taken to bend like the memory, `BOTTOM_BEND`
    as much. NaN too where the result is impossible (below half or above twice nominal, or typically further than
    `LARGEST_DEVIATION` from nominal): then the map's heights are not those of this stack.
    """
    x, y = interface.x_um, interface.y_um
    if after is None:
        return np.full(len(x), np.nan, dtype=np.float32)
    rise = _memory_rise(package, after, x, y)
    if len(package.interfaces) > 1:
        first, last = package.interface("lower"), package.interface("upper")
        of_lower = first.gap_um / sum(i.gap_um for i in package.interfaces)
        sunk = float(_memory_rise(package, after, last.x_um, last.y_um).mean())
        bent, scale = (before, 1.0) if before is not None else (after, BOTTOM_BEND)
        rest = float(top_deviation_um(bent, first.x_um, first.y_um).mean())
        bend = scale * (top_deviation_um(bent, x, y) - rest)
        bottom = of_lower * (sunk + _lean(after, x, y)) + bend
        rise = bottom if interface.name == first.name else rise - bottom
    share = 1 + rise / interface.gap_um
    possible = (share >= 0.5) & (share <= 2) & (abs(float(np.median(share)) - 1) <= LARGEST_DEVIATION)
    gap: NDArray[np.float32] = np.where(possible, share * interface.gap_um, np.nan).astype(np.float32)
    return gap


def _memory_rise(package: Package, after: TopShape, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    """Return how far the finished top lies above nominal at these places."""
    lean = _lean(after, x_um, y_um)
    rise: FloatArray = after.height_um - package.stack_height_um + lean + top_deviation_um(after, x_um, y_um)
    return rise


def _lean(top: TopShape, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    lean: FloatArray = np.tan(np.radians(top.tilt_x_deg)) * x_um + np.tan(np.radians(top.tilt_y_deg)) * y_um
    return lean


def top_deviation_um(top: TopShape, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    """Return the height of the smooth top at these places above its own best plane."""
    middle, slope_x, slope_y = top.plane
    deviation: FloatArray = top.surface.height_um(x_um, y_um) - middle - slope_x * x_um - slope_y * y_um
    return deviation


def measure_domes(windows_um: NDArray[np.float32], interface: Interface, before: TopShape | None) -> NDArray[np.float32]:
    """Measure each upper joint's dome before stacking against its neighbours' median, um, (n,) float32; NaN where not seen.

    `windows_um` (n, SIZE, SIZE) are cut from the map before stacking, `before` is the bottom package's top in it.
    Measured above the bottom package's own top, so that warpage and tilt drop out. About 0 for a good dome; a joint
    without one lies far below its neighbours.
    """
    height = find_dome_heights(windows_um)
    if before is not None:
        height = height - before.surface.height_um(interface.x_um, interface.y_um).astype(np.float32)
    deviation: NDArray[np.float32] = compare_with_neighbours(height, interface)[0].astype(np.float32)
    return deviation


def level_windows(windows_um: NDArray[np.float32], interface: Interface, before: TopShape | None) -> NDArray[np.float32]:
    """Lower windows (n, SIZE, SIZE) by what the bottom package's top rises from the middle to each joint.

    How the map leans, and the package in it, says nothing of a dome. Unchanged where the top was not seen.
    """
    if before is None:
        return windows_um
    _, slope_x, slope_y = before.plane
    rise = slope_x * interface.x_um + slope_y * interface.y_um
    return windows_um - rise.astype(np.float32)[:, None, None]


def find_bulge(top: TopShape | None, package: Package) -> Bulge | None:
    """Find the highest local rise of the top, as popcorning of the mold leaves it; None where too little of it is seen.

    The top is averaged over `_CELLS` x `_CELLS` cells. Around each of a grid of centres a disc is left out, a paraboloid
    with a quartic term along either axis is fitted to the rest, and the mean excess inside the disc is the rise. A warped
    body follows such a surface, a swollen one does not. A flat top has a highest rise too: of the fit's error, 1 to 4 um.
    """
    if top is None:
        return None
    points = top.points
    # Means over the cells that hold points, without what lies far off the top's middle height.
    near = np.abs(points.z_um - np.median(points.z_um)) < 300.0
    x, y, z = points.x_um[near], points.y_um[near], points.z_um[near]
    width, depth = package.body_um
    column = np.clip(((x / width + 0.5) * _CELLS).astype(np.int64), 0, _CELLS - 1)
    row = np.clip(((y / depth + 0.5) * _CELLS).astype(np.int64), 0, _CELLS - 1)
    cell = row * _CELLS + column
    count = np.bincount(cell, minlength=_CELLS * _CELLS)
    used = count > 0
    x, y, z = (np.bincount(cell, v, _CELLS * _CELLS)[used] / count[used] for v in (x, y, z))
    if len(z) < _CELLS * _CELLS / 2:
        return None
    # Discs so far inside the body that a surface around them holds them from all sides.
    side = min(package.body_um)
    places: list[tuple[float, float, float]] = []
    for radius in (share * side for share in _RADII):
        across, along = (np.linspace(-r, r, _CENTRES) for r in (max(d / 2 - 1.2 * radius, 0.0) for d in package.body_um))
        places += [(float(cx), float(cy), radius) for cx in across for cy in along]
    discs = np.array(places)
    # The normal equations of all discs are sums over the cells, and solved at once.
    u, v = x / side, y / side
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v, u**4, v**4], axis=1)
    distance = np.hypot(x - discs[:, :1], y - discs[:, 1:2])
    rest = (distance > 1.3 * discs[:, 2:]).astype(np.float64)
    n = terms.shape[1]
    normal = (rest @ (terms[:, :, None] * terms[:, None, :]).reshape(-1, n * n)).reshape(-1, n, n)
    right = rest @ (terms * z[:, None])
    surface = np.linalg.solve(normal + _RIDGE * np.eye(n), right[:, :, None])[:, :, 0]
    inside = distance <= discs[:, 2:]
    n_inside = inside.sum(axis=1)
    excess = ((z - surface @ terms.T) * inside).sum(axis=1) / np.maximum(n_inside, 1)
    rise = np.where(n_inside >= _LEAST_CELLS, excess, 0.0)
    k = int(np.argmax(rise))
    cx, cy, radius = places[k]
    return Bulge(cx, cy, float(rise[k]), 2 * radius) if rise[k] > 0 else None

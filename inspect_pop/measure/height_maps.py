"""What height maps tell: warpage, stack height, tilt, local stand-off, domes before stacking."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import FloatArray, HeightMap, Placement
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.measure.neighbours import against_neighbours
from inspect_pop.segment.surfaces import Surface, board_points, dome_heights, fit_surface, smooth_surface, top_points

__all__ = ["Top", "deviation_um", "measure_domes", "measure_top", "standoff_um", "upright"]

LEAST_POINTS = 400
BOTTOM_BEND = 0.6  # bend of the bottom package over the memory's; 0.4 to 0.7 on the sample boards, whose memories bend more
GRID = 41  # points a side at which the smooth surface is looked at


@dataclass(frozen=True)
class Top:
    """The top of a body in one height map, the machine's tilt removed where the board is in view.

    `warpage_um` as RECORDS.md defines it: highest minus lowest point of the smooth surface over the body after its best
    plane is taken off; positive: convex, edges down. `height_um` is the best plane's height at the body's middle.
    `tilt_x_deg`, `tilt_y_deg`: the rise of the top along x and y against the board's. `surface` is the smooth surface
    itself, `plane` its best plane: height at the middle (um) and slopes along x and y.
    """

    warpage_um: float
    height_um: float
    tilt_x_deg: float
    tilt_y_deg: float
    surface: Surface
    plane: tuple[float, float, float]


def measure_top(heights: HeightMap, placement: Placement, package: Package) -> Top | None:
    """Shape of the body's top; None where too little of it is seen."""
    points = top_points(heights, placement, package)
    if len(points.z_um) < LEAST_POINTS:
        return None
    surface = smooth_surface(points, package.body_um)
    x, y = _grid(package)
    z = surface.height_um(x, y)
    middle, slope_x, slope_y = (float(v) for v in np.linalg.lstsq(np.column_stack([np.ones_like(x), x, y]), z, rcond=None)[0])
    board_x, board_y = _board_slopes(heights, placement, package)
    flat = z - middle - slope_x * x - slope_y * y
    return Top(
        warpage_um=_sign(x, y, flat) * float(np.ptp(flat)),
        height_um=middle,
        tilt_x_deg=float(np.degrees(np.arctan(slope_x - board_x))),
        tilt_y_deg=float(np.degrees(np.arctan(slope_y - board_y))),
        surface=surface,
        plane=(middle, slope_x, slope_y),
    )


def standoff_um(interface: Interface, package: Package, after: Top | None, before: Top | None) -> NDArray[np.float32]:
    """Local distance between the pads of each joint, (n,) um; NaN without the map after reflow.

    The finished top, the board's tilt taken off, lies above nominal by what both gaps together deviate. The lower gap
    deviates by the bottom package's own bend, seen before stacking, and by its share (in proportion to the nominal gaps)
    of what the whole stack sank or leans; a bent package rests on its joints, so its bend has no mean over them. The upper
    gap has the rest. Without the map before stacking the bottom package is taken to bend like the memory, `BOTTOM_BEND`
    as much. The result is kept within half and twice nominal.
    """
    x, y = interface.x_um, interface.y_um
    if after is None:
        return np.full(len(x), np.nan, dtype=np.float32)
    first = package.interfaces[0]
    rise = _memory_rise(package, after, x, y)
    if len(package.interfaces) > 1:
        bottom = _bottom_rise(package, after, before, x, y)
        rise = bottom if interface.name == first.name else rise - bottom
    gap = np.clip(interface.gap_um + rise, 0.5 * interface.gap_um, 2 * interface.gap_um)
    bounded: NDArray[np.float32] = gap.astype(np.float32)
    return bounded


def _memory_rise(package: Package, after: Top, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    """How far the finished top lies above nominal at these places."""
    lean = _leaning(after, x_um, y_um)
    rise: FloatArray = after.height_um - package.stack_height_um + lean + deviation_um(after, x_um, y_um)
    return rise


def _bottom_rise(package: Package, after: Top, before: Top | None, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    """How far the bottom package lies above nominal at these places: its share of sinking and leaning, and its own bend."""
    first, last = package.interfaces[0], package.interfaces[-1]
    share = first.gap_um / sum(i.gap_um for i in package.interfaces)
    sunk = float(_memory_rise(package, after, last.x_um, last.y_um).mean())
    bent, scale = (before, 1.0) if before is not None else (after, BOTTOM_BEND)
    rest = float(deviation_um(bent, first.x_um, first.y_um).mean())
    bend = scale * (deviation_um(bent, x_um, y_um) - rest)
    rise: FloatArray = share * (sunk + _leaning(after, x_um, y_um)) + bend
    return rise


def _leaning(top: Top, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    leaning: FloatArray = np.tan(np.radians(top.tilt_x_deg)) * x_um + np.tan(np.radians(top.tilt_y_deg)) * y_um
    return leaning


def deviation_um(top: Top, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    """Height of the smooth top at these places above its own best plane."""
    middle, slope_x, slope_y = top.plane
    deviation: FloatArray = top.surface.height_um(x_um, y_um) - middle - slope_x * x_um - slope_y * y_um
    return deviation


def measure_domes(windows_um: NDArray[np.float32], interface: Interface, before: Top | None) -> NDArray[np.float32]:
    """Height of each upper joint's dome before stacking, against its neighbours' median, um, (n,); NaN where it is not seen.

    `windows_um` (n, SIZE, SIZE) are cut from the map before stacking, `before` is the bottom package's top in it.
    Measured above the bottom package's own top, so that warpage and tilt drop out. About 0 for a good dome; a joint
    without one lies far below its neighbours.
    """
    height = dome_heights(windows_um)
    if before is not None:
        height = height - before.surface.height_um(interface.x_um, interface.y_um).astype(np.float32)
    deviation: NDArray[np.float32] = against_neighbours(height, interface)[0].astype(np.float32)
    return deviation


def upright(windows_um: NDArray[np.float32], interface: Interface, before: Top | None) -> NDArray[np.float32]:
    """The same windows (n, SIZE, SIZE), lowered by what the bottom package's top rises from the middle to each joint.

    How the map leans, and the package in it, says nothing of a dome. Unchanged where the top was not seen.
    """
    if before is None:
        return windows_um
    _, slope_x, slope_y = before.plane
    rise = slope_x * interface.x_um + slope_y * interface.y_um
    return windows_um - rise.astype(np.float32)[:, None, None]


def _grid(package: Package) -> tuple[FloatArray, FloatArray]:
    """Places spread evenly over the body, flattened."""
    axis = np.linspace(-0.5, 0.5, GRID)
    x, y = np.meshgrid(axis * package.body_um[0], axis * package.body_um[1])
    return x.ravel(), y.ravel()


def _sign(x: FloatArray, y: FloatArray, flat: FloatArray) -> float:
    """+1 where the best-fitting paraboloid (of revolution) falls towards the edges, -1 where it rises (RECORDS.md)."""
    terms = np.column_stack([np.ones_like(x), x, y, x * x + y * y])
    return -1.0 if np.linalg.lstsq(terms / np.abs(terms).max(axis=0), flat, rcond=None)[0][3] > 0 else 1.0


def _board_slopes(heights: HeightMap, placement: Placement, package: Package) -> tuple[float, float]:
    """Slopes of the bare board along x and y: the machine's own tilt. Zero where too little board is in view."""
    points = board_points(heights, placement, package)
    if len(points.z_um) < LEAST_POINTS or min(np.ptp(points.x_um), np.ptp(points.y_um)) < 0.5 * max(package.body_um):
        return 0.0, 0.0
    plane = fit_surface(points, 1, 1000.0)
    return plane.coefficient(1, 0), plane.coefficient(0, 1)

"""What height maps tell: warpage, stack height, tilt, local stand-off, domes before stacking."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.geometry import FloatArray, HeightMap, Placement
from inspect_pop.measure.neighbours import against_neighbours
from inspect_pop.recipe import Interface, Package
from inspect_pop.segment.surfaces import Surface, board_points, dome_heights, fit_surface, top_points

__all__ = ["Top", "deviation_um", "measure_domes", "measure_top", "standoff_um"]

SHAPE_DEGREE = 4  # a warped body is a paraboloid with steeper corners; higher terms would follow lettering
LEAST_POINTS = 400
GRID = 41  # points a side at which the smooth surface is looked at


@dataclass(frozen=True)
class Top:
    """The top of a body in one height map, the machine's tilt removed where the board is in view.

    `warpage_um` as RECORDS.md defines it: highest minus lowest point of the smooth surface over the body after its best
    plane is taken off; positive: convex, edges down. `height_um` is the best plane's height at the body's middle.
    `tilt_x_deg`, `tilt_y_deg`: the rise of the top along x and y against the board's. `bulge_um` is how far the
    middle third rises above the best paraboloid of the rest: a swollen mold. `surface` is the smooth surface itself.
    """

    warpage_um: float
    height_um: float
    tilt_x_deg: float
    tilt_y_deg: float
    bulge_um: float
    surface: Surface


def measure_top(heights: HeightMap, placement: Placement, package: Package) -> Top | None:
    """Shape of the body's top; None where too little of it is seen."""
    points = top_points(heights, placement, package)
    if len(points.z_um) < LEAST_POINTS:
        return None
    half = max(package.body_um) / 2
    surface = fit_surface(points, SHAPE_DEGREE, half)
    x, y = _grid(package)
    z = surface.height_um(x, y)
    plane = np.linalg.lstsq(np.column_stack([np.ones_like(x), x, y]), z, rcond=None)[0]
    board_x, board_y = _board_slopes(heights, placement, package)
    flat = z - plane[0] - plane[1] * x - plane[2] * y
    return Top(
        warpage_um=_sign(x, y, flat) * float(np.ptp(flat)),
        height_um=float(plane[0]),
        tilt_x_deg=float(np.degrees(np.arctan(plane[1] - board_x))),
        tilt_y_deg=float(np.degrees(np.arctan(plane[2] - board_y))),
        bulge_um=_bulge(x, y, flat),
        surface=surface,
    )


def standoff_um(interface: Interface, package: Package, after: Top | None, before: Top | None) -> NDArray[np.float32]:
    """Local distance between the pads of each joint, (n,) um; NaN without the map after reflow.

    The finished top lies where nominal parts and nominal gaps would put it, plus what the gaps below it deviate. How
    that deviation is shared follows from the parts: a bottom package's own warpage, seen before stacking, opens and
    closes the lower gap and, the other way, the upper one, which also has the memory's; height and tilt of the stack
    are shared by the gaps in proportion to their nominal size. Without the map before stacking all is shared so. The
    result is kept within half and twice nominal.
    """
    if after is None:
        return np.full(len(interface.ball), np.nan, dtype=np.float32)
    x, y = interface.x_um, interface.y_um
    total = sum(i.gap_um for i in package.interfaces)
    share = interface.gap_um / total
    stack = after.height_um - package.stack_height_um
    stack = stack + np.tan(np.radians(after.tilt_x_deg)) * x + np.tan(np.radians(after.tilt_y_deg)) * y
    bend = deviation_um(after, package, x, y)
    if before is not None:
        bottom = deviation_um(before, package, x, y)
        bend = bottom if interface.name == "lower" else bend - bottom
        gap = interface.gap_um + share * stack + bend
    else:
        gap = interface.gap_um + share * (stack + bend)
    bounded: NDArray[np.float32] = np.clip(gap, 0.5 * interface.gap_um, 2 * interface.gap_um).astype(np.float32)
    return bounded


def deviation_um(top: Top, package: Package, x_um: FloatArray, y_um: FloatArray) -> FloatArray:
    """Height of the smooth top at these places above its own best plane."""
    x, y = _grid(package)
    plane = np.linalg.lstsq(np.column_stack([np.ones_like(x), x, y]), top.surface.height_um(x, y), rcond=None)[0]
    deviation: FloatArray = top.surface.height_um(x_um, y_um) - plane[0] - plane[1] * x_um - plane[2] * y_um
    return deviation


def measure_domes(heights: HeightMap, interface: Interface, placement: Placement, before: Top | None) -> NDArray[np.float32]:
    """Height of each upper joint's dome before stacking, against its neighbours' median, um, (n,); NaN where it is not seen.

    Measured above the bottom package's own top, so that warpage and tilt drop out. About 0 for a good dome; a joint
    without one lies far below its neighbours.
    """
    height = dome_heights(heights, interface, placement)
    if before is not None:
        height = height - before.surface.height_um(interface.x_um, interface.y_um).astype(np.float32)
    deviation: NDArray[np.float32] = against_neighbours(height, interface)[0].astype(np.float32)
    return deviation


def _grid(package: Package) -> tuple[FloatArray, FloatArray]:
    """Places spread evenly over the body, flattened."""
    axis = np.linspace(-0.5, 0.5, GRID)
    x, y = np.meshgrid(axis * package.body_um[0], axis * package.body_um[1])
    return x.ravel(), y.ravel()


def _sign(x: FloatArray, y: FloatArray, flat: FloatArray) -> float:
    """+1 where the best-fitting paraboloid falls towards the edges, -1 where it rises (RECORDS.md)."""
    terms = np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    paraboloid = np.linalg.lstsq(terms, flat, rcond=None)[0]
    edges_up = paraboloid[3] * np.ptp(x) ** 2 + paraboloid[5] * np.ptp(y) ** 2
    return -1.0 if edges_up > 0 else 1.0


def _board_slopes(heights: HeightMap, placement: Placement, package: Package) -> tuple[float, float]:
    """Slopes of the bare board along x and y: the machine's own tilt. Zero where too little board is in view."""
    points = board_points(heights, placement, package)
    if len(points.z_um) < LEAST_POINTS or min(np.ptp(points.x_um), np.ptp(points.y_um)) < 0.5 * max(package.body_um):
        return 0.0, 0.0
    plane = fit_surface(points, 1, 1000.0)
    return plane.coefficient(1, 0), plane.coefficient(0, 1)


def _bulge(x: FloatArray, y: FloatArray, flat: FloatArray) -> float:
    """Mean height of the middle ninth above the paraboloid through the rest of the body."""
    middle = (np.abs(x) < np.ptp(x) / 6) & (np.abs(y) < np.ptp(y) / 6)
    terms = np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    rest = np.linalg.lstsq(terms[~middle], flat[~middle], rcond=None)[0]
    return float(np.mean(flat[middle] - terms[middle] @ rest))

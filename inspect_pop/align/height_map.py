"""The outline of a package's body in a height map: a coarse box first, then its four edges, line by line.

Where a package sits in a height map; refuses rather than guesses.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.align.pin1_mark import pin1_corner
from inspect_pop.core.errors import FrameFault
from inspect_pop.core.geometry import FloatArray, Grid, HeightMap, Placement
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Package

__all__ = ["Outline", "align_height", "coarse_box", "fit_outline", "sides"]

# ---- align/body
RIM_UM = 240.0  # width of the ring around the body that should be lower: the usual keep-out of a placed part is wider
CORNER = 0.08  # share of an edge left out at either end: corners are rounded and shadowed


@dataclass(frozen=True)
class Outline:
    """A rectangle fitted to edge points: its placement and its size as found (um).

    `lost` is how many of its four edges are in view and were not found along half of their length, 4 where a direction
    has no edge at all; `agree` the share of edge points that lie on the rectangle.
    """

    placement: Placement
    width_um: float
    height_um: float
    lost: int
    agree: float


def sides(height_um: NDArray[np.float32], level_um: float) -> NDArray[np.float32]:
    """+1 above `level_um`, -1 below, -0.25 where there is no data: shadows lie beside a body rather than on it.

    Single pixels are filtered out (median of 3 x 3).
    """
    above = np.uint8(2) * (height_um > level_um)
    np.copyto(above, 1, where=np.isnan(height_um))
    meaning = np.array([-1.0, -0.25, 1.0], dtype=np.float32)
    signed: NDArray[np.float32] = meaning[cv2.medianBlur(above, 3)]
    return signed


def coarse_box(
    side: NDArray[np.float32], grid: Grid, body_um: tuple[float, float], search_um: float
) -> tuple[float, float, float]:
    """(x, y, quality) of the body's middle: high inside, low in a ring around.

    Quality is the mean of `side` inside less half of that in the ring, over one and a half: 1 for a clear body.
    """
    half_c, half_r = (round(b / 2 / grid.pixel_um) for b in body_um)
    rim, reach = round(RIM_UM / grid.pixel_um), round(search_um / grid.pixel_um)
    row0, col0 = grid.to_pixel(np.zeros(1), np.zeros(1))
    pad = max(half_r, half_c) + rim + reach + 2
    total = cv2.integral(np.pad(side, pad), sdepth=cv2.CV_32F)  # quarters of a pixel: exact up to four million pixels
    step = np.arange(-reach, reach + 1, 2)
    row, col = np.meshgrid(round(float(row0[0])) + step + pad, round(float(col0[0])) + step + pad, indexing="ij")
    row = np.clip(row, pad - reach - half_r, total.shape[0] - half_r - rim - 2)
    col = np.clip(col, pad - reach - half_c, total.shape[1] - half_c - rim - 2)
    inner = _box_sum(total, row, col, half_r, half_c)
    around = _box_sum(total, row, col, half_r + rim, half_c + rim) - inner
    k = np.unravel_index(int(np.argmax(inner - around)), inner.shape)
    x, y = grid.to_um(row[k] - pad, col[k] - pad)
    area = 4 * half_r * half_c
    ring = 4 * (half_r + rim) * (half_c + rim) - area
    return float(x), float(y), float((inner[k] / area - 0.5 * around[k] / ring) / 1.5)


def fit_outline(side: NDArray[np.float32], grid: Grid, body_um: tuple[float, float], middle_um: tuple[float, float]) -> Outline:
    """Rotation, offset and size of the body from its edges near the coarse box; sides off the map are done without.

    Small-angle least squares in (x, y, rotation, width, height), reweighted with Tukey's biweight so that components
    that touch an edge do not count. The rotation is exact to 1e-4 of itself at two degrees.
    """
    design, target, lost = _edge_equations(side, grid, body_um, middle_um)
    if lost == 4:
        return Outline(Placement(*middle_um, 0.0, float("inf")), *body_um, lost=lost, agree=0.0)
    hold = 1e-3 * np.eye(5)[3:]
    weight = np.ones(len(target))
    for _ in range(8):
        # Two faint equations hold the size to the nominal where only one of two opposite edges is in view.
        left = np.vstack([design * weight[:, None], hold])
        right = np.concatenate([target * weight, hold[:, 3:] @ np.array(body_um)])
        solution = np.linalg.lstsq(left, right, rcond=None)[0]
        error = np.abs(target - design @ solution)
        sigma = max(float(np.median(error)) / 0.6745, grid.pixel_um / 2)  # edges are seen to whole pixels
        weight = np.clip(1 - (error / (4.685 * sigma)) ** 2, 0, None)
    agree = weight > 0
    rms = float(np.sqrt(np.mean(error[agree] ** 2))) if agree.any() else float("inf")
    x, y, rotation, width, height = (float(v) for v in solution)
    placement = Placement(x + middle_um[0], y + middle_um[1], float(np.degrees(rotation)), rms)
    return Outline(placement, width, height, lost, float(agree.mean()))


def _box_sum(total: FloatArray, row: NDArray[np.intp], col: NDArray[np.intp], half_r: int, half_c: int) -> FloatArray:
    low, high = row - half_r, row + half_r
    left, right = col - half_c, col + half_c
    out: FloatArray = total[high, right] - total[low, right] - total[high, left] + total[low, left]
    return out


def _edge_equations(
    side: NDArray[np.float32], grid: Grid, body_um: tuple[float, float], middle_um: tuple[float, float]
) -> tuple[FloatArray, FloatArray, int]:
    """One linear equation in (x, y, rotation, width, height) per line across an edge: (k, 5), (k,); and how many edges are
    lost. Coordinates are relative to the coarse middle, so that rotation and offset do not mix."""
    rows, targets, lines = [], [], []
    for axis, sign in ((0, -1), (0, 1), (1, -1), (1, 1)):
        along, across, looked_at = _edge_points(side, grid, body_um, middle_um, axis, sign)
        coefficients = np.zeros((len(along), 5))
        coefficients[:, axis] = 1
        coefficients[:, 2] = middle_um[1 - axis] - along if axis == 0 else along - middle_um[1 - axis]
        coefficients[:, 3 + axis] = sign / 2
        rows.append(coefficients)
        targets.append(across - middle_um[axis])
        lines.append(looked_at)
    found = [len(t) for t in targets]
    whole = min(sum(found[:2]), sum(found[2:])) > 0
    lost = sum(n < 0.5 * looked_at for n, looked_at in zip(found, lines, strict=True)) if whole else 4
    return np.concatenate(rows), np.concatenate(targets), lost


def _edge_points(
    side: NDArray[np.float32], grid: Grid, body_um: tuple[float, float], middle_um: tuple[float, float], axis: int, sign: int
) -> tuple[FloatArray, FloatArray, int]:
    """Where each line across one edge leaves the body: (coordinate along the edge, across it), um; and how many lines
    were looked at. Empty and 0 where the edge is off the map.

    The edge is where the sum of `side` inside less that outside is greatest.
    """
    reach_um = 0.036 * body_um[1 - axis] / 2 + 150.0  # two degrees over half a body, and the coarse box's own error
    span = (0.5 - CORNER) * body_um[1 - axis]
    edge = middle_um[axis] + sign * body_um[axis] / 2
    picture, lines, places = _strip(side, grid, axis, (middle_um[1 - axis], span), (edge, reach_um))
    if picture.shape[1] < 4 or abs(places[-1] - places[0]) < 1.5 * reach_um:
        return np.zeros(0), np.zeros(0), 0
    outward = picture if (places[-1] > places[0]) == (sign > 0) else picture[:, ::-1]
    ordered = places if (places[-1] > places[0]) == (sign > 0) else places[::-1]
    last = np.argmax(np.cumsum(outward, axis=1), axis=1)
    found = (last > 0) & (last < outward.shape[1] - 1)
    return lines[found], ordered[last[found]] + sign * grid.pixel_um / 2, len(lines)


def _strip(
    side: NDArray[np.float32], grid: Grid, axis: int, along: tuple[float, float], across: tuple[float, float]
) -> tuple[NDArray[np.float32], FloatArray, FloatArray]:
    """Part of the map around one edge as (lines, samples across), with the coordinates of both; middle and half span in um."""
    x = grid.origin_um[0] + np.arange(grid.shape[1]) * grid.pixel_um
    y = grid.origin_um[1] - np.arange(grid.shape[0]) * grid.pixel_um
    lines, places = (y, x) if axis == 0 else (x, y)
    picture = side if axis == 0 else side.T
    keep_lines = np.abs(lines - along[0]) <= along[1]
    keep_places = np.abs(places - across[0]) <= across[1]
    return picture[keep_lines][:, keep_places], lines[keep_lines], places[keep_places]


# ---- align/heights
MIN_BODY = 0.6  # how clearly the body must stand above its surroundings; a clear one has 0.95 and more
MAX_LOST = 1  # edges that something may hide: a body of another size has two where they should not be
MIN_AGREE = 0.5  # share of the edge points on the fitted outline; below: not confident
SIZE_TOLERANCE = 0.02  # bodies are made to 0.1 mm (JEDEC); edges are seen to two pixels


def align_height(heights: HeightMap, package: Package, limits: Limits) -> Placement:
    """The package's own offset and rotation in this height map, from the outline of its body.

    Raises
    ------
    FrameFault
        No body of this size is within reach, or its pin-1 mark is at another corner than the recipe says.
    """
    thing = f"{heights.refdes} {heights.stage} height map"
    side = sides(heights.height_um, _level(heights, package))
    x, y, quality = coarse_box(side, heights.grid, package.body_um, limits.search_um)
    if quality < MIN_BODY:
        raise FrameFault(
            thing,
            expected=f"a body of {_size(package.body_um)} um within {limits.search_um:.0f} um of the middle",
            found=f"{max(quality, 0):.0%} of it above its surroundings",
            remedy="Check origin_um, pixel_um and scale_um of the map, and that the recipe is this product's.",
        )
    outline = fit_outline(side, heights.grid, package.body_um, (x, y))
    _check_size(outline, package, heights.grid.pixel_um, thing)
    _check_mark(heights, outline.placement, package, thing)
    if outline.placement.residual_um > limits.alignment_residual_um:
        raise FrameFault(
            thing,
            expected=f"the body's outline within {limits.alignment_residual_um:.0f} um rms",
            found=f"{outline.placement.residual_um:.0f} um",
            remedy="Look at the map: is the package whole and alone?",
        )
    return replace(outline.placement, confident=outline.agree >= MIN_AGREE)


def _level(heights: HeightMap, package: Package) -> float:
    """Half way from the board to the body: half the stack's height, or before stacking half that of the upper joints' pads.

    A package without an upper interface stands by itself in both maps.
    """
    upper = [i for i in package.interfaces if i.name == "upper"]
    if heights.stage == "pre_stack" and upper:
        return upper[0].pads_z_um[0] / 2
    return package.stack_height_um / 2


def _size(body_um: tuple[float, float]) -> str:
    return f"{body_um[0]:.0f} x {body_um[1]:.0f}"


def _check_size(outline: Outline, package: Package, pixel_um: float, thing: str) -> None:
    found = np.array([outline.width_um, outline.height_um])
    expected = np.array(package.body_um)
    wrong = np.any(np.abs(found - expected) > np.maximum(SIZE_TOLERANCE * expected, 100.0 + 2 * pixel_um))
    if wrong or outline.lost > MAX_LOST:
        raise FrameFault(
            thing,
            expected=f"a body of {_size(package.body_um)} um",
            found=f"{_size((outline.width_um, outline.height_um))} um" if wrong else "no edges where its would be",
            remedy="Check pixel_um of the map, and that the recipe is this product's.",
        )


def _check_mark(heights: HeightMap, placement: Placement, package: Package, thing: str) -> None:
    corner = pin1_corner(heights, placement, package)
    if corner is not None and corner != package.a1_corner:
        raise FrameFault(
            thing,
            expected=f"the pin-1 mark at the {package.a1_corner.replace('_', ' ')} corner",
            found=f"it at the {corner.replace('_', ' ')} corner: the board or the image is turned or mirrored",
            remedy="Turn the board, or correct the orientation of the machine's images.",
        )

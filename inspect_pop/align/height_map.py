"""Align a height map: where a package's body sits in it, and at which corner its pin-1 mark lies.

The body is found as a coarse box first, then by its four edges, line by line. What cannot be found is refused.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import FrameFault
from inspect_pop.core.geometry import FloatArray, Grid, HeightMap, Placement
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Package
from inspect_pop.core.robust import mad_sigma, nan_median, root_biweight

__all__ = [
    "CORNERS",
    "BodyOutline",
    "align_height",
    "find_body",
    "find_pin1_corner",
    "fit_body_outline",
    "mask_upper_openings",
    "threshold_heights",
]

MIN_BODY = 0.6  # how clearly the body must stand above its surroundings; a clear one has 0.95 and more
MAX_MISSING_EDGES = 1  # edges that something may hide: a body of another size has two where they should not be
MIN_AGREEMENT = 0.5  # share of the edge points on the fitted outline; below: not confident
SIZE_TOLERANCE = 0.02  # bodies are made to 0.1 mm (JEDEC); edges are seen to two pixels
RIM_UM = 240.0  # width of the ring around the body that should be lower: the usual keep-out of a placed part is wider
CORNER = 0.08  # share of an edge left out at either end: corners are rounded and shadowed

CORNERS = ("upper_left", "upper_right", "lower_left", "lower_right")
_SIGNS = ((-1, 1), (1, 1), (-1, -1), (1, -1))
CORNER_SHARE = 0.2  # side of the corner's patch over the body's: the mark lies within, lettering begins further in
EDGE_UM = 60.0  # left out along the edge, where shadows and the placement's own error reach
SMALLEST_UM = 240.0  # marks are dots or triangles of at least a quarter of a millimetre
MIN_DEPTH_UM = 5.0  # mean depth or height over that spot; a mold's texture reaches 1 to 2 um at that size
MIN_LEAD = 2.5  # times the next corner's
_OPENING = 0.5  # radius around an upper joint that is left out of a corner's patch, over the pitch


@dataclass(frozen=True)
class BodyOutline:
    """A rectangle fitted to edge points: its placement and its size as found (um).

    `missing_edges` counts the edges that are in view and were not found along half of their length, 4 where a direction
    has no edge at all. `agreement` is the share of edge points that lie on the rectangle.
    """

    placement: Placement
    width_um: float
    height_um: float
    missing_edges: int
    agreement: float


def align_height(heights: HeightMap, package: Package, limits: Limits) -> Placement:
    """Find the package's own offset and rotation in this height map, from the outline of its body.

    Raises
    ------
    FrameFault
        No body of this size is within reach, or its pin-1 mark is at another corner than the recipe says.
    """
    thing = f"{heights.refdes} {heights.stage} height map"
    # Half way from the board to the body: half the stack's height, or before stacking half that of the upper joints'
    # pads. A package without an upper interface stands by itself in both maps.
    upper = [i for i in package.interfaces if i.name == "upper"]
    level_um = upper[0].pads_z_um[0] / 2 if heights.stage == "pre_stack" and upper else package.stack_height_um / 2
    side = threshold_heights(heights.height_um, level_um)
    x, y, quality = find_body(side, heights.grid, package.body_um, limits.search_um)
    width_um, depth_um = package.body_um
    if quality < MIN_BODY:
        raise FrameFault(
            thing,
            expected=f"a body of {width_um:.0f} x {depth_um:.0f} um within {limits.search_um:.0f} um of the middle",
            found=f"{max(quality, 0):.0%} of it above its surroundings",
            remedy="Check origin_um, pixel_um and scale_um of the map, and that the recipe is this product's.",
        )
    outline = fit_body_outline(side, heights.grid, package.body_um, (x, y))
    size = np.array([outline.width_um, outline.height_um])
    expected = np.array(package.body_um)
    wrong = np.any(np.abs(size - expected) > np.maximum(SIZE_TOLERANCE * expected, 100.0 + 2 * heights.grid.pixel_um))
    if wrong or outline.missing_edges > MAX_MISSING_EDGES:
        raise FrameFault(
            thing,
            expected=f"a body of {width_um:.0f} x {depth_um:.0f} um",
            found=f"{size[0]:.0f} x {size[1]:.0f} um" if wrong else "no edges where its edges should be",
            remedy="Check pixel_um of the map, and that the recipe is this product's.",
        )
    corner = find_pin1_corner(heights, outline.placement, package)
    if corner is not None and corner != package.a1_corner:
        raise FrameFault(
            thing,
            expected=f"the pin-1 mark at the {package.a1_corner.replace('_', ' ')} corner",
            found=f"it at the {corner.replace('_', ' ')} corner: the board or the image is turned or mirrored",
            remedy="Turn the board, or correct the orientation of the machine's images.",
        )
    if outline.placement.residual_um > limits.alignment_residual_um:
        raise FrameFault(
            thing,
            expected=f"the body's outline within {limits.alignment_residual_um:.0f} um rms",
            found=f"{outline.placement.residual_um:.0f} um",
            remedy="Look at the map: is the package whole and alone?",
        )
    return replace(outline.placement, confident=outline.agreement >= MIN_AGREEMENT)


def threshold_heights(height_um: NDArray[np.float32], level_um: float) -> NDArray[np.float32]:
    """Return +1 above `level_um`, -1 below, -0.25 where there is no data: shadows lie next to a body rather than on it.

    Single pixels are filtered out (median of 3 x 3).
    """
    above = np.uint8(2) * (height_um > level_um)
    np.copyto(above, 1, where=np.isnan(height_um))
    meaning = np.array([-1.0, -0.25, 1.0], dtype=np.float32)
    signed: NDArray[np.float32] = meaning[cv2.medianBlur(above, 3)]
    return signed


def find_body(
    side: NDArray[np.float32], grid: Grid, body_um: tuple[float, float], search_um: float
) -> tuple[float, float, float]:
    """Find the body's middle (x, y) and the quality of the find: high inside, low in a ring around.

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


def _box_sum(total: FloatArray, row: NDArray[np.intp], col: NDArray[np.intp], half_r: int, half_c: int) -> FloatArray:
    low, high = row - half_r, row + half_r
    left, right = col - half_c, col + half_c
    out: FloatArray = total[high, right] - total[low, right] - total[high, left] + total[low, left]
    return out


def fit_body_outline(
    side: NDArray[np.float32], grid: Grid, body_um: tuple[float, float], middle_um: tuple[float, float]
) -> BodyOutline:
    """Fit rotation, offset and size of the body to its edges near the coarse box; sides off the map are done without.

    Small-angle least squares in (x, y, rotation, width, height), reweighted with Tukey's biweight so that components
    that touch an edge do not count. The rotation is exact to 1e-4 of itself at two degrees.
    """
    # One linear equation per line across an edge; relative to the coarse middle, so that rotation and offset do not mix.
    rows, targets, lines = [], [], []
    for axis, sign in ((0, -1), (0, 1), (1, -1), (1, 1)):
        along, across, n_lines = _find_edge_points(side, grid, body_um, middle_um, axis, sign)
        coefficients = np.zeros((len(along), 5))
        coefficients[:, axis] = 1
        coefficients[:, 2] = middle_um[1 - axis] - along if axis == 0 else along - middle_um[1 - axis]
        coefficients[:, 3 + axis] = sign / 2
        rows.append(coefficients)
        targets.append(across - middle_um[axis])
        lines.append(n_lines)
    found = [len(t) for t in targets]
    both_ways = min(sum(found[:2]), sum(found[2:])) > 0
    missing = sum(n < 0.5 * of for n, of in zip(found, lines, strict=True)) if both_ways else 4
    if missing == 4:
        return BodyOutline(Placement(*middle_um, 0.0, float("inf")), *body_um, missing_edges=4, agreement=0.0)
    design, target = np.concatenate(rows), np.concatenate(targets)
    hold = 1e-3 * np.eye(5)[3:]
    weight = np.ones(len(target))
    for _ in range(8):
        # Two faint equations hold the size to the nominal where only one of two opposite edges is in view.
        left = np.vstack([design * weight[:, None], hold])
        right = np.concatenate([target * weight, hold[:, 3:] @ np.array(body_um)])
        solution = np.linalg.lstsq(left, right, rcond=None)[0]
        error = np.abs(target - design @ solution)
        sigma = max(float(np.median(error)) / 0.6745, grid.pixel_um / 2)  # edges are seen to whole pixels
        weight = root_biweight(error / (4.685 * sigma))
    agree = weight > 0
    rms = float(np.sqrt(np.mean(error[agree] ** 2))) if agree.any() else float("inf")
    x, y, rotation, width, height = (float(v) for v in solution)
    placement = Placement(x + middle_um[0], y + middle_um[1], float(np.degrees(rotation)), rms)
    return BodyOutline(placement, width, height, missing, float(agree.mean()))


def _find_edge_points(
    side: NDArray[np.float32], grid: Grid, body_um: tuple[float, float], middle_um: tuple[float, float], axis: int, sign: int
) -> tuple[FloatArray, FloatArray, int]:
    """Find where each line across one edge leaves the body: (coordinate along the edge, across it), um, and the line count.

    Empty and 0 where the edge is off the map. The edge is where the sum of `side` inside less that outside is greatest.
    """
    reach_um = 0.036 * body_um[1 - axis] / 2 + 150.0  # two degrees over half a body, and the coarse box's own error
    span_um = (0.5 - CORNER) * body_um[1 - axis]
    edge_um = middle_um[axis] + sign * body_um[axis] / 2
    x = grid.origin_um[0] + np.arange(grid.shape[1]) * grid.pixel_um
    y = grid.origin_um[1] - np.arange(grid.shape[0]) * grid.pixel_um
    lines, places = (y, x) if axis == 0 else (x, y)
    use_lines = np.abs(lines - middle_um[1 - axis]) <= span_um
    use_places = np.abs(places - edge_um) <= reach_um
    picture = (side if axis == 0 else side.T)[use_lines][:, use_places]
    lines, places = lines[use_lines], places[use_places]
    if picture.shape[1] < 4 or abs(places[-1] - places[0]) < 1.5 * reach_um:
        return np.zeros(0), np.zeros(0), 0
    if (places[-1] > places[0]) != (sign > 0):  # outward
        picture, places = picture[:, ::-1], places[::-1]
    last = np.argmax(np.cumsum(picture, axis=1), axis=1)
    found = (last > 0) & (last < picture.shape[1] - 1)
    return lines[found], places[last[found]] + sign * grid.pixel_um / 2, len(lines)


def find_pin1_corner(heights: HeightMap, placement: Placement, package: Package) -> str | None:
    """Find the corner of the body, as placed, that bears the pin-1 mark: a name of `CORNERS`, or None if none stands out.

    The four corners are brought to one orientation and each is compared with the median of all: what the corners
    share, such as warpage, drops out. Joints' places do not count in a `pre_stack` map. The mark may be raised or sunk.
    """
    # The map's own pixel, but at most 150 samples per corner.
    step = max(heights.grid.pixel_um, CORNER_SHARE * min(package.body_um) / 150)
    patches = np.stack([_cut_corner(heights, placement, package, signs, step) for signs in _SIGNS])
    if np.isfinite(patches).mean() < 0.5:
        return None
    patches = patches - np.nanmedian(patches[:, ::3, ::3], axis=(1, 2), keepdims=True)
    common = nan_median(patches, axis=0)
    size = 2 * round(SMALLEST_UM / step / 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(np.float32)
    disc /= disc.sum()
    depth = np.zeros(len(CORNERS))
    for k, patch in enumerate(patches):
        seen = np.isfinite(patch)
        # Greatest absolute mean over a disc of which at least half is known.
        limited = np.clip(np.where(seen, patch - common, 0), -200, 200).astype(np.float32)
        share = cv2.filter2D(seen.astype(np.float32), -1, disc, borderType=cv2.BORDER_CONSTANT)
        mean = cv2.filter2D(limited, -1, disc, borderType=cv2.BORDER_CONSTANT) / np.maximum(share, 1e-6)
        depth[k] = np.abs(mean[share > 0.5]).max(initial=0.0)
    first, second = np.argsort(depth)[::-1][:2]
    if depth[first] < MIN_DEPTH_UM or depth[first] < MIN_LEAD * depth[second]:
        return None
    return CORNERS[first]


def _cut_corner(
    heights: HeightMap, placement: Placement, package: Package, signs: tuple[int, int], step: float
) -> NDArray[np.float32]:
    """Cut the heights of one corner, from the corner inwards along both axes, less their robust plane; NaN: no data.

    The plane is fitted in three rounds of least squares to what lies within 2.5 sigma, on every third sample either way.
    """
    inward = np.arange(EDGE_UM, CORNER_SHARE * min(package.body_um), step)
    x = signs[0] * (package.body_um[0] / 2 - inward[None, :])
    y = signs[1] * (package.body_um[1] / 2 - inward[:, None])
    row, col = heights.grid.to_pixel(*placement.apply(*np.broadcast_arrays(x, y)))
    out = cv2.remap(
        heights.height_um,
        col.astype(np.float32),
        row.astype(np.float32),
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=float("nan"),
    )
    patch = np.array(out, dtype=np.float32)
    if heights.stage == "pre_stack":  # an opening without its dome would look like a mark
        patch[mask_upper_openings(x, y, package, _OPENING)] = np.nan
    row, col = np.ogrid[: patch.shape[0], : patch.shape[1]]
    value = patch[::3, ::3].astype(np.float64)
    basis = np.stack([v.ravel() for v in np.broadcast_arrays(row[::3], col[:, ::3], np.ones(value.shape))], axis=1)
    use = np.isfinite(value).ravel()
    value, basis = value.ravel()[use], basis[use].astype(np.float64)
    use = np.ones(len(value), dtype=bool)
    for _ in range(3):
        if use.sum() < 16:
            return patch
        weighted = basis * use[:, None]
        plane = np.linalg.lstsq(weighted.T @ basis, weighted.T @ value, rcond=None)[0]
        error = np.abs(value - basis @ plane)
        use = error <= 2.5 * max(mad_sigma(error), 0.5)
    flat: NDArray[np.float32] = (patch - (plane[0] * row + plane[1] * col + plane[2])).astype(np.float32)
    return flat


def mask_upper_openings(x_um: FloatArray, y_um: FloatArray, package: Package, radius: float) -> NDArray[np.bool_]:
    """Mark places near an upper joint, where a map before stacking shows solder lower down rather than the top.

    Parameters
    ----------
    x_um, y_um
        Places in the package frame, of shapes that broadcast against each other: (k,) and (k,), or (1, cols) and (rows, 1).
    radius
        Of the circle around each joint, over the pitch.
    """
    near = np.zeros(np.broadcast_shapes(x_um.shape, y_um.shape), dtype=bool)
    if not near.size:
        return near
    for upper in (i for i in package.interfaces if i.name == "upper"):
        reach = radius * upper.pitch_um
        within = (upper.x_um > x_um.min() - reach) & (upper.x_um < x_um.max() + reach)
        within &= (upper.y_um > y_um.min() - reach) & (upper.y_um < y_um.max() + reach)
        for joint_x, joint_y in zip(upper.x_um[within], upper.y_um[within], strict=True):
            near |= (x_um - joint_x) ** 2 < reach**2 - (y_um - joint_y) ** 2
    return near

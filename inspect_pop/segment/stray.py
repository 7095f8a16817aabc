"""Find stray solder: solder between the joints, or beside them, where the design has none.

A solder ball that rolled away, a splash, a web that touches neither joint. The whole picture of the interface is searched,
at a ninth of the pitch or finer: what is as bright as solder in two neighbouring slices, and is no joint. A puddle is darker and
broad, as halos are: the middle of each gap between two joints is compared with the gaps around it as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.geometry import Grid, Placement, SliceStack
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.segment.outlines import Outlines
from inspect_pop.segment.windows import CONFIRMED_FROM, Windows

__all__ = ["StraySolder", "find_stray_solder"]

Array = NDArray[np.float32]
SMALLEST_UM = 75.0  # equal-area diameter from which on a spot counts: below, it is grain in the pictures
ASIDE = 0.62  # of the pitch, from a joint's middle: nearer stray solder cuts the joint's clearance
_PIXELS_PER_PITCH = 12
_SOLDER = 0.5  # of the way from the surroundings' grey to solder's: where solder ends
_MARGIN = 0.06  # of the pitch beyond a joint's outline that is its own blurred edge
_BRIGHTEST_HALO = 0.8
# Grey of a gap's middle over the gaps around it. Sound gaps of the samples and of 30 simulated pictures reach 0.51, where a ghost
# lies along the package's edge. Of two gaps that meet at a right angle 3 of 13,271 sound ones are both brighter than `_FLOODED`.
_FILLED, _FLOODED = 0.55, 0.30
_FLOODED_GAPS = 2  # flooded gaps within `_CORNER` pitches of one another, itself among them, as in a puddle
_CORNER = 0.85
_GAPS_AROUND = 3.0  # pitches around a gap whose gaps it is compared with
_FEWEST_GAPS = 8
_FILLED_WIDTH = 0.25  # of the pitch: least width of a filled gap, whose outlines reach into the solder
_AROUND = 0.9  # of the pitch around the joints that is searched: further out lies the body's edge


@dataclass(frozen=True)
class StraySolder:
    """Stray solder of one interface: m spots, and what they mean for the n joints.

    `x_um`, `y_um` (m,) are the spots' middles in the package frame, `size_um` (m,) their equal-area diameters, as far as they
    are seen beyond the joints' own edges. `aside_um` (n,) float32 is the size of the largest spot that cuts a joint's
    clearance; 0 where there is none.
    """

    x_um: NDArray[np.floating]
    y_um: NDArray[np.floating]
    size_um: NDArray[np.floating]
    aside_um: Array


def find_stray_solder(
    stack: SliceStack, windows: Windows, outlines: Outlines, interface: Interface, package: Package, placement: Placement
) -> StraySolder:
    """Find the stray solder of one interface.

    Parameters
    ----------
    stack, placement
        The pictures, and where they show the package.
    windows, outlines
        Of the interface's joints, which give the grey axis and where joints end.
    interface, package
        As designed. In transmission the package's other interfaces are seen too, and are no stray solder.
    """
    pictures, grid = _shrink_pictures(stack, windows, interface.pitch_um)
    grey = _join_slices(pictures)
    balls = _place_balls(windows, outlines, interface)
    others = [i for i in package.interfaces if i.name != interface.name] if stack.method == "transmission" else []
    empty = _mask_joints(interface, balls, others, placement, grid)
    halo = _estimate_halo(grey, empty, round(interface.pitch_um / grid.pixel_um))
    seen = (empty & (grey - (1 - _SOLDER) * halo > _SOLDER)).astype(np.uint8)
    spots = _measure_spots(seen, grid, placement, interface)
    gaps = _find_filled_gaps(grey, grid, placement, interface, balls, others)
    new = (spots.aside_um[gaps.pairs] == 0).any(axis=1)
    pairs, width_um = gaps.pairs[new], gaps.width_um[new]
    np.maximum.at(spots.aside_um, pairs.ravel(), np.repeat(width_um, 2).astype(np.float32))
    x_um, y_um = np.r_[spots.x_um, gaps.x_um[new]], np.r_[spots.y_um, gaps.y_um[new]]
    return StraySolder(x_um, y_um, np.r_[spots.size_um, width_um], spots.aside_um)


def _measure_spots(seen: NDArray[np.uint8], grid: Grid, placement: Placement, interface: Interface) -> StraySolder:
    """Return the spots of a mask, but for small ones."""
    aside_um = np.zeros(len(interface.ball), dtype=np.float32)
    if not seen.any():
        nowhere = np.zeros(0)
        return StraySolder(nowhere, nowhere, nowhere, aside_um)
    # Few pixels are solder: labels of those alone, at a quarter of the time that statistics over the picture take.
    _, spots = cv2.connectedComponents(seen, connectivity=8)
    row, col = np.nonzero(seen)
    spot = spots[row, col]
    pixels = np.bincount(spot)
    size_um = 2 * np.sqrt(pixels / np.pi) * grid.pixel_um
    large = np.flatnonzero(size_um >= SMALLEST_UM)
    middle = [np.bincount(spot, places)[large] / pixels[large] for places in (row, col)]
    x_um, y_um = placement.undo(*grid.to_um(*middle))
    joints = cKDTree(np.column_stack([interface.x_um, interface.y_um]))
    for one in large:
        places = np.column_stack(placement.undo(*grid.to_um(row[spot == one], col[spot == one])))
        near = joints.query_ball_point(places, ASIDE * interface.pitch_um)
        rows = np.unique(np.concatenate([np.asarray(k, dtype=np.intp) for k in near]))
        aside_um[rows] = np.maximum(aside_um[rows], np.float32(size_um[one]))
    return StraySolder(x_um, y_um, size_um[large], aside_um)


def _shrink_pictures(stack: SliceStack, windows: Windows, pitch_um: float) -> tuple[list[Array], Grid]:
    """Return the usable slices on the windows' grey axis, averaged down, and their grid."""
    grid = stack.grid
    factor = max(1, int(pitch_um / _PIXELS_PER_PITCH / grid.pixel_um))
    rows, cols = grid.shape[0] // factor, grid.shape[1] // factor
    shift = (factor - 1) / 2 * grid.pixel_um
    small = Grid((rows, cols), grid.pixel_um * factor, (grid.origin_um[0] + shift, grid.origin_um[1] - shift))
    sign = -1.0 if stack.polarity == "solder_dark" else 1.0
    usable = [k for k in range(len(stack.z_um)) if k not in stack.lost]
    pictures = []
    for page, background, solder in zip(usable, windows.background, windows.solder, strict=True):
        picture = stack.values[page][: rows * factor, : cols * factor]
        if factor > 1:
            picture = cv2.resize(picture, (cols, rows), interpolation=cv2.INTER_AREA)
        scale = 1 / float(solder - background)
        pictures.append(cv2.addWeighted(picture, sign * scale, picture, 0, -float(background) * scale, dtype=cv2.CV_32F))
    return pictures, small


def _join_slices(pictures: Sequence[Array]) -> Array:
    """Return the brightest grey that two neighbouring slices share; of fewer than `CONFIRMED_FROM`, the brightest."""
    if len(pictures) < CONFIRMED_FROM:
        return np.asarray(np.max(pictures, axis=0), dtype=np.float32)
    shared = np.minimum(pictures[0], pictures[1])
    for first, second in pairwise(pictures[1:]):
        np.maximum(shared, np.minimum(first, second), out=shared)
    return shared


class _Gaps(NamedTuple):
    """Gaps between two joints, pairs (m, 2), that solder fills: middles in the package frame, and widths, (m,)."""

    pairs: NDArray[np.intp]
    x_um: NDArray[np.floating]
    y_um: NDArray[np.floating]
    width_um: NDArray[np.floating]


def _place_balls(windows: Windows, outlines: Outlines, interface: Interface) -> NDArray[np.floating]:
    """Return where the joints are, x, y and widest radius (3, n) in um, in the package frame."""
    radius_um = np.where(outlines.present, outlines.circle[:, :, 0], 0).max(axis=1) * windows.step_um
    shift_um = (outlines.centre + np.median(outlines.circle[:, :, 1:], axis=1)) * windows.step_um
    radius_um = np.maximum(radius_um, interface.nominal_mid_diameter_um / 2)
    return np.stack([interface.x_um + shift_um[:, 0], interface.y_um + shift_um[:, 1], radius_um])


@lru_cache(maxsize=32)
def _pair_neighbours(interface: Interface) -> NDArray[np.intp]:
    """Return all pairs (m, 2) of joints one pitch apart."""
    joints = cKDTree(np.column_stack([interface.x_um, interface.y_um]))
    pairs: NDArray[np.intp] = joints.query_pairs(1.08 * interface.pitch_um, output_type="ndarray")
    return pairs


def _find_filled_gaps(
    grey: Array,
    grid: Grid,
    placement: Placement,
    interface: Interface,
    balls: NDArray[np.floating],
    others: Sequence[Interface],
) -> _Gaps:
    """Find the gaps between two joints whose middle is brighter than the gaps around them: one alone, or two at one corner.

    Ghosts and halos change slowly over the package, a puddle does not. Gaps under a joint of `others` say nothing.
    """
    pairs = _pair_neighbours(interface)
    first, second = balls[:, pairs[:, 0]], balls[:, pairs[:, 1]]
    away = np.maximum(np.hypot(*(second - first)[:2]), 1.0)
    width = away - first[2] - second[2]
    middle = (first + np.clip((first[2] + width / 2) / away, 0.3, 0.7) * (second - first))[:2]
    for other in others:
        joints = cKDTree(np.column_stack([other.x_um, other.y_um]))
        bare = joints.query(middle.T)[0] > 0.5 * other.pitch_um
        pairs, middle, width = pairs[bare], middle[:, bare], width[bare]
    value = _read_grey(grey, *grid.to_pixel(*placement.apply(middle[0], middle[1])))
    bright = np.flatnonzero(value > _FLOODED - 0.1)  # the gaps around are hardly darker than 0
    if not len(bright):
        return _Gaps(pairs[:0], middle[0, :0], middle[1, :0], width[:0])
    around = cKDTree(middle.T).query_ball_point(middle.T[bright], _GAPS_AROUND * interface.pitch_um)
    usual = [np.median(value[near]) if len(near) >= _FEWEST_GAPS else np.inf for near in around]
    over = value[bright] - np.array(usual)
    flooded = cKDTree(middle.T[bright[over > _FLOODED]])
    together = flooded.query_ball_point(middle.T[bright], _CORNER * interface.pitch_um, return_length=True)
    filled = bright[(over > _FILLED) | ((over > _FLOODED) & (together >= _FLOODED_GAPS))]
    width_um = np.maximum(width[filled], _FILLED_WIDTH * interface.pitch_um)
    return _Gaps(pairs[filled], middle[0, filled], middle[1, filled], width_um)


def _read_grey(grey: Array, row: NDArray[np.floating], col: NDArray[np.floating]) -> Array:
    """Return the grey at places (m,), between pixels too."""
    if not len(row):
        return np.zeros(0, dtype=np.float32)
    at = [np.asarray(v, dtype=np.float32)[:, None] for v in (col, row)]
    return np.asarray(cv2.remap(grey, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0], dtype=np.float32)


def _mask_joints(
    interface: Interface, balls: NDArray[np.floating], others: Sequence[Interface], placement: Placement, grid: Grid
) -> NDArray[np.bool_]:
    """Return where the pictures should show no joint, among the joints and around them, as a mask of the grid."""
    inside = np.zeros(grid.shape, dtype=np.uint8)
    reach = _AROUND * interface.pitch_um
    left, right, low, high = (f(v) for v in (interface.x_um, interface.y_um) for f in (np.min, np.max))
    x, y = np.array([left, right, right, left]), np.array([low, low, high, high])
    x, y = placement.apply(x + reach * np.array([-1, 1, 1, -1]), y + reach * np.array([-1, -1, 1, 1]))
    row, col = grid.to_pixel(x, y)
    cv2.fillConvexPoly(inside, np.column_stack([np.rint(col), np.rint(row)]).astype(np.int32), 1)
    discs = [(balls[0], balls[1], balls[2] + _MARGIN * interface.pitch_um)]
    discs += [(other.x_um, other.y_um, np.full(len(other.ball), 0.5 * other.pitch_um)) for other in others]
    for x_um, y_um, ball_um in discs:
        row, col = grid.to_pixel(*placement.apply(x_um, y_um))
        places = np.rint(np.column_stack([col, row])).astype(int)
        # A disc of whole pixels: a quarter of one wider, for its middle is rounded.
        for place, radius in zip(places.tolist(), np.rint(ball_um / grid.pixel_um + 0.25).astype(int).tolist(), strict=True):
            cv2.circle(inside, place, radius, 0, thickness=-1)
    return inside.astype(bool)


def _estimate_halo(grey: Array, empty: NDArray[np.bool_], pixels: int) -> Array:
    """Return the mean grey of the empty surroundings of each pixel, `pixels` wide: broad ghosts are no solder."""
    weight = empty.astype(np.float32)
    box = (2 * (pixels // 2) + 1,) * 2
    halo: Array = cv2.blur(grey * weight, box)
    halo /= np.maximum(cv2.blur(weight, box), np.float32(1e-3))
    return np.clip(halo, 0, _BRIGHTEST_HALO, out=halo)

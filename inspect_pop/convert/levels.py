"""Find the height of each interface in a volume from the balls, and which end of it is up.

Only some planes are read, and of those only some rows: a ball is seen on a picture on which it is six pixels wide. The array
of each interface is searched in each of these planes (`array_finding`); the planes where it fits best are then read as they
are, and the balls measured. A ball between two pads is a truncated sphere: the square of its diameter is a parabola in height,
whose middle is half way between the pads.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.align.slices import make_pattern
from inspect_pop.convert.array_finding import PatternScore, find_stack
from inspect_pop.convert.planes import Planes
from inspect_pop.core.errors import FrameFault, ImageFault
from inspect_pop.core.geometry import Grid, Placement, SliceStack
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.segment.windows import SIZE, cut_slices

__all__ = ["Crop", "Level", "cut_plane", "find_levels"]

Image = NDArray[np.float32]
_BALL_PX = 6.0
_MOST_SEEN = 160  # planes of the first look
_PLANES_PER_GAP = 6  # of the first look
_MEASURED_BALL_PX = 10.0
_MOST_MEASURED = 15
_MOST_JOINTS = 200  # they give a median diameter to a um
_LEAST_SCORE = 0.25  # of the better interface's, below which the other one is not in the volume
_LEAST_CONTRAST = 0.5  # of a plane, over the best one's: beyond the pads there is next to none
_SOLDER = 0.5
_SAME_DISTANCE = 0.25
_MARGIN_UM = 1500.0  # around the body: what the package may be off, and what stray solder is looked for in


@dataclass(frozen=True)
class Crop:
    """The part of each plane that is kept, as rows and columns, and by how much their pixels are resampled to squares."""

    rows: range
    cols: range


@dataclass(frozen=True)
class Level:
    """Where an interface lies in a volume.

    `middle` is the plane, with a fraction, half way between its pads; `crop` what is kept of a plane, and `grid` where that
    lies; `stack` some planes around the middle, with fewer pixels, under the polarity and origin under which the package was
    found; `clear` is False where the balls' diameters do not show the middle.
    """

    interface: str
    middle: float
    crop: Crop
    grid: Grid
    stack: SliceStack
    placement: Placement
    clear: bool


@dataclass(frozen=True)
class _Seen:
    """The first look: `pictures` (planes, rows, cols) of the planes `number`, each pixel `pixel_um` wide."""

    number: NDArray[np.intp]
    pictures: Image
    pixel_um: float
    factor: int


def cut_plane(planes: Planes, plane: int, crop: Crop, pixel_um: tuple[float, float]) -> NDArray[np.generic]:
    """Read the cropped part of a plane; where pixels are no squares, it is resampled to the smaller of their sides."""
    values = planes.read(plane, crop.rows)[:, crop.cols.start : crop.cols.stop]
    side = min(pixel_um)
    if max(pixel_um) > side * 1.001:
        shape = [round(n * p / side) for n, p in zip(values.shape, (pixel_um[1], pixel_um[0]), strict=True)]
        return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))
    return values


def find_levels(
    planes: Planes,
    package: Package,
    pixel_um: tuple[float, float],
    step_um: float,
    polarity: str | None,
    orient: Callable[[NDArray[np.generic]], NDArray[np.generic]],
    method: str,
) -> list[Level]:
    """Find all interfaces of a package that a volume holds, in the recipe's order.

    Args:
        planes: The volume.
        package: What was built.
        pixel_um: Distance of pixels along a row and down a column.
        step_um: Distance of planes.
        polarity: `solder_bright`, `solder_dark`, or None where it must be found.
        orient: Turns a plane as the map says.
        method: Goes into the stacks.

    Raises:
        ImageFault: No interface is in the volume.
        FrameFault: The array that was found is not the recipe's.
    """
    seen = _look(planes, package, pixel_um, step_um, orient)
    signs = {"solder_bright": (1.0,), "solder_dark": (-1.0,), None: (1.0, -1.0)}[polarity]
    patterns = PatternScore(seen.pictures.shape[1:], seen.pixel_um, [make_pattern(i) for i in package.interfaces])
    scores = zip(*(patterns.score(picture) for picture in seen.pictures), strict=True)
    found = {i.name: _search(seen, np.stack(score), i, signs) for i, score in zip(package.interfaces, scores, strict=True)}
    best = max(score for score, _, _ in found.values())
    levels, faults = [], []
    for interface in package.interfaces:
        score, plane, at = found[interface.name]
        if score < _LEAST_SCORE * best or best <= 0:
            continue
        try:
            levels.append(_measure(planes, package, interface, pixel_um, step_um, plane, at, seen, polarity, orient, method))
        except FrameFault as fault:
            faults.append(fault)
    if len(levels) == 2:
        # Arrays look alike, and cast ghosts: both stay only where they are as far from one another as designed.
        lower, upper = (float(np.mean(package.interface(level.interface).pads_z_um)) for level in levels)
        distance_um = abs(levels[1].middle - levels[0].middle) * step_um
        if not abs(distance_um - abs(upper - lower)) <= _SAME_DISTANCE * abs(upper - lower):
            levels = [max(levels, key=lambda level: found[level.interface][0])]
    if not levels:
        if faults:
            raise faults[0]
        expect = f"the balls of {package.refdes}"
        raise ImageFault(planes.name, expected=expect, found="none in any plane", remedy="Check recipe and pixel_um.")
    return levels


def _look(
    planes: Planes,
    package: Package,
    pixel_um: tuple[float, float],
    step_um: float,
    orient: Callable[[NDArray[np.generic]], NDArray[np.generic]],
) -> _Seen:
    """Read every so many planes, and rows of them, as small pictures without their coarse shading."""
    ball_um = min(interface.ball_diameter_um for interface in package.interfaces)
    gap_um = min(interface.gap_um for interface in package.interfaces)
    small_um = max(ball_um / _BALL_PX, *pixel_um)
    every = [max(1, int(small_um / p)) for p in pixel_um]
    skip = max(1, int(gap_um / _PLANES_PER_GAP / step_um), math.ceil(planes.count / _MOST_SEEN))
    number = np.arange(skip // 2 if skip < planes.count else 0, planes.count, skip)
    pictures = []
    for plane in number:
        rows = planes.read(int(plane), range(every[1] // 2, planes.shape[0], every[1]))
        if rows.dtype.kind == "f":
            rows = np.nan_to_num(rows, nan=float(np.nanmedian(rows)) if np.isfinite(rows).any() else 0.0)
        size = tuple(max(1, round(n * p / small_um)) for n, p in zip(planes.shape[::-1], pixel_um, strict=True))
        small = np.asarray(orient(cv2.resize(rows, size, interpolation=cv2.INTER_AREA)), dtype=np.float32)
        ball = ball_um / small_um
        pictures.append(cv2.GaussianBlur(small, (0, 0), 0.25 * ball) - cv2.GaussianBlur(small, (0, 0), 0.625 * ball))
    return _Seen(number, np.stack(pictures), small_um, every[1])


def _search(seen: _Seen, scores: Image, interface: Interface, signs: Sequence[float]) -> tuple[float, float, NDArray[np.float64]]:
    """Return the best score of an interface's array in any plane, the middle of the planes that show it, and where (row, col).

    `scores` is (planes, rows, cols).
    """
    sign = max(signs, key=lambda s: float(scores.max() if s > 0 else -scores.min()))
    scores *= np.float32(sign)
    best = int(np.argmax(scores.max(axis=(1, 2))))
    row, col = np.unravel_index(int(np.argmax(scores[best])), scores[best].shape)
    reach = max(1, int(0.35 * interface.pitch_um / seen.pixel_um))
    near = np.s_[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1]
    profile = np.array([score[near].max() for score in scores])
    top = float(profile.max())
    first = last = best
    while first > 0 and profile[first - 1] > 0.5 * top:
        first -= 1
    while last < len(profile) - 1 and profile[last + 1] > 0.5 * top:
        last += 1
    weight = np.clip(profile[first : last + 1] - 0.4 * top, 0, None)
    middle = float(weight @ seen.number[first : last + 1] / weight.sum())
    return top, middle, np.array([row, col], dtype=np.float64)


def _measure(
    planes: Planes,
    package: Package,
    interface: Interface,
    pixel_um: tuple[float, float],
    step_um: float,
    plane: float,
    at: NDArray[np.float64],
    seen: _Seen,
    polarity: str | None,
    orient: Callable[[NDArray[np.generic]], NDArray[np.generic]],
    method: str,
) -> Level:
    """Read planes around the middle of an interface, find the package in them, and measure where its balls are widest."""
    side = min(pixel_um)
    reach = max(1, math.ceil(0.75 * interface.gap_um / step_um))
    first, last = max(0, round(plane) - reach), min(planes.count - 1, round(plane) + reach)
    number = np.unique(np.linspace(first, last, min(_MOST_MEASURED, last - first + 1)).round().astype(int))
    whole = Crop(range(planes.shape[0]), range(planes.shape[1]))
    one = orient(cut_plane(planes, int(number[0]), whole, pixel_um))
    middle_px = at * seen.pixel_um / side
    half = [(body / 2 + _MARGIN_UM) / side for body in (package.body_um[1], package.body_um[0])]
    part = [slice(max(0, int(m - h)), min(n, math.ceil(m + h))) for m, h, n in zip(middle_px, half, one.shape, strict=True)]
    # Neither place nor diameter needs more than a dozen pixels a ball: the mean of several costs a fraction of the time.
    factor = max(1, int(interface.ball_diameter_um / side / _MEASURED_BALL_PX))
    pages = (orient(cut_plane(planes, int(k), whole, pixel_um))[part[0], part[1]] for k in number)
    values = np.stack([_shrink(page, factor) for page in pages])
    shape = (part[0].stop - part[0].start, part[1].stop - part[1].start)
    origin = (float(part[1].start - middle_px[1]) * side, float(middle_px[0] - part[0].start) * side)
    spread = (factor - 1) / 2 * side  # from the middle of the first pixel to that of the first mean
    grid = Grid((values.shape[1], values.shape[2]), side * factor, (origin[0] + spread, origin[1] - spread))
    z_um = tuple(float(z) for z in np.mean(interface.pads_z_um) + (number - plane) * step_um)
    stack = SliceStack(package.refdes, interface.name, values, z_um, grid, polarity or "solder_bright", method)
    near = np.flatnonzero(np.abs(number - plane) * step_um < 0.4 * interface.gap_um)
    near = near if len(near) else np.array([int(np.argmin(np.abs(number - plane)))])
    middle_stack = replace(stack, values=stack.values[near], z_um=tuple(z_um[int(k)] for k in near))
    placed, placement = find_stack(middle_stack, package, polarity_known=polarity is not None, origin_known=False)
    x_um, y_um = placed.grid.origin_um
    stack = replace(stack, polarity=placed.polarity, grid=replace(grid, origin_um=(x_um, y_um)))
    offset, clear = _find_middle(stack, interface, placement)
    middle = plane + (offset - float(np.mean(interface.pads_z_um))) / step_um
    crop = Crop(range(part[0].start, part[0].stop), range(part[1].start, part[1].stop))
    return Level(interface.name, middle, crop, Grid(shape, side, (x_um - spread, y_um + spread)), stack, placement, clear)


def _shrink(page: NDArray[np.generic], factor: int) -> NDArray[np.generic]:
    """Return a page of which each pixel is the mean of `factor` x `factor`; what is left over at its ends is cut off."""
    if factor == 1:
        return page
    rows, cols = (n // factor for n in page.shape)
    whole = np.ascontiguousarray(page[: rows * factor, : cols * factor])
    return np.asarray(cv2.resize(whole, (cols, rows), interpolation=cv2.INTER_AREA))


def _find_middle(stack: SliceStack, interface: Interface, placement: Placement) -> tuple[float, bool]:
    """Return the height, on the scale of `z_um`, at which the balls are widest, and whether their diameters show it.

    The least-squares parabola through the squares of the median diameters, of the planes in which the balls are wider than near
    their pads; where it does not open downwards, the middle of these planes.
    """
    some = np.linspace(0, len(interface.ball) - 1, min(_MOST_JOINTS, len(interface.ball))).astype(int)
    few = replace(interface, ball=tuple(interface.ball[k] for k in some), x_um=interface.x_um[some], y_um=interface.y_um[some])
    windows = cut_slices(stack, few, placement)
    contrast = np.abs(windows.solder - windows.background)
    inner = slice(SIZE // 8, SIZE - SIZE // 8)
    area = np.count_nonzero(windows.values[:, :, inner, inner] > _SOLDER, axis=(2, 3))
    square = np.median(area, axis=0) * windows.step_um**2 * 4 / np.pi
    use = contrast >= _LEAST_CONTRAST * contrast.max()
    rise = interface.nominal_mid_diameter_um**2 - interface.pad_diameter_um**2
    use &= square >= square[use].max() - 0.8 * rise
    z = windows.z_um
    fallback = float(np.mean(z[use])), False
    if use.sum() < 3:
        return fallback
    curve, slope, _ = np.polyfit(z[use] - fallback[0], square[use], 2)
    if curve > -0.5:  # a sphere's is -4; blur and flat sides take some of it
        return fallback
    middle = fallback[0] - slope / (2 * curve)
    if not z[use].min() - 0.25 * interface.gap_um <= middle <= z[use].max() + 0.25 * interface.gap_um:
        return fallback
    return float(middle), True

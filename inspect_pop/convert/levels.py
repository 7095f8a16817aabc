"""Find what a volume or a picture does not say: the array of balls, the height of each interface, and which end is up.

`align.slices` finds a package within some 600 um of where the machine believes it to be, and refuses what does not fit. This
module finds the place to start from, in a picture of any size, and has `align.slices` confirm it.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import cKDTree

from inspect_pop.align.slices import ArrayPattern, align_slices, build_solder_map, find_centroids, make_pattern
from inspect_pop.convert.planes import Planes
from inspect_pop.core.errors import FrameFault, ImageFault
from inspect_pop.core.geometry import Grid, Placement, SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.segment.windows import SIZE, cut_slices

__all__ = [
    "POLARITIES",
    "Crop",
    "GhostScores",
    "Level",
    "PatternScore",
    "center_grid",
    "cut_plane",
    "decide_turned",
    "find_levels",
    "find_stack",
    "measure_pitch_px",
    "nearest_pitch_um",
    "refine_pixel_um",
    "score_ghosts",
]

Image = NDArray[np.float32]
POLARITIES = ("solder_bright", "solder_dark")
_LEAST_PEAK = 0.15  # of the autocorrelation, at the pitch; noise stays below 0.05
_LARGEST_PITCH = 0.3  # of the picture's shorter side: fewer than four balls a side show no pitch


def center_grid(shape: tuple[int, int], pixel_um: float) -> Grid:
    """Return the grid of a picture whose middle is the middle of the package."""
    rows, cols = shape
    return Grid(shape, pixel_um, (-(cols - 1) / 2 * pixel_um, (rows - 1) / 2 * pixel_um))


class PatternScore:
    """Scores every pixel of pictures of one size as the middle of a package; patterns are transformed once for all of them."""

    def __init__(self, shape: tuple[int, int], pixel_um: float, patterns: Sequence[ArrayPattern]) -> None:
        self._shape = shape
        reach = max(math.ceil(float(np.abs(pattern.joints).max()) / pixel_um) + 2 for pattern in patterns)
        self._size = tuple(fft.next_fast_len(side + reach, real=True) for side in shape)
        self._spectra = []
        for pattern in patterns:
            kernel = np.zeros(self._size, dtype=np.float32)
            for points, sign in ((pattern.joints, 1.0), (pattern.empty, -1.0)):
                if len(points):
                    at = zip((-points[:, 1], points[:, 0]), self._size, strict=True)
                    row, col = (np.rint(v / pixel_um).astype(np.intp) % side for v, side in at)
                    np.add.at(kernel, (row, col), np.float32(sign / len(points)))
            self._spectra.append(np.conj(fft.rfft2(kernel)))

    def score(self, response: Image) -> list[Image]:
        """Return (rows, cols) of each pattern: the mean response at its joints less that at its empty places, at every pixel."""
        seen = fft.rfft2(response, self._size)
        scored = (fft.irfft2(seen * spectrum, self._size) for spectrum in self._spectra)
        return [np.asarray(score[: self._shape[0], : self._shape[1]], dtype=np.float32) for score in scored]


def find_stack(stack: SliceStack, package: Package, *, polarity_known: bool, origin_known: bool) -> tuple[SliceStack, Placement]:
    """Return the stack with the polarity and origin under which the package is found in it, and its placement there.

    The declared origin comes first, then the place where the array fits best. Raises `FrameFault` where there is none.
    """
    faults: list[FrameFault] = []
    for candidates in (_vary_polarity(stack, polarity_known), _move_origins(stack, package, polarity_known, origin_known)):
        found = []
        for candidate in candidates:
            try:
                found.append((candidate, align_slices(candidate, package, Limits())))
            except FrameFault as fault:
                faults.append(fault)
        if found:
            # Between the balls of a full array the negative shows blobs, too: the confident placement is the right one.
            return _center(*max(found, key=lambda one: (one[1].confident, -one[1].residual_um)), stack.grid)
    raise faults[0]


def _center(found: SliceStack, placement: Placement, declared: Grid) -> tuple[SliceStack, Placement]:
    """Put a package whose place was searched into the middle of its frame; a declared origin stays."""
    if found.grid.origin_um == declared.origin_um:
        return found, placement
    origin = (found.grid.origin_um[0] - placement.offset_x_um, found.grid.origin_um[1] - placement.offset_y_um)
    return replace(found, grid=replace(found.grid, origin_um=origin)), replace(placement, offset_x_um=0.0, offset_y_um=0.0)


def _vary_polarity(stack: SliceStack, known: bool) -> list[SliceStack]:
    return [stack] if known else [replace(stack, polarity=polarity) for polarity in POLARITIES]


def _move_origins(stack: SliceStack, package: Package, polarity_known: bool, origin_known: bool) -> Iterator[SliceStack]:
    """Yield the stack with its origin moved to where the array fits best, for each polarity."""
    if origin_known:
        return
    interface = package.interface(stack.interface)
    for candidate in _vary_polarity(stack, polarity_known):
        seen = build_solder_map(candidate, interface.ball_diameter_um, len(interface.ball))
        (score,) = PatternScore(seen.grid.shape, seen.grid.pixel_um, [make_pattern(interface)]).score(seen.likeness)
        row, col = np.unravel_index(int(np.argmax(score)), score.shape)
        x_um, y_um = seen.grid.to_um(np.array([row], dtype=np.float64), np.array([col], dtype=np.float64))
        origin = (stack.grid.origin_um[0] - float(x_um[0]), stack.grid.origin_um[1] - float(y_um[0]))
        yield replace(candidate, grid=replace(stack.grid, origin_um=origin))


def measure_pitch_px(picture: NDArray[np.generic], name: str) -> float:
    """Measure the distance of neighbouring balls in pixels from the picture's autocorrelation. Raises `ImageFault`.

    The nearest maximum to the middle beyond the first minimum is one pitch away; it holds for arrays with missing balls, for
    bright and for dark solder.
    """
    values = picture.astype(np.float32)
    values = np.nan_to_num(values, nan=float(np.nanmedian(values)))
    values -= cv2.GaussianBlur(values, (0, 0), min(values.shape) / 16)
    size = [fft.next_fast_len(2 * n, real=True) for n in values.shape]
    power = fft.irfft2(np.abs(fft.rfft2(values, size)) ** 2, size)
    weight = fft.irfft2(np.abs(fft.rfft2(np.ones_like(values), size)) ** 2, size)
    reach = int(_LARGEST_PITCH * min(values.shape))
    lags = np.roll(power / np.maximum(weight, 1), (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    lags = (lags / max(float(lags[reach, reach]), 1e-12)).astype(np.float32)
    row, col = np.indices(lags.shape) - reach
    distance = np.hypot(row, col)
    ring = np.bincount(distance.astype(np.intp).ravel(), lags.ravel()) / np.bincount(distance.astype(np.intp).ravel())
    beyond = next((k for k in range(1, reach - 1) if ring[k] <= ring[k + 1]), reach)
    highest = (lags == cv2.dilate(lags, np.ones((5, 5), np.uint8))) & (distance > beyond) & (lags > _LEAST_PEAK)
    if not highest.any():
        expect = "balls in rows and columns, whose pitch gives the size of a pixel"
        raise ImageFault(name, expected=expect, found="no pitch", remedy="Give pixel_um in the map.")
    strong = highest & (lags > 0.6 * lags[highest].max())
    nearest = np.argmin(np.where(strong, distance, np.inf))
    step = np.array([row.flat[nearest], col.flat[nearest]], dtype=np.float64)
    # Following the maxima from one pitch to many gives the pitch to a fraction of a pixel.
    for count in range(1, reach):
        y, x = np.rint(count * step).astype(int) + reach
        if not (3 <= y < len(lags) - 3 and 3 <= x < len(lags) - 3):
            break
        near = lags[y - 2 : y + 3, x - 2 : x + 3]
        top = np.unravel_index(int(np.argmax(near)), near.shape)
        y, x = y + int(top[0]) - 2, x + int(top[1]) - 2
        peak = np.array([y, x], dtype=np.float64) - reach
        for axis, line in enumerate((lags[y - 1 : y + 2, x], lags[y, x - 1 : x + 2])):
            curve = float(line[0] - 2 * line[1] + line[2])
            peak[axis] += 0.5 * float(line[0] - line[2]) / curve if curve < 0 else 0.0
        step = peak / count
    return float(np.hypot(*step))


def nearest_pitch_um(interface: Interface) -> float:
    """Return the median distance from a joint to its nearest neighbour, as designed."""
    points = np.column_stack([interface.x_um, interface.y_um])
    return float(np.median(cKDTree(points).query(points, k=2)[0][:, 1])) if len(points) > 1 else interface.pitch_um


def refine_pixel_um(stack: SliceStack, package: Package, placement: Placement) -> float:
    """Return the pixel size that fits the found middles of the balls best to the design: a similarity's scale."""
    interface = package.interface(stack.interface)
    page = stack.values[len(stack.values) // 2].astype(np.float32) * (1 if stack.polarity == "solder_bright" else -1)
    # As it is: a band-passed picture has dark rims, which push the outer balls of an array outwards.
    low, high = np.nanpercentile(page, [5, 99])
    grey = np.nan_to_num((page - low) / max(float(high - low), 1e-6)).astype(np.float32)
    x, y = placement.apply(interface.x_um, interface.y_um)
    fx, fy, found = find_centroids(grey, stack.grid, x, y, 0.45 * interface.pitch_um)
    design, seen_at = (np.column_stack(p)[found] for p in ((interface.x_um, interface.y_um), (fx, fy)))
    if found.sum() < 3:
        return stack.grid.pixel_um
    design, seen_at = design - design.mean(axis=0), seen_at - seen_at.mean(axis=0)
    scale = math.sqrt(float((seen_at**2).sum() / max((design**2).sum(), 1e-9)))
    return stack.grid.pixel_um / scale


# Tell which end of a volume is up from the ghosts of the other interface, where only one interface is in it.
#
# An oblique view shows what lies `d` above or below a plane shifted by `d tan(tilt)`; from all views together it is a ring of
# ghosts. Towards the other interface its radius shrinks. One tilt holds for all volumes of a machine, so that they are judged
# together. CT has no such ghosts, and then nothing is said.


_RING_UM = 20.0
_RINGS = 60
_TILTS = np.linspace(0.45, 1.3, 60)  # tangents: 24 to 52 degrees, what oblique machines use
_GHOST_BALL_PX = 8.0
# On 25 boards of eight machines, all volumes of a board judged together were right by at least 0.2, each by itself by 0.15, or
# the two disagreed. Of a single volume more is asked.
_TOGETHER, _SINGLE, _ALONE = 0.2, 0.08, 0.35

GhostScores = NDArray[np.float64]


def score_ghosts(stack: SliceStack, package: Package, placement: Placement) -> GhostScores | None:
    """Score both ways up: (2, tilts), row 0 as the stack's heights say, row 1 turned; None for a package of one interface."""
    interface = package.interface(stack.interface)
    others = [i for i in package.interfaces if i.name != stack.interface]
    if not others or len(stack.z_um) < 3:
        return None
    profiles = _measure_profiles(stack, interface, others[0], placement)
    profiles -= profiles.mean(axis=1, keepdims=True)
    profiles /= max(float(profiles.std()), 1e-12)
    middle, other = (float(np.mean(i.pads_z_um)) for i in (interface, others[0]))
    radius = (np.arange(_RINGS) + 0.5) * _RING_UM
    scores = []
    for sign in (1.0, -1.0):
        distance = np.abs(other - (middle + sign * (np.array(stack.z_um) - middle)))
        scores.append(
            [np.mean([np.interp(d * tilt, radius, p) for d, p in zip(distance, profiles, strict=True)]) for tilt in _TILTS]
        )
    return np.array(scores)


def _measure_profiles(stack: SliceStack, interface: Interface, other: Interface, placement: Placement) -> NDArray[np.float64]:
    """Return (planes, rings): the mean solder at each distance from the balls of `other`, where those of `interface` are not."""
    rows, cols = stack.grid.shape
    covered: NDArray[np.uint8] = np.zeros((rows, cols), dtype=np.uint8)
    radius = round(0.5 * interface.nominal_mid_diameter_um / stack.grid.pixel_um + 4)
    for row, col in zip(*stack.grid.to_pixel(*placement.apply(interface.x_um, interface.y_um)), strict=True):
        cv2.circle(covered, (round(float(col)), round(float(row))), radius, 1, -1)
    factor = max(1, round(other.ball_diameter_um / stack.grid.pixel_um / _GHOST_BALL_PX))
    free = _average((covered == 0).astype(np.float32), factor)
    size = fft.next_fast_len(2 * max(free.shape), real=True)
    at = [np.floor(v / factor).astype(np.intp) for v in stack.grid.to_pixel(*placement.apply(other.x_um, other.y_um))]
    inside = (at[0] >= 0) & (at[0] < free.shape[0]) & (at[1] >= 0) & (at[1] < free.shape[1])
    places = np.zeros((size, size), dtype=np.float32)
    np.add.at(places, (at[0][inside], at[1][inside]), np.float32(1))
    spectrum = np.conj(fft.rfft2(places))
    weight = np.maximum(fft.irfft2(fft.rfft2(free, (size, size)) * spectrum, (size, size)), 5)
    step = np.abs(np.fft.fftfreq(size, 1 / size))
    rings = np.minimum(np.hypot(step[:, None], step[None]) * stack.grid.pixel_um * factor / _RING_UM, _RINGS).astype(np.intp)
    weight = weight.astype(np.float32)
    ring = rings.ravel()
    count = np.bincount(ring, minlength=_RINGS + 1)[:_RINGS]
    width = 2 * interface.pitch_um / stack.grid.pixel_um / factor
    profiles = []
    for page in stack.values:
        values = page.astype(np.float32) * np.float32(1 if stack.polarity == "solder_bright" else -1)
        small = _average(np.nan_to_num(values, nan=float(np.nanmedian(values))), factor)
        level = cv2.GaussianBlur(small * free, (0, 0), width) / np.maximum(cv2.GaussianBlur(free, (0, 0), width), 1e-3)
        score = fft.irfft2(fft.rfft2((small - level) * free, (size, size)) * spectrum, (size, size)) / weight
        profiles.append(np.bincount(ring, score.ravel(), _RINGS + 1)[:_RINGS] / np.maximum(count, 1))
    return np.array(profiles)


def _average(picture: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    rows, cols = (n // factor for n in picture.shape)
    return np.asarray(cv2.resize(picture[: rows * factor, : cols * factor], (cols, rows), interpolation=cv2.INTER_AREA))


def decide_turned(scores: Sequence[GhostScores]) -> list[bool | None]:
    """Return of each volume of a board whether it is upside down, None where its ghosts do not tell."""
    if not scores:
        return []
    ways = {
        way: float(sum(s[k] for k, s in zip(way, scores, strict=True)).max())
        for way in itertools.product((0, 1), repeat=len(scores))
    }
    best = max(ways, key=lambda way: ways[way])
    decided: list[bool | None] = []
    for index, score in enumerate(scores):
        margin = ways[best] - max(value for way, value in ways.items() if way[index] != best[index])
        single = float(score[best[index]].max() - score[1 - best[index]].max())
        clear = single >= _ALONE if len(scores) == 1 else margin >= _TOGETHER and single >= _SINGLE
        decided.append(bool(best[index]) if clear else None)
    return decided if None not in decided or len(scores) == 1 else [None] * len(scores)


# Find the height of each interface in a volume from the balls, and which end of it is up.
#
# Only some planes are read, and of those only some rows: a ball is seen on a picture on which it is six pixels wide. The array
# of each interface is searched in each of these planes (`find_stack`); the planes where it fits best are then read as they
# are, and the balls measured. A ball between two pads is a truncated sphere: the square of its diameter is a parabola in height,
# whose middle is half way between the pads.


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

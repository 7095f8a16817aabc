"""Find an array of balls in pictures that do not say where they looked, how large a pixel is, or whether solder is bright.

`align.slices` finds a package within some 600 um of where the machine believes it to be, and refuses what does not fit. This
module finds the place to start from, in a picture of any size, and has `align.slices` confirm it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import cKDTree

from inspect_pop.align.slices import ArrayPattern, align_slices, build_solder_map, find_centroids, make_pattern
from inspect_pop.core.errors import FrameFault, ImageFault
from inspect_pop.core.geometry import Grid, Placement, SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface, Package

__all__ = ["POLARITIES", "PatternScore", "center_grid", "find_stack", "measure_pitch_px", "nearest_pitch_um", "refine_pixel_um"]

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

"""Cut the surroundings of all joints of an interface at once, on one scale and one grey axis.

The same function serves measurement, the classifier on the line and its training, so that none of them sees a
picture that the others do not. Windows are `SIZE` x `SIZE` samples, `pitch / SAMPLES_PER_PITCH` apart, centred on the
joint's expected place and turned with the package: whatever the pitch, a neighbour lies at the same place.

A machine that gives more than `MOST_SLICES` slices gives thin ones; `merge_slices` averages neighbours first.

A machine's slice heights are up to 10 um off, and a stack may stand higher than designed. `correct_heights` estimates
where the slices really cut the joints: a ball between two pads is widest half way between them, and over all joints of
an interface the height of the widest place is known to a few um.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.recipe import HEIGHT_ERROR_UM, Interface

__all__ = [
    "CONFIRMED_FROM",
    "MOST_SLICES",
    "SAMPLES_PER_PITCH",
    "SIZE",
    "Windows",
    "correct_heights",
    "cut_height",
    "cut_slices",
    "estimate_height_error_um",
    "find_slices_beyond_pads",
    "merge_slices",
    "sample_points",
    "sample_windows",
]

SIZE = 48
SAMPLES_PER_PITCH = 36
# Radius in which the ball's core grey is sampled: well inside the pad of any pitch in use (pads are 0.5 to 0.6 pitch).
_CORE_RADIUS = 0.12 * SAMPLES_PER_PITCH
# Half way to a neighbour along the rows there is no solder of a good joint; the background is sampled there.
_GAP_DISTANCE = 0.5 * SAMPLES_PER_PITCH
# From so many slices on, what is solder or void shows in two that lie beside one another. With fewer, a slice stands alone.
CONFIRMED_FROM = 5
MOST_SLICES = 9  # the released models have learnt from 3 to 9 slices, a ninth of a stand-off or more apart
_JOINTS_PER_BLOCK = 64
_SAMPLED_PER_BLOCK = 24
_TALLEST = 32000  # rows of a picture: `remap` addresses them with 16-bit numbers

_LEAST_SLICES = 3  # of a parabola
# So many joints give a median diameter to a um, and so the widest place to half a um.
_ENOUGH_JOINTS = 64
# Balls whose ends are narrower than their belly by less than this share of it have no height at which they are widest.
_LEAST_BELLY = 0.08
# Pads of two sizes move the belly too, and no input says so: the estimate is taken for the greater part, and no further
# than the heights can be off (10 um), and the stack with them.
_TRUST = 0.8
_BLIND = 0.25  # contrast of a slice, of that of the median slice: beyond a pad there is hardly any
_SOLDER = 0.5  # half of the typical core's grey


@dataclass(frozen=True)
class Windows:
    """Normalised pictures of all joints of one interface.

    `values` (n, slices, SIZE, SIZE) float32: 0 is the background between joints, 1 the core of the typical joint of
    that slice; solder is bright whatever the machine's polarity. Lost slices are left out. `z_um` (slices,) are their
    heights as the machine states them. `step_um` is the distance of samples. `covered` (n,) is the share of the window
    that lies inside the image. `saturated` (n,) bool: grey at the end of an integer scale in the core, in any slice.
    `background`, `solder` (slices,) are the grey levels, in the machine's own scale, that became 0 and 1. `unscanned` (n,)
    bool: in any slice, part of the window has no data (NaN); it shows the slice's median grey instead.
    """

    values: NDArray[np.float32]
    z_um: NDArray[np.float64]
    step_um: float
    covered: NDArray[np.float32]
    saturated: NDArray[np.bool_]
    background: NDArray[np.float32]
    solder: NDArray[np.float32]
    unscanned: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1, dtype=bool))


def _disc(radius: float) -> NDArray[np.bool_]:
    """Return the (SIZE * SIZE,) mask of the samples nearer to the window's centre than `radius` samples."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    mask: NDArray[np.bool_] = (np.hypot(axis[:, None], axis[None]) <= radius).ravel()
    return mask


# The samples that the levels of a slice are taken from: the ball's core, and the gaps half way to the four neighbours.
_CORE = np.flatnonzero(_disc(_CORE_RADIUS))
_NEAR, _MID, _FAR = (round((SIZE - 1) / 2 + offset) for offset in (-_GAP_DISTANCE, 0.0, _GAP_DISTANCE))
_GAPS = np.array([_NEAR, _FAR, _MID, _MID]) * SIZE + np.array([_MID, _MID, _NEAR, _FAR])
_LEVEL_SAMPLES = np.concatenate([_CORE, _GAPS])
# The part of a window up to half way to the neighbours, in which areas are counted.
_INNER = slice(SIZE // 8, SIZE - SIZE // 8)
_INNER_DISC = _disc(SIZE * 3 / 8).reshape(SIZE, SIZE)[_INNER, _INNER]


def sample_points(interface: Interface, placement: Placement, grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (row, col) in pixels, each (n, SIZE * SIZE) float32, of every sample of every joint's window."""
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * (interface.pitch_um / SAMPLES_PER_PITCH)
    row, col = grid.to_pixel(*placement.apply(interface.x_um, interface.y_um))
    # A placement carries every window alike: the samples of one, from its middle, serve all.
    around = grid.to_pixel(*placement.apply(np.tile(axis, SIZE), -np.repeat(axis, SIZE)))
    middle = grid.to_pixel(*placement.apply(np.zeros(1), np.zeros(1)))
    rows, cols = (
        joint.astype(np.float32)[:, None] + (window - centre).astype(np.float32)
        for joint, window, centre in zip((row, col), around, middle, strict=True)
    )
    return rows, cols


def merge_slices(stack: SliceStack, interface: Interface) -> SliceStack:
    """Return a stack of at most `MOST_SLICES` slices; one that has no more is returned as it is.

    Slices that cannot show the interface's joints, since they lie beyond its pads by more than heights can be off, are left
    out; the others are averaged with their neighbours, in groups of equal number. A group of which half the slices are lost
    is lost. A pixel without data in one slice of a group has none, and one at the end of the scale on the solder's side stays
    there: the joint is marked as it would be by that slice alone.
    """
    z_um = np.asarray(stack.z_um)
    if len(z_um) <= MOST_SLICES:
        return stack
    low_um, high_um = interface.pads_z_um
    away_um = np.maximum(low_um - z_um, z_um - high_um)
    near = np.flatnonzero(away_um <= max(HEIGHT_ERROR_UM, float(away_um.min())))
    groups = np.array_split(near, min(len(near), MOST_SLICES))
    shown = [[int(k) for k in group if k not in stack.lost] for group in groups]
    used = [pages if 2 * len(pages) > len(group) else [int(k) for k in group] for pages, group in zip(shown, groups, strict=True)]
    return replace(
        stack,
        values=np.stack([_average_pages([stack.values[k] for k in pages], stack.polarity) for pages in used]),
        z_um=tuple(float(z_um[pages].mean()) for pages in used),
        lost=tuple(i for i, (pages, group) in enumerate(zip(shown, groups, strict=True)) if 2 * len(pages) <= len(group)),
    )


def _average_pages(pages: list[NDArray[Any]], polarity: str) -> NDArray[Any]:
    """Average pages of one dtype, in that dtype; what one of them shows at the solder's end of an integer scale stays there."""
    dtype = pages[0].dtype
    mean = np.zeros(pages[0].shape, dtype=np.float32)
    for page in pages:
        mean += page
    mean /= np.float32(len(pages))
    if dtype.kind == "f":
        return mean.astype(dtype, copy=False)
    average = np.rint(mean).astype(dtype)
    scale = np.iinfo(dtype)
    for page in pages:
        for end in (scale.max,) if polarity == "solder_bright" else (scale.min, 0):
            average[page == end] = end
    return average


def cut_slices(stack: SliceStack, interface: Interface, placement: Placement) -> Windows:
    """Cut windows of all joints of `interface`, in its order; samples outside the image repeat its edge.

    Grey is normalised slice by slice to the medians, over the joints, of background and solder, so that defects do not
    move the scale.
    """
    usable = [k for k in range(len(stack.z_um)) if k not in stack.lost]
    step_um = interface.pitch_um / SAMPLES_PER_PITCH
    pages, grid = [stack.values[k] for k in usable], stack.grid
    pages, unseen = _fill_unscanned(pages)
    factor = int(step_um / grid.pixel_um)
    if factor >= 2:  # average down where samples would skip pixels
        rows, cols = grid.shape[0] // factor, grid.shape[1] // factor
        pages, unseen = (
            [cv2.resize(p[: rows * factor, : cols * factor], (cols, rows), interpolation=cv2.INTER_AREA) for p in pictures]
            for pictures in (pages, unseen)
        )
        shift = (factor - 1) / 2 * grid.pixel_um
        grid = Grid((rows, cols), grid.pixel_um * factor, (grid.origin_um[0] + shift, grid.origin_um[1] - shift))
    row, col = sample_points(interface, placement, grid)
    # Sample by sample only where a corner of the window lies outside.
    corners = [0, SIZE - 1, SIZE * (SIZE - 1), SIZE * SIZE - 1]
    covered = np.ones(len(row), dtype=np.float32)
    partial = np.flatnonzero(~_is_inside(row[:, corners], col[:, corners], grid).all(axis=1))
    covered[partial] = _is_inside(row[partial], col[partial], grid).mean(axis=1, dtype=np.float32)
    # Fixed-point coordinates, made once; `remap` would make them of others for each page again.
    where = cv2.convertMaps(col, row, cv2.CV_16SC2)
    unscanned = np.zeros(len(row), dtype=bool)
    for picture in unseen:
        unscanned |= (_sample(picture, where) > 0).any(axis=1)
    levels = np.stack([_sample(page, [part[:, _LEVEL_SAMPLES] for part in where]) for page in pages], axis=1)
    saturated = np.zeros(len(row), dtype=bool)
    if np.issubdtype(levels.dtype, np.integer):  # most of a ball's core lies at an end of the scale, in any slice
        core, ends = levels[:, :, : len(_CORE)], np.iinfo(levels.dtype)
        # Signed grey often comes from an unsigned scale, whose lower end is 0.
        saturated = (((core == ends.min) | (core == 0) | (core == ends.max)).mean(axis=2) > 0.5).any(axis=1)
    sign = np.float32(-1 if stack.polarity == "solder_dark" else 1)
    bright, whole = sign * levels.astype(np.float32), (covered > 0.99) & ~unscanned
    bright = bright[whole] if whole.any() else bright
    core_level = np.median(bright[:, :, : len(_CORE)].mean(axis=2), axis=0)
    gap_level = np.median(bright[:, :, len(_CORE) :], axis=(0, 2))
    # A slice without contrast keeps a finite scale; it says nothing either way.
    contrast = np.maximum(core_level - gap_level, 1e-3 * np.maximum(np.abs(core_level), 1.0))
    background, solder = gap_level.astype(np.float32), (gap_level + contrast).astype(np.float32)
    # Less `zero` over `span`, some joints at a time: they stay in the cache.
    zero, span = sign * background, sign * (solder - background)
    values = np.empty((len(row), len(pages), SIZE * SIZE), dtype=np.float32)
    for start in range(0, len(row), _JOINTS_PER_BLOCK):
        part = slice(start, start + _JOINTS_PER_BLOCK)
        for k, page in enumerate(pages):
            raw = _sample(page, [w[part] for w in where])
            scale = float(1 / span[k])
            cv2.addWeighted(raw, scale, raw, 0, -float(zero[k]) * scale, dst=values[part, k], dtype=cv2.CV_32F)
    return Windows(
        values=values.reshape(len(row), len(pages), SIZE, SIZE),
        z_um=np.asarray([stack.z_um[k] for k in usable], dtype=np.float64),
        step_um=step_um,
        covered=covered,
        saturated=np.asarray(saturated),
        background=background,
        solder=solder,
        unscanned=unscanned,
    )


def _fill_unscanned(pages: list[NDArray[Any]]) -> tuple[list[NDArray[Any]], list[NDArray[np.float32]]]:
    """Fill pixels without data (NaN) with their page's median; return the pages, and a picture of the pixels filled in any."""
    if not pages or pages[0].dtype.kind != "f":  # an integer holds no NaN
        return pages, []
    unseen = np.zeros(pages[0].shape, dtype=bool)
    filled = []
    for page in pages:
        none = np.isnan(page)
        filled.append(np.where(none, np.float32(np.nanmedian(page)), page) if none.any() else page)
        unseen |= none
    return filled, [unseen.astype(np.float32)] if unseen.any() else []


def cut_height(heights: HeightMap, interface: Interface, placement: Placement) -> NDArray[np.float32]:
    """Cut (n, SIZE, SIZE) float32 heights in um around each joint; NaN where the map has no data or does not reach."""
    row, col = sample_points(interface, placement, heights.grid)
    out = cv2.remap(
        heights.height_um.astype(np.float32, copy=False),
        col,
        row,
        cv2.INTER_NEAREST,  # a mean with NaN would spread the gaps
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=float("nan"),
    )
    return np.asarray(out, dtype=np.float32).reshape(len(row), SIZE, SIZE)


def sample_windows(
    values: NDArray[np.float32],
    joint: NDArray[np.intp],
    row: NDArray[np.float32],
    col: NDArray[np.float32],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Sample the windows of m joints in every slice, bilinear: (m, slices, k).

    Parameters
    ----------
    values
        (n, slices, SIZE, SIZE) windows.
    joint
        (m,) rows of `values`, in rising order.
    row, col
        (m, k) places in the window, in samples, beyond which its edge repeats.
    out
        Takes the samples where they are wanted in another order in memory.
    """
    n, slices = values.shape[:2]
    samples = np.empty((len(joint), slices, row.shape[1]), dtype=np.float32) if out is None else out
    block = max(1, min(_SAMPLED_PER_BLOCK, _TALLEST // (slices * SIZE)))
    for first in range(0, n, block):
        part = slice(*np.searchsorted(joint, [first, first + block]))
        if part.start == part.stop:
            continue
        where, between = cv2.convertMaps(col[part], np.clip(row[part], 0, SIZE - 1), cv2.CV_16SC2)
        where[..., 1] += ((joint[part] - first) * (slices * SIZE)).astype(np.int16)[:, None]
        # All slices of some joints as one high picture; copied in one go, it is in the cache when samples jump about in it.
        picture = values[first : first + block].copy().reshape(-1, SIZE)
        for k in range(slices):
            samples[part, k] = cv2.remap(picture[k * SIZE :], where, between, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return samples


def _is_inside(row: NDArray[np.float32], col: NDArray[np.float32], grid: Grid) -> NDArray[np.bool_]:
    rows, cols = grid.shape
    inside: NDArray[np.bool_] = (row > -0.5) & (row < rows - 0.5) & (col > -0.5) & (col < cols - 0.5)
    return inside


def _sample(page: NDArray[np.generic], where: Sequence[NDArray[Any]]) -> NDArray[Any]:
    sampled: NDArray[Any] = cv2.remap(page, where[0], where[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled


def find_slices_beyond_pads(windows: Windows, interface: Interface) -> list[int]:
    """Find the slices, counted as in `windows`, that may lie beyond a pad and show next to nothing of the joints."""
    contrast = np.abs(windows.solder - windows.background)
    blind = np.flatnonzero(contrast < _BLIND * np.median(contrast))
    return [int(k) for k in blind if interface.may_miss(float(windows.z_um[k]))]


def correct_heights(windows: Windows, interface: Interface) -> Windows:
    """Return the same windows, their `z_um` corrected by `estimate_height_error_um`."""
    return replace(windows, z_um=windows.z_um - estimate_height_error_um(windows, interface))


def estimate_height_error_um(windows: Windows, interface: Interface) -> float:
    """Estimate how much higher the slices are said to be than they cut these joints; 0 where it cannot be told.

    The widest place of the parabola through the median diameters of all slices, against the middle of `pads_z_um`. Slices
    said to be higher by some um give as much more: what a machine states of all its slices alike hardly counts.
    """
    slices = len(windows.z_um)
    if slices < _LEAST_SLICES:
        return 0.0
    # Diameter of the equal-area circle per slice, the median over some of the joints that show in all slices.
    values = windows.values[:: max(1, len(windows.values) // _ENOUGH_JOINTS), :, _INNER, _INNER]
    area = np.count_nonzero((values > _SOLDER) & _INNER_DISC, axis=(2, 3))
    whole = area[(area > 0).all(axis=1)]
    if len(whole) == 0:
        return 0.0
    diameter = 2 * np.sqrt(np.median(whole, axis=0) / np.pi) * windows.step_um
    z = windows.z_um - np.mean(interface.pads_z_um)
    curve, slope, _ = np.polyfit(z, diameter, 2)
    if -curve * (interface.gap_um / 2) ** 2 < _LEAST_BELLY * diameter.max() or diameter.min() <= 0:
        return 0.0
    return float(np.clip(_TRUST * -slope / (2 * curve), -HEIGHT_ERROR_UM, HEIGHT_ERROR_UM))

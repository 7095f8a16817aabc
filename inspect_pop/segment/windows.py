"""Cut the surroundings of all joints of an interface at once, on one scale and one grey axis.

The same function serves measurement, the classifier on the line and its training, so that none of them sees a
picture that the others do not. Windows are `SIZE` x `SIZE` samples, `pitch / SAMPLES_PER_PITCH` apart, centred on the
joint's expected place and turned with the package: whatever the pitch, a neighbour lies at the same place.

Where an interface's slices really cut its joints: a machine's heights are up to 10 um off, and a stack may stand higher.

A ball between two pads is widest half way between them. Over all joints of an interface, the height of the widest place
is known to a few um: what it lies off the middle of the pads is off in the machine's heights, or in where the pads are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.recipe import HEIGHT_ERROR_UM, Interface

__all__ = [
    "SAMPLES_PER_PITCH",
    "SIZE",
    "Windows",
    "at_found_heights",
    "beyond_pads",
    "cut_height",
    "cut_slices",
    "found_error_um",
    "sample_points",
    "sample_windows",
]

# ---- segment/windows
SIZE = 48
SAMPLES_PER_PITCH = 36
# Where the ball's core is looked at for its grey: well inside the pad of any pitch in use (pads are 0.5 to 0.6 pitch).
_CORE_RADIUS = 0.12 * SAMPLES_PER_PITCH
# Half way to a neighbour along the rows there is no solder of a good joint; here the background is looked at.
_GAP_DISTANCE = 0.5 * SAMPLES_PER_PITCH
_JOINTS_AT_ONCE = 64
_SAMPLED_AT_ONCE = 24
_TALLEST = 32000  # rows of a picture: `remap` addresses them with 16-bit numbers


@dataclass(frozen=True)
class Windows:
    """Normalised pictures of all joints of one interface.

    `values` (n, slices, SIZE, SIZE) float32: 0 is the background between joints, 1 the core of the typical joint of
    that slice; solder is bright whatever the machine's polarity. Lost slices are left out. `z_um` (slices,) their
    heights as the machine believes. `step_um` is the distance of samples. `covered` (n,) is the share of the window
    that lies inside the image. `saturated` (n,) bool: grey at the end of an integer scale in the core, in any slice.
    `background`, `solder` (slices,) are the grey levels, in the machine's own scale, that became 0 and 1.
    """

    values: NDArray[np.float32]
    z_um: NDArray[np.float64]
    step_um: float
    covered: NDArray[np.float32]
    saturated: NDArray[np.bool_]
    background: NDArray[np.float32]
    solder: NDArray[np.float32]


def sample_points(interface: Interface, placement: Placement, grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(row, col) in pixels, each (n, SIZE * SIZE) float32, of every sample of every joint's window."""
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * (interface.pitch_um / SAMPLES_PER_PITCH)
    row, col = grid.to_pixel(*placement.apply(interface.x_um, interface.y_um))
    # A placement carries every window alike: the samples of one, from its middle, serve all.
    beside = grid.to_pixel(*placement.apply(np.tile(axis, SIZE), -np.repeat(axis, SIZE)))
    middle = grid.to_pixel(*placement.apply(np.zeros(1), np.zeros(1)))
    rows, cols = (
        joint.astype(np.float32)[:, None] + (window - centre).astype(np.float32)
        for joint, window, centre in zip((row, col), beside, middle, strict=True)
    )
    return rows, cols


def cut_slices(stack: SliceStack, interface: Interface, placement: Placement) -> Windows:
    """Windows of all joints of `interface`, in its order; samples outside the image repeat its edge."""
    kept = [k for k in range(len(stack.z_um)) if k not in stack.lost]
    pages, grid = _antialiased([stack.values[k] for k in kept], stack.grid, interface.pitch_um / SAMPLES_PER_PITCH)
    row, col = sample_points(interface, placement, grid)
    covered = _covered(row, col, grid)
    # Fixed-point coordinates, as `remap` makes them of others for each page anew.
    where = cv2.convertMaps(col, row, cv2.CV_16SC2)
    looked_at = np.stack([_sample(page, [part[:, _LEVEL_SAMPLES] for part in where]) for page in pages], axis=1)
    sign = np.float32(-1 if stack.polarity == "solder_dark" else 1)
    background, solder = _levels(sign * looked_at.astype(np.float32), covered > 0.99)
    return Windows(
        values=_normalised(pages, where, sign * background, sign * (solder - background)),
        z_um=np.asarray([stack.z_um[k] for k in kept], dtype=np.float64),
        step_um=interface.pitch_um / SAMPLES_PER_PITCH,
        covered=covered,
        saturated=_saturated(looked_at),
        background=background,
        solder=solder,
    )


def cut_height(heights: HeightMap, interface: Interface, placement: Placement) -> NDArray[np.float32]:
    """(n, SIZE, SIZE) float32 heights in um around each joint; NaN where the map has no data or does not reach."""
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
    """(m, slices, k) bilinear samples, in every slice, of the windows `values` (n, slices, SIZE, SIZE) of m joints.

    `joint` (m,) are rows of `values` in rising order; `row`, `col` (m, k) are places in the window, in samples, beyond which
    its edge repeats. `out` takes the samples where they are wanted in another order in memory.
    """
    n, slices = values.shape[:2]
    samples = np.empty((len(joint), slices, row.shape[1]), dtype=np.float32) if out is None else out
    at_once = max(1, min(_SAMPLED_AT_ONCE, _TALLEST // (slices * SIZE)))
    for first in range(0, n, at_once):
        part = slice(*np.searchsorted(joint, [first, first + at_once]))
        if part.start == part.stop:
            continue
        where, between = cv2.convertMaps(col[part], np.clip(row[part], 0, SIZE - 1), cv2.CV_16SC2)
        where[..., 1] += ((joint[part] - first) * (slices * SIZE)).astype(np.int16)[:, None]
        # All slices of some joints as one high picture; copied in one go, it is in the cache when samples jump about in it.
        picture = values[first : first + at_once].copy().reshape(-1, SIZE)
        for k in range(slices):
            samples[part, k] = cv2.remap(picture[k * SIZE :], where, between, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return samples


def disc(radius: float) -> NDArray[np.bool_]:
    """(SIZE * SIZE,) mask of the samples nearer to the window's centre than `radius` samples."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    mask: NDArray[np.bool_] = (np.hypot(axis[:, None], axis[None]) <= radius).ravel()
    return mask


def _covered(row: NDArray[np.float32], col: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """(n,) share of each window's samples that lie inside the image; looked at sample by sample only where a corner does not."""
    corners = [0, SIZE - 1, SIZE * (SIZE - 1), SIZE * SIZE - 1]
    covered = np.ones(len(row), dtype=np.float32)
    some = np.flatnonzero(~_inside(row[:, corners], col[:, corners], grid).all(axis=1))
    covered[some] = _inside(row[some], col[some], grid).mean(axis=1, dtype=np.float32)
    return covered


def _inside(row: NDArray[np.float32], col: NDArray[np.float32], grid: Grid) -> NDArray[np.bool_]:
    rows, cols = grid.shape
    inside: NDArray[np.bool_] = (row > -0.5) & (row < rows - 0.5) & (col > -0.5) & (col < cols - 0.5)
    return inside


def _sample(page: NDArray[np.generic], where: Sequence[NDArray[Any]]) -> NDArray[Any]:
    sampled: NDArray[Any] = cv2.remap(page, where[0], where[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled


def _normalised(
    pages: Sequence[NDArray[np.generic]],
    where: Sequence[NDArray[Any]],
    zero: NDArray[np.float32],
    span: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(n, slices, SIZE, SIZE) samples of all pages less `zero` over `span`, some joints at a time: they stay in the cache."""
    n = len(where[0])
    values = np.empty((n, len(pages), SIZE * SIZE), dtype=np.float32)
    for start in range(0, n, _JOINTS_AT_ONCE):
        part = slice(start, start + _JOINTS_AT_ONCE)
        for k, page in enumerate(pages):
            raw = _sample(page, [w[part] for w in where])
            scale = float(1 / span[k])
            cv2.addWeighted(raw, scale, raw, 0, -float(zero[k]) * scale, dst=values[part, k], dtype=cv2.CV_32F)
    return values.reshape(n, len(pages), SIZE, SIZE)


def _antialiased(pages: Sequence[NDArray[np.generic]], grid: Grid, step_um: float) -> tuple[list[NDArray[np.generic]], Grid]:
    """Pages averaged down where samples would skip pixels; the grid follows."""
    factor = int(step_um / grid.pixel_um)
    if factor < 2:
        return list(pages), grid
    rows, cols = grid.shape[0] // factor, grid.shape[1] // factor
    small = [cv2.resize(p[: rows * factor, : cols * factor], (cols, rows), interpolation=cv2.INTER_AREA) for p in pages]
    shift = (factor - 1) / 2 * grid.pixel_um
    return small, Grid((rows, cols), grid.pixel_um * factor, (grid.origin_um[0] + shift, grid.origin_um[1] - shift))


def _levels(looked_at: NDArray[np.float32], whole: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grey of background and of solder in each slice: medians over joints, so that defects do not move them.

    `looked_at` (n, slices, len(_LEVEL_SAMPLES)), solder bright.
    """
    use = looked_at[whole] if whole.any() else looked_at
    solder = np.median(use[:, :, : len(_CORE)].mean(axis=2), axis=0)
    background = np.median(use[:, :, len(_CORE) :], axis=(0, 2))
    # A slice without contrast keeps a finite scale; it says nothing either way.
    contrast = np.maximum(solder - background, 1e-3 * np.maximum(np.abs(solder), 1.0))
    return background.astype(np.float32), (background + contrast).astype(np.float32)


def _saturated(looked_at: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) whether in any slice most of a ball's core lies at an end of the picture's integer scale."""
    if not np.issubdtype(looked_at.dtype, np.integer):
        return np.zeros(len(looked_at), dtype=bool)
    core = looked_at[:, :, : len(_CORE)]
    clipped = ((core <= 0) | (core >= float(np.iinfo(core.dtype).max))).mean(axis=2) > 0.5
    return np.asarray(clipped.any(axis=1))


def _gaps() -> NDArray[np.intp]:
    """The samples half way to the four neighbours."""
    centre = (SIZE - 1) / 2
    near, mid, far = (round(centre + offset) for offset in (-_GAP_DISTANCE, 0.0, _GAP_DISTANCE))
    gaps: NDArray[np.intp] = np.array([near, far, mid, mid]) * SIZE + np.array([mid, mid, near, far])
    return gaps


# What the levels of a slice are taken from.
_CORE = np.flatnonzero(disc(_CORE_RADIUS))
_LEVEL_SAMPLES = np.concatenate([_CORE, _gaps()])


# ---- segment/slice_heights
_LEAST_SLICES = 3  # of a parabola
# So many joints give a median diameter to a um, and so the widest place to half a one.
_ENOUGH = 64
# Balls whose ends are narrower than their belly by less than this share of it have no height at which they are widest.
_LEAST_BELLY = 0.08
# Pads of two sizes move the belly too, and nobody says so: the found height is believed for the greater part, and no
# further than the heights can be off (10 um), and the stack with them.
_BELIEVED = 0.8
_BLIND = 0.25  # contrast of a slice, of that of the median slice: beyond a pad there is hardly any
_MIDDLE = slice(SIZE // 8, SIZE - SIZE // 8)
_BESIDE = disc(SIZE * 3 / 8).reshape(SIZE, SIZE)[_MIDDLE, _MIDDLE]  # up to half way to the neighbours
_SOLDER = 0.5  # half of the typical core's grey


def beyond_pads(windows: Windows, interface: Interface) -> list[int]:
    """The slices, counted as in `windows`, that may lie beyond a pad and show next to nothing of the joints: they lie beyond."""
    contrast = np.abs(windows.solder - windows.background)
    blind = np.flatnonzero(contrast < _BLIND * np.median(contrast))
    return [int(k) for k in blind if interface.may_miss(float(windows.z_um[k]))]


def at_found_heights(windows: Windows, interface: Interface) -> Windows:
    """The same windows, their `z_um` corrected by what `found_error_um` says of them."""
    return replace(windows, z_um=windows.z_um - found_error_um(windows, interface))


def found_error_um(windows: Windows, interface: Interface) -> float:
    """How much higher the slices say that they are than they cut these joints; 0 where it cannot be told.

    The widest place of the parabola through the median diameters of all slices, against the middle of `pads_z_um`. Slices
    said to be higher by some um give as much more: what a machine believes of all its slices alike hardly counts.
    """
    slices = len(windows.z_um)
    if slices < _LEAST_SLICES:
        return 0.0
    diameter = _median_diameters(windows)
    z = windows.z_um - np.mean(interface.pads_z_um)
    curve, slope, _ = np.polyfit(z, diameter, 2)
    if -curve * (interface.gap_um / 2) ** 2 < _LEAST_BELLY * diameter.max() or diameter.min() <= 0:
        return 0.0
    return float(np.clip(_BELIEVED * -slope / (2 * curve), -HEIGHT_ERROR_UM, HEIGHT_ERROR_UM))


def _median_diameters(windows: Windows) -> NDArray[np.float64]:
    """(slices,) um of the equal-area circle, the median over some of the joints; 0 without any that is in all slices."""
    some = windows.values[:: max(1, len(windows.values) // _ENOUGH), :, _MIDDLE, _MIDDLE]
    area = np.count_nonzero((some > _SOLDER) & _BESIDE, axis=(2, 3))
    whole = area[(area > 0).all(axis=1)]
    if len(whole) == 0:
        return np.zeros(len(windows.z_um))
    diameter: NDArray[np.float64] = 2 * np.sqrt(np.median(whole, axis=0) / np.pi) * windows.step_um
    return diameter

"""Cut the surroundings of all joints of an interface at once, on one scale and one grey axis.

The same function serves measurement, the classifier on the line and its training, so that none of them sees a
picture that the others do not. Windows are `SIZE` x `SIZE` samples, `pitch / SAMPLES_PER_PITCH` apart, centred on the
joint's expected place and turned with the package: whatever the pitch, a neighbour lies at the same place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.recipe import Interface

__all__ = ["SAMPLES_PER_PITCH", "SIZE", "Windows", "cut_height", "cut_slices", "sample_points"]

SIZE = 48
SAMPLES_PER_PITCH = 36
# Where the ball's core is looked at for its grey: well inside the pad of any pitch in use (pads are 0.5 to 0.6 pitch).
_CORE_RADIUS = 0.12 * SAMPLES_PER_PITCH
# Half way to a neighbour along the rows there is no solder of a good joint; here the background is looked at.
_GAP_DISTANCE = 0.5 * SAMPLES_PER_PITCH


@dataclass(frozen=True)
class Windows:
    """Normalised pictures of all joints of one interface.

    `values` (n, slices, SIZE, SIZE) float32: 0 is the background between joints, 1 the core of the typical joint of
    that slice; solder is bright whatever the machine's polarity. Lost slices are left out. `z_um` (slices,) their
    heights as the machine believes. `step_um` is the distance of samples. `covered` (n,) is the share of the window
    that lies inside the image. `saturated` (n,) bool: grey at the end of an integer scale in the core.
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
    step = interface.pitch_um / SAMPLES_PER_PITCH
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * step
    x = interface.x_um[:, None] + np.tile(axis, SIZE)[None]
    y = interface.y_um[:, None] - np.repeat(axis, SIZE)[None]
    row, col = grid.to_pixel(*placement.apply(x, y))
    return row.astype(np.float32), col.astype(np.float32)


def cut_slices(stack: SliceStack, interface: Interface, placement: Placement) -> Windows:
    """Windows of all joints of `interface`, in its order; samples outside the image repeat its edge."""
    kept = [k for k in range(len(stack.z_um)) if k not in stack.lost]
    pages, grid = _antialiased([stack.values[k] for k in kept], stack.grid, interface.pitch_um / SAMPLES_PER_PITCH)
    row, col = sample_points(interface, placement, grid)
    raw = np.stack([_sample(page, row, col) for page in pages], axis=1)
    inside = (row > -0.5) & (row < grid.shape[0] - 0.5) & (col > -0.5) & (col < grid.shape[1] - 0.5)
    saturated = _saturated(raw, stack.values.dtype)
    if stack.polarity == "solder_dark":
        raw = -raw
    background, solder = _levels(raw, inside.mean(axis=1) > 0.99)
    values = (raw - background[None, :, None]) / (solder - background)[None, :, None]
    return Windows(
        values=values.reshape(len(row), len(kept), SIZE, SIZE),
        z_um=np.asarray([stack.z_um[k] for k in kept], dtype=np.float64),
        step_um=interface.pitch_um / SAMPLES_PER_PITCH,
        covered=inside.mean(axis=1, dtype=np.float32),
        saturated=saturated,
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


def disc(radius: float) -> NDArray[np.bool_]:
    """(SIZE * SIZE,) mask of the samples nearer to the window's centre than `radius` samples."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    mask: NDArray[np.bool_] = (np.hypot(axis[:, None], axis[None]) <= radius).ravel()
    return mask


def _sample(page: NDArray[np.generic], row: NDArray[np.float32], col: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.remap(page, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def _antialiased(pages: Sequence[NDArray[np.generic]], grid: Grid, step_um: float) -> tuple[list[NDArray[np.generic]], Grid]:
    """Pages averaged down where samples would skip pixels; the grid follows."""
    factor = int(step_um / grid.pixel_um)
    if factor < 2:
        return list(pages), grid
    rows, cols = grid.shape[0] // factor, grid.shape[1] // factor
    small = [cv2.resize(p[: rows * factor, : cols * factor], (cols, rows), interpolation=cv2.INTER_AREA) for p in pages]
    shift = (factor - 1) / 2 * grid.pixel_um
    return small, Grid((rows, cols), grid.pixel_um * factor, (grid.origin_um[0] + shift, grid.origin_um[1] - shift))


def _levels(raw: NDArray[np.float32], whole: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grey of background and of solder in each slice: medians over joints, so that defects do not move them."""
    use = raw[whole] if whole.any() else raw
    solder = np.median(use[:, :, disc(_CORE_RADIUS)].mean(axis=2), axis=0)
    centre = (SIZE - 1) / 2
    near, far = round(centre - _GAP_DISTANCE), round(centre + _GAP_DISTANCE)
    mid = round(centre)
    gaps = use.reshape(*use.shape[:2], SIZE, SIZE)[:, :, [near, far, mid, mid], [mid, mid, near, far]]
    background = np.median(gaps, axis=(0, 2))
    # A slice without contrast keeps a finite scale; it says nothing either way.
    contrast = np.maximum(solder - background, 1e-3 * np.maximum(np.abs(solder), 1.0))
    return background.astype(np.float32), (background + contrast).astype(np.float32)


def _saturated(raw: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    if not np.issubdtype(dtype, np.integer):
        return np.zeros(len(raw), dtype=bool)
    top = float(np.iinfo(dtype).max)
    core = raw[:, :, disc(_CORE_RADIUS)]
    clipped: NDArray[np.bool_] = ((core <= 0) | (core >= top)).mean(axis=(1, 2)) > 0.5
    return clipped

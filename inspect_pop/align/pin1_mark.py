"""The pin-1 mark: the one corner of the package's top that differs from the other three."""

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import HeightMap, Placement
from inspect_pop.core.recipe import Package

__all__ = ["CORNERS", "pin1_corner"]

CORNERS = ("upper_left", "upper_right", "lower_left", "lower_right")
_SIGNS = ((-1, 1), (1, 1), (-1, -1), (1, -1))
CORNER_SHARE = 0.2  # side of the corner looked at, of the body's: the mark lies within, lettering begins further in
EDGE_UM = 60.0  # left out along the edge, where shadows and the placement's own error reach
SMALLEST_UM = 240.0  # marks are dots or triangles of at least a quarter of a millimetre
MIN_DEPTH_UM = 5.0  # mean depth or height over that spot; a mold's texture reaches 1 to 2 um at that size
MIN_LEAD = 2.5  # times the next corner's


def pin1_corner(heights: HeightMap, placement: Placement, package: Package) -> str | None:
    """Which corner of the body, as placed, bears the mark: a name of `CORNERS`, or None where no corner stands out.

    The four corners are brought to one orientation and each is compared with the median of all: what the corners
    share, such as warpage, drops out. Joints' places do not count in a `pre_stack` map. The mark may be raised or sunk.
    """
    patches = np.stack([_corner(heights, placement, package, signs) for signs in _SIGNS])
    known = ~np.isnan(patches)
    if known.mean() < 0.5:
        return None
    step = _step(heights, package)
    size = 2 * round(SMALLEST_UM / step / 2) + 1
    patches = patches - np.nanmedian(patches[:, ::3, ::3], axis=(1, 2), keepdims=True)
    common = _medians(patches)
    depth = np.array([_deepest(patch - common, size) for patch in patches])
    first, second = np.argsort(depth)[::-1][:2]
    if depth[first] < MIN_DEPTH_UM or depth[first] < MIN_LEAD * depth[second]:
        return None
    return CORNERS[first]


def _medians(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, cols) median over the patches of what is known, 0 where nothing is; `np.nanmedian` takes ten times as long."""
    ranked, known = np.sort(patches, axis=0), np.isfinite(patches).sum(axis=0)  # NaN last
    low, high = (np.take_along_axis(ranked, k[None], axis=0)[0] for k in (np.maximum(known - 1, 0) // 2, known // 2))
    return np.where(known > 0, (low + high) / 2, np.float32(0))


def _step(heights: HeightMap, package: Package) -> float:
    """Distance of samples, um: the map's own pixel, but at most 150 samples a corner."""
    return max(heights.grid.pixel_um, CORNER_SHARE * min(package.body_um) / 150)


def _corner(heights: HeightMap, placement: Placement, package: Package, signs: tuple[int, int]) -> NDArray[np.float32]:
    """Heights of one corner, from the corner inwards along both axes; a plane is taken off; NaN: no data."""
    step = _step(heights, package)
    inward = np.arange(EDGE_UM, CORNER_SHARE * min(package.body_um), step)
    x = signs[0] * (package.body_um[0] / 2 - inward[None, :])
    y = signs[1] * (package.body_um[1] / 2 - inward[:, None])
    x, y = np.broadcast_arrays(x, y)
    row, col = heights.grid.to_pixel(*placement.apply(x, y))
    out = cv2.remap(
        heights.height_um,
        col.astype(np.float32),
        row.astype(np.float32),
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=float("nan"),
    )
    patch = np.array(out, dtype=np.float32)
    if heights.stage == "pre_stack":
        patch[_near_upper_joints(x, y, package)] = np.nan
    return _without_plane(patch)


def _near_upper_joints(x: NDArray[np.float64], y: NDArray[np.float64], package: Package) -> NDArray[np.bool_]:
    """Openings and pads for the memory's balls: one without its dome would look like a mark."""
    near = np.zeros(x.shape, dtype=bool)
    across, along = x[0], y[:, 0]  # the corner's samples lie on a grid
    for upper in (i for i in package.interfaces if i.name == "upper"):
        inside = (np.abs(upper.x_um - x.mean()) < np.ptp(x)) & (np.abs(upper.y_um - y.mean()) < np.ptp(y))
        reach = (0.5 * upper.pitch_um) ** 2
        for jx, jy in zip(upper.x_um[inside], upper.y_um[inside], strict=True):
            near |= (across - jx) ** 2 < reach - ((along - jy) ** 2)[:, None]
    return near


def _without_plane(patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Less its robust plane: three rounds of least squares on what lies within 2.5 sigma, of each third sample either way."""
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
        use = error <= 2.5 * max(1.4826 * float(np.median(error)), 0.5)
    flat: NDArray[np.float32] = (patch - (plane[0] * row + plane[1] * col + plane[2])).astype(np.float32)
    return flat


def _deepest(difference: NDArray[np.float32], size: int) -> float:
    """Greatest absolute mean over a disc of `size` samples, where at least half of it is known."""
    known = np.isfinite(difference)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(np.float32)
    disc /= disc.sum()
    limited = np.clip(np.where(known, difference, 0), -200, 200).astype(np.float32)
    share = cv2.filter2D(known.astype(np.float32), -1, disc, borderType=cv2.BORDER_CONSTANT)
    mean = cv2.filter2D(limited, -1, disc, borderType=cv2.BORDER_CONSTANT) / np.maximum(share, 1e-6)
    return float(np.abs(mean[share > 0.5]).max(initial=0.0))

"""All slices of a stack in one small picture of 'how much like a ball is it here', whatever the grey scale."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.geometry import Grid, SliceStack

__all__ = ["SolderMap", "inverted", "solder_map"]

Image = NDArray[np.float32]
BALL_PX = 6.0  # a ball's width in the small picture: wide enough for centroids, small enough to be fast
GHOST = 0.3  # response, relative to a joint's, below which solder belongs to the other interface (its rings reach 0.2)


@dataclass(frozen=True)
class SolderMap:
    """`response` (rows, cols): band-passed solder, 1 at the middle of a typical joint; `likeness`: the same, cut to 0..1."""

    response: Image
    likeness: Image
    grid: Grid


def solder_map(stack: SliceStack, ball_um: float, n_joints: int) -> SolderMap:
    """Mean of the slices, made solder-bright, shrunk until a ball is about six pixels wide, background taken off.

    The difference of two Gaussians (a quarter and five eighths of a ball) passes balls and neither shading nor large
    components; its scale is set by the `n_joints` brightest spots.
    """
    factor = max(1, round(ball_um / stack.grid.pixel_um / BALL_PX))
    small = _mean_slice(stack, factor)
    pixel = stack.grid.pixel_um * factor
    shift = stack.grid.pixel_um * (factor - 1) / 2
    grid = Grid(small.shape, pixel, (stack.grid.origin_um[0] + shift, stack.grid.origin_um[1] - shift))
    ball = ball_um / pixel
    response = cv2.GaussianBlur(small, (0, 0), 0.25 * ball) - cv2.GaussianBlur(small, (0, 0), 0.625 * ball)
    return _scaled(response, n_joints, grid)


def inverted(seen: SolderMap, n_joints: int) -> SolderMap:
    """What the map would be if the image were of the other polarity."""
    return _scaled(-seen.response, n_joints, seen.grid)


def _scaled(response: Image, n_joints: int, grid: Grid) -> SolderMap:
    response = response / np.float32(_typical_peak(response, n_joints))
    likeness = np.clip((response - GHOST) / (0.75 - GHOST), 0, 1)
    return SolderMap(response, likeness, grid)


def _mean_slice(stack: SliceStack, factor: int) -> Image:
    """Mean over the slices that hold something, each by its own spread, shrunk by a whole factor; solder bright."""
    rows, cols = (n // factor for n in stack.grid.shape)
    sign = 1.0 if stack.polarity == "solder_bright" else -1.0
    total = np.zeros((rows, cols), dtype=np.float32)
    for k, page in enumerate(stack.values):
        if k in stack.lost:
            continue
        cut = np.ascontiguousarray(page[: rows * factor, : cols * factor])
        if cut.dtype.kind == "f":
            cut = np.nan_to_num(cut.astype(np.float32), nan=float(np.nanmedian(cut)))
        small = cv2.resize(cut, (cols, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        middle, spread = float(small.mean()), float(small.std())
        if spread > 1e-5 * max(abs(middle), 1e-3):  # less is rounding: a page of one grey shows nothing
            total += (small - np.float32(middle)) * np.float32(sign / spread)
    return total


def _typical_peak(response: Image, n_joints: int) -> float:
    """Median height of the `n_joints` highest local maxima; the largest float where there is none, so that nothing responds."""
    top = cv2.dilate(response, np.ones((3, 3), np.uint8))
    peaks = response[(response == top) & (response > 0)]
    if not len(peaks):
        return float(np.finfo(np.float32).max)
    keep = min(n_joints, len(peaks))
    return float(np.median(np.partition(peaks, len(peaks) - keep)[-keep:]))

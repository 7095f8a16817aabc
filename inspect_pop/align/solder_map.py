"""All slices of a stack in one small picture of 'how much like a ball is it here', whatever the grey scale."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import Grid, SliceStack

__all__ = ["SolderMap", "inverted", "solder_map"]

Image = NDArray[np.float32]
BALL_PX = 6.0  # a ball's width in the small picture: wide enough for centroids, small enough to be fast
GHOST = 0.3  # response, relative to a joint's, below which solder belongs to the other interface (its rings reach 0.2)


@dataclass(frozen=True)
class SolderMap:
    """`response` (rows, cols): band-passed solder, 1 at the middle of a typical joint; `likeness`: the same, cut to 0..1.

    `slices` (s, rows, cols): the response of each slice that holds something, each by its own spread; `number` (s,) says
    which these are.
    """

    response: Image
    likeness: Image
    grid: Grid
    slices: Image
    number: tuple[int, ...]


def solder_map(stack: SliceStack, ball_um: float, n_joints: int) -> SolderMap:
    """Mean of the slices, made solder-bright, shrunk until a ball is about six pixels wide, background taken off.

    The difference of two Gaussians (a quarter and five eighths of a ball) passes balls and neither shading nor large
    components; its scale is set by the `n_joints` brightest spots.
    """
    factor = max(1, round(ball_um / stack.grid.pixel_um / BALL_PX))
    pixel = stack.grid.pixel_um * factor
    shift = stack.grid.pixel_um * (factor - 1) / 2
    rows, cols = (n // factor for n in stack.grid.shape)
    grid = Grid((rows, cols), pixel, (stack.grid.origin_um[0] + shift, stack.grid.origin_um[1] - shift))
    number, pages = _small_slices(stack, factor)
    ball = ball_um / pixel
    passed = [cv2.GaussianBlur(p, (0, 0), 0.25 * ball) - cv2.GaussianBlur(p, (0, 0), 0.625 * ball) for p in pages]
    slices = np.stack(passed) if passed else np.zeros((0, rows, cols), dtype=np.float32)
    return _scaled(slices.sum(axis=0), n_joints, grid, slices, number)


def inverted(seen: SolderMap, n_joints: int) -> SolderMap:
    """What the map would be if the image were of the other polarity."""
    return _scaled(-seen.response, n_joints, seen.grid, -seen.slices, seen.number)


def _scaled(response: Image, n_joints: int, grid: Grid, slices: Image, number: tuple[int, ...]) -> SolderMap:
    response = response / np.float32(_typical_peak(response, n_joints))
    likeness = np.clip((response - GHOST) / (0.75 - GHOST), 0, 1)
    return SolderMap(response, likeness, grid, slices, number)


def _small_slices(stack: SliceStack, factor: int) -> tuple[tuple[int, ...], list[Image]]:
    """The slices that hold something, by number: each by its own spread, shrunk by a whole factor; solder bright."""
    rows, cols = (n // factor for n in stack.grid.shape)
    sign = 1.0 if stack.polarity == "solder_bright" else -1.0
    found: dict[int, Image] = {}
    for k, page in enumerate(stack.values):
        if k in stack.lost:
            continue
        cut = page[: rows * factor, : cols * factor]
        if cut.dtype.kind == "f":
            cut = np.nan_to_num(cut.astype(np.float32), nan=float(np.nanmedian(cut)))
        small = cv2.resize(cut, (cols, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        middle, spread = (float(v.item()) for v in cv2.meanStdDev(small))
        if spread > 1e-5 * max(abs(middle), 1e-3):  # less is rounding: a page of one grey shows nothing
            found[k] = (small - np.float32(middle)) * np.float32(sign / spread)
    return tuple(found), list(found.values())


def _typical_peak(response: Image, n_joints: int) -> float:
    """Median height of the `n_joints` highest local maxima; the largest float where there is none, so that nothing responds."""
    top = cv2.dilate(response, np.ones((3, 3), np.uint8))
    peaks = response[(response == top) & (response > 0)]
    if not len(peaks):
        return float(np.finfo(np.float32).max)
    keep = min(n_joints, len(peaks))
    return float(np.median(np.partition(peaks, len(peaks) - keep)[-keep:]))

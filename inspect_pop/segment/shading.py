"""Background and shading: what an image would be without solder, whatever its polarity and scale."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Flat", "flatten", "no_data", "solder_bright"]

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
_SIDE = 192  # the background is estimated on an image of about this many pixels a side: it holds nothing finer
_EMPTY_SHARE = 0.002  # share of an image that one exact end value must fill in one piece to be 'no data'


@dataclass(frozen=True)
class Flat:
    """An image with its background taken off: `values` (rows, cols) float32, 0 background, solder bright.

    `valid` (rows, cols) is False where the image holds no data; there `values` is 0. `noise` is the robust standard
    deviation of the background.
    """

    values: Image
    valid: Mask
    noise: float


def solder_bright(image: NDArray[np.generic], polarity: str) -> Image:
    """A float32 copy in which solder is brighter than what surrounds it; NaN becomes the median."""
    bright = image.astype(np.float32)
    if np.isnan(bright).any():
        bright = np.nan_to_num(bright, nan=float(np.nanmedian(bright)))
    return -bright if polarity == "solder_dark" else bright


def no_data(image: NDArray[np.generic], reach_px: int = 6) -> Mask:
    """True where an image holds nothing: connected areas at exactly either end of its values (seams of mosaics, a masked rim).

    Compression smears such areas by a few grey values; within a hundredth of the range counts as the end, and the area
    is widened by `reach_px` pixels over its smeared edge.
    """
    values = solder_bright(image, "solder_bright")
    low, high = float(values.min()), float(values.max())
    out = np.zeros(values.shape, dtype=bool)
    if high <= low:
        return out
    near = 0.01 * (high - low)
    for end in (values <= low + near, values >= high - near):
        count, label, stats, _ = cv2.connectedComponentsWithStats(end.astype(np.uint8), connectivity=4)
        large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] > max(_EMPTY_SHARE * end.size, 64.0))
        touching = [k for k in large if k > 0 and _touches_border(stats[k], end.shape)]
        out |= np.isin(label, touching) if count > 1 else False
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1, 2 * reach_px + 1))
    wide: Mask = cv2.dilate(out.astype(np.uint8), kernel).astype(bool)
    return wide


def flatten(image: NDArray[np.generic], polarity: str, object_px: float) -> Flat:
    """Take off a background that varies over more than two objects' widths.

    Parameters
    ----------
    image
        (rows, cols), any numeric dtype.
    polarity
        `solder_bright` or `solder_dark`.
    object_px
        Width of the objects that must survive.

    Notes
    -----
    The background is a grey opening (lower envelope) with a window of one and a half objects, smoothed over two, taken on
    a shrunk copy: balls fit into no such window, shading does. Areas without data are filled with their surroundings first.
    """
    bright = solder_bright(image, polarity)
    valid = ~no_data(image)
    factor = max(1, round(min(bright.shape) / _SIDE / 2), int(object_px / 8))
    rows, cols = (max(n // factor, 1) for n in bright.shape)
    filled = np.where(valid, bright, _fill(bright, valid))
    small = cv2.resize(filled, (cols, rows), interpolation=cv2.INTER_AREA)
    window = 2 * round(0.75 * object_px / factor) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
    # A median first: an opening follows the darkest single pixels.
    envelope = cv2.morphologyEx(cv2.medianBlur(small, 3), cv2.MORPH_OPEN, kernel)
    smooth = cv2.GaussianBlur(envelope, (0, 0), max(object_px / factor, 1.0))
    background = cv2.resize(smooth, bright.shape[::-1], interpolation=cv2.INTER_LINEAR)
    values = np.where(valid, bright - background, 0).astype(np.float32)
    low = values[valid & (values < np.median(values[valid]))] if valid.any() else values.ravel()
    noise = 1.4826 * float(np.median(np.abs(low - np.median(low)))) if low.size else 0.0
    return Flat(values, valid, noise)


def _touches_border(stats: NDArray[np.int32], shape: tuple[int, ...]) -> bool:
    left, top, width, height = (int(v) for v in stats[:4])
    return left == 0 or top == 0 or left + width == shape[1] or top + height == shape[0]


def _fill(bright: Image, valid: Mask) -> float:
    """The usual background: the lower quartile of what is valid."""
    return float(np.percentile(bright[valid], 25)) if valid.any() else 0.0

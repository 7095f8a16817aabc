"""Find balls in one picture without knowing where they should be: classical segmentation.

For pictures that come without a recipe, and for looking at what a recipe does not expect. Joints of a recipe are
outlined by `inspect_pop.segment.outlines`, which knows their places.

The background comes off first (`flatten`): what the image would be without solder, whatever its polarity and scale.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.robust import mad_sigma

__all__ = ["Balls", "FlatImage", "find_balls", "find_no_data", "flatten", "make_solder_bright"]

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
_SIDE = 192  # the background is estimated on an image of about this many pixels per side: it holds nothing finer
_EMPTY_SHARE = 0.002  # share of an image that one exact end value must fill in one piece to be 'no data'
TYPICAL = (0.6, 1.6)  # diameter of a ball over the median one; splashes are smaller, components larger
LEAST_ROUND = 0.75  # roundness of a ball; a void at its edge or a neighbour's web costs up to 0.15
SINGLE = 1.35  # a body whose convex hull is no wider than this times a ball is one ball: its dents are voids
RIM = 0.08  # share of the diameter left out at a ball's edge when its inside is measured
DARK = 0.12  # depth of a void, of the ball's own contrast, below what a sound ball shows so far inside its edge
_BINS = 24  # of the distance from edge to middle, for the sound ball's profile


@dataclass(frozen=True)
class FlatImage:
    """An image without its background: `values` (rows, cols) float32, 0 background, solder bright.

    `valid` (rows, cols) is False where the image holds no data; there `values` is 0. `noise` is the robust standard
    deviation of the background.
    """

    values: Image
    valid: Mask
    noise: float


@dataclass(frozen=True)
class Balls:
    """Balls found in a picture, each (n,) unless said otherwise, in reading order of their labels.

    `labels` (rows, cols) int32: 0 is background, k the ball in row k - 1. `row`, `col`: centroid of the filled outline
    (centre of pixel (0, 0) is 0, 0). `diameter_px` of the equal-area circle. `roundness` 4 pi area / perimeter^2.
    `grey`: mean over background, 1 for the median ball. `void_fraction`: area that is darker by more than `DARK` than
    the picture's sound balls so far inside their edge, over the ball's. `touching`: cut from a body of several.
    """

    labels: NDArray[np.int32]
    row: FloatArray
    col: FloatArray
    diameter_px: FloatArray
    roundness: FloatArray
    grey: FloatArray
    void_fraction: FloatArray
    touching: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)


def make_solder_bright(image: NDArray[np.generic], polarity: str) -> Image:
    """Return a float32 copy in which solder is brighter than what surrounds it; NaN becomes the median."""
    bright = image.astype(np.float32)
    if np.isnan(bright).any():
        bright = np.nan_to_num(bright, nan=float(np.nanmedian(bright)))
    return -bright if polarity == "solder_dark" else bright


def find_no_data(image: NDArray[np.generic], reach_px: int = 6) -> Mask:
    """Mask where an image holds nothing: areas at exactly either end of its values that touch its border.

    Such are seams of mosaics and a masked rim. Compression smears them by a few grey values; within a hundredth of the
    range counts as the end, and the area is widened by `reach_px` pixels over its smeared edge.
    """
    values = make_solder_bright(image, "solder_bright")
    low, high = float(values.min()), float(values.max())
    out = np.zeros(values.shape, dtype=bool)
    if high <= low:
        return out
    near = 0.01 * (high - low)
    for end in (values <= low + near, values >= high - near):
        count, label, stats, _ = cv2.connectedComponentsWithStats(end.astype(np.uint8), connectivity=4)
        left, top, width, height, area = stats.T
        touching = (left == 0) | (top == 0) | (left + width == end.shape[1]) | (top + height == end.shape[0])
        large = np.flatnonzero(touching & (area > max(_EMPTY_SHARE * end.size, 64.0)))
        out |= np.isin(label, large[large > 0]) if count > 1 else False
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach_px + 1, 2 * reach_px + 1))
    wide: Mask = cv2.dilate(out.astype(np.uint8), kernel).astype(bool)
    return wide


def flatten(image: NDArray[np.generic], polarity: str, object_px: float) -> FlatImage:
    """Remove a background that varies over more than two objects' widths.

    Parameters
    ----------
    image
        (rows, cols), any numeric dtype.
    polarity
        `make_solder_bright` or `solder_dark`.
    object_px
        Width of the objects that must survive.

    Notes
    -----
    The background is a grey opening (lower envelope) with a window of one and a half objects, smoothed over two, taken on
    a shrunk copy: balls fit into no such window, shading does. Areas without data are first filled with the usual
    background, the lower quartile of what is valid.
    """
    bright = make_solder_bright(image, polarity)
    valid = ~find_no_data(image)
    factor = max(1, round(min(bright.shape) / _SIDE / 2), int(object_px / 8))
    rows, cols = (max(n // factor, 1) for n in bright.shape)
    filled = np.where(valid, bright, float(np.percentile(bright[valid], 25)) if valid.any() else 0.0)
    small = cv2.resize(filled, (cols, rows), interpolation=cv2.INTER_AREA)
    window = 2 * round(0.75 * object_px / factor) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
    # A median first: an opening follows the darkest single pixels.
    envelope = cv2.morphologyEx(cv2.medianBlur(small, 3), cv2.MORPH_OPEN, kernel)
    smooth = cv2.GaussianBlur(envelope, (0, 0), max(object_px / factor, 1.0))
    background = cv2.resize(smooth, bright.shape[::-1], interpolation=cv2.INTER_LINEAR)
    values = np.where(valid, bright - background, 0).astype(np.float32)
    low = values[valid & (values < np.median(values[valid]))] if valid.any() else values.ravel()
    noise = mad_sigma(low - np.median(low)) if low.size else 0.0
    return FlatImage(values, valid, noise)


def find_balls(image: NDArray[np.generic], polarity: str, diameter_px: float) -> Balls:
    """Find balls about `diameter_px` wide (a third more or less) in one picture (rows, cols) of any numeric dtype.

    Background off, Otsu's threshold, holes filled, bodies of several balls cut apart along the valleys of their distance
    transform; what is far from round or far from the median size is left out, as is what the border cuts.
    """
    flat = flatten(image, polarity, diameter_px)
    labels, touching = _split_touching(_mask_solder(flat, diameter_px), diameter_px)
    # Of the right size: near the given diameter first, then near the median of those.
    diameter = 2 * np.sqrt(np.bincount(labels.ravel()) / np.pi)
    use = (diameter > 0.5 * diameter_px) & (diameter < 2 * diameter_px)
    use[0] = False
    if use.any():
        median = float(np.median(diameter[use]))
        use &= (diameter > TYPICAL[0] * median) & (diameter < TYPICAL[1] * median)
        use[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = False
        use &= _measure_roundness(labels) > LEAST_ROUND
    chosen = np.flatnonzero(use)
    renumber = np.zeros(int(labels.max()) + 1, dtype=np.int32)
    renumber[chosen] = np.arange(1, len(chosen) + 1)
    final = renumber[labels]
    n = len(chosen) + 1
    area = np.bincount(final.ravel(), minlength=n)[1:].astype(np.float64)
    row, col = (np.bincount(final.ravel(), axis.ravel(), n)[1:] / np.maximum(area, 1) for axis in np.indices(labels.shape))
    grey = np.bincount(final.ravel(), flat.values.ravel(), n)[1:] / np.maximum(area, 1)
    ball_px = 2 * np.sqrt(area / np.pi)
    return Balls(
        labels=final,
        row=row,
        col=col,
        diameter_px=ball_px,
        roundness=_measure_roundness(final)[1:],
        grey=grey / max(float(np.median(grey)), 1e-6) if len(grey) else grey,
        void_fraction=_measure_voids(flat, final, area, ball_px) if len(area) else np.zeros(0),
        touching=touching[chosen],
    )


def _mask_solder(flat: FlatImage, diameter_px: float) -> NDArray[np.uint8]:
    """Mask solder, with voids filled, also those that break through the edge."""
    top = float(np.percentile(flat.values[flat.valid], 99.5)) if flat.valid.any() else 0.0
    scaled = np.clip(flat.values / max(top, 1e-6) * 255, 0, 255).astype(np.uint8)
    smooth = cv2.GaussianBlur(scaled, (0, 0), max(0.05 * diameter_px, 0.5))
    level, _ = cv2.threshold(smooth[flat.valid].reshape(-1, 1), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    mask = ((smooth > level) & flat.valid).astype(np.uint8)
    size = 2 * round(0.1 * diameter_px) + 1
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    bodies = []
    for contour in contours:
        # A single ball is its convex hull: voids in its rim leave dents.
        hull = cv2.convexHull(contour)
        width = 2 * np.sqrt(max(cv2.contourArea(hull), 1.0) / np.pi)
        _, (long, short), _ = cv2.minAreaRect(hull)
        single = width < SINGLE * diameter_px and max(long, short) < 1.25 * max(min(long, short), 1.0)
        bodies.append(hull if single else contour)
    filled: NDArray[np.uint8] = np.zeros_like(mask)
    cv2.drawContours(filled, bodies, -1, 1, cv2.FILLED)
    return filled


def _split_touching(solid: NDArray[np.uint8], diameter_px: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Give each pixel to the nearest core, cores being deep inside: (labels, which labels were part of a larger body)."""
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 5)
    core = ((depth > 0.28 * diameter_px) & (solid > 0)).astype(np.uint8)
    count, cores = cv2.connectedComponents(core)
    _, bodies = cv2.connectedComponents(solid)
    _, nearest = cv2.distanceTransformWithLabels(1 - core, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP)
    meaning = np.zeros(int(nearest.max()) + 1, dtype=np.int32)
    meaning[nearest[core > 0]] = cores[core > 0]
    body_of = np.zeros(count, dtype=np.int64)
    body_of[cores[core > 0]] = bodies[core > 0]
    candidate = meaning[nearest]
    labels = np.where((solid > 0) & (body_of[candidate] == bodies), candidate, 0).astype(np.int32)
    members = np.bincount(body_of[1:], minlength=int(bodies.max()) + 1)
    return labels, np.concatenate([[False], members[body_of[1:]] > 1])


def _measure_voids(flat: FlatImage, labels: NDArray[np.int32], area: FloatArray, diameter: FloatArray) -> FloatArray:
    """Return the share of each ball's area that is darker, by more than `DARK`, than a sound ball so far inside its edge."""
    n = len(area) + 1
    depth = cv2.distanceTransform((labels > 0).astype(np.uint8), cv2.DIST_L2, 5)
    inside = (labels > 0) & (depth > RIM * np.concatenate([[0.0], diameter])[labels])
    index, value = labels[inside], flat.values[inside]
    count = np.bincount(index, minlength=n)[1:]
    # The grey of each ball that a quarter of its pixels exceed.
    order = np.lexsort((value, index))
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    quartile = value[order][np.minimum(first + (0.75 * count).astype(np.intp), len(order) - 1)].astype(np.float64)
    bright = np.concatenate([[1.0], quartile])
    grey = value / np.maximum(bright[index], 1e-6)
    place = np.minimum(2 * _BINS * depth[inside] / diameter[index - 1], _BINS - 1).astype(np.intp)
    sound = np.array([np.median(grey[place == k]) if (place == k).any() else 1.0 for k in range(_BINS)])
    dark = np.bincount(index, grey < sound[place] - DARK, n)[1:]
    share: FloatArray = dark / np.maximum(area, 1)
    return share


def _measure_roundness(labels: NDArray[np.int32]) -> FloatArray:
    """Return 4 pi area / perimeter^2 of each label (index 0: background, meaningless).

    Perimeter by the Cauchy-Crofton formula in four directions: pi / 8 times the boundary's crossings along rows and
    columns, and along diagonals divided by sqrt(2).
    """
    n = int(labels.max()) + 1
    padded = np.pad(labels, 1)
    middle = padded[1:-1, 1:-1]
    crossings = np.zeros(n)
    for dr, dc, weight in ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 2**-0.5), (1, -1, 2**-0.5)):
        for sign in (1, -1):
            other = padded[1 + sign * dr : padded.shape[0] - 1 + sign * dr, 1 + sign * dc : padded.shape[1] - 1 + sign * dc]
            crossings += weight * np.bincount(middle[middle != other], minlength=n)
    perimeter = np.pi / 8 * crossings
    area = np.bincount(labels.ravel(), minlength=n)
    round_: FloatArray = 4 * np.pi * area / np.maximum(perimeter, 1e-6) ** 2
    return round_

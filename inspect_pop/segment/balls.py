"""Background and shading: what an image would be without solder, whatever its polarity and scale.

Balls in one picture, found without knowing where they should be: classical segmentation.

For pictures that come without a recipe, and for looking at what a recipe does not expect. Joints of a recipe are
outlined by `outlines`, which knows their places.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Balls", "Flat", "find_balls", "flatten", "no_data", "solder_bright"]

# ---- segment/shading
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


# ---- segment/balls
FloatArray = NDArray[np.float64]
TYPICAL = (0.6, 1.6)  # diameter of a ball over the median one; splashes are smaller, components larger
LEAST_ROUND = 0.75  # roundness of a ball; a void at its edge or a neighbour's web costs up to 0.15
SINGLE = 1.35  # a body whose convex hull is no wider than this times a ball is one ball: its dents are voids
RIM = 0.08  # share of the diameter left out at a ball's edge when its inside is looked at
DARK = 0.12  # depth of a void, of the ball's own contrast, below what a sound ball shows so far inside its edge
_BINS = 24  # of the distance from edge to middle, for the sound ball's profile


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


def find_balls(image: NDArray[np.generic], polarity: str, diameter_px: float) -> Balls:
    """Find balls about `diameter_px` wide (a third more or less) in one picture (rows, cols) of any numeric dtype.

    Background off, Otsu's threshold, holes filled, bodies of several balls cut apart along the valleys of their distance
    transform; what is far from round or far from the median size is left out.
    """
    flat = flatten(image, polarity, diameter_px)
    solid = _solid(flat, diameter_px)
    labels, touching = _cut_apart(solid, diameter_px)
    rows = _kept(labels, diameter_px)
    return _described(flat, labels, rows, touching)


def _solid(flat: Flat, diameter_px: float) -> NDArray[np.uint8]:
    """Mask of solder with voids filled, those too that break through the edge."""
    top = float(np.percentile(flat.values[flat.valid], 99.5)) if flat.valid.any() else 0.0
    scaled = np.clip(flat.values / max(top, 1e-6) * 255, 0, 255).astype(np.uint8)
    smooth = cv2.GaussianBlur(scaled, (0, 0), max(0.05 * diameter_px, 0.5))
    level, _ = cv2.threshold(smooth[flat.valid].reshape(-1, 1), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    mask = ((smooth > level) & flat.valid).astype(np.uint8)
    size = 2 * round(0.1 * diameter_px) + 1
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled: NDArray[np.uint8] = np.zeros_like(mask)
    cv2.drawContours(filled, [_whole(c, diameter_px) for c in contours], -1, 1, cv2.FILLED)
    return filled


def _whole(contour: NDArray[np.int32], diameter_px: float) -> NDArray[np.int32]:
    """The outline of one body; of a single ball, its convex hull: voids in its rim leave dents."""
    hull: NDArray[np.int32] = cv2.convexHull(contour)
    width = 2 * np.sqrt(max(cv2.contourArea(hull), 1.0) / np.pi)
    _, (long, short), _ = cv2.minAreaRect(hull)
    single = width < SINGLE * diameter_px and max(long, short) < 1.25 * max(min(long, short), 1.0)
    return hull if single else contour


def _cut_apart(solid: NDArray[np.uint8], diameter_px: float) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """(labels, which labels were part of a larger body): each pixel goes to the nearest core, cores being deep inside."""
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


def _kept(labels: NDArray[np.int32], diameter_px: float) -> NDArray[np.intp]:
    """Labels of the right size: near the asked diameter first, then near the median of those, and not cut by the border."""
    area = np.bincount(labels.ravel())
    diameter = 2 * np.sqrt(area / np.pi)
    near = (diameter > 0.5 * diameter_px) & (diameter < 2 * diameter_px)
    near[0] = False
    if not near.any():
        return np.zeros(0, dtype=np.intp)
    median = float(np.median(diameter[near]))
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    near &= (diameter > TYPICAL[0] * median) & (diameter < TYPICAL[1] * median)
    near[border] = False
    return np.flatnonzero(near)


def _described(flat: Flat, labels: NDArray[np.int32], kept: NDArray[np.intp], touching: NDArray[np.bool_]) -> Balls:
    kept = kept[_roundness(labels)[kept] > LEAST_ROUND]
    renumber = np.zeros(int(labels.max()) + 1, dtype=np.int32)
    renumber[kept] = np.arange(1, len(kept) + 1)
    final = renumber[labels]
    n = len(kept) + 1
    area = np.bincount(final.ravel(), minlength=n)[1:].astype(np.float64)
    row, col = (np.bincount(final.ravel(), axis.ravel(), n)[1:] / np.maximum(area, 1) for axis in np.indices(labels.shape))
    grey = np.bincount(final.ravel(), flat.values.ravel(), n)[1:] / np.maximum(area, 1)
    diameter = 2 * np.sqrt(area / np.pi)
    return Balls(
        labels=final,
        row=row,
        col=col,
        diameter_px=diameter,
        roundness=_roundness(final)[1:],
        grey=grey / max(float(np.median(grey)), 1e-6) if len(grey) else grey,
        void_fraction=_voids(flat, final, area, diameter),
        touching=touching[kept],
    )


def _voids(flat: Flat, labels: NDArray[np.int32], area: FloatArray, diameter: FloatArray) -> FloatArray:
    """Share of each ball's area that is darker than a sound ball is so far inside its edge, by more than `DARK`."""
    n = len(area) + 1
    if n == 1:
        return np.zeros(0)
    depth = cv2.distanceTransform((labels > 0).astype(np.uint8), cv2.DIST_L2, 5)
    inside = (labels > 0) & (depth > RIM * np.concatenate([[0.0], diameter])[labels])
    index = labels[inside]
    count = np.bincount(index, minlength=n)[1:]
    own = np.concatenate([[1.0], _upper_quartile(index, flat.values[inside], count)])
    grey = flat.values[inside] / np.maximum(own[index], 1e-6)
    place = np.minimum(2 * _BINS * depth[inside] / diameter[index - 1], _BINS - 1).astype(np.intp)
    sound = np.array([np.median(grey[place == k]) if (place == k).any() else 1.0 for k in range(_BINS)])
    dark = np.bincount(index, grey < sound[place] - DARK, n)[1:]
    share: FloatArray = dark / np.maximum(area, 1)
    return share


def _upper_quartile(index: NDArray[np.int32], value: Image, count: NDArray[np.intp]) -> FloatArray:
    """The value of each label that a quarter of its pixels exceed; `index` names labels from 1."""
    order = np.lexsort((value, index))
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    place = np.minimum(first + (0.75 * count).astype(np.intp), len(order) - 1)
    quartile: FloatArray = value[order][place].astype(np.float64)
    return quartile


def _roundness(labels: NDArray[np.int32]) -> FloatArray:
    """4 pi area / perimeter^2 of each label (index 0: background, meaningless).

    Perimeter by the Cauchy-Crofton formula in four directions: pi / 8 times the boundary's crossings along rows and
    columns, and along diagonals divided by sqrt(2).
    """
    n = int(labels.max()) + 1
    padded = np.pad(labels, 1)
    here = padded[1:-1, 1:-1]
    crossings = np.zeros(n)
    for dr, dc, weight in ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 2**-0.5), (1, -1, 2**-0.5)):
        for sign in (1, -1):
            other = padded[1 + sign * dr : padded.shape[0] - 1 + sign * dr, 1 + sign * dc : padded.shape[1] - 1 + sign * dc]
            crossings += weight * np.bincount(here[here != other], minlength=n)
    perimeter = np.pi / 8 * crossings
    area = np.bincount(labels.ravel(), minlength=n)
    round_: FloatArray = 4 * np.pi * area / np.maximum(perimeter, 1e-6) ** 2
    return round_

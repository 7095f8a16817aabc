"""Balls in one picture, found without knowing where they should be: classical segmentation.

For pictures that come without a recipe, and for looking at what a recipe does not expect. Joints of a recipe are
outlined by `outlines`, which knows their places.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.segment.shading import Flat, flatten

__all__ = ["Balls", "find_balls"]

Image = NDArray[np.float32]
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

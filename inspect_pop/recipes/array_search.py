"""Find an array of balls in a picture without a recipe: polarity, size of the balls, lattice, and the balls that are missed.

Blobs in scale space propose sizes (scikit-image), classical segmentation finds the balls of each (`segment.balls`), and the
lattice decides: of all polarities and sizes, the one whose balls lie on a lattice in the largest number and contrast counts.
Then each place of the lattice is looked at again, so that a ball that is no round body of its own is not lost.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.feature import blob_log

from inspect_pop.core.errors import FrameFault
from inspect_pop.recipes.lattice import Lattice, fit_lattice
from inspect_pop.segment.balls import FlatImage, find_balls, find_no_data, flatten, make_solder_bright

__all__ = ["Array", "find_array"]

FloatArray = NDArray[np.float64]

LEAST_BALLS = 6
BALL_TO_PITCH = (0.25, 0.9)  # width of a ball over the pitch
PRESENT, ABSENT = 0.6, 0.3  # contrast at a place over that of the median ball: a ball above, none below, unsure between
_SEARCH_PX = 512  # blobs are searched in a copy of about this many pixels per side
_SIGMAS = (1.6, 25.0)  # of blobs in that copy: balls of 4.5 to 70 pixels
_MOST_SIZES = 4  # sizes tried for each polarity


@dataclass(frozen=True)
class Array:
    """An array found in a picture.

    `lattice` has its points in pixels, x = column and y = -row. `column`, `row` (n,): each ball's place on it, row upwards,
    `field` (n,) its field. `evidence` (n,): contrast at its place over that of the median ball. `seen` (n,): whether it was
    found as a round body. `empty` (m, 3): column, row and field of places inside the array without a ball; `empty_evidence`
    (m,). `strays` (k, 2): x, y of round bodies that are on no place. `residual_px`: rms distance of balls from their places.
    """

    lattice: Lattice
    polarity: str
    diameter_px: float
    column: NDArray[np.intp]
    row: NDArray[np.intp]
    field: NDArray[np.intp]
    evidence: FloatArray
    seen: NDArray[np.bool_]
    empty: NDArray[np.intp]
    empty_evidence: FloatArray
    strays: FloatArray
    residual_px: float
    cut: bool

    @property
    def place(self) -> FloatArray:
        """Places (n, 2) of the balls on the lattice: x = column and y = -row of the picture, in pixels."""
        return self.lattice.place(self.column, self.row, self.field)


@dataclass(frozen=True)
class _Candidate:
    polarity: str
    diameter_px: float
    points: FloatArray
    lattice: Lattice
    score: float


def find_array(image: NDArray[np.generic], polarity: str = "auto") -> Array:
    """Find the array of balls in a picture (rows, cols). `polarity` is `solder_bright`, `solder_dark` or `auto`.

    Raises `FrameFault` where no lattice of balls stands out.
    """
    candidates = []
    for name in ("solder_bright", "solder_dark") if polarity == "auto" else (polarity,):
        tried: list[float] = []
        for diameter in _guess_diameters(image, name):
            candidate = _try_size(image, name, diameter)
            tried.append(diameter)
            if candidate is None:
                continue
            candidates.append(candidate)
            if all(abs(candidate.diameter_px / t - 1) >= 0.15 for t in tried):  # once more with the size found
                tried.append(candidate.diameter_px)
                again = _try_size(image, name, candidate.diameter_px)
                candidates += [again] if again is not None else []
    if not candidates:
        remedy = "Give a picture that shows the whole array from above, turned by less than 20 degrees."
        raise FrameFault("the picture", expected=f"a lattice of at least {LEAST_BALLS} balls", found="none", remedy=remedy)
    best = max(candidates, key=lambda c: c.score)
    lattice = best.lattice
    flat = flatten(image, best.polarity, best.diameter_px)
    on = lattice.on
    column, row, field = lattice.column[on], lattice.row[on], lattice.field[on]
    # Look at every place again: all from one step outside the array to one step outside, in the field of the nearest ball.
    ring = 2 if lattice.staggered else 1
    columns = np.arange(column.min() - ring, column.max() + ring + 1)
    rows = np.arange(row.min() - ring, row.max() + ring + 1)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    if lattice.staggered:
        grid = grid[(grid.sum(axis=1) - column[0] - row[0]) % 2 == 0]
    distance = np.abs(grid[:, None, 0] - column[None]) + np.abs(grid[:, None, 1] - row[None])
    places = np.column_stack([grid, field[distance.argmin(axis=1)]])
    seen = {(int(f), int(c), int(r)) for f, c, r in zip(field, column, row, strict=True)}
    is_seen = np.array([(int(f), int(c), int(r)) in seen for c, r, f in places])
    centre = lattice.place(places[:, 0], places[:, 1], places[:, 2])
    evidence, is_inside = _measure_contrast(flat, centre, best.diameter_px, lattice.pitch)
    scale = max(float(np.median(evidence[is_seen])), 1e-9)
    evidence = evidence / scale
    is_ball = is_seen | ((evidence > (PRESENT + ABSENT) / 2) & is_inside & _is_within(places, column, row))
    away = best.points[on] - lattice.place(column, row, field)
    return Array(
        lattice=lattice,
        polarity=best.polarity,
        diameter_px=best.diameter_px,
        column=places[is_ball, 0],
        row=places[is_ball, 1],
        field=places[is_ball, 2],
        evidence=evidence[is_ball],
        seen=is_seen[is_ball],
        empty=places[~is_ball & is_inside],
        empty_evidence=evidence[~is_ball & is_inside],
        strays=best.points[~on],
        residual_px=float(np.sqrt((away**2).sum(axis=1).mean())),
        cut=bool((~is_inside & _is_within(places, column, row)).any()),
    )


def _guess_diameters(image: NDArray[np.generic], polarity: str) -> list[float]:
    """Return likely widths of balls in pixels, the likeliest first: sizes of bright blobs, by the contrast in each size."""
    bright = make_solder_bright(image, polarity)
    valid = ~find_no_data(image)
    factor = max(1.0, max(bright.shape) / _SEARCH_PX)
    size = tuple(max(round(n / factor), 1) for n in bright.shape[::-1])
    low, high = np.percentile(bright[valid], [1, 99.5]) if valid.any() else (0.0, 1.0)
    filled = np.where(valid, np.clip((bright - low) / max(high - low, 1e-6), 0, 1), 0).astype(np.float32)
    small = cv2.resize(filled, size, interpolation=cv2.INTER_AREA)
    largest = min(_SIGMAS[1], min(small.shape) / 6)
    blobs = blob_log(
        small, min_sigma=_SIGMAS[0], max_sigma=max(largest, 2 * _SIGMAS[0]), num_sigma=10, threshold=0.1, log_scale=True
    )
    if not len(blobs):
        return []
    # Contrast of a size: of its blobs, middle against surroundings, summed.
    sigma = blobs[:, 2]
    row, col = blobs[:, 0].astype(int), blobs[:, 1].astype(int)
    weights = {}
    for s in np.unique(sigma):
        of_size = sigma == s
        wide = cv2.GaussianBlur(small, (0, 0), float(2 * s))
        fine = cv2.GaussianBlur(small, (0, 0), float(0.5 * s))
        weights[float(s)] = float(np.clip(fine - wide, 0, None)[row[of_size], col[of_size]].sum())
    ordered = sorted(weights, key=lambda s: -weights[s])
    return [2 * math.sqrt(2) * s * factor for s in ordered[:_MOST_SIZES]]


def _try_size(image: NDArray[np.generic], polarity: str, diameter_px: float) -> _Candidate | None:
    """Return the lattice of the balls of about this size; None where they have none."""
    balls = find_balls(image, polarity, diameter_px)
    if len(balls) < LEAST_BALLS:
        return None
    points = np.column_stack([balls.col, -balls.row])
    lattice = fit_lattice(points)
    if lattice is None or lattice.on.sum() < LEAST_BALLS:
        return None
    width = float(np.median(balls.diameter_px[lattice.on]))
    if not BALL_TO_PITCH[0] <= width / lattice.pitch <= BALL_TO_PITCH[1]:
        return None
    share = float(lattice.on.mean())
    flat = flatten(image, polarity, width)
    inside = np.bincount(balls.labels.ravel(), flat.values.ravel(), len(balls) + 1)[1:] / np.bincount(balls.labels.ravel())[1:]
    contrast = float(np.median(inside[lattice.on]) / max(flat.noise, 1e-9))
    # Area counts, not number: between four balls there is a smaller gap, as many gaps as balls.
    score = lattice.on.sum() * share**2 * math.log1p(contrast) * width / lattice.pitch
    return _Candidate(polarity, width, points, lattice, score)


def _is_within(places: NDArray[np.intp], column: NDArray[np.intp], row: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return which places lie within the outermost rows and columns that hold balls."""
    within: NDArray[np.bool_] = (
        (places[:, 0] >= column.min())
        & (places[:, 0] <= column.max())
        & (places[:, 1] >= row.min())
        & (places[:, 1] <= row.max())
    )
    return within


def _measure_contrast(
    flat: FlatImage, centre: FloatArray, diameter_px: float, pitch_px: float
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the contrast of places (n, 2) to what surrounds them, and which of them lie inside the picture.

    The middle, or the whole disc where that is brighter (a void), less the ring at the width where balls end; 0 outside.
    """
    half = math.ceil(0.5 * pitch_px) + 1
    padded = np.pad(flat.values, half, mode="edge")
    valid = np.pad(flat.valid, half)
    x, y = centre[:, 0], -centre[:, 1]
    rows, cols = flat.values.shape
    inside = (x > 0) & (x < cols - 1) & (y > 0) & (y < rows - 1)
    axis = np.arange(-half, half + 1)
    contrast = np.zeros(len(centre))  # nothing is seen outside
    for k in np.flatnonzero(inside):
        r, c = (round(v) + half for v in (y[k], x[k]))
        window = padded[r - half : r + half + 1, c - half : c + half + 1]
        distance = np.hypot(axis[:, None] - (y[k] + half - r), axis[None] - (x[k] + half - c))
        middle = window[distance <= max(0.15 * diameter_px, 1.0)].mean()
        disc = window[distance <= 0.4 * diameter_px].mean()
        ring = window[(distance >= 0.6 * diameter_px) & (distance <= max(0.5 * pitch_px, 0.6 * diameter_px + 1.5))]
        contrast[k] = max(middle, disc) - np.median(ring)
        inside[k] &= bool(valid[r, c])
    return contrast, inside

"""Find an array of balls in a picture, and the lattice on which they lie.

Works on points of any unit, from a picture or from CAD. Rows and columns are counted on the grid that JEDEC names count: in a
staggered array every second place of that grid is empty.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import f as f_distribution
from skimage.feature import blob_log

from inspect_pop.core.errors import FrameFault
from inspect_pop.segment.balls import FlatImage, find_balls, find_no_data, flatten, make_solder_bright

__all__ = ["Array", "Lattice", "count_steps", "find_array", "fit_lattice"]

Points = NDArray[np.float64]
Index = NDArray[np.intp]

# Rows of a picture lie this close to horizontal. Diagonals of an array that is turned by 33 degrees look like the rows of a
# staggered one that is turned by 12: between both, nothing is guessed.
MOST_TURN_DEG = 20.0
MOST_STAGGERED_DEG = 10.0
SAME_STEP = 0.2  # of the shortest step: distance within which a neighbour counts as the next place
ON_PLACE = 0.25  # of the shortest step: distance from its place beyond which a point is not on the lattice
WHOLE = 0.12  # of a step: two fields lie on one lattice where the steps between them are this close to a whole number
SQUARE = 0.02  # pitches that differ by less are one pitch: a picture's scale may differ by 1 % between its sides
LEAST_FIELD = 4  # points of a field that has a place of its own
_SURE = 1 - 1e-6  # of the F test: ghosts of the other interface move balls together, so that chance alone is a small part


@dataclass(frozen=True)
class Lattice:
    """A lattice and the points on it.

    `step_x`, `step_y` (2,): one column to the right, one row up, in the unit of the points. `origin` (fields, 2): the place of
    column 0, row 0 of each field. `column`, `row` (n,) of each point, row upwards. `field` (n,): which field, -1 for a point
    that is on none. `staggered`: every second place is empty. `broken_columns`, `broken_rows`: numbers of the first column or
    row after a gap that is no whole number of steps, with the steps found.
    """

    step_x: Points
    step_y: Points
    origin: Points
    column: Index
    row: Index
    field: Index
    staggered: bool
    broken_columns: tuple[tuple[int, float], ...] = ()
    broken_rows: tuple[tuple[int, float], ...] = ()

    @property
    def on(self) -> NDArray[np.bool_]:
        """Which points are on the lattice."""
        return self.field >= 0

    @property
    def angle_deg(self) -> float:
        """Angle of the rows, counter-clockwise with y up: the mean of both axes."""
        along = math.atan2(self.step_x[1], self.step_x[0])
        across = math.atan2(-self.step_y[0], self.step_y[1])
        return math.degrees((along + across) / 2)

    @property
    def shear_deg(self) -> float:
        """Angle between the axes less 90 degrees; a lattice seen straight has none."""
        along = math.atan2(self.step_x[1], self.step_x[0])
        return math.degrees(math.atan2(self.step_y[1], self.step_y[0]) - along) - 90.0

    @property
    def pitches(self) -> tuple[float, float]:
        """Length of one step along rows and along columns; the same where they differ by less than `SQUARE`."""
        x, y = float(np.hypot(*self.step_x)), float(np.hypot(*self.step_y))
        if abs(x / y - 1) < SQUARE:
            columns, rows = (max(int(np.ptp(numbers[self.on])), 1) for numbers in (self.column, self.row))
            x = y = (columns**2 * x + rows**2 * y) / (columns**2 + rows**2)  # the longer side knows its step better
        return x, y

    @property
    def pitch(self) -> float:
        """Distance of a ball from its nearest neighbour."""
        x, y = self.pitches
        return min(math.hypot(x, y), 2 * x, 2 * y) if self.staggered else min(x, y)

    def place(self, column: NDArray[np.integer], row: NDArray[np.integer], field: NDArray[np.integer]) -> Points:
        """Return the fitted places (n, 2) of columns and rows of fields."""
        place: Points = self.origin[field] + np.outer(column, self.step_x) + np.outer(row, self.step_y)
        return place


def fit_lattice(points: Points) -> Lattice | None:
    """Fit a lattice to points (n, 2), x to the right and y up; None where there is none, or its rows are turned too far.

    Neighbours give the shortest steps; from these, points are numbered field by field, from neighbour to neighbour. All fields
    share one pair of steps, fitted by least squares; a field that lies a whole number of steps from another joins it.
    """
    if len(points) < LEAST_FIELD:
        return None
    basis = _find_basis(points)
    if basis is None:
        return None
    steps, moves, staggered = basis
    column, row, component = _number_points(points, moves)
    count = np.bincount(component)
    field = np.where(count[component] >= LEAST_FIELD, component, -1)
    if not (field >= 0).any():
        return None
    names, field_number = np.unique(field, return_inverse=True)
    field = field_number.reshape(-1) - int(names[0] < 0)
    lattice = Lattice(*steps, np.zeros((int(field.max()) + 1, 2)), column, row, field, staggered)
    lattice = _fit_steps(points, lattice)
    lattice = _fit_steps(points, _join_fields(lattice))
    lattice = _make_square(points, _fit_steps(points, _attach_strays(points, lattice)))
    return _align_fields(lattice)


def count_steps(lattice: Lattice, points: Points, field: int = 0) -> tuple[Points, Points]:
    """Return columns and rows, as floats, of points (n, 2) on the grid of a field."""
    inverse = np.linalg.inv(np.column_stack([lattice.step_x, lattice.step_y]))
    column, row = inverse @ (points - lattice.origin[field]).T
    return column, row


def _find_basis(points: Points) -> tuple[tuple[Points, Points], dict[tuple[int, int], Points], bool] | None:
    """Return the steps of the grid, the moves between neighbours by (columns, rows), and whether the array is staggered."""
    tree = cKDTree(points)
    near = float(np.median(tree.query(points, k=2)[0][:, 1]))
    if near <= 0:
        return None
    pairs = tree.query_pairs(1.9 * near, output_type="ndarray")
    vectors = points[pairs[:, 1]] - points[pairs[:, 0]]
    vectors[(vectors[:, 0] < 0) | ((vectors[:, 0] == 0) & (vectors[:, 1] < 0))] *= -1
    short = _find_shortest(vectors, SAME_STEP / 1.5 * near)
    if short is None:
        return None
    a, b = short
    sums = [i * a + j * b for i, j in product(range(-2, 3), repeat=2) if (i, j) != (0, 0)]
    axes = []
    for axis in (np.array([1.0, 0.0]), np.array([0.0, 1.0])):
        along = [s for s in sums if s @ axis > math.cos(math.radians(MOST_TURN_DEG)) * math.hypot(*s)]
        if not along:
            return None
        axes.append(min(along, key=lambda s: math.hypot(*s)))
    x, y = axes
    cells = abs(np.linalg.det(np.array([x, y])) / np.linalg.det(np.array([a, b])))
    if round(cells) not in (1, 2) or abs(math.degrees(math.atan2(y[1], y[0]) - math.atan2(x[1], x[0])) - 90) > 5:
        return None
    staggered = round(cells) == 2
    if staggered and abs(x[1]) > math.sin(math.radians(MOST_STAGGERED_DEG)) * math.hypot(*x):
        return None
    if staggered:
        x, y = x / 2, y / 2
    places = [(i, j) for i, j in product(range(-2, 3), repeat=2) if (i, j) != (0, 0) and not (staggered and (i + j) % 2)]
    moves = {(i, j): i * x + j * y for i, j in places if math.hypot(*(i * x + j * y)) < 1.9 * near}
    return (x, y), moves, staggered


def _find_shortest(vectors: Points, reach: float) -> tuple[Points, Points] | None:
    """Return the two shortest means of clusters of vectors (n, 2) that are not parallel; None without two.

    Clusters are found one by one, until one is small against the first.
    """
    peaks: list[Points] = []
    largest = 0
    left = vectors
    while len(left):
        # A vector that points straight up or down may lie at either end of the half plane.
        both = np.vstack([left, -left])
        number = cKDTree(both).query_ball_point(left, reach, return_length=True)
        best = left[int(np.argmax(number))]
        if peaks and number.max() < 0.1 * largest:
            break
        members = both[np.hypot(*(both - best).T) < reach]
        mean = np.median(members, axis=0)
        largest = largest or len(members)
        peaks.append(mean)
        left = left[(np.hypot(*(left - mean).T) > 1.5 * reach) & (np.hypot(*(left + mean).T) > 1.5 * reach)]
    peaks.sort(key=lambda v: math.hypot(*v))
    for k, other in enumerate(peaks[1:], start=1):
        for first in peaks[:k]:
            area = abs(first[0] * other[1] - first[1] * other[0])
            if area > math.sin(math.radians(30)) * math.hypot(*first) * math.hypot(*other):
                return first, other
    return None


def _number_points(points: Points, moves: dict[tuple[int, int], Points]) -> tuple[Index, Index, Index]:
    """Return column, row and component of each point, walking from neighbour to neighbour by known moves."""
    tree = cKDTree(points)
    reach = SAME_STEP * min(math.hypot(*move) for move in moves.values())
    neighbours: list[list[tuple[int, int, int]]] = [[] for _ in points]
    for (i, j), move in moves.items():
        distance, other = tree.query(points + move, distance_upper_bound=reach)
        for k in np.flatnonzero(np.isfinite(distance)):
            neighbours[k].append((int(other[k]), i, j))
    column, row, component = (np.full(len(points), value, dtype=np.intp) for value in (0, 0, -1))
    number = 0
    for start in range(len(points)):
        if component[start] >= 0:
            continue
        component[start] = number
        waiting = deque([start])
        while waiting:
            at = waiting.popleft()
            for other_point, i, j in neighbours[at]:
                if component[other_point] < 0:
                    component[other_point] = number
                    column[other_point], row[other_point] = column[at] + i, row[at] + j
                    waiting.append(other_point)
        number += 1
    return column, row, component


def _fit_steps(points: Points, lattice: Lattice) -> Lattice:
    """Fit steps and origins to the points of all fields; a point that is far from its place, or not alone on it, is let go."""
    field = lattice.field.copy()
    for _ in range(4):
        on = np.flatnonzero(field >= 0)
        n_fields = len(lattice.origin)
        design = np.zeros((len(on), n_fields + 2))
        design[np.arange(len(on)), field[on]] = 1
        design[:, -2], design[:, -1] = lattice.column[on], lattice.row[on]
        # A field in one line does not say how steep the other axis is: the steps found so far do, weakly.
        weak = 1e-3 * np.eye(n_fields + 2)[-2:]
        target = np.vstack([points[on], 1e-3 * np.array([lattice.step_x, lattice.step_y])])
        solution = np.linalg.lstsq(np.vstack([design, weak]), target, rcond=None)[0]
        away = np.hypot(*(points[on] - design @ solution).T)
        steps, origin = np.asarray(solution[-2:], dtype=np.float64), np.asarray(solution[:-2], dtype=np.float64)
        lattice = replace(lattice, step_x=steps[0], step_y=steps[1], origin=origin)
        far = away > ON_PLACE * lattice.pitch
        places = np.column_stack([field[on], lattice.column[on], lattice.row[on]])
        order = np.argsort(away, kind="stable")
        _, first = np.unique(places[order], axis=0, return_index=True)
        is_nearest = np.zeros(len(on), dtype=bool)
        is_nearest[order[first]] = True
        wrong = far | ~is_nearest
        lattice = replace(lattice, field=np.where(np.isin(np.arange(len(field)), on[wrong]), -1, field))
        if not wrong.any():
            break
        field = lattice.field
    return lattice


def _make_square(points: Points, lattice: Lattice) -> Lattice:
    """Fit one pitch and a right angle where the points do not speak for two pitches or another angle (F test).

    Two numbers fewer come from the same points, so that what is left is known better: an array of 60 balls that reflow has moved
    by 15 um lies 0.2 pixels off its place at an end by four numbers, and 0.1 by two.
    """
    on = np.flatnonzero(lattice.on)
    sign = np.sign(lattice.step_x[0] * lattice.step_y[1] - lattice.step_x[1] * lattice.step_y[0])
    seen = points[on] @ np.array([1, 1j])
    origins = np.zeros((len(on), len(lattice.origin)), dtype=complex)
    origins[np.arange(len(on)), lattice.field[on]] = 1
    square = np.column_stack([origins, lattice.column[on] + 1j * sign * lattice.row[on]])
    free = 2 * len(on) - 2 * len(lattice.origin) - 4
    if free < 1:
        return lattice
    solution = np.linalg.lstsq(square, seen, rcond=None)[0]
    fitted = lattice.place(lattice.column[on], lattice.row[on], lattice.field[on])
    any_rss = max(float(np.sum((points[on] - fitted) ** 2)), np.finfo(float).tiny)
    square_rss = float(np.sum(np.abs(seen - square @ solution) ** 2))
    if (square_rss - any_rss) / 2 > any_rss / free * f_distribution.ppf(_SURE, 2, free):
        return lattice
    step = solution[-1]
    turned = 1j * sign * step
    return replace(
        lattice,
        step_x=np.array([step.real, step.imag]),
        step_y=np.array([turned.real, turned.imag]),
        origin=np.column_stack([solution[:-1].real, solution[:-1].imag]),
    )


def _join_fields(lattice: Lattice) -> Lattice:
    """Join each field to the largest that lies a whole number of steps away: then they have one origin."""
    column, row, field = lattice.column.copy(), lattice.row.copy(), lattice.field.copy()
    sizes = np.bincount(field[field >= 0], minlength=len(lattice.origin))
    mains: list[int] = []
    for f in np.argsort(-sizes, kind="stable"):
        for main in mains:
            (i,), (j,) = count_steps(lattice, lattice.origin[[f]], main)
            is_whole = abs(i - round(i)) < WHOLE and abs(j - round(j)) < WHOLE
            if is_whole and not (lattice.staggered and (round(i) + round(j)) % 2):
                column[field == f] += round(i)
                row[field == f] += round(j)
                field[field == f] = main
                break
        else:
            mains.append(int(f))
    number = np.full(len(lattice.origin) + 1, -1, dtype=np.intp)
    number[mains] = np.arange(len(mains))
    return replace(lattice, column=column, row=row, field=number[field], origin=lattice.origin[mains])


def _attach_strays(points: Points, lattice: Lattice) -> Lattice:
    """Give points of no field to the place of a field that they lie on, unless it is taken."""
    column, row, field = lattice.column.copy(), lattice.row.copy(), lattice.field.copy()
    taken = {(int(f), int(c), int(r)) for f, c, r in zip(field, column, row, strict=True) if f >= 0}
    strays = np.flatnonzero(field < 0)
    for f in range(len(lattice.origin)):
        for k, i, j in zip(strays, *count_steps(lattice, points[strays], f), strict=True):
            place = (f, round(i), round(j))
            is_near = math.hypot(*(points[k] - lattice.place(*(np.array([p]) for p in (place[1], place[2], f)))[0])) < (
                ON_PLACE / 1.5 * lattice.pitch
            )
            if field[k] < 0 and is_near and place not in taken and not (lattice.staggered and (place[1] + place[2]) % 2):
                field[k], column[k], row[k] = place
                taken.add(place)
    return replace(lattice, column=column, row=row, field=field)


def _align_fields(lattice: Lattice) -> Lattice:
    """Count columns and rows of all fields in one sequence, rounding gaps that are no whole number of steps; list these."""
    first = lattice.field == 0
    i, j = int(lattice.column[first].min()), int(lattice.row[first].min())
    column, row = np.where(first, lattice.column - i, lattice.column), np.where(first, lattice.row - j, lattice.row)
    origin = np.vstack([lattice.origin[:1] + i * lattice.step_x + j * lattice.step_y, lattice.origin[1:]])
    lattice = replace(lattice, origin=origin.copy())
    broken: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for f in range(1, len(origin)):
        steps = [float(value[0]) for value in count_steps(lattice, origin[[f]], 0)]
        members = lattice.field == f
        for axis, numbers in enumerate((column, row)):
            whole = round(steps[axis])
            numbers[members] += whole
            origin[f] -= whole * (lattice.step_x, lattice.step_y)[axis]
            if abs(steps[axis] - whole) >= WHOLE and members.any():
                broken[axis][int(numbers[members].min())] = steps[axis] - whole
    on = lattice.field >= 0
    least = (int(column[on].min()), int(row[on].min()))
    origin += least[0] * lattice.step_x + least[1] * lattice.step_y
    moved = [sorted((k - least[axis], steps) for k, steps in broken[axis].items()) for axis in (0, 1)]
    return replace(
        lattice,
        column=column - least[0],
        row=row - least[1],
        origin=origin,
        broken_columns=tuple(moved[0]),
        broken_rows=tuple(moved[1]),
    )


# Find an array of balls in a picture without a recipe: polarity, size of the balls, lattice, and the balls that are missed.
#
# Blobs in scale space propose sizes (scikit-image), classical segmentation finds the balls of each (`segment.balls`), and the
# lattice decides: of all polarities and sizes, the one whose balls lie on a lattice in the largest number and contrast counts.
# Then each place of the lattice is looked at again, so that a ball that is no round body of its own is not lost.


FloatArray = NDArray[np.float64]

LEAST_BALLS = 6
BALL_TO_PITCH = (0.25, 0.9)  # width of a ball over the pitch
PRESENT, ABSENT = 0.6, 0.3  # contrast at a place over that of the median ball: a ball above, none below, unsure between
_SEARCH_PX = 512  # blobs are searched in a copy of about this many pixels per side
_SIGMAS = (1.6, 25.0)  # of blobs in that copy: balls of 4.5 to 70 pixels
# An array scores that much of the best one at least, and ghosts have less than that of its contrast.
_CLEAR_SCORE, _GHOST_CONTRAST = 0.04, 0.4
_MOST_SIZES = 4  # sizes tried for each polarity


@dataclass(frozen=True)
class Array:
    """An array found in a picture.

    `lattice` has its points in pixels, x = column and y = -row. `column`, `row` (n,): each ball's place on it, row upwards,
    `field` (n,) its field. `evidence` (n,): contrast at its place over that of the median ball. `seen` (n,): whether it was
    found as a round body. `empty` (m, 3): column, row and field of places inside the array without a ball; `empty_evidence`
    (m,). `strays` (k, 2): x, y of round bodies that are on no place. `residual_px`: rms distance of balls from their places.
    `ghosts`: balls of a fainter array, larger than this one, that was left.
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
    ghosts: int

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
    contrast: float
    score: float


def find_array(image: NDArray[np.generic], polarity: str = "auto") -> Array:
    """Find the array of balls in a picture (rows, cols). `polarity` is `solder_bright`, `solder_dark` or `auto`.

    Raises `FrameFault` where no lattice of balls stands out.
    """
    candidates = []
    for name in ("solder_bright", "solder_dark") if polarity == "auto" else (polarity,):
        tried: list[float] = []
        for diameter in _guess_diameters(image, name):
            found = _try_size(image, name, diameter)
            tried.append(diameter)
            candidates += found
            for width in [c.diameter_px for c in found]:
                if all(abs(width / t - 1) >= 0.15 for t in tried):  # once more with the size found
                    tried.append(width)
                    candidates += _try_size(image, name, width)
    if not candidates:
        remedy = "Give a picture that shows the whole array from above, turned by less than 20 degrees."
        raise FrameFault("the picture", expected=f"a lattice of at least {LEAST_BALLS} balls", found="none", remedy=remedy)
    best, ghosts = _choose_candidate(candidates)
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
        ghosts=ghosts,
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


def _try_size(image: NDArray[np.generic], polarity: str, diameter_px: float) -> list[_Candidate]:
    """Return the lattices of the balls of about this size: of all, and of the clear ones among them."""
    balls = find_balls(image, polarity, diameter_px)
    if len(balls) < LEAST_BALLS:
        return []
    flat = flatten(image, polarity, diameter_px)
    label = balls.labels.ravel()
    total, area = (np.bincount(label, weight, len(balls) + 1)[1:] for weight in (flat.values.ravel(), None))
    grey = total / area
    clear = grey >= _GHOST_CONTRAST * np.sort(grey)[-LEAST_BALLS]
    points = np.column_stack([balls.col, -balls.row])
    found = []
    for use in (np.ones(len(balls), dtype=bool), clear) if not clear.all() else (clear,):
        lattice = fit_lattice(points[use]) if use.sum() >= LEAST_BALLS else None
        if lattice is None or lattice.on.sum() < LEAST_BALLS:
            continue
        width = float(np.median(balls.diameter_px[use][lattice.on]))
        if not BALL_TO_PITCH[0] <= width / lattice.pitch <= BALL_TO_PITCH[1]:
            continue
        contrast = float(np.median(grey[use][lattice.on]))
        noise = max(flatten(image, polarity, width).noise, 1e-9)
        # Area counts, not number: between four balls there is a smaller gap, as many gaps as balls.
        score = lattice.on.sum() * float(lattice.on.mean()) ** 2 * math.log1p(contrast / noise) * width / lattice.pitch
        found.append(_Candidate(polarity, width, points[use], lattice, contrast, score))
    return found


def _choose_candidate(candidates: list[_Candidate]) -> tuple[_Candidate, int]:
    """Return the best one, and how many balls a better one of ghosts has, 0 for none.

    Ghosts of another interface, and the gaps between them, are many and faint.
    """
    most = max(candidates, key=lambda c: c.score)
    clear = [c for c in candidates if c.score >= _CLEAR_SCORE * most.score]
    least = _GHOST_CONTRAST * max(c.contrast for c in clear)
    best = max((c for c in clear if c.contrast >= least), key=lambda c: c.score)
    return best, 0 if best is most else int(most.lattice.on.sum())


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

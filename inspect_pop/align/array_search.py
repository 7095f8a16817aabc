"""Find a package's array of joints in a stack of X-ray slices, to about half a ball, whatever the grey scale.

All slices become one small picture of solder (`SolderMap`). A grid repeats, so joints alone cannot tell a placement
from one that is a pitch off. The outline of the array and its missing positions can: the places one pitch from a joint
that hold no joint themselves must be empty (`ArrayPattern`). `search_array` scores every shift within reach, at a few
rotations: joints found against empty places filled.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.geometry import FloatArray, Grid, Placement, SliceStack
from inspect_pop.core.recipe import Interface

__all__ = [
    "TURNS",
    "ArrayMatch",
    "ArrayPattern",
    "SolderMap",
    "build_solder_map",
    "compare_turned",
    "find_distinct_turns",
    "invert_map",
    "make_pattern",
    "score_shifts",
    "search_array",
]

Image = NDArray[np.float32]
TURNS: dict[str, tuple[float, float, float, float]] = {
    "turned by 180 degrees": (-1, 0, 0, -1),
    "turned by 90 degrees": (0, -1, 1, 0),
    "turned by 270 degrees": (0, 1, -1, 0),
    "mirrored left to right": (-1, 0, 0, 1),
    "mirrored top to bottom": (1, 0, 0, -1),
    "mirrored about a diagonal": (0, 1, 1, 0),
    "mirrored about the other diagonal": (0, -1, -1, 0),
}
BALL_PX = 6.0  # width of a ball in the solder map: wide enough for centroids, small enough to be fast
GHOST = 0.3  # response, relative to a joint's, below which solder belongs to the other interface (its rings reach 0.2)
ROTATION_DEG = 2.0  # largest rotation of the search; the export format allows 1


@dataclass(frozen=True)
class SolderMap:
    """A small picture of solder.

    `response` (rows, cols) float32 is band-passed solder, 1 at the middle of a typical joint; `likeness` is the same, cut
    to 0..1. `slices` (s, rows, cols) is the response of each slice that holds something, each scaled by its own spread;
    `number` (s,) gives the numbers of these slices in the stack.
    """

    response: Image
    likeness: Image
    grid: Grid
    slices: Image
    number: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ArrayPattern:
    """Places in the package frame (um): `joints` (n, 2) hold solder, `empty` (m, 2) do not.

    On a faultless board, the right placement scores `margin` joints' worth above the best one that is a pitch off,
    and each of those fills at least `spill` of the empty places.
    """

    joints: FloatArray
    empty: FloatArray
    margin: float
    spill: int


@dataclass(frozen=True)
class ArrayMatch:
    """A placement with its score: joints found less empty places filled, in joints."""

    placement: Placement
    score: float


def build_solder_map(stack: SliceStack, ball_um: float, n_joints: int) -> SolderMap:
    """Average the slices, make solder bright, shrink until a ball is about six pixels wide, remove the background.

    The difference of two Gaussians (a quarter and five eighths of a ball) passes balls and neither shading nor large
    components; its scale is set by the `n_joints` brightest spots. Lost slices and slices of a single grey are left out.
    """
    factor = max(1, round(ball_um / stack.grid.pixel_um / BALL_PX))
    pixel = stack.grid.pixel_um * factor
    shift = stack.grid.pixel_um * (factor - 1) / 2
    rows, cols = (n // factor for n in stack.grid.shape)
    grid = Grid((rows, cols), pixel, (stack.grid.origin_um[0] + shift, stack.grid.origin_um[1] - shift))
    sign = 1.0 if stack.polarity == "solder_bright" else -1.0
    ball = ball_um / pixel
    responses: dict[int, Image] = {}
    for k, page in enumerate(stack.values):
        if k in stack.lost:
            continue
        cut = page[: rows * factor, : cols * factor]
        if cut.dtype.kind == "f":
            cut = np.nan_to_num(cut.astype(np.float32), nan=float(np.nanmedian(cut)))
        small = cv2.resize(cut, (cols, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        middle, spread = (float(v.item()) for v in cv2.meanStdDev(small))
        if spread > 1e-5 * max(abs(middle), 1e-3):  # less is rounding: a page of one grey shows nothing
            scaled = (small - np.float32(middle)) * np.float32(sign / spread)
            responses[k] = cv2.GaussianBlur(scaled, (0, 0), 0.25 * ball) - cv2.GaussianBlur(scaled, (0, 0), 0.625 * ball)
    slices = np.stack(list(responses.values())) if responses else np.zeros((0, rows, cols), dtype=np.float32)
    return _scale_map(slices.sum(axis=0), n_joints, grid, slices, tuple(responses))


def invert_map(seen: SolderMap, n_joints: int) -> SolderMap:
    """Return the map that an image of the other polarity would give."""
    return _scale_map(-seen.response, n_joints, seen.grid, -seen.slices, seen.number)


def _scale_map(response: Image, n_joints: int, grid: Grid, slices: Image, number: tuple[int, ...]) -> SolderMap:
    """Scale to 1 at the median height of the `n_joints` highest local maxima; without any, nothing responds."""
    highest = cv2.dilate(response, np.ones((3, 3), np.uint8))
    peaks = response[(response == highest) & (response > 0)]
    typical = float(np.finfo(np.float32).max)
    if len(peaks):
        count = min(n_joints, len(peaks))
        typical = float(np.median(np.partition(peaks, len(peaks) - count)[-count:]))
    response = response / np.float32(typical)
    likeness = np.clip((response - GHOST) / (0.75 - GHOST), 0, 1)
    return SolderMap(response, likeness, grid, slices, number)


@lru_cache(maxsize=32)
def make_pattern(interface: Interface, over: Interface | None = None) -> ArrayPattern:
    """Derive where solder must and must not be for this interface.

    `over` is the other interface in a transmission picture, whose joints show too: places near them need not be empty.
    """
    joints = np.column_stack([interface.x_um, interface.y_um])
    pitch = interface.pitch_um
    around = joints[:, None, :] + pitch * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    empty = _drop_near(around.reshape(-1, 2), joints, 0.6 * pitch)
    if over is not None:
        other = np.column_stack([over.x_um, over.y_um])
        empty = _drop_near(empty, other, 0.5 * (interface.ball_diameter_um + over.ball_diameter_um))
    if len(empty):  # one point of each cluster
        unique = np.ones(len(empty), dtype=bool)
        unique[cKDTree(empty).query_pairs(0.3 * pitch, output_type="ndarray")[:, 1]] = False
        empty = empty[unique]
    # What the least harmful of the eight shifts by one pitch loses and fills.
    tree = cKDTree(joints)
    shifts = pitch * np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)])
    found = np.array([_is_near(tree, joints + s, 0.3 * pitch).sum() for s in shifts])
    filled = np.array([_is_near(tree, empty + s, 0.3 * pitch).sum() for s in shifts])
    return ArrayPattern(joints, empty, margin=float(len(joints) - (found - filled).max()), spill=int(filled.min()))


@lru_cache(maxsize=32)
def find_distinct_turns(expected: ArrayPattern, pitch_um: float) -> tuple[tuple[str, FloatArray, FloatArray], ...]:
    """List the turns of `TURNS` under which the array looks different.

    Returns (name, joints only as designed, joints only as turned) of each.
    """
    compared = ((name, *compare_turned(expected.joints, turn, pitch_um)) for name, turn in TURNS.items())
    return tuple(one for one in compared if len(one[2]))


def compare_turned(joints: FloatArray, turn: tuple[float, float, float, float], pitch_um: float) -> tuple[FloatArray, FloatArray]:
    """Compare the array with itself turned about its middle: (joints only as designed, only as turned), (k, 2) each.

    Both are empty for an array that is symmetric in that way.
    """
    middle = (joints.min(axis=0) + joints.max(axis=0)) / 2
    other = (joints - middle) @ np.array(turn).reshape(2, 2).T + middle
    return _drop_near(joints, other, 0.4 * pitch_um), _drop_near(other, joints, 0.4 * pitch_um)


def _is_near(tree: cKDTree, points: FloatArray, reach: float) -> NDArray[np.bool_]:
    if not len(points):
        return np.zeros(0, dtype=bool)
    distance, _ = tree.query(points, distance_upper_bound=reach)
    near: NDArray[np.bool_] = np.isfinite(distance)
    return near


def _drop_near(points: FloatArray, others: FloatArray, reach: float) -> FloatArray:
    """Return the points that have none of `others` within reach."""
    return points[~_is_near(cKDTree(others), points, reach)]


def search_array(seen: SolderMap, expected: ArrayPattern, search_um: float, ball_um: float) -> ArrayMatch:
    """Return the best of all shifts up to `search_um` and rotations up to two degrees, on a grid of half balls."""
    reach_um = float(np.abs(expected.joints).max())
    steps = int(np.ceil(ROTATION_DEG / np.degrees(0.3 * ball_um / reach_um)))
    best = ArrayMatch(Placement(0.0, 0.0, 0.0, float("inf")), -np.inf)
    for rotation in np.linspace(-ROTATION_DEG, ROTATION_DEG, 2 * steps + 1):
        score, x_um, y_um = score_shifts(seen, expected, float(rotation), search_um, stride=2)
        k = int(np.argmax(score))
        if score.flat[k] > best.score:
            place = Placement(float(x_um.flat[k]), float(y_um.flat[k]), float(rotation), float("inf"))
            best = ArrayMatch(place, float(score.flat[k]))
    return best


def score_shifts(
    seen: SolderMap, expected: ArrayPattern, rotation_deg: float, search_um: float, stride: int = 1
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Score every shift within `search_um` at one rotation: (score, shift x, shift y), each (k, k); shifts in um.

    Places outside the image count as without solder.
    """
    points = np.concatenate([expected.joints, expected.empty])
    weight = np.concatenate([np.ones(len(expected.joints)), -np.ones(len(expected.empty))]).astype(np.float32)
    x, y = Placement(0.0, 0.0, rotation_deg, 0.0).apply(points[:, 0], points[:, 1])
    row, col = (np.rint(v).astype(np.intp) for v in seen.grid.to_pixel(x, y))
    half = int(np.ceil(search_um / seen.grid.pixel_um / stride)) * stride
    padded = np.pad(seen.likeness, half)
    inside = (row >= 0) & (row < seen.grid.shape[0]) & (col >= 0) & (col < seen.grid.shape[1])
    views = np.lib.stride_tricks.sliding_window_view(padded, (2 * half + 1, 2 * half + 1))[:, :, ::stride, ::stride]
    score = np.tensordot(weight[inside], views[row[inside], col[inside]], axes=1)
    shift = np.arange(-half, half + 1, stride) * seen.grid.pixel_um
    x_um, y_um = np.meshgrid(shift, -shift)
    return score.astype(np.float64), x_um, y_um

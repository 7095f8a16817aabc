"""What solder should look like from above: where joints are, and where none may be.

A grid repeats, so joints alone cannot tell a placement from one that is a pitch off. What can is the outline of the
array and its missing positions: the places one pitch from a joint that hold no joint themselves must be empty.

Where the array sits, to about half a ball: every shift within reach, at a few rotations, joints against empty places.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.align.solder_map import SolderMap
from inspect_pop.core.geometry import FloatArray, Placement
from inspect_pop.core.recipe import Interface

__all__ = ["TURNS", "Hypothesis", "Pattern", "pattern", "score_shifts", "search", "turned", "turns_seen"]

# ---- align/pattern
TURNS: dict[str, tuple[float, float, float, float]] = {
    "turned by 180 degrees": (-1, 0, 0, -1),
    "turned by 90 degrees": (0, -1, 1, 0),
    "turned by 270 degrees": (0, 1, -1, 0),
    "mirrored left to right": (-1, 0, 0, 1),
    "mirrored top to bottom": (1, 0, 0, -1),
    "mirrored about a diagonal": (0, 1, 1, 0),
    "mirrored about the other diagonal": (0, -1, -1, 0),
}


@dataclass(frozen=True, eq=False)
class Pattern:
    """Places in the package frame (um): `joints` (n, 2) hold solder, `empty` (m, 2) do not.

    On a faultless board, the right placement scores `margin` joints' worth above the best one that is a pitch off,
    and each of those fills at least `spill` of the empty places.
    """

    joints: FloatArray
    empty: FloatArray
    margin: float
    spill: int


@lru_cache(maxsize=32)
def pattern(interface: Interface, over: Interface | None = None) -> Pattern:
    """Where solder must and must not be for this interface.

    `over` is the other interface in a transmission picture, whose joints are seen too: places near them are not
    asked to be empty.
    """
    joints = np.column_stack([interface.x_um, interface.y_um])
    pitch = interface.pitch_um
    around = joints[:, None, :] + pitch * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    empty = _without(around.reshape(-1, 2), joints, 0.6 * pitch)
    if over is not None:
        seen = np.column_stack([over.x_um, over.y_um])
        empty = _without(empty, seen, 0.5 * (interface.ball_diameter_um + over.ball_diameter_um))
    empty = _unique(empty, 0.3 * pitch)
    return Pattern(joints, empty, *_a_pitch_off(joints, empty, pitch))


@lru_cache(maxsize=32)
def turns_seen(expected: Pattern, pitch_um: float) -> tuple[tuple[str, FloatArray, FloatArray], ...]:
    """(name, joints only as designed, joints only as turned) of every turn of `TURNS` under which the array looks otherwise."""
    found = ((name, *turned(expected.joints, turn, pitch_um)) for name, turn in TURNS.items())
    return tuple(one for one in found if len(one[2]))


def turned(joints: FloatArray, turn: tuple[float, float, float, float], pitch_um: float) -> tuple[FloatArray, FloatArray]:
    """How the array differs from itself turned about its middle: (joints only as designed, only as turned), (k, 2) each.

    Both are empty for an array that is symmetric in that way.
    """
    middle = (joints.min(axis=0) + joints.max(axis=0)) / 2
    other = (joints - middle) @ np.array(turn).reshape(2, 2).T + middle
    return _without(joints, other, 0.4 * pitch_um), _without(other, joints, 0.4 * pitch_um)


def _a_pitch_off(joints: FloatArray, empty: FloatArray, pitch: float) -> tuple[float, int]:
    """(score lost, empty places filled) by the least harmful of the eight shifts by one pitch."""
    tree = cKDTree(joints)
    shifts = pitch * np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)])
    found = np.array([_near(tree, joints + s, 0.3 * pitch).sum() for s in shifts])
    filled = np.array([_near(tree, empty + s, 0.3 * pitch).sum() for s in shifts])
    return float(len(joints) - (found - filled).max()), int(filled.min())


def _near(tree: cKDTree, points: FloatArray, reach: float) -> NDArray[np.bool_]:
    if not len(points):
        return np.zeros(0, dtype=bool)
    distance, _ = tree.query(points, distance_upper_bound=reach)
    near: NDArray[np.bool_] = np.isfinite(distance)
    return near


def _without(points: FloatArray, others: FloatArray, reach: float) -> FloatArray:
    """The points that have none of `others` within reach."""
    return points[~_near(cKDTree(others), points, reach)]


def _unique(points: FloatArray, reach: float) -> FloatArray:
    """One point of each cluster of points that lie within reach of one another."""
    if not len(points):
        return points
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
    keep = np.ones(len(points), dtype=bool)
    keep[pairs[:, 1]] = False
    return points[keep]


# ---- align/search
ROTATION_DEG = 2.0  # looked for; the export format allows 1


@dataclass(frozen=True)
class Hypothesis:
    """A placement with its score: joints found less empty places filled, in joints."""

    placement: Placement
    score: float


def search(seen: SolderMap, expected: Pattern, search_um: float, ball_um: float) -> Hypothesis:
    """The best of all shifts up to `search_um` and rotations up to two degrees, on a grid of half balls."""
    reach_um = float(np.abs(expected.joints).max())
    steps = int(np.ceil(ROTATION_DEG / np.degrees(0.3 * ball_um / reach_um)))
    best = Hypothesis(Placement(0.0, 0.0, 0.0, float("inf")), -np.inf)
    for rotation in np.linspace(-ROTATION_DEG, ROTATION_DEG, 2 * steps + 1):
        score, x_um, y_um = score_shifts(seen, expected, float(rotation), search_um, stride=2)
        k = int(np.argmax(score))
        if score.flat[k] > best.score:
            place = Placement(float(x_um.flat[k]), float(y_um.flat[k]), float(rotation), float("inf"))
            best = Hypothesis(place, float(score.flat[k]))
    return best


def score_shifts(
    seen: SolderMap, expected: Pattern, rotation_deg: float, search_um: float, stride: int = 1
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Score of every shift within `search_um` at one rotation: (score, shift x, shift y), each (k, k); shifts in um.

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

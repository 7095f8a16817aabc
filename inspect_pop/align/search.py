"""Where the array sits, to about half a ball: every shift within reach, at a few rotations, joints against empty places."""

from dataclasses import dataclass

import numpy as np

from inspect_pop.align.pattern import Pattern
from inspect_pop.align.solder_map import SolderMap
from inspect_pop.geometry import FloatArray, Placement

__all__ = ["Hypothesis", "score_shifts", "search"]

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

"""Thresholds for a machine never seen, from the scores of its own boards without labels.

On another machine the order of the scores holds and their scale shifts (field notes: one machine's thresholds cost 3,800
ppm of false calls on another, its own would have cost 500). Nearly all joints of any board are good. So the bulk of a
machine's scores is laid over the bulk of the calibration's good ones, and the thresholds move with it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import OperatingPoint

__all__ = ["LEAST_JOINTS", "MachinePoint", "machine_point"]

# Below this many joints not even the median of the bulk is known well enough to move anything.
LEAST_JOINTS = 60
# Quantiles that are laid over one another. The thresholds lie beyond all of them, so that the upper half alone counts;
# a quantile above which fewer than `_ABOVE` joints lie is left out.
_LEVELS = np.array([50, 60, 70, 80, 85, 90, 93, 95, 97, 98, 99])
_ABOVE = 8
# How far a machine may move the thresholds: beyond this it is not the machine, or the model is not for it.
_SCALE = (0.7, 1.6)
_LARGEST_MOVE = 4.0
# This many joints are worth as much as the belief that the machine is like those of the calibration: in place, and in
# scale, which carries from the bulk out to the thresholds and so must be known better.
_PRIOR_PLACE = 150
_PRIOR_SCALE = 1000
_ROUNDS = 5


@dataclass(frozen=True)
class MachinePoint:
    """The machine's operating point, and how it came about.

    A score t of the calibration is worth `shift + scale * t` on this machine. `joints` are those that were taken for
    good. `moved` is False where the machine's boards say too little and the calibration's thresholds stand.
    """

    point: OperatingPoint
    shift: float
    scale: float
    joints: int
    moved: bool


def machine_point(
    log_odds: NDArray[np.floating], good_scores: NDArray[np.floating] | tuple[float, ...], reference: OperatingPoint
) -> MachinePoint:
    """Thresholds of one machine from the scores of its unlabelled joints, up to a tenth of them defective.

    Parameters
    ----------
    log_odds
        (n,) of 'defective' of all joints that the machine has shown so far; NaN (undecided) is left out.
    good_scores
        (101,) quantiles at 0, 1, … 100 % of the calibration's good joints (`Card.good_scores`).
    reference
        The model's own thresholds.
    """
    scores, known = np.asarray(log_odds, np.float64), np.asarray(good_scores, np.float64)
    scores = scores[np.isfinite(scores)]
    if len(scores) < LEAST_JOINTS or len(known) != 101:
        why = "the model keeps no good scores" if len(known) != 101 else f"{len(scores)} joints are too few to follow the machine"
        return MachinePoint(_said(reference, why), 0.0, 1.0, len(scores), moved=False)
    shift, scale, count = 0.0, 1.0, len(scores)
    for _ in range(_ROUNDS):
        edge = shift + scale * (reference.pass_below + reference.fail_above) / 2
        bulk = scores[scores < edge]
        if len(bulk) < LEAST_JOINTS:
            why = f"only {len(bulk)} of {len(scores)} joints look good: not followed"
            return MachinePoint(_said(reference, why), 0.0, 1.0, len(bulk), moved=False)
        shift, scale, count = *_laid_over(bulk, known), len(bulk)
    low, high = (_bounded(shift + scale * t, t) for t in (reference.pass_below, reference.fail_above))
    why = (
        f"follows the machine over {count} joints taken for good: "
        f"median {np.quantile(bulk, 0.5):.1f} for {known[50]:.1f}, 95 % {np.quantile(bulk, 0.95):.1f} for {known[95]:.1f}; "
        f"pass below {low:.2f} for {reference.pass_below:.2f}, fail from {high:.2f} for {reference.fail_above:.2f}"
    )
    return MachinePoint(_said(reference, why, low, high), shift, scale, count, moved=True)


def _laid_over(bulk: NDArray[np.float64], known: NDArray[np.float64]) -> tuple[float, float]:
    """(shift, scale) that carries the calibration's upper quantiles to the machine's, held back where joints are few."""
    levels = _LEVELS[len(bulk) * (1 - _LEVELS / 100) >= _ABOVE]
    its, theirs = np.quantile(bulk, levels / 100), known[levels]
    centre, spread = theirs.mean(), theirs.std()
    slope = float(np.mean((theirs - centre) * (its - its.mean())) / spread**2) if spread > 0 and len(levels) > 2 else 1.0
    scale = 1 + len(bulk) / (len(bulk) + _PRIOR_SCALE) * (min(max(slope, _SCALE[0]), _SCALE[1]) - 1)
    at = theirs[-1]  # the line goes through the highest quantile that is known: the thresholds lie beyond it
    moved = len(bulk) / (len(bulk) + _PRIOR_PLACE) * (its[-1] - at)
    return float(at + moved - scale * at), float(scale)


def _bounded(threshold: float, reference: float) -> float:
    return reference + math.copysign(min(abs(threshold - reference), _LARGEST_MOVE), threshold - reference)


def _said(reference: OperatingPoint, why: str, low: float | None = None, high: float | None = None) -> OperatingPoint:
    return OperatingPoint(
        pass_below=reference.pass_below if low is None else low,
        fail_above=reference.fail_above if high is None else high,
        source=f"{reference.source}; {why}" if reference.source else why,
    )

"""Thresholds for a machine never seen, from the scores of its own boards without labels.

Measured on a network that learnt from many simulated machines, with each machine left out in turn: the bulk of the good
joints' scores moves from machine to machine, but the tail of awkward ones, where the thresholds lie, does not move with
it (moving them together cost 6,000 to 11,000 ppm of false calls where fixed thresholds cost 0 to 1,300). What a machine's
own boards do tell is how many of its joints a person would have to see. So the thresholds are moved apart as far as the
share of joints for review allows: a sharp machine buys fewer escapes and false calls with the reviews that it does not
need. Passing never begins later than the model says, and failing never earlier.

Only where the whole bulk lies higher than nearly all good joints of the calibration is it the machine that speaks: failing
then begins as much later, and what lies between is for a person.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import OperatingPoint

__all__ = ["LEAST_JOINTS", "MachinePoint", "machine_point"]

# Fewer joints than this cannot say what two in a hundred of them are.
LEAST_JOINTS = 60
_STEP, _LARGEST_MOVE = 0.1, 2.0
# A machine's scores lie higher than the calibration's where its sixth decile reaches what one in ten good joints of those
# does. A middle decile, because even a board with every fourth joint defective must not look like another machine.
_BULK, _KNOWN_BULK = 0.6, 90
_LARGEST_LIFT = 4.0


@dataclass(frozen=True)
class MachinePoint:
    """The machine's operating point, and how it came about.

    `apart` is by how much each threshold moved outwards, `lift` by how much failing moved up besides (log-odds); `joints`
    is how many scores spoke. `moved` is False where the model's own thresholds stand.
    """

    point: OperatingPoint
    apart: float
    lift: float
    joints: int

    @property
    def moved(self) -> bool:
        """Whether the machine has thresholds of its own."""
        return self.apart > 0 or self.lift > 0


def machine_point(
    log_odds: NDArray[np.floating],
    good_scores: NDArray[np.floating] | tuple[float, ...],
    reference: OperatingPoint,
    *,
    review_share: float = 0.02,
) -> MachinePoint:
    """Thresholds of one machine from the scores of its unlabelled joints.

    Parameters
    ----------
    log_odds
        (n,) of 'defective' of all joints that the machine has shown so far; NaN (undecided) is left out.
    good_scores
        (101,) quantiles at 0, 1, … 100 % of the calibration's good joints (`Card.good_scores`).
    reference
        The model's own thresholds.
    review_share
        How many of the joints a person is to see at most. Where more lie between the model's own thresholds, these stand.
    """
    scores, known = np.asarray(log_odds, np.float64), np.asarray(good_scores, np.float64)
    scores = scores[np.isfinite(scores)]
    if len(scores) < LEAST_JOINTS or len(known) != 101:
        why = "the model keeps no good scores" if len(known) != 101 else f"{len(scores)} joints of this machine are too few"
        return MachinePoint(_said(reference, 0, 0, f"{why} to follow it"), 0.0, 0.0, len(scores))
    lift = _lift(scores, known, reference)
    high = reference.fail_above + lift
    apart = 0.0
    while apart + _STEP <= _LARGEST_MOVE and _reviewed(scores, reference.pass_below, high, apart + _STEP) <= review_share:
        apart = round(apart + _STEP, 6)
    now = _reviewed(scores, reference.pass_below, high, apart)
    why = f"after {len(scores)} joints of this machine, {now:.1%} of them for review"
    if lift:
        why += f", whose scores lie {lift:.1f} higher than those of any machine known"
    return MachinePoint(_said(reference, apart, lift, why), apart, lift, len(scores))


def _lift(scores: NDArray[np.float64], known: NDArray[np.float64], reference: OperatingPoint) -> float:
    """How much higher the bulk of this machine lies than nine in ten good joints of the calibration; 0 where it does not."""
    bulk = scores[scores < reference.fail_above + _LARGEST_LIFT]
    if len(bulk) < LEAST_JOINTS:
        return 0.0
    return min(max(0.0, float(np.quantile(bulk, _BULK)) - float(known[_KNOWN_BULK])), _LARGEST_LIFT)


def _reviewed(scores: NDArray[np.float64], low: float, high: float, apart: float) -> float:
    """Share of joints between the thresholds, one joint more than were seen: few joints must not promise little review."""
    between = np.sum((scores >= low - apart) & (scores < high + apart))
    return float((between + 1) / (len(scores) + 1))


def _said(reference: OperatingPoint, apart: float, lift: float, why: str) -> OperatingPoint:
    low, high = reference.pass_below - apart, reference.fail_above + apart + lift
    moved = f"pass below {low:.2f} and fail from {high:.2f}, " if apart or lift else ""
    return OperatingPoint(pass_below=low, fail_above=high, source="; ".join(filter(None, [reference.source, moved + why])))

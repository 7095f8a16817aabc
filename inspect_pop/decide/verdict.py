"""Verdicts: what probabilities, measurements and flags decide about each joint, and the joints about the board.

Whatever is in doubt goes to review; it never passes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.classify.session import Scores
from inspect_pop.core import flags as flag_table
from inspect_pop.core.classes import CLASSES

__all__ = ["JointVerdicts", "decide_board", "decide_joints", "leave_undecided"]

_BRIDGED = CLASSES.index("bridged")
# A bridge has two ends: where one is called, the neighbour that most looks like its partner is called with it (in a study
# of matched boards, a bridge missed on one joint was always called on its partner).
_REACH_PITCHES = 1.5
# Flags that say that the picture does not show this joint, or not all of it: what the classifier made of it does not count,
# not even a fail.
_NOT_THIS_JOINT = flag_table.bit("crop_mismatch") | flag_table.bit("unfamiliar") | flag_table.bit("unscanned")
_CANNOT_DECIDE = flag_table.bit("no_slices") | flag_table.bit("off_image")


@dataclass(frozen=True)
class JointVerdicts:
    """The verdicts on n joints: `label` (text, None where undecided), `verdict` (text), `reason` (text), object arrays."""

    label: NDArray[np.object_]
    verdict: NDArray[np.object_]
    reason: NDArray[np.object_]


def decide_joints(
    scores: Scores,
    flags: NDArray[np.int64],
    point: OperatingPoint,
    *,
    x_um: NDArray[np.floating],
    y_um: NDArray[np.floating],
    pitch_um: float,
) -> JointVerdicts:
    """Decide every joint of one interface.

    A joint passes below `point.pass_below`, fails from `point.fail_above` on, and goes to review between the two. The
    partner of a bridge fails with it. A flag that forbids a pass turns a pass into a review.

    Parameters
    ----------
    scores, flags
        Of the n joints, in one order.
    point
        The thresholds, in log-odds of a defect.
    x_um, y_um
        (n,) designed places, from which neighbours are found.
    pitch_um
        Pitch of the interface.
    """
    p = scores.probabilities
    fails = scores.log_odds >= point.fail_above
    passes = scores.log_odds < point.pass_below
    label = np.where(passes, 0, np.where(fails, 1 + p[:, 1:].argmax(axis=1), p.argmax(axis=1)))
    partners = _find_bridge_partners(label, fails, p, np.column_stack([x_um, y_um]), pitch_um * _REACH_PITCHES)
    label[partners], fails[partners], passes[partners] = _BRIDGED, True, False

    doubtful = (flags & flag_table.REVIEW_MASK) != 0
    elsewhere = (flags & _NOT_THIS_JOINT) != 0
    none = (flags & _CANNOT_DECIDE) != 0
    verdict = np.where(fails & ~elsewhere, "fail", np.where(passes & ~doubtful, "pass", "review")).astype(object)
    verdict[none] = "review"
    names = np.asarray(CLASSES, dtype=object)[label]
    names[none] = None
    reason = np.full(len(label), "", dtype=object)
    for joint in np.flatnonzero(verdict == "review"):
        forbidding = int(flags[joint]) & flag_table.REVIEW_MASK
        if forbidding:
            reason[joint] = "; ".join(flag.meaning for flag in flag_table.FLAGS if flag.value & forbidding)
        else:
            first, second = np.argsort(p[joint])[::-1][:2]
            likely, other = f"{CLASSES[first]} {p[joint, first]:.2f}", f"{CLASSES[second]} {p[joint, second]:.2f}"
            reason[joint] = f"between two classes: {likely}, {other}"
    return JointVerdicts(names, verdict, reason)


def leave_undecided(n: int, reason: str) -> JointVerdicts:
    """Return the verdicts on n joints about which nothing can be decided: review, without a label, for this reason."""
    return JointVerdicts(np.full(n, None, dtype=object), np.full(n, "review", dtype=object), np.full(n, reason, dtype=object))


def decide_board(verdicts: NDArray[np.object_]) -> str:
    """Return `fail` where any joint fails, else `review` where any is in review or there is no joint, else `pass`."""
    if (verdicts == "fail").any():
        return "fail"
    return "pass" if len(verdicts) and (verdicts == "pass").all() else "review"


def _find_bridge_partners(
    label: NDArray[np.int64], fails: NDArray[np.bool_], p: NDArray[np.float32], places_um: NDArray[np.floating], reach_um: float
) -> NDArray[np.int64]:
    """Return the joints that complete a bridge which was called on one side only."""
    called = np.flatnonzero(fails & (label == _BRIDGED))
    if len(called) == 0 or len(label) < 2:
        return np.zeros(0, dtype=np.int64)
    near = cKDTree(places_um).query_ball_point(places_um[called], reach_um)
    partners = []
    for joint, around in zip(called, near, strict=True):
        others = [k for k in around if k != joint]
        if others and not any(fails[k] and label[k] == _BRIDGED for k in others):
            partners.append(max(others, key=lambda k: p[k, _BRIDGED]))
    return np.asarray(partners, dtype=np.int64)

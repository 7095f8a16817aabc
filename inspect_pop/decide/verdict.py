"""Probabilities, measurements and flags become a verdict a joint, then a board; doubt becomes review, never pass."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.classify.session import Scores
from inspect_pop.core import flags as flag_table
from inspect_pop.core.joint_table import CLASSES

__all__ = ["Decisions", "board_verdict", "decide_joints", "undecided"]

_BRIDGED = CLASSES.index("bridged")
# A bridge has two ends: where one is called, the neighbour that most looks like its partner is called with it
# (measured in a study with matched boards: a bridge missed on one joint was always called on its partner).
_REACH_PITCHES = 1.5
# Flags that say 'this is not a picture of that joint': what the classifier made of it does not count, not even a fail.
_NOT_THIS_JOINT = flag_table.bit("wrong_crop") | flag_table.bit("unfamiliar")
_CANNOT_DECIDE = flag_table.bit("no_slices") | flag_table.bit("off_image")


@dataclass(frozen=True)
class Decisions:
    """Parallel arrays of n joints: `label` (text, None where undecided), `verdict` (text), `reason` (text)."""

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
) -> Decisions:
    """Decide every joint of one interface.

    A joint passes below `point.pass_below`, fails from `point.fail_above` on, and is looked at by a person between the
    two; the partner of a bridge follows it; a flag that forbids a pass makes review of it.

    Parameters
    ----------
    scores, flags
        Of the n joints, in one order.
    x_um, y_um
        (n,) designed places, to know who is a neighbour.
    """
    p = scores.probabilities
    fails = scores.log_odds >= point.fail_above
    passes = scores.log_odds < point.pass_below
    label = np.where(passes, 0, np.where(fails, 1 + p[:, 1:].argmax(axis=1), p.argmax(axis=1)))
    carried = _bridge_partners(label, fails, p, np.column_stack([x_um, y_um]), pitch_um * _REACH_PITCHES)
    label[carried], fails[carried], passes[carried] = _BRIDGED, True, False

    doubtful = (flags & flag_table.REVIEW_MASK) != 0
    elsewhere = (flags & _NOT_THIS_JOINT) != 0
    none = (flags & _CANNOT_DECIDE) != 0
    verdict = np.where(fails & ~elsewhere, "fail", np.where(passes & ~doubtful, "pass", "review")).astype(object)
    verdict[none] = "review"
    names = np.asarray(CLASSES, dtype=object)[label]
    names[none] = None
    reason = np.full(len(label), "", dtype=object)
    for joint in np.flatnonzero(verdict == "review"):
        reason[joint] = _why(p[joint], int(flags[joint]) & flag_table.REVIEW_MASK)
    return Decisions(names, verdict, reason)


def undecided(n: int, reason: str) -> Decisions:
    """n joints about which nothing could be decided, each with the reason why: review, never pass."""
    return Decisions(np.full(n, None, dtype=object), np.full(n, "review", dtype=object), np.full(n, reason, dtype=object))


def board_verdict(verdicts: NDArray[np.object_]) -> str:
    """`fail` where any joint fails, else `review` where any is undecided or there is no joint at all, else `pass`."""
    if (verdicts == "fail").any():
        return "fail"
    return "pass" if len(verdicts) and (verdicts == "pass").all() else "review"


def _bridge_partners(
    label: NDArray[np.int64], fails: NDArray[np.bool_], p: NDArray[np.float32], places_um: NDArray[np.floating], reach_um: float
) -> NDArray[np.int64]:
    """Joints that complete a bridge which was called on one side only."""
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


def _why(p: NDArray[np.float32], forbidding: int) -> str:
    if forbidding:
        return "; ".join(flag.meaning for flag in flag_table.FLAGS if flag.value & forbidding)
    first, second = np.argsort(p)[::-1][:2]
    return f"between two classes: {CLASSES[first]} {p[first]:.2f}, {CLASSES[second]} {p[second]:.2f}"

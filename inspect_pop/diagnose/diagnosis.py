"""Diagnose one package, or a lot: which cause the pattern of its defects points to.

A package is weighed by the rules of `inspect_pop.diagnose.rules`. A lot has what its boards say one by one, and the
positions that fail again and again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtrc

from inspect_pop.core.causes import CAUSES
from inspect_pop.core.classes import DEFECTS
from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Package
from inspect_pop.diagnose.cause import Cause, PackageState
from inspect_pop.diagnose.evidence import Hypothesis, PackageContext, binomial_surprise, collect_joints
from inspect_pop.diagnose.rules import RULES

__all__ = ["LotDefects", "diagnose", "diagnose_lot", "find_repeating_positions", "rank_hypotheses"]

_JOINTS_IN_WORDS = 12
# A position repeats where chance, were defects spread evenly over its interface, would let any do so in one lot of a hundred.
_CHANCE = 0.01
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class LotDefects:
    """How often each position of one package failed over `boards` boards: parallel arrays (n,).

    `interface`, `ball` object; `defects` (n, classes) int64: how often each class of `DEFECTS`.
    """

    boards: int
    interface: NDArray[Any]
    ball: NDArray[Any]
    defects: NDArray[np.int64]


def diagnose(joints: JointTable, package: Package, state: PackageState, limits: Limits | None = None) -> Cause:
    """Name the process step that the joints of one package point to, with its evidence; `none` where no pattern is clear.

    `joints` may hold other packages too: only rows of `package.refdes` are read. Labels count, whatever their verdict.
    """
    limits = limits or Limits()
    context = PackageContext(collect_joints(joints, package), package, state, limits)
    if not context.n_defects:
        return Cause("none", "no defects")
    best = rank_hypotheses(context)[0]
    if best.strength < limits.cause_strength:
        nearest = f"; nearest is {best.name.replace('_', ' ')} ({best.evidence})" if best.strength > 1 else ""
        return Cause("none", f"{context.n_defects} defects without a clear pattern{nearest}")
    return Cause(best.name, best.evidence + _format_joints(best.joints), best.joints, best.strength)


def rank_hypotheses(context: PackageContext) -> list[Hypothesis]:
    """Return what speaks for each cause, the strongest first."""
    return sorted((rule(context) for rule in RULES), key=lambda hypothesis: -hypothesis.strength)


def _format_joints(joints: Sequence[str]) -> str:
    """List the first of these joints, and how many more there are."""
    if not joints:
        return ""
    more = len(joints) - _JOINTS_IN_WORDS
    return ": " + ", ".join(joints[:_JOINTS_IN_WORDS]) + (f" and {more} more" if more > 0 else "")


def diagnose_lot(lot: LotDefects, causes: Mapping[str, int], limits: Limits | None = None) -> Cause:
    """Name the cause that a lot points to.

    A cause that boards name more often than the others would by chance speaks for itself; positions that repeat say what
    is wrong with them: a stencil's opening (starved, open), its paste (bridged), or the memory's dip (upper interface).

    Parameters
    ----------
    lot
        Defects by position.
    causes
        How many boards with a defect have each cause, `none` among them.
    limits
        `cause_strength` is used.
    """
    least = (limits or Limits()).cause_strength
    by_votes = Cause("none", "")
    boards = sum(n for name, n in causes.items() if name in CAUSES)
    votes = {name: n for name, n in causes.items() if name in CAUSES and name != "none" and n}
    if votes:
        name = max(votes, key=lambda c: votes[c])
        words = f"{votes[name]} of {boards} boards with defects point to {name.replace('_', ' ')}"
        by_votes = Cause(name, words, (), binomial_surprise(votes[name], boards, 1 / len(CAUSES)))
    found = [by_votes, _diagnose_positions(lot)]
    best = max(found, key=lambda cause: cause.strength)
    if best.strength < least:
        n = int(lot.defects.sum())
        return Cause("none", f"{n} defects on {lot.boards} boards without a clear pattern" if n else "no defects")
    others = [c.evidence for c in found if c is not best and c.strength >= least]
    return Cause(best.name, "; besides, ".join([best.evidence, *others]), best.joints, best.strength)


def find_repeating_positions(lot: LotDefects) -> NDArray[np.bool_]:
    """Find positions that fail on more boards than chance lets any of their interface do, (n,) bool (Poisson, Bonferroni)."""
    total = lot.defects.sum(axis=1)
    result = np.zeros(len(total), bool)
    for name in set(lot.interface.tolist()):
        rows = lot.interface == name
        for _ in range(_ROUNDS):  # what repeats must not raise the rate that it is held against
            rate = max(float(total[rows & ~result].mean()), 1e-9) if (rows & ~result).any() else 0.0
            unlikely = pdtrc(total - 1, rate) < _CHANCE / max(int(rows.sum()), 1)
            result |= rows & (total >= 2) & unlikely
    return result


def _diagnose_positions(lot: LotDefects) -> Cause:
    """Name the process step from what fails again and again at the same places."""
    repeat = find_repeating_positions(lot)
    if not repeat.any():
        return Cause("none", "")
    counts = {name: lot.defects[repeat & (lot.interface == name)].sum(axis=0) for name in dict.fromkeys(lot.interface[repeat])}
    interface = max(counts, key=lambda name: int(counts[name].sum()))
    count = dict(zip(DEFECTS, (int(n) for n in counts[interface]), strict=True))
    bridged, pillow = count["bridged"], count["head_in_pillow"]
    others = sum(count.values()) - bridged
    if interface == "upper":
        cause = "shallow_dip" if others >= bridged else "placement_offset"
    elif bridged > others:
        cause = "excess_paste"
    else:
        cause = "warpage" if pillow > others - pillow else "insufficient_paste"
    rows = np.flatnonzero(repeat & (lot.interface == interface))
    often = lot.defects[rows].sum(axis=1)
    joints = tuple(f"{interface} {lot.ball[k]}" for k in rows[np.argsort(-often, kind="stable")])
    label = max(DEFECTS, key=lambda c: count[c]).replace("_", "-")
    what = f"{len(rows)} positions" if len(rows) > 1 else "one position"
    words = (
        f"{what} of the {interface} interface fail{'s' * (len(rows) == 1)} again and again, mostly {label}, "
        f"on up to {int(often.max())} of {lot.boards} boards{_format_joints(joints)}"
    )
    return Cause(cause, words, joints, math.log(1 / _CHANCE) + math.log(len(rows)))

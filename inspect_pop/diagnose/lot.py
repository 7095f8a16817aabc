"""Which cause a lot points to: what its boards say one by one, and positions that fail again and again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtrc

from inspect_pop.core.joint_table import CLASSES
from inspect_pop.core.limits import Limits
from inspect_pop.diagnose.cause import CAUSES, Cause
from inspect_pop.diagnose.diagnosis import listed
from inspect_pop.diagnose.evidence import binomial_surprise

__all__ = ["LotDefects", "repeating", "suspect_lot"]

# A position repeats where chance, were defects spread evenly over its interface, would let any do so in one lot of a hundred.
_CHANCE = 0.01
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class LotDefects:
    """How often each position of one package failed over `boards` boards: parallel arrays (n,).

    `interface`, `ball` object; `defects` (n, 4) int64: how often bridged, open, starved, head-in-pillow.
    """

    boards: int
    interface: NDArray[Any]
    ball: NDArray[Any]
    defects: NDArray[np.int64]


def suspect_lot(lot: LotDefects, causes: Mapping[str, int], limits: Limits | None = None) -> Cause:
    """The cause that a lot points to.

    Parameters
    ----------
    lot
        Defects by position.
    causes
        How many boards with a defect have each cause, `none` among them.
    limits
        `cause_strength` is used.

    A cause that boards name more often than the others would by chance speaks for itself; positions that repeat say what
    is wrong with them: a stencil's opening (starved, open), its paste (bridged), or the memory's dip (upper interface).
    """
    least = (limits or Limits()).cause_strength
    found = [_by_votes(causes), _by_positions(lot)]
    best = max(found, key=lambda cause: cause.strength)
    if best.strength < least:
        n = int(lot.defects.sum())
        return Cause("none", f"{n} defects on {lot.boards} boards without a clear pattern" if n else "no defects")
    others = [c.evidence for c in found if c is not best and c.strength >= least]
    return Cause(best.name, "; besides, ".join([best.evidence, *others]), best.joints, best.strength)


def repeating(lot: LotDefects) -> NDArray[np.bool_]:
    """(n,) bool: positions that fail on more boards than chance lets any of their interface do (Poisson, Bonferroni)."""
    total = lot.defects.sum(axis=1)
    result = np.zeros(len(total), bool)
    for name in set(lot.interface.tolist()):
        rows = lot.interface == name
        for _ in range(_ROUNDS):  # what repeats must not raise the rate that it is held against
            rate = max(float(total[rows & ~result].mean()), 1e-9) if (rows & ~result).any() else 0.0
            unlikely = pdtrc(total - 1, rate) < _CHANCE / max(int(rows.sum()), 1)
            result |= rows & (total >= 2) & unlikely
    return result


def _by_votes(causes: Mapping[str, int]) -> Cause:
    named = {name: n for name, n in causes.items() if name in CAUSES and name != "none" and n}
    boards = sum(n for name, n in causes.items() if name in CAUSES)
    if not named:
        return Cause("none", "")
    name = max(named, key=lambda c: named[c])
    strength = binomial_surprise(named[name], boards, 1 / len(CAUSES))
    return Cause(name, f"{named[name]} of {boards} boards with defects point to {name.replace('_', ' ')}", (), strength)


def _by_positions(lot: LotDefects) -> Cause:
    repeat = repeating(lot)
    if not repeat.any():
        return Cause("none", "")
    counts = {name: lot.defects[repeat & (lot.interface == name)].sum(axis=0) for name in dict.fromkeys(lot.interface[repeat])}
    interface = max(counts, key=lambda name: int(counts[name].sum()))
    rows = np.flatnonzero(repeat & (lot.interface == interface))
    name = _step(str(interface), counts[interface])
    often = lot.defects[rows].sum(axis=1)
    joints = tuple(f"{interface} {lot.ball[k]}" for k in rows[np.argsort(-often, kind="stable")])
    label = CLASSES[1:][int(np.argmax(counts[interface]))].replace("_", "-")
    what = f"{len(rows)} positions" if len(rows) > 1 else "one position"
    words = (
        f"{what} of the {interface} interface fail{'s' * (len(rows) == 1)} again and again, mostly {label}, "
        f"on up to {int(often.max())} of {lot.boards} boards{listed(joints)}"
    )
    strength = math.log(1 / _CHANCE) + math.log(len(rows))
    return Cause(name, words, joints, strength)


def _step(interface: str, counts: NDArray[np.int64]) -> str:
    """What fails again and again at the same places: bridged, open, starved, head-in-pillow."""
    bridged, opened, starved, pillow = (int(n) for n in counts)
    if interface == "upper":
        return "shallow_dip" if opened + starved + pillow >= bridged else "placement_offset"
    if bridged > opened + starved + pillow:
        return "excess_paste"
    return "warpage" if pillow > opened + starved else "insufficient_paste"

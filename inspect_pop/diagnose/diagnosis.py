"""Diagnose one package, or a lot: which cause the pattern of its defects points to.

Each cause has a rule, `weigh_…`, that says how strongly a package's defects speak for it; `diagnose` ranks them. A lot is
judged by what its boards say one by one, and by positions that fail again and again.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import pdtrc

from inspect_pop.core.classes import CAUSES, DEFECTS, joint_class
from inspect_pop.core.columns import JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Package
from inspect_pop.core.text import pluralize
from inspect_pop.diagnose.evidence import (
    CAP,
    Hypothesis,
    InterfaceJoints,
    PackageContext,
    PackageState,
    binomial_surprise,
    cap,
    collect_joints,
    find_cluster,
    format_percent,
    format_place,
    normal_ratio,
    range_ratio,
    rayleigh_ratio,
    remove_plane,
    trend_surprise,
)

__all__ = [
    "RULES",
    "Cause",
    "LotDefects",
    "choose_disposition",
    "diagnose",
    "diagnose_lot",
    "find_repeating_positions",
    "rank_hypotheses",
]

# What a cause does to a figure: expected size and how much that differs. Warpage in limits of the package; the shear that
# an offset leaves and the change of height that a force leaves in um.
_WARPED, _WARPED_SCATTER = 1.3, 0.5
_SHEARED_UM, _SHEARED_SCATTER_UM = 40.0, 18.0
_FORCED_UM, _FORCED_SCATTER_UM = 32.0, 9.0
# How far the cause moves the median volume of the interface's good joints, as a fraction of nominal, and how much that
# differs: paste is about half of a lower joint's solder, and less than a fifth of what a dip adds to an upper one's.
_SHORT, _SHALLOW, _SCATTER = -0.15, -0.15, 0.1
# Excess paste anywhere between just enough to bridge where pads are close and half as much again.
_LEAST_EXCESS, _MOST_EXCESS = 0.02, 0.5
# A few joints that are head-in-pillow for whatever reason lie rather where the gap is wide: this much is no pattern.
_USUAL_GAP = 3.0
# The joints of the rim carry the memory: a convex one stands higher in its middle by up to this share of its warpage
# (paraboloid over a square, mean over the body against mean over a rim of joints), without any force.
_OF_WARPAGE = 0.2
# Below this share of its limit warpage opens nothing, and at twice the share it may.
_FLAT = 0.3
# From this surprise on (one chance in 33) starved joints stand together as below a clogged opening.
_CLUSTERED = 3.5


@dataclass(frozen=True)
class Cause:
    """The process step that a pattern points to.

    `name` is one of `inspect_pop.core.classes.CAUSES`; `evidence` says why, in words and numbers; `joints` names the joints
    that the evidence rests on as `interface ball`, such as `lower C4`, in the order of the recipe. `strength` is the
    log-likelihood ratio against a board without a cause (natural logarithm): 0 for `none`.
    """

    name: str
    evidence: str
    joints: tuple[str, ...] = ()
    strength: float = 0.0


def weigh_warpage(context: PackageContext) -> Hypothesis:
    """Weigh opens and head-in-pillow where the warped package stands off: in the middle if convex, else at the corners."""
    warpage_um, limit = context.state.warpage_um, context.package.warpage_limit_um
    kinds = ("head_in_pillow", "open")
    n = context.count_all(*kinds)
    if not math.isfinite(warpage_um) or not n:
        return Hypothesis("warpage", 0.0, "no warpage was measured, or nothing is open or head-in-pillow", ())
    size = normal_ratio(abs(warpage_um) / limit, _WARPED, _WARPED_SCATTER, context.limits.cause_warpage_spread)
    # Not the bridges: they lie where the gap is narrow on any board. The classes count only as far as the place does.
    place = _gap_surprise(context, *kinds) - _USUAL_GAP
    mix, _ = context.best_mix_ratio(head_in_pillow=0.6, open=0.35, bridged=0.05)
    strength = cap(place, CAP) + min(cap(mix, CAP), max(place, 0.0)) + cap(size, CAP / 2) - _bulge_ratio(context)
    if strength > 0:
        strength *= min(max(abs(warpage_um) / limit / _FLAT - 1, 0.0), 1.0)
    shape, where = ("convex", "the middle") if warpage_um > 0 else ("concave", "the corners")
    evidence = (
        f"warpage {warpage_um:+.0f} um ({shape}) against a limit of {limit:.0f} um; {n} open and head-in-pillow joints, "
        f"rather in {where}, where the gap is wide"
    )
    return Hypothesis("warpage", strength, evidence, context.names_all(*kinds))


def weigh_excess_paste(context: PackageContext) -> Hypothesis:
    """Weigh too much printed paste: bridges in the lower interface, whose good joints hold more than nominal."""
    bridged = context.count("lower", "bridged")
    shift, words = _find_volume_shift(context, "lower")
    volume = range_ratio(shift, _LEAST_EXCESS, _MOST_EXCESS, context.limits.cause_volume_spread)
    strength = cap(context.mix_ratio("lower", bridged=1.0), CAP) + cap(volume, CAP) if bridged else 0.0
    evidence = f"{bridged} of {context.count('lower', *DEFECTS)} defects of the lower interface are bridges; {words}"
    return Hypothesis("excess_paste", strength, evidence, context.names("lower", "bridged"))


def weigh_insufficient_paste(context: PackageContext) -> Hypothesis:
    """Weigh too little printed paste, or a clogged stencil region: starved and open joints in the lower interface."""
    joints = context.interfaces.get("lower")
    if joints is None or not context.count("lower", "starved"):
        return Hypothesis("insufficient_paste", 0.0, "no starved joint in the lower interface", ())
    thin, lower = joints.has_label("starved", "open"), context.count("lower", *DEFECTS)
    region = find_cluster(joints.x_um, joints.y_um, joints.has_label("starved"), 4 * joints.pitch_um)
    shift, words = _find_volume_shift(context, "lower")
    volume = normal_ratio(shift, _SHORT, _SCATTER, context.limits.cause_volume_spread)
    evidence = f"{int(thin.sum())} of {lower} defects of the lower interface are starved or open"
    if region.surprise > _CLUSTERED:
        together = f"{int(region.members.sum())} starved ones stand together around {format_place(region.x_um, region.y_um)}"
        evidence += f"; {together}, as under a clogged stencil region"
        volume = max(volume, 0.0)  # a clogged region leaves the rest of the joints as they were
    mix = context.mix_ratio("lower", starved=0.8, open=0.2)
    strength = cap(mix, CAP) + cap(region.surprise, CAP) + cap(volume, CAP)
    return Hypothesis("insufficient_paste", strength, f"{evidence}; {words}", joints.names(thin))


def weigh_shallow_dip(context: PackageContext) -> Hypothesis:
    """Weigh too little paste on the dipped memory: starved, open and head-in-pillow in the upper interface only."""
    kinds = ("starved", "open", "head_in_pillow")
    upper, lower = context.count("upper", *kinds), context.count("lower", *kinds)
    if not upper:
        return Hypothesis("shallow_dip", 0.0, "nothing starved, open or head-in-pillow in the upper interface", ())
    shift, words = _find_volume_shift(context, "upper")
    volume = normal_ratio(shift, _SHALLOW, _SCATTER, context.limits.cause_volume_spread)
    mix = context.mix_ratio("upper", starved=0.4, open=0.35, head_in_pillow=0.25)
    share = len(context.interfaces["upper"].ball) / sum(len(joints.ball) for joints in context.interfaces.values())
    evidence = (
        f"{upper} of {upper + lower} starved, open and head-in-pillow joints lie in the upper interface, which holds "
        f"{100 * share:.0f} % of the joints; {words}"
    )
    return Hypothesis("shallow_dip", cap(mix, CAP) + cap(volume, CAP), evidence, context.names("upper", *kinds))


def weigh_placement_offset(context: PackageContext) -> Hypothesis:
    """Weigh joints sheared one way, and bridges along one direction."""
    found = [_weigh_offset_of(context, name, joints) for name, joints in context.interfaces.items() if joints.defective.any()]
    return max(found, key=lambda hypothesis: hypothesis.strength, default=Hypothesis("placement_offset", 0.0, "no defects", ()))


def weigh_oxidised_balls(context: PackageContext) -> Hypothesis:
    """Weigh head-in-pillow all over, without regard to the gap."""
    n = context.count_all("head_in_pillow")
    mix, where = context.best_mix_ratio(head_in_pillow=1.0)
    gap = max(_gap_surprise(context, "head_in_pillow") - _USUAL_GAP, 0.0)
    strength = cap(mix, CAP) - gap if n else 0.0
    among = "" if where == "both" else f", {context.count(where, 'head_in_pillow')} of them in the {where} interface"
    evidence = f"{n} of {context.n_defects} defects are head-in-pillow{among}, scattered without regard to the local gap"
    return Hypothesis("oxidised_balls", strength, evidence, context.names_all("head_in_pillow"))


def weigh_placement_force(context: PackageContext) -> Hypothesis:
    """Weigh a stack that came out too low, with bridges, or too high, with joints that do not reach."""
    off = context.state.stack_height_um - context.package.stack_height_um
    if not math.isfinite(off):
        return Hypothesis("placement_force", 0.0, "stack height was not measured", ())
    bent = _OF_WARPAGE * context.state.warpage_um
    unexplained = max(abs(off) - abs(bent), 0.0) if off * bent > 0 else abs(off)
    kinds = ("bridged",) if off < 0 else ("open", "head_in_pillow")
    mix, _ = context.best_mix_ratio(bridged=1.0) if off < 0 else context.best_mix_ratio(head_in_pillow=0.6, open=0.4)
    joints = context.names_all(*kinds)
    height = normal_ratio(unexplained, _FORCED_UM, _FORCED_SCATTER_UM, context.limits.cause_stack_spread_um) - math.log(2)
    strength = cap(mix, CAP) + cap(height, CAP) if joints else 0.0
    evidence = (
        f"the stack is {context.state.stack_height_um:.0f} um high, {off:+.0f} um off nominal "
        f"({'high' if off < 0 else 'low'} placement force), with {len(joints)} "
        f"{' and '.join(joint_class(kind).words for kind in kinds)} joints"
    )
    return Hypothesis("placement_force", strength, evidence, joints)


def weigh_moisture(context: PackageContext) -> Hypothesis:
    """Weigh a local bulge of the mold, as popcorning leaves it."""
    bulge = context.state.bulge
    if bulge is None or bulge.height_um < context.limits.cause_bulge_um:
        return Hypothesis("moisture", 0.0, "no local bulge in the height map", ())
    near = tuple(
        name
        for joints in context.interfaces.values()
        for name in joints.names(
            joints.defective
            & (np.hypot(joints.x_um - bulge.x_um, joints.y_um - bulge.y_um) <= max(bulge.width_um, 2 * joints.pitch_um))
        )
    )
    strength = _bulge_ratio(context) + (2.0 if near else 0.0)
    evidence = (
        f"the mold rises locally by {bulge.height_um:.0f} um around {format_place(bulge.x_um, bulge.y_um)}; "
        f"{len(near)} of {context.n_defects} defects lie within {bulge.width_um / 1000:.1f} mm of it"
    )
    return Hypothesis("moisture", strength, evidence, near)


RULES: tuple[Callable[[PackageContext], Hypothesis], ...] = (
    weigh_warpage,
    weigh_excess_paste,
    weigh_insufficient_paste,
    weigh_shallow_dip,
    weigh_placement_offset,
    weigh_oxidised_balls,
    weigh_placement_force,
    weigh_moisture,
)


def _bulge_ratio(context: PackageContext) -> float:
    """Return what speaks for a bulge, and against a warped top that it could be taken for: 0 below the limit.

    Half of the limit is the most that texture and lettering leave on a flat top; a bulge is no matter of degree.
    """
    bulge, least = context.state.bulge, context.limits.cause_bulge_um
    if bulge is None or bulge.height_um < least:
        return 0.0
    return cap(0.5 * (bulge.height_um / (least / 2)) ** 2, CAP)


def _gap_surprise(context: PackageContext, *kinds: str) -> float:
    """Return how surprisingly far these joints lie where the package bends away from its pads.

    What the warpage adds to the local gap is the measured stand-off without its plane, or, where that is unknown, the
    radius with the warpage's sign.
    """
    surprise = 0.0
    for joints in context.interfaces.values():
        standoff = joints.measured["standoff_um"]
        if np.isfinite(standoff).mean() > 0.5:
            bend = remove_plane(joints.x_um, joints.y_um, standoff)
        else:
            radius: NDArray[np.float64] = np.hypot(joints.x_um, joints.y_um)
            bend = -radius if context.state.warpage_um > 0 else radius
        surprise += trend_surprise(bend, joints.has_label(*kinds))
    return surprise


def _weigh_offset_of(context: PackageContext, name: str, joints: InterfaceJoints) -> Hypothesis:
    """Weigh a placement offset in one interface."""
    bridged = joints.has_label("bridged")
    x, y = _count_pairs(joints, bridged)
    all_x, all_y = _count_pairs(joints, np.ones(len(joints.ball), bool))
    share = all_x / max(all_x + all_y, 1)
    along, chance, axis = (x, share, "x") if x * (1 - share) >= y * share else (y, 1 - share, "y")
    one_way = max(binomial_surprise(along, x + y, chance) - math.log(2) - 1.0, -1.0)
    shear = [context.median_good(name, column) for column in ("shear_x_um", "shear_y_um")]
    sheared = rayleigh_ratio(math.hypot(*shear), _SHEARED_UM, _SHEARED_SCATTER_UM, context.limits.cause_shear_spread_um)
    mix = context.mix_ratio(name, bridged=0.8, head_in_pillow=0.1, open=0.1)
    words = [f"its good joints are sheared by ({shear[0]:+.0f}, {shear[1]:+.0f}) um"] if math.isfinite(math.hypot(*shear)) else []
    words += [f"{along} of {x + y} bridges run along {axis}"] if x + y else []
    strength = cap(one_way, CAP) + cap(sheared, CAP) + cap(mix, CAP) - math.log(max(len(context.interfaces), 1))
    # An offset explains the bridges, or every defect where nothing is bridged.
    explained = joints.names(bridged if bridged.any() else joints.defective)
    return Hypothesis("placement_offset", strength, f"in the {name} interface " + " and ".join(words), explained)


def _count_pairs(joints: InterfaceJoints, mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Count neighbouring pairs within the mask, along x and along y."""
    places = np.stack([joints.x_um[mask], joints.y_um[mask]], axis=1)
    pairs = cKDTree(places).query_pairs(1.2 * joints.pitch_um, output_type="ndarray")
    along_x = np.abs(places[pairs[:, 0], 1] - places[pairs[:, 1], 1]) < 0.3 * joints.pitch_um
    return int(along_x.sum()), int((~along_x).sum())


def _find_volume_shift(context: PackageContext, interface: str) -> tuple[float, str]:
    """Return how far the interface's good joints are from nominal, as a fraction (NaN unmeasured), and the words for it.

    A machine's scale is not sure to some percent, but the same for both interfaces: the smaller of the shift against
    nominal and that against the other interface counts, 0 where the two disagree in sign.
    """
    ratio, other = (
        context.median_good(i, "volume_ratio") for i in (("lower", "upper") if interface == "lower" else ("upper", "lower"))
    )
    words = f"volume of its good joints {format_percent(ratio)} against nominal"
    if not math.isfinite(ratio):
        return math.nan, words
    shift, relative = ratio - 1, ratio - other if math.isfinite(other) else ratio - 1
    return (min(shift, relative, key=abs) if shift * relative > 0 else 0.0), words


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
        return Cause("none", f"{pluralize(context.n_defects, 'defect')} without a clear pattern{nearest}")
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
        return Cause(
            "none", f"{pluralize(n, 'defect')} on {pluralize(lot.boards, 'board')} without a clear pattern" if n else "no defects"
        )
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
    label = joint_class(max(DEFECTS, key=lambda c: count[c])).words
    what = f"{len(rows)} positions" if len(rows) > 1 else "one position"
    words = (
        f"{what} of the {interface} interface fail{'s' * (len(rows) == 1)} again and again, mostly {label}, "
        f"on up to {int(often.max())} of {lot.boards} boards{_format_joints(joints)}"
    )
    return Cause(cause, words, joints, math.log(1 / _CHANCE) + math.log(len(rows)))


def choose_disposition(faulty: Collection[str], verdict: str, underfill: bool = False) -> str:
    """Choose what follows for the board: `ship`, `review`, `rework_memory` or `rework_stack`.

    The memory alone comes off where all faults lie in the upper interface and nothing is underfilled; a fault in the lower
    interface takes the whole stack off. A failed board without a faulty joint goes to review.

    Parameters
    ----------
    faulty
        The interfaces with joints that failed, by their class or by an acceptance criterion.
    verdict
        The board's.
    underfill
        Whether the package is underfilled.
    """
    if verdict == "pass":
        return "ship"
    if verdict != "fail" or not faulty:
        return "review"
    return "rework_memory" if set(faulty) == {"upper"} and not underfill else "rework_stack"

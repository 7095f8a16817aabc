"""Rules for what printing and dipping leave: too much or too little solder, in one interface or one region."""

import math

from inspect_pop.causes.clues import CAP, Board, Clue, percent, place_mm
from inspect_pop.causes.pattern import bounded, cluster, normal_ratio

__all__ = ["excess_paste", "insufficient_paste", "shallow_dip"]

# How far the cause moves the median volume of the interface's good joints, as a fraction of nominal, and how much that
# differs: paste is about half of a lower joint's solder, and less than a fifth of what a dip adds to an upper one's.
_EXCESS, _SHORT, _SHALLOW, _SCATTER = 0.25, -0.15, -0.15, 0.1


def excess_paste(board: Board) -> Clue:
    """Too much printed paste: bridges in the lower interface, whose good joints hold more than nominal."""
    bridged = board.count("lower", "bridged")
    shift, words = _volume_shift(board, "lower")
    volume = normal_ratio(shift, _EXCESS, _SCATTER, board.limits.cause_volume_spread)
    strength = bounded(board.mix("lower", bridged=1.0), CAP) + bounded(volume, CAP) if bridged else 0.0
    evidence = f"{bridged} of {_defects(board, 'lower')} defects of the lower interface are bridges; {words}"
    return Clue("excess_paste", strength, evidence, board.names("lower", "bridged"))


def insufficient_paste(board: Board) -> Clue:
    """Too little printed paste, or a clogged stencil region: starved and open joints in the lower interface."""
    sites = board.sites.get("lower")
    if sites is None or not board.count("lower", "starved"):
        return Clue("insufficient_paste", 0.0, "no starved joint in the lower interface", ())
    thin, lower = sites.marked("starved", "open"), _defects(board, "lower")
    region = cluster(sites.x_um, sites.y_um, sites.marked("starved"), 4 * sites.pitch_um)
    shift, words = _volume_shift(board, "lower")
    volume = normal_ratio(shift, _SHORT, _SCATTER, board.limits.cause_volume_spread)
    evidence = f"{int(thin.sum())} of {lower} defects of the lower interface are starved or open"
    clogged = region.surprise > board.limits.cause_strength
    if clogged:
        together = f"{int(region.members.sum())} starved ones stand together around {place_mm(region.x_um, region.y_um)}"
        evidence += f"; {together}, as under a clogged stencil region"
        volume = max(volume, 0.0)  # a clogged region leaves the rest of the joints as they were
    strength = bounded(board.mix("lower", starved=0.8, open=0.2), CAP) + bounded(region.surprise, CAP) + bounded(volume, CAP)
    return Clue("insufficient_paste", strength, f"{evidence}; {words}", sites.names(thin))


def shallow_dip(board: Board) -> Clue:
    """Too little paste on the dipped memory: starved, open and head-in-pillow in the upper interface only."""
    kinds = ("starved", "open", "head_in_pillow")
    upper, lower = board.count("upper", *kinds), board.count("lower", *kinds)
    if not upper:
        return Clue("shallow_dip", 0.0, "nothing starved, open or head-in-pillow in the upper interface", ())
    shift, words = _volume_shift(board, "upper")
    volume = normal_ratio(shift, _SHALLOW, _SCATTER, board.limits.cause_volume_spread)
    strength = bounded(board.mix("upper", starved=0.4, open=0.35, head_in_pillow=0.25), CAP) + bounded(volume, CAP)
    share = len(board.sites["upper"].ball) / sum(len(s.ball) for s in board.sites.values())
    evidence = (
        f"{upper} of {upper + lower} starved, open and head-in-pillow joints lie in the upper interface, which holds "
        f"{100 * share:.0f} % of the joints; {words}"
    )
    return Clue("shallow_dip", strength, evidence, board.names("upper", *kinds))


def _defects(board: Board, interface: str) -> int:
    return board.count(interface, "bridged", "open", "starved", "head_in_pillow")


def _volume_shift(board: Board, interface: str) -> tuple[float, str]:
    """How far the interface's good joints are from nominal, as a fraction (NaN unmeasured), and the words for it.

    A machine's scale is not sure to some percent, but the same for both interfaces: the smaller of the shift against
    nominal and that against the other interface counts, 0 where the two disagree in sign.
    """
    own, other = (
        board.median_good(i, "volume_ratio") for i in (("lower", "upper") if interface == "lower" else ("upper", "lower"))
    )
    words = f"volume of its good joints {percent(own)} against nominal"
    if not math.isfinite(own):
        return math.nan, words
    shift, apart = own - 1, own - other if math.isfinite(other) else own - 1
    return (min(shift, apart, key=abs) if shift * apart > 0 else 0.0), words

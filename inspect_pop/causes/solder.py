"""Rules for what printing and dipping leave: too much or too little solder, in one interface or one region."""

import math

from inspect_pop.causes.clues import CAP, SHARES, Board, Clue, percent, place_mm
from inspect_pop.causes.pattern import cluster, share_surprise, shift_surprise

__all__ = ["excess_paste", "insufficient_paste", "shallow_dip"]


def excess_paste(board: Board) -> Clue:
    """Too much printed paste: bridges in the lower interface, whose good joints hold more than nominal."""
    bridged, lower = board.count("lower", "bridged"), _defects(board, "lower")
    shift, words = _volume_shift(board)
    # A bridge takes two joints at least: pairs are the events.
    pattern = share_surprise(math.ceil(bridged / 2), math.ceil(bridged / 2) + lower - bridged, SHARES["bridged"] / 2)
    strength = min(pattern, CAP) + _trend(board, max(shift, 0.0)) if bridged else 0.0
    evidence = f"{bridged} of {lower} defects of the lower interface are bridges; {words}"
    return Clue("excess_paste", strength, evidence, board.names("lower", "bridged"))


def insufficient_paste(board: Board) -> Clue:
    """Too little printed paste, or a clogged stencil region: starved and open joints in the lower interface."""
    sites = board.sites.get("lower")
    if sites is None:
        return Clue("insufficient_paste", 0.0, "no lower interface", ())
    starved, thin, lower = board.count("lower", "starved"), sites.marked("starved", "open"), _defects(board, "lower")
    region = cluster(sites.x_um, sites.y_um, sites.marked("starved"), 4 * sites.pitch_um)
    shift, volume = _volume_shift(board)
    evidence = f"{int(thin.sum())} of {lower} defects of the lower interface are starved or open"
    if region.surprise > board.limits.cause_strength:
        together = f"{int(region.members.sum())} starved ones stand together around {place_mm(region.x_um, region.y_um)}"
        evidence += f"; {together}, as under a clogged stencil region"
    pattern = share_surprise(starved, lower, SHARES["starved"])
    strength = min(pattern + region.surprise, CAP) + _trend(board, max(-shift, 0.0)) if starved else 0.0
    return Clue("insufficient_paste", strength, f"{evidence}; {volume}", sites.names(thin))


def shallow_dip(board: Board) -> Clue:
    """Too little paste on the dipped memory: starved, open and head-in-pillow in the upper interface only."""
    kinds = ("starved", "open", "head_in_pillow")
    upper, lower = board.count("upper", *kinds), board.count("lower", *kinds)
    if "upper" not in board.sites:
        return Clue("shallow_dip", 0.0, "no upper interface", ())
    share = len(board.sites["upper"].ball) / sum(len(s.ball) for s in board.sites.values())
    strength = min(share_surprise(upper, upper + lower, share), CAP)
    volume = percent(board.median_good("upper", "volume_ratio"))
    evidence = (
        f"{upper} of {upper + lower} starved, open and head-in-pillow joints lie in the upper interface, which holds "
        f"{100 * share:.0f} % of the joints; volume of its good joints {volume} against nominal"
    )
    return Clue("shallow_dip", strength, evidence, board.names("upper", *kinds))


def _defects(board: Board, interface: str) -> int:
    return board.count(interface, "bridged", "open", "starved", "head_in_pillow")


def _volume_shift(board: Board) -> tuple[float, str]:
    """How far the lower interface's good joints are from nominal, as a fraction, and the words for it.

    A machine's scale is not sure to some percent, but the same for both interfaces: the smaller of the shift against
    nominal and that against the upper interface counts, 0 where the two disagree in sign.
    """
    lower, upper = board.median_good("lower", "volume_ratio"), board.median_good("upper", "volume_ratio")
    words = f"volume of its good joints {percent(lower)} against nominal"
    if not math.isfinite(lower):
        return 0.0, words
    shift, apart = lower - 1, lower - upper if math.isfinite(upper) else lower - 1
    return (min(shift, apart, key=abs) if shift * apart > 0 else 0.0), words


def _trend(board: Board, shift: float) -> float:
    return min(shift_surprise(shift, board.limits.cause_volume_spread), CAP)

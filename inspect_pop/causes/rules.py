"""One rule a cause: what it would leave on the board, how far that goes beyond chance, and the words for it.

Every rule answers with a `Clue`, whose strength is a log-likelihood ratio against a board without a cause (natural
logarithm): the surprise of the defects' pattern plus that of the measured trend, each capped so that one overwhelming
figure cannot outvote a pattern that contradicts it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.causes.pattern import cluster, share_surprise, trend_surprise
from inspect_pop.causes.sites import Sites
from inspect_pop.causes.values import PackageState
from inspect_pop.limits import Limits
from inspect_pop.recipe import Package

__all__ = ["RULES", "Board", "Clue"]

# Share of each class among defects that have no common cause, [M]; the rules only ask whether a class stands out far.
_CHANCE = {"bridged": 0.35, "open": 0.3, "starved": 0.3, "head_in_pillow": 0.3}
_CAP = 25.0


@dataclass(frozen=True, eq=False)
class Board:
    """What a rule may look at: joints by interface, the package as designed and as measured, limits."""

    sites: Mapping[str, Sites]
    package: Package
    state: PackageState
    limits: Limits

    def count(self, interface: str, *labels: str) -> int:
        """Joints of an interface with one of these labels; 0 for an interface that the package has not."""
        return int(self.sites[interface].marked(*labels).sum()) if interface in self.sites else 0

    @property
    def n_defects(self) -> int:
        """Defective joints of the whole package."""
        return sum(int(s.defective.sum()) for s in self.sites.values())

    def names(self, interface: str, *labels: str) -> tuple[str, ...]:
        """Names of an interface's joints with these labels."""
        return self.sites[interface].names(self.sites[interface].marked(*labels)) if interface in self.sites else ()


@dataclass(frozen=True)
class Clue:
    """What speaks for one cause."""

    name: str
    strength: float
    evidence: str
    joints: tuple[str, ...]


def _shift_surprise(shift: float, spread: float) -> float:
    """-ln of the normal density ratio of a shift against none; 0 where the shift was not measured."""
    return 0.0 if not math.isfinite(shift) else min(0.5 * (shift / spread) ** 2, _CAP)


def _median_good(sites: Sites | None, column: str) -> float:
    if sites is None:
        return math.nan
    values = sites.measured[column][sites.marked("good")]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) >= 8 else math.nan


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %" if math.isfinite(ratio) else "not measured"


def excess_paste(board: Board) -> Clue:
    """Too much printed paste: bridges in the lower interface, whose good joints hold more than nominal."""
    bridged = board.count("lower", "bridged")
    lower = board.count("lower", "bridged", "open", "starved", "head_in_pillow")
    volume = _median_good(board.sites.get("lower"), "volume_ratio")
    trend = _shift_surprise(volume - 1, board.limits.cause_volume_spread) if volume > 1 else 0.0
    strength = share_surprise(bridged, lower, _CHANCE["bridged"]) * bool(bridged) + trend * bool(bridged)
    words = f"{bridged} of {lower} defects of the lower interface are bridges; volume of its good joints {_percent(volume)} against nominal"
    return Clue("excess_paste", strength, words, board.names("lower", "bridged"))


def insufficient_paste(board: Board) -> Clue:
    """Too little printed paste, or a clogged stencil region: starved and open joints in the lower interface."""
    sites = board.sites.get("lower")
    if sites is None:
        return Clue("insufficient_paste", 0.0, "", ())
    thin = sites.marked("starved", "open")
    volume = _median_good(sites, "volume_ratio")
    trend = _shift_surprise(volume - 1, board.limits.cause_volume_spread) if volume < 1 else 0.0
    region = cluster(sites.x_um, sites.y_um, thin, 4 * sites.pitch_um)
    share = share_surprise(int(thin.sum()), int(sites.defective.sum()), _CHANCE["starved"] + _CHANCE["open"])
    words = f"{int(thin.sum())} of {int(sites.defective.sum())} defects of the lower interface are starved or open"
    if region.surprise > board.limits.cause_strength:
        n = int(region.members.sum())
        words += f", {n} of them together around ({region.x_um / 1000:+.1f}, {region.y_um / 1000:+.1f}) mm, as under a clogged stencil region"
    words += f"; volume of its good joints {_percent(volume)} against nominal"
    strength = (share + trend + min(region.surprise, _CAP)) * bool(thin.any())
    return Clue("insufficient_paste", strength, words, sites.names(thin))


def shallow_dip(board: Board) -> Clue:
    """Too little paste on the dipped memory: starved, open and head-in-pillow in the upper interface only."""
    kinds = ("starved", "open", "head_in_pillow")
    upper, lower = board.count("upper", *kinds), board.count("lower", *kinds)
    sizes = {name: len(s.ball) for name, s in board.sites.items()}
    if "upper" not in sizes:
        return Clue("shallow_dip", 0.0, "", ())
    share = sizes["upper"] / sum(sizes.values())
    strength = share_surprise(upper, upper + lower, max(share, 0.3))
    words = (
        f"{upper} of {upper + lower} starved, open and head-in-pillow joints lie in the upper interface, which holds {100 * share:.0f} % of the joints; "
        f"volume of its good joints {_percent(_median_good(board.sites['upper'], 'volume_ratio'))} against nominal"
    )
    return Clue("shallow_dip", strength, words, board.names("upper", *kinds))


def _gap(sites: Sites, warpage_um: float) -> NDArray[np.float64]:
    """What the local gap between the pads goes with: the measured stand-off, or the warpage's sign over the radius."""
    standoff = sites.measured["standoff_um"]
    if np.isfinite(standoff).mean() > 0.5:
        return standoff
    radius: NDArray[np.float64] = np.hypot(sites.x_um, sites.y_um)
    return -np.sign(warpage_um) * radius


def _gap_surprise(board: Board) -> float:
    """How far head-in-pillow and open joints lie where the gap is wide, and bridges where it is narrow."""
    total = 0.0
    for sites in board.sites.values():
        gap = _gap(sites, board.state.warpage_um)
        total += trend_surprise(gap, sites.marked("head_in_pillow", "open")) + 0.5 * trend_surprise(-gap, sites.marked("bridged"))
    return total


def warpage(board: Board) -> Clue:
    """Opens and head-in-pillow where the package stands off: in the middle when convex, at the corners when concave."""
    warpage_um, limit = board.state.warpage_um, board.package.warpage_limit_um
    if not math.isfinite(warpage_um):
        return Clue("warpage", 0.0, "warpage was not measured", ())
    kinds = ("head_in_pillow", "open")
    n = sum(board.count(name, *kinds) for name in board.sites)
    size = 8 * (abs(warpage_um) / limit - 0.6)
    strength = min(_gap_surprise(board), _CAP) + max(min(size, 8.0), -8.0) if n else 0.0
    shape, place = ("convex", "middle") if warpage_um > 0 else ("concave", "corners")
    words = f"warpage {warpage_um:+.0f} um ({shape}) against a limit of {limit:.0f} um; {n} head-in-pillow and open joints, where the gap is widest ({place})"
    joints = tuple(name for key in board.sites for name in board.names(key, *kinds))
    return Clue("warpage", strength, words, joints)


def oxidised_balls(board: Board) -> Clue:
    """Head-in-pillow all over, without regard to the gap."""
    n_hip = sum(board.count(name, "head_in_pillow") for name in board.sites)
    strength = share_surprise(n_hip, board.n_defects, _CHANCE["head_in_pillow"]) - _gap_surprise(board)
    words = f"{n_hip} of {board.n_defects} defects are head-in-pillow, scattered without regard to the local gap"
    joints = tuple(name for key in board.sites for name in board.names(key, "head_in_pillow"))
    return Clue("oxidised_balls", max(strength, 0.0), words, joints)


def _pairs(sites: Sites, mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Neighbouring pairs within the mask, along x and along y."""
    index = np.flatnonzero(mask)
    dx = np.abs(sites.x_um[index][:, None] - sites.x_um[index][None])
    dy = np.abs(sites.y_um[index][:, None] - sites.y_um[index][None])
    near, same = 1.2 * sites.pitch_um, 0.3 * sites.pitch_um
    along_x = np.triu((dx < near) & (dy < same), 1).sum()
    along_y = np.triu((dy < near) & (dx < same), 1).sum()
    return int(along_x), int(along_y)


def placement_offset(board: Board) -> Clue:
    """Sheared joints with a common direction, and bridges along one direction."""
    best = Clue("placement_offset", 0.0, "", ())
    for name, sites in board.sites.items():
        x, y = _pairs(sites, sites.marked("bridged"))
        all_x, all_y = _pairs(sites, np.ones(len(sites.ball), bool))
        share = all_x / max(all_x + all_y, 1)
        along, p, axis = (x, share, "x") if x * (1 - share) >= y * share else (y, 1 - share, "y")
        one_way = max(share_surprise(along, x + y, p) - math.log(2), 0.0)
        shear = [_median_good(sites, c) for c in ("shear_x_um", "shear_y_um")]
        sheared = _shift_surprise(math.hypot(*shear), board.limits.cause_shear_spread_um)
        strength = (one_way + sheared) * bool(sites.defective.any())
        if strength > best.strength:
            words = f"{along} of {x + y} bridges of the {name} interface run along {axis}"
            if math.isfinite(shear[0]):
                words += f"; its good joints are sheared by ({shear[0]:+.0f}, {shear[1]:+.0f}) um"
            best = Clue("placement_offset", strength, words, sites.names(sites.marked("bridged")))
    return best


def placement_force(board: Board) -> Clue:
    """The stack came out too low or too high."""
    off = board.state.stack_height_um - board.package.stack_height_um
    if not math.isfinite(off) or not board.n_defects:
        return Clue("placement_force", 0.0, "stack height was not measured", ())
    strength = _shift_surprise(off, board.limits.cause_stack_spread_um)
    kinds = ("bridged",) if off < 0 else ("open", "head_in_pillow", "starved")
    joints = tuple(name for key in board.sites for name in board.names(key, *kinds))
    words = (
        f"stack height {board.state.stack_height_um:.0f} um is {off:+.0f} um off nominal ({'high' if off < 0 else 'low'} placement force), "
        f"with {len(joints)} {' and '.join(k.replace('_', '-') for k in kinds)} joints"
    )
    return Clue("placement_force", strength, words, joints)


def moisture(board: Board) -> Clue:
    """A local bulge of the mold, as popcorning leaves it."""
    bulge = board.state.bulge
    if bulge is None or bulge.height_um < board.limits.cause_bulge_um:
        return Clue("moisture", 0.0, "no local bulge in the height map", ())
    strength = _shift_surprise(bulge.height_um, board.limits.cause_bulge_um / 4)
    near = tuple(
        name
        for s in board.sites.values()
        for name in s.names(
            s.defective & (np.hypot(s.x_um - bulge.x_um, s.y_um - bulge.y_um) <= max(bulge.width_um, 2 * s.pitch_um))
        )
    )
    words = (
        f"the mold rises locally by {bulge.height_um:.0f} um over {bulge.width_um / 1000:.1f} mm at ({bulge.x_um / 1000:+.1f}, {bulge.y_um / 1000:+.1f}) mm; "
        f"{len(near)} of {board.n_defects} defects lie there"
    )
    return Clue("moisture", strength, words, near)


RULES = (warpage, excess_paste, insufficient_paste, shallow_dip, placement_offset, oxidised_balls, placement_force, moisture)

"""Rules for what placing, reflow and storage leave: warpage, oxidation, offset, force, moisture."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.causes.clues import CAP, Board, Clue, place_mm
from inspect_pop.causes.pattern import binomial_surprise, bounded, normal_ratio, rayleigh_ratio, trend_surprise, without_plane
from inspect_pop.causes.sites import Sites

__all__ = ["moisture", "oxidised_balls", "placement_force", "placement_offset", "warpage"]

# What a cause does to a figure: expected size and how much that differs. Warpage in limits of the package; the shear that
# an offset leaves and the change of height that a force leaves in um.
_WARPED, _WARPED_SCATTER = 1.3, 0.5
_SHEARED_UM, _SHEARED_SCATTER_UM = 40.0, 18.0
_FORCED_UM, _FORCED_SCATTER_UM = 32.0, 9.0
# A few joints that are head-in-pillow for whatever reason lie rather where the gap is wide: this much is no pattern.
_USUAL_GAP = 3.0
# The joints of the rim carry the memory: a convex one stands higher in its middle by up to this share of its warpage
# (paraboloid over a square, mean over the body against mean over a rim of joints), without any force.
_OF_WARPAGE = 0.2


def warpage(board: Board) -> Clue:
    """Opens and head-in-pillow where the warped package stands off: in the middle when convex, at the corners when concave."""
    warpage_um, limit = board.state.warpage_um, board.package.warpage_limit_um
    kinds = ("head_in_pillow", "open")
    n = board.count_all(*kinds)
    if not math.isfinite(warpage_um) or not n:
        return Clue("warpage", 0.0, "no warpage was measured, or nothing is open or head-in-pillow", ())
    size = normal_ratio(abs(warpage_um) / limit, _WARPED, _WARPED_SCATTER, board.limits.cause_warpage_spread)
    # Not the bridges: they lie where the gap is narrow on any board. The classes count only as far as the place does.
    place = _gap_surprise(board, *kinds) - _USUAL_GAP
    mix, _ = board.best_mix(head_in_pillow=0.6, open=0.35, bridged=0.05)
    strength = bounded(place, CAP) + min(bounded(mix, CAP), max(place, 0.0)) + bounded(size, CAP / 2) - _bulge_ratio(board)
    shape, where = ("convex", "the middle") if warpage_um > 0 else ("concave", "the corners")
    evidence = (
        f"warpage {warpage_um:+.0f} um ({shape}) against a limit of {limit:.0f} um; {n} open and head-in-pillow joints, "
        f"rather in {where}, where the gap is wide"
    )
    return Clue("warpage", strength, evidence, board.names_all(*kinds))


def oxidised_balls(board: Board) -> Clue:
    """Head-in-pillow all over, without regard to the gap."""
    n = board.count_all("head_in_pillow")
    mix, where = board.best_mix(head_in_pillow=1.0)
    gap = max(_gap_surprise(board, "head_in_pillow") - _USUAL_GAP, 0.0)
    strength = bounded(mix, CAP) - gap if n else 0.0
    among = "" if where == "both" else f", {board.count(where, 'head_in_pillow')} of them in the {where} interface"
    evidence = f"{n} of {board.n_defects} defects are head-in-pillow{among}, scattered without regard to the local gap"
    return Clue("oxidised_balls", strength, evidence, board.names_all("head_in_pillow"))


def placement_offset(board: Board) -> Clue:
    """Joints sheared one way, and bridges along one direction."""
    clues = [_offset_of(board, name, sites) for name, sites in board.sites.items() if sites.defective.any()]
    return max(clues, key=lambda clue: clue.strength, default=Clue("placement_offset", 0.0, "no defects", ()))


def placement_force(board: Board) -> Clue:
    """The stack came out too low, with bridges, or too high, with joints that do not reach."""
    off = board.state.stack_height_um - board.package.stack_height_um
    if not math.isfinite(off):
        return Clue("placement_force", 0.0, "stack height was not measured", ())
    bent = _OF_WARPAGE * board.state.warpage_um
    unexplained = max(abs(off) - abs(bent), 0.0) if off * bent > 0 else abs(off)
    kinds = ("bridged",) if off < 0 else ("open", "head_in_pillow")
    mix, _ = board.best_mix(bridged=1.0) if off < 0 else board.best_mix(head_in_pillow=0.6, open=0.4)
    joints = board.names_all(*kinds)
    height = normal_ratio(unexplained, _FORCED_UM, _FORCED_SCATTER_UM, board.limits.cause_stack_spread_um) - math.log(2)
    strength = bounded(mix, CAP) + bounded(height, CAP) if joints else 0.0
    evidence = (
        f"the stack is {board.state.stack_height_um:.0f} um high, {off:+.0f} um off nominal "
        f"({'high' if off < 0 else 'low'} placement force), with {len(joints)} {_listed(kinds)} joints"
    )
    return Clue("placement_force", strength, evidence, joints)


def moisture(board: Board) -> Clue:
    """A local bulge of the mold, as popcorning leaves it."""
    bulge, least = board.state.bulge, board.limits.cause_bulge_um
    if bulge is None or bulge.height_um < least:
        return Clue("moisture", 0.0, "no local bulge in the height map", ())
    reach = {name: max(bulge.width_um, 2 * s.pitch_um) for name, s in board.sites.items()}
    near = tuple(
        joint
        for name, s in board.sites.items()
        for joint in s.names(s.defective & (np.hypot(s.x_um - bulge.x_um, s.y_um - bulge.y_um) <= reach[name]))
    )
    strength = _bulge_ratio(board) + (2.0 if near else 0.0)
    evidence = (
        f"the mold rises locally by {bulge.height_um:.0f} um around {place_mm(bulge.x_um, bulge.y_um)}; "
        f"{len(near)} of {board.n_defects} defects lie within {bulge.width_um / 1000:.1f} mm of it"
    )
    return Clue("moisture", strength, evidence, near)


def _bulge_ratio(board: Board) -> float:
    """What speaks for a bulge, and against a warped top that it could be taken for: 0 below the limit.

    Half of the limit is the most that texture and lettering leave on a flat top; a bulge is no matter of degree.
    """
    bulge, least = board.state.bulge, board.limits.cause_bulge_um
    if bulge is None or bulge.height_um < least:
        return 0.0
    return bounded(0.5 * (bulge.height_um / (least / 2)) ** 2, CAP)


def _gap_surprise(board: Board, *kinds: str) -> float:
    """How far these joints lie where the package bends away from its pads."""
    return sum(trend_surprise(_bend(sites, board.state.warpage_um), sites.marked(*kinds)) for sites in board.sites.values())


def _bend(sites: Sites, warpage_um: float) -> NDArray[np.float64]:
    """What the warpage adds to the local gap: the measured stand-off without its plane, or the radius by the warpage's sign."""
    standoff = sites.measured["standoff_um"]
    if np.isfinite(standoff).mean() > 0.5:
        return without_plane(sites.x_um, sites.y_um, standoff)
    radius: NDArray[np.float64] = np.hypot(sites.x_um, sites.y_um)
    return -radius if warpage_um > 0 else radius


def _offset_of(board: Board, name: str, sites: Sites) -> Clue:
    x, y = _pairs(sites, sites.marked("bridged"))
    all_x, all_y = _pairs(sites, np.ones(len(sites.ball), bool))
    share = all_x / max(all_x + all_y, 1)
    along, chance, axis = (x, share, "x") if x * (1 - share) >= y * share else (y, 1 - share, "y")
    one_way = max(binomial_surprise(along, x + y, chance) - math.log(2) - 1.0, -1.0)
    shear = [board.median_good(name, column) for column in ("shear_x_um", "shear_y_um")]
    sheared = rayleigh_ratio(math.hypot(*shear), _SHEARED_UM, _SHEARED_SCATTER_UM, board.limits.cause_shear_spread_um)
    mix = board.mix(name, bridged=0.8, head_in_pillow=0.1, open=0.1)
    words = [f"its good joints are sheared by ({shear[0]:+.0f}, {shear[1]:+.0f}) um"] if math.isfinite(math.hypot(*shear)) else []
    words += [f"{along} of {x + y} bridges run along {axis}"] if x + y else []
    strength = bounded(one_way, CAP) + bounded(sheared, CAP) + bounded(mix, CAP) - math.log(max(len(board.sites), 1))
    return Clue("placement_offset", strength, f"in the {name} interface " + " and ".join(words), _sheared(sites))


def _sheared(sites: Sites) -> tuple[str, ...]:
    """The joints that an offset explains: the bridges, or every defect where nothing is bridged."""
    bridged = sites.marked("bridged")
    return sites.names(bridged if bridged.any() else sites.defective)


def _pairs(sites: Sites, mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Neighbouring pairs within the mask, along x and along y."""
    places = np.stack([sites.x_um[mask], sites.y_um[mask]], axis=1)
    pairs = cKDTree(places).query_pairs(1.2 * sites.pitch_um, output_type="ndarray")
    along_x = np.abs(places[pairs[:, 0], 1] - places[pairs[:, 1], 1]) < 0.3 * sites.pitch_um
    return int(along_x.sum()), int((~along_x).sum())


def _listed(kinds: tuple[str, ...]) -> str:
    return " and ".join(kind.replace("_", "-") for kind in kinds)

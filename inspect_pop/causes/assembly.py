"""Rules for what placing, reflow and storage leave: warpage, oxidation, offset, force, moisture."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.causes.clues import CAP, SHARES, Board, Clue, place_mm
from inspect_pop.causes.pattern import share_surprise, shift_surprise, trend_surprise, without_plane
from inspect_pop.causes.sites import Sites

__all__ = ["moisture", "oxidised_balls", "placement_force", "placement_offset", "warpage"]

# A few joints that are head-in-pillow for whatever reason lie rather where the gap is wide: this much is no pattern.
_USUAL_GAP = 3.0
# Which way a bridge runs is chance alone, on every board the same: no mix of its own.
_NO_MIX = 1000.0


def warpage(board: Board) -> Clue:
    """Opens and head-in-pillow where the warped package stands off: in the middle when convex, at the corners when concave.

    Some of them lie there on any board; so the pattern counts in proportion to the warpage, fully from the limit on.
    """
    warpage_um, limit = board.state.warpage_um, board.package.warpage_limit_um
    kinds = ("head_in_pillow", "open")
    if not math.isfinite(warpage_um) or not board.count_all(*kinds):
        return Clue("warpage", 0.0, "no warpage was measured, or nothing is open or head-in-pillow", ())
    size = min(max((abs(warpage_um) / limit - 0.4) / 0.6, 0.0), 1.2)
    strength = min(_gap_surprise(board), CAP) * size
    shape, place = ("convex", "the middle") if warpage_um > 0 else ("concave", "the corners")
    evidence = (
        f"warpage {warpage_um:+.0f} um ({shape}) against a limit of {limit:.0f} um; {board.count_all(*kinds)} open and "
        f"head-in-pillow joints, rather in {place}, where the gap is wide"
    )
    return Clue("warpage", strength, evidence, board.names_all(*kinds))


def oxidised_balls(board: Board) -> Clue:
    """Head-in-pillow all over, without regard to the gap."""
    n_hip = board.count_all("head_in_pillow")
    gap = max(_gap_surprise(board, "head_in_pillow") - _USUAL_GAP, 0.0)
    strength = share_surprise(n_hip, board.n_defects, SHARES["head_in_pillow"]) - gap
    evidence = f"{n_hip} of {board.n_defects} defects are head-in-pillow, scattered without regard to the local gap"
    return Clue("oxidised_balls", min(max(strength, 0.0), CAP), evidence, board.names_all("head_in_pillow"))


def placement_offset(board: Board) -> Clue:
    """Joints sheared one way, and bridges along one direction."""
    clues = [_offset_of(board, name, sites) for name, sites in board.sites.items() if sites.defective.any()]
    return max(clues, key=lambda clue: clue.strength, default=Clue("placement_offset", 0.0, "no defects", ()))


def placement_force(board: Board) -> Clue:
    """The stack came out too low, with bridges, or too high, with joints that do not reach."""
    off = board.state.stack_height_um - board.package.stack_height_um
    if not math.isfinite(off):
        return Clue("placement_force", 0.0, "stack height was not measured", ())
    kinds = ("bridged",) if off < 0 else ("open", "head_in_pillow", "starved")
    joints = board.names_all(*kinds)
    strength = min(shift_surprise(off, board.limits.cause_stack_spread_um), CAP) if joints else 0.0
    evidence = (
        f"the stack is {board.state.stack_height_um:.0f} um high, {off:+.0f} um off nominal "
        f"({'high' if off < 0 else 'low'} placement force), with {len(joints)} {_listed(kinds)} joints"
    )
    return Clue("placement_force", strength, evidence, joints)


def moisture(board: Board) -> Clue:
    """A local bulge of the mold, as popcorning leaves it."""
    bulge = board.state.bulge
    if bulge is None or bulge.height_um < board.limits.cause_bulge_um:
        return Clue("moisture", 0.0, "no local bulge in the height map", ())
    reach = {name: max(bulge.width_um, 2 * s.pitch_um) for name, s in board.sites.items()}
    near = tuple(
        joint
        for name, s in board.sites.items()
        for joint in s.names(s.defective & (np.hypot(s.x_um - bulge.x_um, s.y_um - bulge.y_um) <= reach[name]))
    )
    # A quarter of the limit is the height that a flat top shows by texture and lettering.
    strength = min(shift_surprise(bulge.height_um, board.limits.cause_bulge_um / 4), CAP)
    evidence = (
        f"the mold rises locally by {bulge.height_um:.0f} um around {place_mm(bulge.x_um, bulge.y_um)}; "
        f"{len(near)} of {board.n_defects} defects lie within {bulge.width_um / 1000:.1f} mm of it"
    )
    return Clue("moisture", strength, evidence, near)


def _gap_surprise(board: Board, *kinds: str) -> float:
    """How far these joints (open and head-in-pillow where not told) lie where the package bends away from its pads."""
    total = 0.0
    for sites in board.sites.values():
        total += trend_surprise(_bend(sites, board.state.warpage_um), sites.marked(*(kinds or ("head_in_pillow", "open"))))
    return total


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
    one_way = max(share_surprise(along, x + y, chance, _NO_MIX) - math.log(2), 0.0)
    shear = [board.median_good(name, column) for column in ("shear_x_um", "shear_y_um")]
    sheared = min(shift_surprise(math.hypot(*shear), board.limits.cause_shear_spread_um), CAP)
    words = [f"its good joints are sheared by ({shear[0]:+.0f}, {shear[1]:+.0f}) um"] if math.isfinite(math.hypot(*shear)) else []
    words += [f"{along} of {x + y} bridges run along {axis}"] if x + y else []
    return Clue("placement_offset", one_way + sheared, f"in the {name} interface " + " and ".join(words), _sheared(sites))


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

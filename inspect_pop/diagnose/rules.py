"""A local rise of the mold, as popcorning leaves it (FIELD_NOTES, moisture): found against the shape of the rest of the top.

Rules for what placing, reflow and storage leave: warpage, oxidation, offset, force, moisture.

Rules for what printing and dipping leave: too much or too little solder, in one interface or one region.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.geometry import HeightMap, Placement
from inspect_pop.core.recipe import Package
from inspect_pop.diagnose.cause import Bulge
from inspect_pop.diagnose.evidence import (
    CAP,
    Board,
    Clue,
    binomial_surprise,
    bounded,
    cluster,
    normal_ratio,
    percent,
    place_mm,
    rayleigh_ratio,
    trend_surprise,
    without_plane,
)
from inspect_pop.diagnose.interface_joints import Sites
from inspect_pop.segment.surfaces import Points, top_points

__all__ = [
    "excess_paste",
    "find_bulge",
    "insufficient_paste",
    "moisture",
    "oxidised_balls",
    "placement_force",
    "placement_offset",
    "shallow_dip",
    "warpage",
]

# ---- causes/bulge
_CELLS = 24
_CENTRES = 7
# Radii at which a rise is looked for, over the body's shorter side: from a blister over a few joints to a swollen die.
_RADII = (0.1, 0.2)
_LEAST_CELLS = 4  # inside a disc, to speak of a rise there
_STEADY = 1e-9  # of one cell's weight: keeps the equations solvable where much of the top is not seen


def find_bulge(heights: HeightMap, placement: Placement, package: Package) -> Bulge | None:
    """The highest local rise of the top; None where too little of it is seen.

    The top is averaged over `_CELLS` x `_CELLS` cells. Around each of a grid of centres a disc is left out, a paraboloid
    with a quartic term along either axis is fitted to the rest, and the mean excess inside the disc is the rise. A warped
    body follows such a surface, a swollen one does not. A flat top has a highest rise too: of the fit's error, 1 to 4 um.
    """
    x, y, z = _cells(top_points(heights, placement, package), package)
    if len(z) < _CELLS * _CELLS / 2:
        return None
    side = min(package.body_um)
    discs = np.array([(cx, cy, radius * side) for radius in _RADII for cx, cy in _centres(package, radius * side)])
    rise = _rises(x, y, z, _terms(x / side, y / side), discs)
    k = int(np.argmax(rise))
    cx, cy, radius = (float(v) for v in discs[k])
    return Bulge(cx, cy, float(rise[k]), 2 * radius) if rise[k] > 0 else None


def _cells(points: Points, package: Package) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means over the cells that hold points, without what lies far off the top's middle height."""
    near = np.abs(points.z_um - np.median(points.z_um)) < 300.0 if len(points.z_um) else np.zeros(0, bool)
    x, y, z = points.x_um[near], points.y_um[near], points.z_um[near]
    width, depth = package.body_um
    column = np.clip(((x / width + 0.5) * _CELLS).astype(np.int64), 0, _CELLS - 1)
    row = np.clip(((y / depth + 0.5) * _CELLS).astype(np.int64), 0, _CELLS - 1)
    cell = row * _CELLS + column
    count = np.bincount(cell, minlength=_CELLS * _CELLS)
    held = count > 0
    mean_x, mean_y, mean_z = (np.bincount(cell, v, _CELLS * _CELLS)[held] / count[held] for v in (x, y, z))
    return mean_x, mean_y, mean_z


def _terms(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y, x**4, y**4], axis=1)


def _centres(package: Package, radius_um: float) -> list[tuple[float, float]]:
    """Places so far inside the body that a surface around the disc holds it from all sides."""
    reach = [max(side / 2 - 1.2 * radius_um, 0.0) for side in package.body_um]
    axes = [np.linspace(-r, r, _CENTRES) for r in reach]
    return [(float(cx), float(cy)) for cx in axes[0] for cy in axes[1]]


def _rises(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], terms: NDArray[np.float64], discs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean excess inside each of the discs (k, 3) of x, y and radius over the surface fitted around it, (k,); 0 where too
    few cells lie inside. The normal equations of all discs are sums over the cells, and solved at once."""
    distance = np.hypot(x - discs[:, :1], y - discs[:, 1:2])
    rest = (distance > 1.3 * discs[:, 2:]).astype(np.float64)
    n = terms.shape[1]
    normal = (rest @ (terms[:, :, None] * terms[:, None, :]).reshape(-1, n * n)).reshape(-1, n, n)
    right = rest @ (terms * z[:, None])
    surface = np.linalg.solve(normal + _STEADY * np.eye(n), right[:, :, None])[:, :, 0]
    inside = distance <= discs[:, 2:]
    count = inside.sum(axis=1)
    excess = ((z - surface @ terms.T) * inside).sum(axis=1) / np.maximum(count, 1)
    return np.where(count >= _LEAST_CELLS, excess, 0.0)


# ---- causes/assembly
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


# ---- causes/solder
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

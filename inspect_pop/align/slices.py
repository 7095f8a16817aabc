"""Where a package sits in a stack of X-ray slices; refuses rather than guesses.

From the joints' own middles to one rotation and offset that a few bad joints cannot pull away.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align.array_search import Pattern, pattern, score_shifts, search, turns_seen
from inspect_pop.align.solder_map import SolderMap, inverted, solder_map
from inspect_pop.core.errors import FrameFault
from inspect_pop.core.geometry import FloatArray, Grid, Placement, SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface, Package

__all__ = ["align_slices", "centroids", "robust_rigid"]

# ---- align/slices
MIN_INSIDE = 0.6  # share of the joints that the image must be able to show
MIN_JOINTS = 0.75  # share of those that must be found: boards with a tenth of their joints missing stay far above
MAX_FILLED = 0.75  # empty places that hold solder, of those that a shift by one pitch fills; above: refused
DOUBT_FILLED = 0.4  # the same; above: not confident
MIN_SHOWN = 0.25  # contrast of a slice at the joints, of that of the median slice (least seen on boards of ten machines: 0.69)
MIN_MARGIN = 0.35  # lead over the second best placement, of that on a faultless board


def align_slices(stack: SliceStack, package: Package, limits: Limits) -> Placement:
    """The package's own offset and rotation in this stack, from all its slices together.

    Parameters
    ----------
    stack
        Slices of one interface, any polarity, dtype and method; lost ones are left out.
    package
        What was built; the interface that the stack names must be one of its own.
    limits
        `search_um` bounds the search, `alignment_residual_um` the rms residual.

    Raises
    ------
    FrameFault
        The package is not in the image, or something else is: another product, or the image turned, mirrored or of
        the other polarity.
    """
    interface = package.interface(stack.interface)
    case = _Case(
        thing=f"{stack.refdes} {stack.interface} slices",
        interface=interface,
        expected=pattern(interface, _seen_over(stack, package)),
        seen=solder_map(stack, interface.ball_diameter_um, len(interface.ball)),
        limits=limits,
    )
    _check_inside(case, stack)
    first = search(case.seen, case.expected, limits.search_um, interface.ball_diameter_um)
    placement, confident = _against_others(case, _refine(case, first.placement))
    _check_fit(case, placement)
    _check_slices(case, placement, stack)
    confident = confident and _spilled(case, placement) <= DOUBT_FILLED
    if not confident:
        _check_polarity(case, placement)
    return replace(placement, confident=confident)


@dataclass(frozen=True)
class _Case:
    """One alignment: what is looked for, and the picture that it is looked for in."""

    thing: str
    interface: Interface
    expected: Pattern
    seen: SolderMap
    limits: Limits


def _seen_over(stack: SliceStack, package: Package) -> Interface | None:
    """The other interface, where the picture shows both over one another."""
    others = [i for i in package.interfaces if i.name != stack.interface]
    return others[0] if stack.method == "transmission" and others else None


def _check_inside(case: _Case, stack: SliceStack) -> None:
    interface, search_um = case.interface, case.limits.search_um
    row, col = stack.grid.to_pixel(interface.x_um, interface.y_um)
    reach = search_um / stack.grid.pixel_um
    rows, cols = stack.grid.shape
    inside = float(np.mean((row > -reach) & (row < rows + reach) & (col > -reach) & (col < cols + reach)))
    if inside < MIN_INSIDE:
        raise FrameFault(
            case.thing,
            expected=f"at least {MIN_INSIDE:.0%} of the {len(interface.ball)} joints within {search_um:.0f} um of the image",
            found=f"{inside:.0%}: the package lies outside the image",
            remedy="Check origin_um and pixel_um of the image, and that the recipe is this product's.",
        )


def _refine(case: _Case, start: Placement) -> Placement:
    """From half a ball to a fraction of a pixel: centroids and fit, three times, the circle shrinking."""
    placement, joints = start, case.expected.joints
    for radius in (0.9, 0.7, 0.6):
        x, y = placement.apply(joints[:, 0], joints[:, 1])
        reach = min(radius * case.interface.ball_diameter_um, 0.5 * case.interface.pitch_um)
        fx, fy, found = centroids(case.seen.response, case.seen.grid, x, y, reach)
        if found.sum() < max(3, 0.3 * len(found)):
            raise _refusal(case, placement, f"solder at {found.mean():.0%} of the joints' places")
        placement, _ = robust_rigid(joints[found], np.column_stack([fx, fy])[found])
    return placement


def _against_others(case: _Case, placement: Placement) -> tuple[Placement, bool]:
    """Compare with every other shift at the refined rotation: the better one is taken, a close second is told."""
    pitch = case.interface.pitch_um
    score, x_um, y_um = score_shifts(case.seen, case.expected, placement.rotation_deg, case.limits.search_um)
    best = np.unravel_index(int(np.argmax(score)), score.shape)
    if np.hypot(x_um[best] - placement.offset_x_um, y_um[best] - placement.offset_y_um) > 0.5 * pitch:
        placement = _refine(case, replace(placement, offset_x_um=float(x_um[best]), offset_y_um=float(y_um[best])))
    other = np.hypot(x_um - x_um[best], y_um - y_um[best]) > 0.6 * pitch
    second = float(score[other].max()) if other.any() else -np.inf
    return placement, bool(score[best] - second >= MIN_MARGIN * case.expected.margin)


def _likeness(seen: SolderMap, placement: Placement, points: FloatArray) -> NDArray[np.float32]:
    """Likeness at points of the package frame; 0 outside the image."""
    return _at(seen, seen.likeness, placement, points)


def _at(seen: SolderMap, picture: NDArray[np.float32], placement: Placement, points: FloatArray) -> NDArray[np.float32]:
    """Values of a picture on the map's grid at points of the package frame; 0 outside of it."""
    row, col = (np.rint(v).astype(np.intp) for v in seen.grid.to_pixel(*placement.apply(points[:, 0], points[:, 1])))
    inside = (row >= 0) & (row < seen.grid.shape[0]) & (col >= 0) & (col < seen.grid.shape[1])
    value = np.zeros(len(points), dtype=np.float32)
    value[inside] = picture[row[inside], col[inside]]
    return value


def _spilled(case: _Case, placement: Placement) -> float:
    """Empty places that hold solder, of those that the least harmful shift by a pitch would fill."""
    filled = int((_likeness(case.seen, placement, case.expected.empty) > 0.5).sum())
    return filled / max(case.expected.spill, 1)


def _check_fit(case: _Case, placement: Placement) -> None:
    joints = float(np.mean(_likeness(case.seen, placement, case.expected.joints) > 0.5))
    spilled = _spilled(case, placement)
    if joints < MIN_JOINTS:
        raise _refusal(case, placement, f"solder at {joints:.0%} of the joints' places")
    if spilled > MAX_FILLED:
        raise _refusal(case, placement, "solder beside the array, where there must be none")
    if placement.residual_um > case.limits.alignment_residual_um:
        raise _refusal(case, placement, f"a residual of {placement.residual_um:.0f} um rms")
    if _turn_seen(case, placement):
        raise _refusal(case, placement, "it otherwise")


def _check_slices(case: _Case, placement: Placement, stack: SliceStack) -> None:
    """Each slice by itself: one that shows nothing where the others show the joints is another picture, or noise.

    Unless it is an end that may lie beyond a pad: that one is left out when windows are cut.
    """
    shown = np.array([np.median(_at(case.seen, page, placement, case.expected.joints)) for page in case.seen.slices])
    shown = shown / np.median(shown)
    blind = {
        k: share
        for k, share in zip(case.seen.number, shown, strict=True)
        if share < MIN_SHOWN and not case.interface.may_miss(stack.z_um[k])
    }
    if blind:
        raise FrameFault(
            f"{case.thing}: slice {', '.join(str(k + 1) for k in blind)} of {len(stack.z_um)}",
            expected="the joints that the other slices show",
            found=f"{min(blind.values()):.0%} of their contrast at the joints' places",
            remedy="Look at that page of the file: it is another picture, or noise.",
        )


def _check_polarity(case: _Case, placement: Placement) -> None:
    """Between the balls of a full array, an image of the other polarity shows blobs too, half a pitch off."""
    other = replace(case, seen=inverted(case.seen, len(case.interface.ball)))
    first = search(other.seen, other.expected, case.limits.search_um, case.interface.ball_diameter_um)
    placed, confident = _against_others(other, _refine(other, first.placement))
    if confident and _spilled(other, placed) <= DOUBT_FILLED:
        raise _refusal(case, placement, "it in the image's negative: polarity is the other one")


def _turn_seen(case: _Case, placement: Placement) -> str | None:
    """The turn under which the array fits where it differs from the design, or None.

    Solder where the design has none is the evidence; joints merely missing are defects, not a turn.
    """
    for name, designed, other in turns_seen(case.expected, case.interface.pitch_um):
        here = _likeness(case.seen, placement, designed).mean()
        there = _likeness(case.seen, placement, other).mean()
        if there > 0.6 and here < 0.4:
            return name
    return None


def _refusal(case: _Case, placement: Placement, found: str) -> FrameFault:
    turn = _turn_seen(case, placement)
    return FrameFault(
        case.thing,
        expected=f"the array of {len(case.interface.ball)} joints at {case.interface.pitch_um:.0f} um pitch, the right way round",
        found=found + (f" (the array looks {turn})" if turn else ""),
        remedy="Check that the recipe is this product's, and polarity, pixel_um, origin_um and the orientation of the image.",
    )


# ---- align/rigid
def centroids(
    response: NDArray[np.float32], grid: Grid, x_um: FloatArray, y_um: FloatArray, radius_um: float
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Middle of the solder near each place: (x, y, found), each (n,); all joints at once.

    The weight of a pixel is the square of its response above 0.3 of the highest within the radius: a weight that fades
    out smoothly does not depend on where the pixels' grid lies (0.1 um at 40 um pixels). Not found: outside the image,
    or no response of at least 0.3 of a typical joint's.
    """
    row, col = grid.to_pixel(x_um, y_um)
    r0, c0 = np.rint(row).astype(np.intp), np.rint(col).astype(np.intp)
    k = math.ceil(radius_um / grid.pixel_um)
    dr, dc = (v.ravel() for v in np.mgrid[-k : k + 1, -k : k + 1])
    disc = np.hypot(dr, dc) <= radius_um / grid.pixel_um
    dr, dc = dr[disc], dc[disc]
    inside = (r0 >= k) & (r0 < grid.shape[0] - k) & (c0 >= k) & (c0 < grid.shape[1] - k)
    r0, c0 = np.where(inside, r0, k), np.where(inside, c0, k)
    value = response[r0[:, None] + dr, c0[:, None] + dc].astype(np.float64)
    peak = value.max(axis=1)
    weight = np.square(np.clip(value - 0.3 * peak[:, None], 0, None))
    total = np.maximum(weight.sum(axis=1), 1e-12)
    x, y = grid.to_um(r0 + weight @ dr / total, c0 + weight @ dc / total)
    found: NDArray[np.bool_] = inside & (peak > 0.3)
    return x, y, found


def robust_rigid(design: FloatArray, found: FloatArray, rounds: int = 6) -> tuple[Placement, NDArray[np.bool_]]:
    """Rotation and offset that carry `design` (n, 2) onto `found` (n, 2), and which joints agree.

    Iteratively reweighted least squares with Tukey's biweight at 4.685 times the residuals' robust sigma (Huber and
    Ronchetti, Robust Statistics, 2009), closed form in each round. The residual is the rms over the joints that agree.
    """
    weight = np.ones(len(design))
    for _ in range(rounds):
        placement = _weighted_rigid(design, found, weight)
        x, y = placement.apply(design[:, 0], design[:, 1])
        distance = np.hypot(found[:, 0] - x, found[:, 1] - y)
        sigma = max(float(np.median(distance)) / 1.1774, 1e-3)  # the median of a Rayleigh distribution is 1.1774 sigma
        weight = np.clip(1 - (distance / (4.685 * sigma)) ** 2, 0, None) ** 2
        if not weight.any():
            weight = np.ones(len(design))
    agree = weight > 0
    rms = float(np.sqrt(np.mean(distance[agree] ** 2)))
    return Placement(placement.offset_x_um, placement.offset_y_um, placement.rotation_deg, rms), agree


def _weighted_rigid(design: FloatArray, found: FloatArray, weight: FloatArray) -> Placement:
    mean_d, mean_f = weight @ design / weight.sum(), weight @ found / weight.sum()
    a, b = (design - mean_d) * weight[:, None], found - mean_f
    angle = math.atan2(float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()), float((a * b).sum()))
    c, s = math.cos(angle), math.sin(angle)
    offset = mean_f - np.array([c * mean_d[0] - s * mean_d[1], s * mean_d[0] + c * mean_d[1]])
    return Placement(float(offset[0]), float(offset[1]), math.degrees(angle), 0.0)

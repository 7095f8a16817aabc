"""Align a stack of X-ray slices: where the package sits in it; refuses rather than guesses.

A coarse search finds the array (`array_search`). The middles of the joints then give one rotation and offset that a few
bad joints cannot pull away, and checks compare it with every other shift, turn and polarity.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align.array_search import (
    ArrayPattern,
    SolderMap,
    build_solder_map,
    find_distinct_turns,
    invert_map,
    make_pattern,
    score_shifts,
    search_array,
)
from inspect_pop.core.errors import FrameFault
from inspect_pop.core.geometry import FloatArray, Grid, Placement, SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.core.robust import fit_rigid

__all__ = ["align_slices", "find_centroids"]

MIN_INSIDE = 0.6  # share of the joints that the image must be able to show
MIN_JOINTS = 0.75  # share of those that must be found: boards with a tenth of their joints missing stay far above
MAX_FILLED = 0.75  # empty places that hold solder, of those that a shift by one pitch fills; above: refused
DOUBT_FILLED = 0.4  # the same; above: not confident
MIN_CONTRAST = 0.25  # of a slice at the joints, over the median slice's (lowest on boards of ten machines: 0.69)
MIN_MARGIN = 0.35  # lead over the second best placement, of that on a faultless board


def align_slices(stack: SliceStack, package: Package, limits: Limits) -> Placement:
    """Find the package's own offset and rotation in this stack, from all its slices together.

    Parameters
    ----------
    stack
        Slices of one interface, any polarity, dtype and method; lost ones are left out.
    package
        What was built; the stack must name one of its interfaces.
    limits
        `search_um` bounds the search, `alignment_residual_um` the rms residual.

    Raises
    ------
    FrameFault
        The package is not in the image, or something else is: another product, or the image turned, mirrored or of
        the other polarity.
    """
    interface = package.interface(stack.interface)
    # A transmission picture shows both interfaces over one another.
    others = [i for i in package.interfaces if i.name != stack.interface] if stack.method == "transmission" else []
    case = _Case(
        thing=f"{stack.refdes} {stack.interface} slices",
        interface=interface,
        expected=make_pattern(interface, others[0] if others else None),
        seen=build_solder_map(stack, interface.ball_diameter_um, len(interface.ball)),
        limits=limits,
    )
    row, col = stack.grid.to_pixel(interface.x_um, interface.y_um)
    reach = limits.search_um / stack.grid.pixel_um
    rows, cols = stack.grid.shape
    inside = float(np.mean((row > -reach) & (row < rows + reach) & (col > -reach) & (col < cols + reach)))
    if inside < MIN_INSIDE:
        raise FrameFault(
            case.thing,
            expected=f"at least {MIN_INSIDE:.0%} of the {len(interface.ball)} joints "
            f"within {limits.search_um:.0f} um of the image",
            found=f"{inside:.0%}: the package lies outside the image",
            remedy="Check origin_um and pixel_um of the image, and that the recipe is this product's.",
        )
    placement, confident = _locate(case)
    filled = _share_filled(case, placement)
    _check_fit(case, placement, filled)
    _check_each_slice(case, placement, stack)
    confident = confident and filled <= DOUBT_FILLED
    if not confident:
        # Between the balls of a full array, an image of the other polarity shows blobs too, half a pitch off.
        negative = replace(case, seen=invert_map(case.seen, len(interface.ball)))
        placed, clear = _locate(negative)
        if clear and _share_filled(negative, placed) <= DOUBT_FILLED:
            raise _refusal(case, placement, "it in the image's negative: polarity is the other one")
    return replace(placement, confident=confident)


@dataclass(frozen=True)
class _Case:
    """One alignment: the array to find, and the picture to find it in."""

    thing: str
    interface: Interface
    expected: ArrayPattern
    seen: SolderMap
    limits: Limits


def _locate(case: _Case) -> tuple[Placement, bool]:
    """Search, refine, and compare with every other shift at the refined rotation; take the better one.

    The second value is False where another placement scores nearly as well.
    """
    pitch = case.interface.pitch_um
    first = search_array(case.seen, case.expected, case.limits.search_um, case.interface.ball_diameter_um)
    placement = _refine(case, first.placement)
    score, x_um, y_um = score_shifts(case.seen, case.expected, placement.rotation_deg, case.limits.search_um)
    best = np.unravel_index(int(np.argmax(score)), score.shape)
    if np.hypot(x_um[best] - placement.offset_x_um, y_um[best] - placement.offset_y_um) > 0.5 * pitch:
        placement = _refine(case, replace(placement, offset_x_um=float(x_um[best]), offset_y_um=float(y_um[best])))
    other = np.hypot(x_um - x_um[best], y_um - y_um[best]) > 0.6 * pitch
    second = float(score[other].max()) if other.any() else -np.inf
    return placement, bool(score[best] - second >= MIN_MARGIN * case.expected.margin)


def _refine(case: _Case, start: Placement) -> Placement:
    """Refine from half a ball to a fraction of a pixel: centroids and fit, three times, the circle shrinking."""
    placement, joints = start, case.expected.joints
    for radius in (0.9, 0.7, 0.6):
        x, y = placement.apply(joints[:, 0], joints[:, 1])
        reach = min(radius * case.interface.ball_diameter_um, 0.5 * case.interface.pitch_um)
        fx, fy, found = find_centroids(case.seen.response, case.seen.grid, x, y, reach)
        if found.sum() < max(3, 0.3 * len(found)):
            raise _refusal(case, placement, f"solder at {found.mean():.0%} of the joints' places")
        placement, _ = fit_rigid(joints[found], np.column_stack([fx, fy])[found])
    return placement


def _sample(case: _Case, picture: NDArray[np.float32], placement: Placement, points: FloatArray) -> NDArray[np.float32]:
    """Sample a picture on the solder map's grid at points of the package frame; 0 outside of it."""
    grid = case.seen.grid
    row, col = (np.rint(v).astype(np.intp) for v in grid.to_pixel(*placement.apply(points[:, 0], points[:, 1])))
    inside = (row >= 0) & (row < grid.shape[0]) & (col >= 0) & (col < grid.shape[1])
    value = np.zeros(len(points), dtype=np.float32)
    value[inside] = picture[row[inside], col[inside]]
    return value


def _share_filled(case: _Case, placement: Placement) -> float:
    """Return how many empty places hold solder, over how many the least harmful shift by a pitch would fill."""
    filled = int((_sample(case, case.seen.likeness, placement, case.expected.empty) > 0.5).sum())
    return filled / max(case.expected.spill, 1)


def _check_fit(case: _Case, placement: Placement, filled: float) -> None:
    joints = float(np.mean(_sample(case, case.seen.likeness, placement, case.expected.joints) > 0.5))
    if joints < MIN_JOINTS:
        raise _refusal(case, placement, f"solder at {joints:.0%} of the joints' places")
    if filled > MAX_FILLED:
        raise _refusal(case, placement, "solder beside the array, where there must be none")
    if placement.residual_um > case.limits.alignment_residual_um:
        raise _refusal(case, placement, f"a residual of {placement.residual_um:.0f} um rms")
    if _find_turn(case, placement):
        raise _refusal(case, placement, "it otherwise")


def _check_each_slice(case: _Case, placement: Placement, stack: SliceStack) -> None:
    """Refuse a slice that shows nothing where the others show the joints: it is another picture, or noise.

    An end slice that may lie beyond a pad is excepted: it is left out when windows are cut.
    """
    contrast = np.array([np.median(_sample(case, page, placement, case.expected.joints)) for page in case.seen.slices])
    contrast = contrast / np.median(contrast)
    blind = {
        k: share
        for k, share in zip(case.seen.number, contrast, strict=True)
        if share < MIN_CONTRAST and not case.interface.may_miss(stack.z_um[k])
    }
    if blind:
        raise FrameFault(
            f"{case.thing}: slice {', '.join(str(k + 1) for k in blind)} of {len(stack.z_um)}",
            expected="the joints that the other slices show",
            found=f"{min(blind.values()):.0%} of their contrast at the joints' places",
            remedy="Look at that page of the file: it is another picture, or noise.",
        )


def _find_turn(case: _Case, placement: Placement) -> str | None:
    """Return the turn under which the array fits where it differs from the design, or None.

    Solder where the design has none is the evidence; joints that are merely missing are defects, not a turn.
    """
    for name, designed, turned in find_distinct_turns(case.expected, case.interface.pitch_um):
        as_designed = _sample(case, case.seen.likeness, placement, designed).mean()
        as_turned = _sample(case, case.seen.likeness, placement, turned).mean()
        if as_turned > 0.6 and as_designed < 0.4:
            return name
    return None


def _refusal(case: _Case, placement: Placement, found: str) -> FrameFault:
    turn = _find_turn(case, placement)
    return FrameFault(
        case.thing,
        expected=f"the array of {len(case.interface.ball)} joints at {case.interface.pitch_um:.0f} um pitch, the right way round",
        found=found + (f" (the array looks {turn})" if turn else ""),
        remedy="Check that the recipe is this product's, and polarity, pixel_um, origin_um and the orientation of the image.",
    )


def find_centroids(
    response: NDArray[np.float32], grid: Grid, x_um: FloatArray, y_um: FloatArray, radius_um: float
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Find the middle of the solder near each place: (x, y, found), each (n,); all joints at once.

    The weight of a pixel is the square of its response above 0.3 of the highest within the radius: a weight that fades
    out smoothly does not depend on where the pixels' grid lies (0.1 um at 40 um pixels). `found` is False outside the
    image, and where no response reaches 0.3 of a typical joint's.
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

"""Align a stack of X-ray slices: where the package sits in it; refuses rather than guesses.

A coarse search finds the array, to about half a ball, whatever the grey scale (`search_array`). The middles of the joints
then give one rotation and offset that a few bad joints cannot pull away, and checks compare it with every other shift,
turn and polarity.

All slices become one small picture of solder (`SolderMap`). A grid repeats, so joints alone cannot tell a placement
from one that is a pitch off. The outline of the array and its missing positions can: the places one pitch from a joint
that hold no joint themselves must be empty (`ArrayPattern`). `search_array` scores every shift within reach, at a few
rotations: joints found against empty places filled.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.errors import FrameFault
from inspect_pop.core.geometry import FloatArray, Grid, Placement, SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.core.robust import fit_rigid

__all__ = [
    "TURNS",
    "ArrayMatch",
    "ArrayPattern",
    "SolderMap",
    "align_slices",
    "build_solder_map",
    "compare_turned",
    "find_centroids",
    "find_distinct_turns",
    "invert_map",
    "make_pattern",
    "score_shifts",
    "search_array",
]

Image = NDArray[np.float32]
TURNS: dict[str, tuple[float, float, float, float]] = {
    "turned by 180 degrees": (-1, 0, 0, -1),
    "turned by 90 degrees": (0, -1, 1, 0),
    "turned by 270 degrees": (0, 1, -1, 0),
    "mirrored left to right": (-1, 0, 0, 1),
    "mirrored top to bottom": (1, 0, 0, -1),
    "mirrored about a diagonal": (0, 1, 1, 0),
    "mirrored about the other diagonal": (0, -1, -1, 0),
}
BALL_PX = 6.0  # width of a ball in the solder map: wide enough for centroids, small enough to be fast
GHOST = 0.3  # response, relative to a joint's, below which solder belongs to the other interface (its rings reach 0.2)
ROTATION_DEG = 2.0  # largest rotation of the search; the export format allows 1

MIN_INSIDE = 0.6  # share of the joints that the image must be able to show
MIN_JOINTS = 0.75  # share of those that must be found: boards with a tenth of their joints missing stay far above
MAX_FILLED = 0.75  # empty places that hold solder, of those that a shift by one pitch fills; above: refused
DOUBT_FILLED = 0.4  # the same; above: not confident
MIN_CONTRAST = 0.25  # of a slice at the joints, over the median slice's (lowest on boards of ten machines: 0.69)
MIN_MARGIN = 0.35  # lead over the second best placement, of that on a faultless board


@dataclass(frozen=True)
class SolderMap:
    """A small picture of solder.

    `response` (rows, cols) float32 is band-passed solder, 1 at the middle of a typical joint; `likeness` is the same, cut
    to 0..1. `slices` (s, rows, cols) is the response of each slice that holds something, each scaled by its own spread;
    `number` (s,) gives the numbers of these slices in the stack.
    """

    response: Image
    likeness: Image
    grid: Grid
    slices: Image
    number: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ArrayPattern:
    """Places in the package frame (um): `joints` (n, 2) hold solder, `empty` (m, 2) do not.

    On a faultless board, the right placement scores `margin` joints' worth above the best one that is a pitch off,
    and each of those fills at least `spill` of the empty places.
    """

    joints: FloatArray
    empty: FloatArray
    margin: float
    spill: int


@dataclass(frozen=True)
class ArrayMatch:
    """A placement with its score: joints found less empty places filled, in joints."""

    placement: Placement
    score: float


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


# The search for the array


def build_solder_map(stack: SliceStack, ball_um: float, n_joints: int) -> SolderMap:
    """Average the slices, make solder bright, shrink until a ball is about six pixels wide, remove the background.

    The difference of two Gaussians (a quarter and five eighths of a ball) passes balls and neither shading nor large
    components; its scale is set by the `n_joints` brightest spots. Lost slices and slices of a single grey are left out.
    """
    factor = max(1, round(ball_um / stack.grid.pixel_um / BALL_PX))
    pixel = stack.grid.pixel_um * factor
    shift = stack.grid.pixel_um * (factor - 1) / 2
    rows, cols = (n // factor for n in stack.grid.shape)
    grid = Grid((rows, cols), pixel, (stack.grid.origin_um[0] + shift, stack.grid.origin_um[1] - shift))
    sign = 1.0 if stack.polarity == "solder_bright" else -1.0
    ball = ball_um / pixel
    responses: dict[int, Image] = {}
    for k, page in enumerate(stack.values):
        if k in stack.lost:
            continue
        cut = page[: rows * factor, : cols * factor]
        if cut.dtype.kind == "f":
            cut = np.nan_to_num(cut.astype(np.float32), nan=float(np.nanmedian(cut)))
        small = cv2.resize(cut, (cols, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
        middle, spread = (float(v.item()) for v in cv2.meanStdDev(small))
        if spread > 1e-5 * max(abs(middle), 1e-3):  # less is rounding: a page of one grey shows nothing
            scaled = (small - np.float32(middle)) * np.float32(sign / spread)
            responses[k] = cv2.GaussianBlur(scaled, (0, 0), 0.25 * ball) - cv2.GaussianBlur(scaled, (0, 0), 0.625 * ball)
    slices = np.stack(list(responses.values())) if responses else np.zeros((0, rows, cols), dtype=np.float32)
    return _scale_map(slices.sum(axis=0), n_joints, grid, slices, tuple(responses))


def invert_map(seen: SolderMap, n_joints: int) -> SolderMap:
    """Return the map that an image of the other polarity would give."""
    return _scale_map(-seen.response, n_joints, seen.grid, -seen.slices, seen.number)


def _scale_map(response: Image, n_joints: int, grid: Grid, slices: Image, number: tuple[int, ...]) -> SolderMap:
    """Scale to 1 at the median height of the `n_joints` highest local maxima; without any, nothing responds."""
    highest = cv2.dilate(response, np.ones((3, 3), np.uint8))
    peaks = response[(response == highest) & (response > 0)]
    typical = float(np.finfo(np.float32).max)
    if len(peaks):
        count = min(n_joints, len(peaks))
        typical = float(np.median(np.partition(peaks, len(peaks) - count)[-count:]))
    response = response / np.float32(typical)
    likeness = np.clip((response - GHOST) / (0.75 - GHOST), 0, 1)
    return SolderMap(response, likeness, grid, slices, number)


@lru_cache(maxsize=32)
def make_pattern(interface: Interface, over: Interface | None = None) -> ArrayPattern:
    """Derive where solder must and must not be for this interface.

    `over` is the other interface in a transmission picture, whose joints show too: places near them need not be empty.
    """
    joints = np.column_stack([interface.x_um, interface.y_um])
    pitch = interface.pitch_um
    around = joints[:, None, :] + pitch * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
    empty = _drop_near(around.reshape(-1, 2), joints, 0.6 * pitch)
    if over is not None:
        other = np.column_stack([over.x_um, over.y_um])
        empty = _drop_near(empty, other, 0.5 * (interface.ball_diameter_um + over.ball_diameter_um))
    if len(empty):  # one point of each cluster
        unique = np.ones(len(empty), dtype=bool)
        unique[cKDTree(empty).query_pairs(0.3 * pitch, output_type="ndarray")[:, 1]] = False
        empty = empty[unique]
    # What the least harmful of the eight shifts by one pitch loses and fills.
    tree = cKDTree(joints)
    shifts = pitch * np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)])
    found = np.array([_is_near(tree, joints + s, 0.3 * pitch).sum() for s in shifts])
    filled = np.array([_is_near(tree, empty + s, 0.3 * pitch).sum() for s in shifts])
    return ArrayPattern(joints, empty, margin=float(len(joints) - (found - filled).max()), spill=int(filled.min()))


@lru_cache(maxsize=32)
def find_distinct_turns(expected: ArrayPattern, pitch_um: float) -> tuple[tuple[str, FloatArray, FloatArray], ...]:
    """List the turns of `TURNS` under which the array looks different.

    Returns (name, joints only as designed, joints only as turned) of each.
    """
    compared = ((name, *compare_turned(expected.joints, turn, pitch_um)) for name, turn in TURNS.items())
    return tuple(one for one in compared if len(one[2]))


def compare_turned(joints: FloatArray, turn: tuple[float, float, float, float], pitch_um: float) -> tuple[FloatArray, FloatArray]:
    """Compare the array with itself turned about its middle: (joints only as designed, only as turned), (k, 2) each.

    Both are empty for an array that is symmetric in that way.
    """
    middle = (joints.min(axis=0) + joints.max(axis=0)) / 2
    other = (joints - middle) @ np.array(turn).reshape(2, 2).T + middle
    return _drop_near(joints, other, 0.4 * pitch_um), _drop_near(other, joints, 0.4 * pitch_um)


def _is_near(tree: cKDTree, points: FloatArray, reach: float) -> NDArray[np.bool_]:
    if not len(points):
        return np.zeros(0, dtype=bool)
    distance, _ = tree.query(points, distance_upper_bound=reach)
    near: NDArray[np.bool_] = np.isfinite(distance)
    return near


def _drop_near(points: FloatArray, others: FloatArray, reach: float) -> FloatArray:
    """Return the points that have none of `others` within reach."""
    return points[~_is_near(cKDTree(others), points, reach)]


def search_array(seen: SolderMap, expected: ArrayPattern, search_um: float, ball_um: float) -> ArrayMatch:
    """Return the best of all shifts up to `search_um` and rotations up to two degrees, on a grid of half balls."""
    reach_um = float(np.abs(expected.joints).max())
    steps = int(np.ceil(ROTATION_DEG / np.degrees(0.3 * ball_um / reach_um)))
    best = ArrayMatch(Placement(0.0, 0.0, 0.0, float("inf")), -np.inf)
    for rotation in np.linspace(-ROTATION_DEG, ROTATION_DEG, 2 * steps + 1):
        score, x_um, y_um = score_shifts(seen, expected, float(rotation), search_um, stride=2)
        k = int(np.argmax(score))
        if score.flat[k] > best.score:
            place = Placement(float(x_um.flat[k]), float(y_um.flat[k]), float(rotation), float("inf"))
            best = ArrayMatch(place, float(score.flat[k]))
    return best


def score_shifts(
    seen: SolderMap, expected: ArrayPattern, rotation_deg: float, search_um: float, stride: int = 1
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Score every shift within `search_um` at one rotation: (score, shift x, shift y), each (k, k); shifts in um.

    Places outside the image count as without solder.
    """
    points = np.concatenate([expected.joints, expected.empty])
    weight = np.concatenate([np.ones(len(expected.joints)), -np.ones(len(expected.empty))]).astype(np.float32)
    x, y = Placement(0.0, 0.0, rotation_deg, 0.0).apply(points[:, 0], points[:, 1])
    row, col = (np.rint(v).astype(np.intp) for v in seen.grid.to_pixel(x, y))
    half = int(np.ceil(search_um / seen.grid.pixel_um / stride)) * stride
    padded = np.pad(seen.likeness, half)
    inside = (row >= 0) & (row < seen.grid.shape[0]) & (col >= 0) & (col < seen.grid.shape[1])
    views = np.lib.stride_tricks.sliding_window_view(padded, (2 * half + 1, 2 * half + 1))[:, :, ::stride, ::stride]
    score = np.tensordot(weight[inside], views[row[inside], col[inside]], axes=1)
    shift = np.arange(-half, half + 1, stride) * seen.grid.pixel_um
    x_um, y_um = np.meshgrid(shift, -shift)
    return score.astype(np.float64), x_um, y_um

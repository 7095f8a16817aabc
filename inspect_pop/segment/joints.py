"""The segmentation step: what is solder and what is not, for all joints of an interface.

Webs between neighbours are found here. Each pair is sampled along parallel lines from one joint to the other; each
joint's own window shows its half. Outlines and voids have modules of their own.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.recipe import Interface, Package
from inspect_pop.segment.outlines import Outlines, find_outlines, find_void_fraction
from inspect_pop.segment.windows import CONFIRMED_FROM, SIZE, Windows, sample_windows

__all__ = ["SegmentedJoints", "Webs", "find_overlapped", "find_webs", "neighbour_pairs", "segment_joints"]

Array = NDArray[np.float32]
FARTHEST = 1.25  # of the pitch: neighbours along rows and columns, not along diagonals
BETWEEN = np.arange(-7.0, 7.1, 2.0, dtype=np.float32)  # lines, in samples sideways, on which a way across is searched
# Lines where no web reaches: what is bright there is the other interface's halo.
ASIDE = np.array([-13.0, -11.0, 11.0, 13.0], dtype=np.float32)
STEPS = 12
START = 0.3  # of the way to the half-way line: inside a ball of two thirds of the nominal volume
EDGE = 0.5  # of the solder's own grey: where a ball ends
_MIDDLE = 3  # the last steps of each half, which together are the middle of the way


@dataclass(frozen=True)
class Webs:
    """What lies between the two joints of each of p pairs, in s slices.

    `pairs` (p, 2) are rows of the interface. `free_um` (p, s) float32 is the narrowest solder-free space along any line.
    `saddle` (p, s) float32 is the grey of the darkest point on the brightest line: 0 background, 1 solder.
    `clear_um` (p,) float32 is the narrowest space in any inner slice, and free of what two neighbouring slices show as solder:
    ghosts of the other interface, bright in the last slice on its side, are no solder. `free_um` is what the classifier was
    trained with.
    """

    pairs: NDArray[np.intp]
    free_um: Array
    saddle: Array
    clear_um: Array


@lru_cache(maxsize=32)
def neighbour_pairs(interface: Interface) -> NDArray[np.intp]:
    """Return the (p, 2) rows of joints that lie next to one another, each pair once."""
    points = np.column_stack([interface.x_um, interface.y_um])
    found = cKDTree(points).query_pairs(FARTHEST * interface.pitch_um, output_type="ndarray")
    pairs: NDArray[np.intp] = found.astype(np.intp).reshape(-1, 2)
    return pairs[np.argsort(pairs[:, 0], kind="stable")]


def find_overlapped(interface: Interface, package: Package) -> NDArray[np.bool_]:
    """Tell which joints, (n,), have solder of the package's other interfaces over them, up to half way to their neighbours.

    As seen along the beam of a single picture, by the design.
    """
    places = np.column_stack([interface.x_um, interface.y_um])
    overlapped = np.zeros(len(places), dtype=bool)
    for other in package.interfaces:
        if other.name != interface.name:
            away_um, _ = cKDTree(np.column_stack([other.x_um, other.y_um])).query(places)
            overlapped |= away_um < interface.pitch_um / 2 + other.nominal_mid_diameter_um / 2
    return overlapped


def find_webs(windows: Windows, interface: Interface) -> Webs:
    """Measure free space and saddle of every pair of neighbours in every slice."""
    pairs = neighbour_pairs(interface)
    places = np.column_stack([interface.x_um, interface.y_um])
    gap = places[pairs[:, 1]] - places[pairs[:, 0]]
    length = np.hypot(gap[:, 0], gap[:, 1])
    way: Array = (gap / length[:, None]).astype(np.float32)
    half: Array = (length / windows.step_um / 2).astype(np.float32)
    # Both halves lie on the same lines: the second joint looks back along the opposite way, its lines in reverse order.
    joint = pairs.T.ravel()
    order = np.argsort(joint, kind="stable")
    between, outside = _sample_halves(windows.values, joint[order], np.concatenate([way, -way])[order], np.tile(half, 2)[order])
    first, second = np.split(np.argsort(order), 2)  # where each pair's halves lie
    halo = outside.mean(axis=(0, 1))
    halo = np.clip((halo[:, first] + halo[:, second]) / 2, 0, 0.8)
    # On a scale that is 0 at the level aside of the middle of the way, and 1 at solder's.
    darkest = between.min(axis=0)
    saddle: Array = ((np.minimum(darkest[..., first], darkest[::-1, :, second]) - halo) / (1 - halo)).max(axis=0)
    # The grey at which a ball ends, (slices,): higher where halos lift one gap in ten well above the background.
    ends = np.full(len(saddle), EDGE, dtype=np.float32)
    if saddle.size:
        ends = np.clip(np.percentile(saddle, 90, axis=1) + 0.2, EDGE, 0.9).astype(np.float32)
    pair, step_um = order % max(len(pairs), 1), ((1 - START) / STEPS * half * windows.step_um).astype(np.float32)
    free = _add_free(between, halo, ends, pair)
    free_um = (free[..., first] + free[::-1, :, second]).min(axis=0) * step_um
    # Ghosts are brightest in the outermost slices: what only one of those shows is no solder. Joined with the slices beside it,
    # a slice shows no less free space than by itself; only where its balls ended at another grey it has to be looked at again.
    slices = list(range(len(free_um)))
    inner = slices[1:-1] if len(slices) >= CONFIRMED_FROM else []
    again = [k for k in slices if k not in inner or ends[k] > EDGE]
    clear = _add_free(_join_neighbours(between, again), halo[again], np.full(len(again), EDGE, dtype=np.float32), pair)
    joined_um = (clear[..., first] + clear[::-1, :, second]).min(axis=0) * step_um
    clear_um = np.concatenate([free_um[inner], joined_um]).min(axis=0)
    return Webs(pairs, free_um.T.astype(np.float32), saddle.T, clear_um.astype(np.float32))


def _add_free(grey: Array, halo: Array, ends: Array, pair: NDArray[np.intp]) -> Array:
    """Return how many steps of each way are free of solder, (lines, s, m), from `grey` (STEPS, lines, s, m).

    Solder ends at the grey `ends` (s,), on a scale from `halo` (s, p) to solder's. `pair` (m,) is the pair of each half.
    """
    edge, blur = halo + (1 - halo) * ends[:, None], 0.3 * (1 - halo)
    slope, level = (1 / blur)[:, pair], (edge / blur + 0.5)[:, pair]
    free: Array = np.zeros_like(grey[0])
    room = np.empty_like(grey[0])
    for step in grey:  # a step of all ways at a time stays in the cache
        np.multiply(step, slope, out=room)
        np.subtract(level, room, out=room)
        free += np.clip(room, 0, 1, out=room)
    return free


def _join_neighbours(grey: Array, slices: list[int]) -> Array:
    """Return the grey (STEPS, lines, k, m) that each of k slices shares with one beside it.

    `grey` holds all slices; of fewer than `CONFIRMED_FROM` it is their own.
    """
    last = grey.shape[2] - 1
    if last + 1 < CONFIRMED_FROM:
        return grey[:, :, slices]
    others = [np.maximum(grey[:, :, max(k - 1, 1 - k)], grey[:, :, min(k + 1, 2 * last - k - 1)]) for k in slices]
    return np.stack([np.minimum(grey[:, :, k], other) for k, other in zip(slices, others, strict=True)], axis=2)


def _sample_halves(values: Array, joint: NDArray[np.intp], way: Array, half: Array) -> tuple[Array, Array]:
    """Sample the windows of `joint` (m,) outwards along `way` (m, 2), half of the way to the neighbour.

    Returns samples on the lines between, (STEPS, lines, slices, m), and on those aside of the end,
    (_MIDDLE, lines, slices, m).
    """
    t: Array = (START + (1 - START) * (np.arange(STEPS) + 0.5) / STEPS).astype(np.float32)
    share = np.concatenate([np.repeat(t, BETWEEN.size), np.repeat(t[-_MIDDLE:], ASIDE.size)])
    side = np.concatenate([np.tile(BETWEEN, STEPS), np.tile(ASIDE, _MIDDLE)])
    along, middle = half[:, None] * share, np.float32((SIZE - 1) / 2)
    col = middle + way[:, :1] * along - way[:, 1:] * side
    row = middle - (way[:, 1:] * along + way[:, :1] * side)
    # What is summed over comes first in memory, so that joints lie side by side.
    samples = np.empty((share.size, values.shape[1], len(joint)), dtype=np.float32)
    sample_windows(values, joint, row, col, out=samples.transpose(2, 1, 0))
    between, outside = np.split(samples, [STEPS * BETWEEN.size])
    shape = samples.shape[1:]
    return between.reshape(STEPS, BETWEEN.size, *shape), outside.reshape(_MIDDLE, ASIDE.size, *shape)


@dataclass(frozen=True, eq=False)
class SegmentedJoints:
    """The segmented joints of one interface, in its order: what `inspect_pop.measure.measure_joints` takes.

    Attributes:
        windows: The pictures that were segmented.
        interface: The joints as designed.
        method: `laminography`, `ct` or `transmission`, as the machine states it; measuring corrects for it.
        outlines: The ball's outline in every slice.
        void_fraction: (n,) float32 projected void area over projected ball area; NaN where there is no ball in any slice.
        webs: Solder-free space between neighbours in every slice.
    """

    windows: Windows
    interface: Interface
    method: str
    outlines: Outlines
    void_fraction: NDArray[np.float32]
    webs: Webs


def segment_joints(windows: Windows, interface: Interface, method: str) -> SegmentedJoints:
    """Find outlines, voids and webs of all joints of one interface.

    Parameters
    ----------
    windows
        From `cut_slices`, in the order of `interface`.
    interface
        The joints as designed.
    method
        `laminography`, `ct` or `transmission`, as the machine states it.
    """
    outlines = find_outlines(windows)
    return SegmentedJoints(
        windows=windows,
        interface=interface,
        method=method,
        outlines=outlines,
        void_fraction=find_void_fraction(outlines),
        webs=find_webs(windows, interface),
    )

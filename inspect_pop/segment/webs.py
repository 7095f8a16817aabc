"""Solder between neighbours: the space that is free of it, and how bright the brightest way across is.

Each pair is looked at along parallel lines from one joint to the other; either joint's own window shows its half.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.recipe import Interface
from inspect_pop.segment.windows import SIZE, Windows, sample_windows

__all__ = ["Webs", "find_webs", "pairs_of"]

Array = NDArray[np.float32]
FARTHEST = 1.25  # of the pitch: neighbours along rows and columns, not along diagonals
BETWEEN = np.arange(-7.0, 7.1, 2.0, dtype=np.float32)  # lines, in samples sideways, on which a way across is looked for
BESIDE = np.array(
    [-13.0, -11.0, 11.0, 13.0], dtype=np.float32
)  # where no web reaches: what is bright is the other interface's halo
STEPS = 12
START = 0.3  # of the way to the half-way line: inside a ball of two thirds of the nominal volume
EDGE = 0.5  # of the solder's own grey: where a ball ends
_MIDDLE = 3  # the last steps of each half, which together are the middle of the way


@dataclass(frozen=True)
class Webs:
    """What lies between the two joints of each of p pairs, in s slices.

    `pairs` (p, 2) are rows of the interface. `free_um` (p, s) is the narrowest solder-free space along any line.
    `saddle` (p, s) is the grey of the darkest point on the brightest line: 0 background, 1 solder.
    """

    pairs: NDArray[np.intp]
    free_um: Array
    saddle: Array


@lru_cache(maxsize=32)
def pairs_of(interface: Interface) -> NDArray[np.intp]:
    """(p, 2) rows of joints that lie next to one another, each pair once."""
    points = np.column_stack([interface.x_um, interface.y_um])
    found = cKDTree(points).query_pairs(FARTHEST * interface.pitch_um, output_type="ndarray")
    pairs: NDArray[np.intp] = found.astype(np.intp).reshape(-1, 2)
    return pairs[np.argsort(pairs[:, 0], kind="stable")]


def find_webs(windows: Windows, interface: Interface) -> Webs:
    """Free space and saddle of every pair of neighbours in every slice."""
    pairs = pairs_of(interface)
    places = np.column_stack([interface.x_um, interface.y_um])
    gap = places[pairs[:, 1]] - places[pairs[:, 0]]
    length = np.hypot(gap[:, 0], gap[:, 1])
    way: Array = (gap / length[:, None]).astype(np.float32)
    half: Array = (length / windows.step_um / 2).astype(np.float32)
    # Both halves lie on the same lines: the second joint looks back along the opposite way, its lines in reverse order.
    joint = pairs.T.ravel()
    order = np.argsort(joint, kind="stable")
    between, outside = _strips(windows.values, joint[order], np.concatenate([way, -way])[order], np.tile(half, 2)[order])
    here, there = np.split(np.argsort(order), 2)  # where each pair's halves lie
    beside = outside.mean(axis=(0, 1))
    beside = np.clip((beside[:, here] + beside[:, there]) / 2, 0, 0.8)
    # On a scale that is 0 at the level beside the middle of the way, and 1 at solder's.
    darkest = between.min(axis=0)
    saddle: Array = ((np.minimum(darkest[..., here], darkest[::-1, :, there]) - beside) / (1 - beside)).max(axis=0)
    edge, blur = beside + (1 - beside) * _edges(saddle)[:, None], 0.3 * (1 - beside)
    pair = order % max(len(pairs), 1)
    slope, level = (1 / blur)[:, pair], (edge / blur + 0.5)[:, pair]
    free = np.zeros_like(between[0])
    for grey in between:  # a step of all ways at a time stays in the cache
        free += np.clip(level - grey * slope, 0, 1)
    step_um = ((1 - START) / STEPS * half * windows.step_um).astype(np.float32)
    free_um = (free[..., here] + free[::-1, :, there]).min(axis=0) * step_um
    return Webs(pairs, free_um.T.astype(np.float32), saddle.T)


def _edges(saddle: Array) -> Array:
    """(slices,) grey at which a ball ends, from saddles (slices, p): higher where halos lift one gap in ten well above the
    background."""
    if not saddle.size:
        return np.full(len(saddle), EDGE, dtype=np.float32)
    edges: Array = np.clip(np.percentile(saddle, 90, axis=1) + 0.2, EDGE, 0.9).astype(np.float32)
    return edges


def _strips(values: Array, joint: NDArray[np.intp], way: Array, half: Array) -> tuple[Array, Array]:
    """From the windows of `joint` (m,) outwards along `way` (m, 2), half of the way: samples on the lines between,
    (STEPS, lines, slices, m), and on those beside the end, (_MIDDLE, lines, slices, m)."""
    t: Array = (START + (1 - START) * (np.arange(STEPS) + 0.5) / STEPS).astype(np.float32)
    share = np.concatenate([np.repeat(t, BETWEEN.size), np.repeat(t[-_MIDDLE:], BESIDE.size)])
    side = np.concatenate([np.tile(BETWEEN, STEPS), np.tile(BESIDE, _MIDDLE)])
    along, middle = half[:, None] * share, np.float32((SIZE - 1) / 2)
    col = middle + way[:, :1] * along - way[:, 1:] * side
    row = middle - (way[:, 1:] * along + way[:, :1] * side)
    # What is summed over comes first in memory, so that joints lie side by side.
    samples = np.empty((share.size, values.shape[1], len(joint)), dtype=np.float32)
    sample_windows(values, joint, row, col, out=samples.transpose(2, 1, 0))
    between, outside = np.split(samples, [STEPS * BETWEEN.size])
    shape = samples.shape[1:]
    return between.reshape(STEPS, BETWEEN.size, *shape), outside.reshape(_MIDDLE, BESIDE.size, *shape)

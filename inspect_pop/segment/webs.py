"""Solder between neighbours: the space that is free of it, and how bright the brightest way across is.

Each pair is looked at along parallel lines from one joint to the other; either joint's own window shows its half.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.recipe import Interface
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
    gap = (
        np.column_stack([interface.x_um, interface.y_um])[pairs[:, 1]]
        - np.column_stack([interface.x_um, interface.y_um])[pairs[:, 0]]
    )
    length = np.hypot(gap[:, 0], gap[:, 1])
    way: Array = (gap / length[:, None]).astype(np.float32)
    half: Array = (length / windows.step_um / 2).astype(np.float32)
    # Both halves on the same lines: the other joint looks back along the opposite way, its lines in reverse order.
    there, halo = _strips(windows.values, pairs[:, 0], way, half)
    back, other_halo = _strips(windows.values, pairs[:, 1], -way, half)
    profile = np.concatenate([there, back[::-1, ::-1]])
    beside = np.clip((halo + other_halo) / 2, 0, 0.8)
    # On a scale that is 0 at the level beside the middle of the way, and 1 at solder's.
    profile -= beside
    profile /= 1 - beside
    saddle: Array = profile.min(axis=0).max(axis=0)
    step_um = ((1 - START) / STEPS * half * windows.step_um).astype(np.float32)
    np.subtract(_edges(saddle), profile, out=profile)
    profile /= 0.3
    profile += 0.5
    free = np.clip(profile, 0, 1, out=profile).sum(axis=0).min(axis=0) * step_um[:, None]
    return Webs(pairs, free.astype(np.float32), saddle)


def _edges(saddle: Array) -> Array:
    """Grey at which a ball ends, by slice: higher where halos lift one gap in ten well above the background."""
    if not len(saddle):
        return np.full(saddle.shape[1], EDGE, dtype=np.float32)
    edges: Array = np.clip(np.percentile(saddle, 90, axis=0) + 0.2, EDGE, 0.9).astype(np.float32)
    return edges


def _strips(values: Array, joint: NDArray[np.intp], way: Array, half: Array) -> tuple[Array, Array]:
    """From each joint's window outwards along `way` (p, 2): (STEPS, len(BETWEEN), p, s) samples on the lines between, and the
    (p, s) mean beside them near the middle of the way."""
    t: Array = (START + (1 - START) * (np.arange(STEPS) + 0.5) / STEPS).astype(np.float32)
    share = np.concatenate([np.repeat(t, BETWEEN.size), np.repeat(t[-_MIDDLE:], BESIDE.size)])
    side = np.concatenate([np.tile(BETWEEN, STEPS), np.tile(BESIDE, _MIDDLE)])
    along, middle = half[:, None] * share, np.float32((SIZE - 1) / 2)
    col = middle + way[:, :1] * along - way[:, 1:] * side
    row = middle - (way[:, 1:] * along + way[:, :1] * side)
    order = np.argsort(joint, kind="stable")
    samples = np.empty((len(joint), values.shape[1], share.size), dtype=np.float32)
    samples[order] = sample_windows(values, joint[order], row[order], col[order])
    first = np.ascontiguousarray(np.moveaxis(samples, -1, 0))  # what is summed over comes first, so that pairs lie side by side
    between = STEPS * BETWEEN.size
    return first[:between].reshape(STEPS, BETWEEN.size, *samples.shape[:2]), first[between:].mean(axis=0)

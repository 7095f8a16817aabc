"""Solder between neighbours: the space that is free of it, and how bright the brightest way across is.

Each pair is looked at along parallel lines from one joint to the other; either joint's own window shows its half.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.recipe import Interface
from inspect_pop.segment.windows import SIZE, Windows

__all__ = ["Webs", "find_webs", "pairs_of"]

Array = NDArray[np.float32]
FARTHEST = 1.25  # of the pitch: neighbours along rows and columns, not along diagonals
LINES = np.arange(-13.0, 13.1, 2.0, dtype=np.float32)  # sideways, in samples: a ball's usual width
_BETWEEN = np.abs(LINES) < 8  # lines on which a way across is looked for
_BESIDE = np.abs(LINES) > 9  # where no web reaches: what is bright here too is the halo of the other interface's balls
STEPS = 12
START = 0.3  # of the way to the half-way line: inside a ball of two thirds of the nominal volume
EDGE = 0.5  # of the solder's own grey: where a ball ends
_ROWS_AT_ONCE = 32000 // SIZE


@dataclass(frozen=True)
class Webs:
    """What lies between the two joints of each of p pairs, in s slices.

    `pairs` (p, 2) are rows of the interface. `free_um` (p, s) is the narrowest solder-free space along any line.
    `saddle` (p, s) is the grey of the darkest point on the brightest line: 0 background, 1 solder.
    """

    pairs: NDArray[np.intp]
    free_um: Array
    saddle: Array


def pairs_of(interface: Interface) -> NDArray[np.intp]:
    """(p, 2) rows of joints that lie next to one another, each pair once."""
    points = np.column_stack([interface.x_um, interface.y_um])
    found = cKDTree(points).query_pairs(FARTHEST * interface.pitch_um, output_type="ndarray")
    pairs: NDArray[np.intp] = found.astype(np.intp).reshape(-1, 2)
    return pairs


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
    t: Array = (START + (1 - START) * (np.arange(STEPS) + 0.5) / STEPS).astype(np.float32)
    # Both halves on the same lines: the other joint looks back along the opposite way, its lines in reverse order.
    there = _strips(windows.values, pairs[:, 0], way, half, t)
    back = _strips(windows.values, pairs[:, 1], -way, half, t)[:, :, ::-1]
    profile = _without_halo(np.concatenate([there, back[:, :, :, ::-1]], axis=3))
    step_um = ((1 - START) / STEPS * half * windows.step_um).astype(np.float32)
    saddle: Array = profile.min(axis=3).max(axis=2)
    edge = _edges(saddle)[None, :, None, None]
    free = np.clip((edge - profile) / 0.3 + 0.5, 0, 1).sum(axis=3).min(axis=2) * step_um[:, None]
    return Webs(pairs, free.astype(np.float32), saddle)


def _edges(saddle: Array) -> Array:
    """Grey at which a ball ends, by slice: higher where halos lift one gap in ten well above the background."""
    if not len(saddle):
        return np.full(saddle.shape[1], EDGE, dtype=np.float32)
    edges: Array = np.clip(np.percentile(saddle, 90, axis=0) + 0.2, EDGE, 0.9).astype(np.float32)
    return edges


def _without_halo(profile: Array) -> Array:
    """The lines between, on a scale that is 0 at the level beside the middle of the way, and 1 at solder's."""
    middle = slice(STEPS - 3, STEPS + 3)
    beside = np.clip(profile[:, :, _BESIDE, middle].mean(axis=(2, 3)), 0, 0.8)[:, :, None, None]
    between: Array = (profile[:, :, _BETWEEN] - beside) / (1 - beside)
    return between


def _strips(values: Array, joint: NDArray[np.intp], way: Array, half: Array, t: Array) -> Array:
    """(p, s, lines, steps) samples from each joint's window outwards along `way` (p, 2)."""
    along = (half[:, None] * t)[:, None, :]
    side = LINES[None, :, None]
    middle = (SIZE - 1) / 2
    col = middle + way[:, 0, None, None] * along - way[:, 1, None, None] * side
    row = middle - (way[:, 1, None, None] * along + way[:, 0, None, None] * side)
    p, s = len(joint), values.shape[1]
    out = np.empty((p, s, LINES.size * t.size), dtype=np.float32)
    col, row = col.reshape(p, LINES.size * t.size), np.clip(row, 0, SIZE - 1).reshape(p, LINES.size * t.size)
    order = np.argsort(joint, kind="stable")
    for first in range(0, len(values), _ROWS_AT_ONCE):
        part = order[(joint[order] >= first) & (joint[order] < first + _ROWS_AT_ONCE)]
        if not len(part):
            continue
        rows = row[part] + ((joint[part] - first) * SIZE)[:, None].astype(np.float32)
        for k in range(s):
            column = np.ascontiguousarray(values[first : first + _ROWS_AT_ONCE, k]).reshape(-1, SIZE)
            out[part, k] = cv2.remap(column, col[part], rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(p, s, LINES.size, t.size)

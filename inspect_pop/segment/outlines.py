"""The outline of every ball in every slice, all joints at once, from their windows unrolled about their middles.

Unrolled, a ball's edge is one crossing a ray: voids do not tear it, and a web to a neighbour is a few long rays among
round ones.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.segment.windows import SAMPLES_PER_PITCH, SIZE, Windows

__all__ = ["ANGLES", "RADII", "Outlines", "find_outlines", "unroll"]

Array = NDArray[np.float32]
ANGLES = 32
# From next to the middle to the line half way to the neighbour, in samples.
RADII = np.arange(0.5, SAMPLES_PER_PITCH / 2, 1.0, dtype=np.float32)
# Solder at less than this of the typical joint's grey is blur from other heights, not solder in this slice. A ball that
# is wholly out of a slice leaves 0.1 to 0.25 in laminography.
LEAST_CORE = 0.35
# A ray that leaves the ball further than this out, compared with the median ray, runs along a web or a spike.
LONGEST = 1.25
_ROWS_AT_ONCE = 32000 // SIZE  # joints a call: remap addresses its source with 16-bit numbers


@dataclass(frozen=True)
class Outlines:
    """Ball outlines of n joints in s slices, in samples of the window; angles counter-clockwise from +x.

    `centre` (n, 2): (x, y) of the point that rays start from, relative to the window's middle, y up. `radius`
    (n, s, ANGLES): where each ray leaves the solder, cut at `LONGEST` times the median ray; 0 without solder. `reach`
    is the same uncut. `core`, `background` (n, s): grey inside and around. `present` (n, s): solder in that slice.
    `polar` (n, s, ANGLES, len(RADII)): the unrolled windows.
    """

    centre: Array
    radius: Array
    reach: Array
    core: Array
    background: Array
    present: NDArray[np.bool_]
    polar: Array


def find_outlines(windows: Windows) -> Outlines:
    """Outline of the ball in the middle of each window, half way between its own core and its own surroundings."""
    centre = _middles(windows.values)
    polar = unroll(windows.values, centre)
    n, s = polar.shape[:2]
    inner = polar[:, :, :, RADII < 5].reshape(n, s, -1)
    core = _rank(inner, 0.7)
    background = _rank(polar[:, :, :, -3:].reshape(n, s, -1), 0.25)
    present = core - background > LEAST_CORE
    reach = _leaving(polar, background + 0.5 * (core - background)) * present[:, :, None]
    typical = np.median(reach, axis=2, keepdims=True)
    return Outlines(centre, np.minimum(reach, LONGEST * typical), reach, core, background, present, polar)


def unroll(values: Array, centre: Array) -> Array:
    """(n, s, ANGLES, len(RADII)) bilinear samples of (n, s, SIZE, SIZE) windows along rays from each joint's centre."""
    n, s = values.shape[:2]
    angle = np.arange(ANGLES, dtype=np.float32)[:, None] * np.float32(2 * np.pi / ANGLES)
    col = (SIZE - 1) / 2 + centre[:, 0, None] + (RADII * np.cos(angle)).ravel()
    row = (SIZE - 1) / 2 - centre[:, 1, None] - (RADII * np.sin(angle)).ravel()
    row = np.clip(row, 0, SIZE - 1)
    out = np.empty((n, s, ANGLES * len(RADII)), dtype=np.float32)
    for first in range(0, n, _ROWS_AT_ONCE):
        part = slice(first, min(first + _ROWS_AT_ONCE, n))
        top = np.arange(part.stop - part.start, dtype=np.float32)[:, None] * SIZE
        rows, cols = (row[part] + top).astype(np.float32), col[part].astype(np.float32)
        for k in range(s):
            column = np.ascontiguousarray(values[part, k]).reshape(-1, SIZE)
            out[part, k] = cv2.remap(column, cols, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(n, s, ANGLES, len(RADII))


def _middles(values: Array) -> Array:
    """(n, 2) centroid (x, y) of what is brighter than half a typical joint, over all slices, near the window's middle."""
    half = 16
    low, high = SIZE // 2 - half, SIZE // 2 + half
    mean = values[:, :, low:high, low:high].mean(axis=1)
    axis = np.arange(-half, half, dtype=np.float32) + np.float32(0.5)
    near = np.hypot(axis[:, None], axis[None]) <= half
    peak = np.maximum(_rank((mean * near).reshape(len(mean), -1), 0.9), 0.2)
    weight = np.clip(mean - 0.5 * peak[:, None, None], 0, None) * near
    total = np.maximum(weight.sum(axis=(1, 2)), 1e-6)
    x = weight.sum(axis=1) @ axis / total
    y = -(weight.sum(axis=2) @ axis) / total
    centre: Array = np.clip(np.stack([x, y], axis=1), -6, 6).astype(np.float32)
    return centre


def _rank(values: Array, share: float) -> Array:
    """The value below which `share` of the last axis lies."""
    k = min(int(share * values.shape[-1]), values.shape[-1] - 1)
    ranked: Array = np.partition(values, k, axis=-1)[..., k]
    return ranked


def _leaving(polar: Array, level: Array) -> Array:
    """Radius, in samples, at which each ray last falls below `level` (n, s); 0 where it never lies above."""
    above = polar > level[:, :, None, None]
    count = polar.shape[-1]
    last = count - 1 - np.argmax(above[..., ::-1], axis=-1)
    nothing = ~above.any(axis=-1)
    last = np.where(nothing, 0, last)
    following = np.minimum(last + 1, count - 1)
    inner = np.take_along_axis(polar, last[..., None], axis=-1)[..., 0]
    outer = np.take_along_axis(polar, following[..., None], axis=-1)[..., 0]
    drop = np.maximum(inner - outer, 1e-6)
    part = np.where(following > last, np.clip((inner - level[:, :, None]) / drop, 0, 1), 0)
    leaving: Array = np.where(nothing, 0, RADII[last] + part).astype(np.float32)
    return leaving

"""Voids: what is darker inside a ball than a ball of its size is at that depth below its edge.

Measured IPC-7095's way: the voids' area as projected along the beam, over the ball's. A void fills only part of the
height, so each lies dark in some slices; the projection is the darkest of all.
"""

import numpy as np
from numpy.typing import NDArray

from inspect_pop.segment.outlines import ANGLES, RADII, Outlines, circles_at, grey_at

__all__ = ["void_fraction"]

Array = NDArray[np.float32]
SEED = 0.2  # depth, of the ball's contrast, that begins a void: noise and ghosts reach 0.1 to 0.15
GROW, GROW_SHARE = 0.1, 0.35  # depth that still belongs to it next to a seed, at least, and of the deepest: a blurred rim
RIM = 0.5  # samples inside the edge that are not looked at
TYPICAL_FROM = 32  # joints that the profile of a sound ball is taken from
NOISE = 4.0  # robust sigmas of a slice's own unevenness (ghosts, grain) that a seed must exceed
_STEP = 0.5
_OFFSETS = np.arange(-8.0, 0.01, _STEP, dtype=np.float32)  # deeper inside, a sound ball is as bright as there
_JOINTS_AT_ONCE = 64  # what is made of them on the way stays in the processor's cache


def void_fraction(outlines: Outlines) -> NDArray[np.float32]:
    """Projected void area over projected ball area, (n,); NaN where there is no ball in any slice."""
    solder = np.any(outlines.present, axis=1)
    fraction: Array = np.where(solder, 0.0, np.nan).astype(np.float32)
    if not solder.any():
        return fraction
    contrast = np.maximum(outlines.core - outlines.background, 0.2)
    profile, trust = _sound_profile(outlines, contrast)
    for start in range(0, len(fraction), _JOINTS_AT_ONCE):
        some = slice(start, start + _JOINTS_AT_ONCE)
        fraction[some] += _fraction(_depth(outlines, contrast, some, profile, trust), outlines, some)
    return fraction


def _depth(outlines: Outlines, contrast: Array, some: slice, profile: Array, trust: Array) -> Array:
    """(m, k, ANGLES) how much darker than a sound ball some joints are, in the darkest slice; the first k of `RADII` reach
    to all their edges. 0 outside of the rim."""
    edge = circles_at(outlines.circle[some]) - RADII[0]
    inside = np.where(outlines.present[some, :, None], np.ceil(edge - np.float32(RIM)), 0).astype(np.int16)
    radius = np.arange(np.clip(inside.max(initial=1), 1, len(RADII)), dtype=np.int16)[:, None]
    # A step along a ray is the same number of steps of the profile everywhere.
    first = np.floor(np.float32(0.5) - (edge + _OFFSETS[0]) / np.float32(_STEP)).astype(np.intp)
    along = radius * round(1 / _STEP)
    depth = np.zeros((len(edge), len(radius), ANGLES), dtype=np.float32)
    sound = np.empty_like(depth)
    scale = (trust / contrast[some])[:, :, None, None]
    level = outlines.background[some, :, None, None] * scale
    for k in range(edge.shape[1]):
        (profile[k] * trust[k]).take(first[:, k, None] + along, out=sound, mode="clip")
        sound -= outlines.polar[some, k, : len(radius)] * scale[:, k]
        sound += level[:, k]
        np.maximum(depth, sound, out=depth, where=radius < inside[:, k, None])
    return depth


def _fraction(depth: Array, outlines: Outlines, some: slice) -> Array:
    """Area of the voids that these depths (m, k, ANGLES) show, over the ball's."""
    seed = depth > SEED
    rim = np.maximum(GROW, GROW_SHARE * depth.max(axis=(1, 2), keepdims=True))
    void = seed | (_grown(seed) & (depth > rim))
    area = RADII[: depth.shape[1]] @ void.sum(axis=2).T * (2 * np.pi / ANGLES)
    ball = np.pi * np.square(np.where(outlines.present[some], outlines.circle[some, :, 0], 0)).max(axis=1)
    fraction: Array = np.clip(area / np.maximum(ball, 1e-6), 0, 1).astype(np.float32)
    return fraction


def _sound_profile(outlines: Outlines, contrast: Array) -> tuple[Array, Array]:
    """Grey of a ball without voids against the distance below its edge, (s, len(_OFFSETS)): the median of many; and how
    far each slice's depths are to be trusted, (s,): 1, or less where even sound balls are uneven."""
    use = slice(None, None, max(1, len(outlines.centre) // TYPICAL_FROM))
    edge = circles_at(outlines.circle[use])
    polar = np.ascontiguousarray(outlines.polar[use])
    grey = np.stack([grey_at(polar, edge + offset) for offset in _OFFSETS])
    grey = (grey - outlines.background[use][None, :, :, None]) / contrast[use][None, :, :, None]
    grey = grey.transpose(2, 0, 1, 3).reshape(outlines.core.shape[1], len(_OFFSETS), -1)
    profile = _median(grey)
    sigma = 1.4826 * _median(np.abs(grey - profile[:, :, None]).reshape(len(grey), -1))
    trust: Array = np.minimum(1.0, SEED / np.maximum(NOISE * sigma, 1e-6)).astype(np.float32)
    return profile, trust


def _median(values: Array) -> Array:
    """Along the last axis; sorting rows in single precision is several times as fast as `np.median`."""
    ranked, k = np.sort(values, axis=-1), values.shape[-1]
    median: Array = (ranked[..., (k - 1) // 2] + ranked[..., k // 2]) / np.float32(2)
    return median


def _grown(seed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Seeds and what touches them: one ray to either side, two samples inwards and outwards."""
    wide = seed | np.roll(seed, 1, axis=2) | np.roll(seed, -1, axis=2)
    out = wide.copy()
    for shift in (1, 2):
        out[:, shift:] |= wide[:, :-shift]
        out[:, :-shift] |= wide[:, shift:]
    return out

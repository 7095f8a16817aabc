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
    deep = int(np.searchsorted(RADII, 0.8 * np.median(outlines.circle[outlines.present][:, 0]))) + 1
    darkest = (outlines.core - outlines.polar[:, :, :deep].min(axis=(2, 3))) / contrast
    rows = np.flatnonzero(np.where(outlines.present, darkest, 0).max(axis=1) > SEED)
    if len(rows):
        sound = _sound_profile(outlines, contrast)
        for start in range(0, len(rows), _JOINTS_AT_ONCE):
            some = rows[start : start + _JOINTS_AT_ONCE]
            fraction[some] = _fraction(outlines, contrast, some, *sound)
    return fraction


def _fraction(outlines: Outlines, contrast: Array, rows: NDArray[np.intp], profile: Array, trust: Array) -> Array:
    depth = np.zeros((len(rows), len(RADII), ANGLES), dtype=np.float32)
    edge = circles_at(outlines.circle[rows])
    for k in range(outlines.polar.shape[1]):
        below = RADII[:, None] - edge[:, k, None, :]
        place = np.clip((below - _OFFSETS[0]) / np.float32(_STEP) + np.float32(0.5), 0, len(_OFFSETS) - 1).astype(np.intp)
        grey = (outlines.polar[rows, k] - outlines.background[rows, k, None, None]) / contrast[rows, k, None, None]
        deeper = (profile[k].take(place) - grey) * trust[k]
        np.maximum(depth, deeper, out=depth, where=(below < -RIM) & outlines.present[rows, k, None, None])
    seed = depth > SEED
    rim = np.maximum(GROW, GROW_SHARE * depth.max(axis=(1, 2), keepdims=True))
    void = seed | (_grown(seed) & (depth > rim))
    area = RADII @ void.sum(axis=2).T * (2 * np.pi / ANGLES)
    ball = np.pi * np.square(np.where(outlines.present[rows], outlines.circle[rows, :, 0], 0)).max(axis=1)
    fraction: Array = np.clip(area / np.maximum(ball, 1e-6), 0, 1).astype(np.float32)
    return fraction


def _sound_profile(outlines: Outlines, contrast: Array) -> tuple[Array, Array]:
    """Grey of a ball without voids against the distance below its edge, (s, len(_OFFSETS)): the median of many; and how
    far each slice's depths are to be trusted, (s,): 1, or less where even sound balls are uneven."""
    use = slice(None, None, max(1, len(outlines.centre) // TYPICAL_FROM))
    edge = circles_at(outlines.circle[use])
    grey = np.stack([grey_at(outlines.polar[use], edge + offset) for offset in _OFFSETS])
    grey = (grey - outlines.background[use][None, :, :, None]) / contrast[use][None, :, :, None]
    grey = grey.transpose(2, 0, 1, 3).reshape(outlines.core.shape[1], len(_OFFSETS), -1)
    profile = np.median(grey, axis=2)
    sigma = 1.4826 * np.median(np.abs(grey - profile[:, :, None]), axis=(1, 2))
    trust = np.minimum(1.0, SEED / np.maximum(NOISE * sigma, 1e-6))
    return profile.astype(np.float32), trust.astype(np.float32)


def _grown(seed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Seeds and what touches them: one ray to either side, two samples inwards and outwards."""
    wide = seed | np.roll(seed, 1, axis=2) | np.roll(seed, -1, axis=2)
    out = wide.copy()
    for shift in (1, 2):
        out[:, shift:] |= wide[:, :-shift]
        out[:, :-shift] |= wide[:, shift:]
    return out

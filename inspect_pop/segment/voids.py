"""Find voids: what is darker inside a ball than a ball of its size is at that depth below its edge.

Measured in the manner of IPC-7095: the voids' area as projected along the beam, over the ball's. A void fills only part
of the height, so each lies dark in some slices; the projection is the darkest of all. In a stack of
five slices and more, only what is dark in a slice and in one beside it is a void. Ghosts of the other interface,
which shade the last slices on its side, are taken out in this way. What brightens one side of a ball in all slices
is taken out as a slope across the ball.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.robust import MAD_TO_SIGMA, row_median
from inspect_pop.segment.outlines import ANGLES, RADII, Outlines, circle_radii, sample_rays
from inspect_pop.segment.windows import CONFIRMED_FROM

__all__ = ["find_void_fraction"]

Array = NDArray[np.float32]


class Depths(NamedTuple):
    """How dark a void is against a sound ball, as shares of the ball's contrast.

    `seed` begins a void; next to one, `grow` at least still belongs to it, and `grow_share` of the deepest: a blurred rim.
    """

    seed: float
    grow: float
    grow_share: float


ALONE = Depths(0.2, 0.1, 0.35)  # noise and ghosts of one slice reach 0.1 to 0.15
CONFIRMED = Depths(0.12, 0.06, 0.2)  # what two slices share of them reaches 0.1, slopes taken out
RIM = 0.5  # samples inside the edge that are left out
TYPICAL_FROM = 32  # joints that the profile of a sound ball is taken from
NOISE = 4.0  # robust sigmas of a slice's own unevenness (ghosts, grain) that a seed must exceed
OUTERMOST = 0.8  # weight of what only the last slice on a side and the one before it show
_STEP = 0.5
_OFFSETS = np.arange(-8.0, 0.01, _STEP, dtype=np.float32)  # deeper inside, a sound ball is as bright as there
# The ring that counts where voids darken the core lies this many samples below the edge; the core is brighter by this.
_RIM_DEPTH, _RIM_SHARE = 1.5, 1.15
# Depths that a slope is fitted to, first and last; its steepest, per sample; how far it lifts the upper quartile of the core.
_SHALLOW, _STEEPEST, _LIFT = (0.25, 0.18, 0.12), 0.03, 4.7
_SLOPE_STEPS = (2, 4)  # every second sample of every fourth ray carry a slope as well as all of them do
_ANGLE = np.arange(ANGLES) * 2 * np.pi / ANGLES
_DIRECTIONS = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)]).astype(np.float32)
# 1, x and y of those samples.
_SLOPE_BASIS = np.stack(
    [np.ones((len(RADII), ANGLES)), *(RADII[:, None] * direction for direction in _DIRECTIONS)], axis=-1
).astype(np.float32)
_SLOPE_BASIS = _SLOPE_BASIS[:: _SLOPE_STEPS[0], :: _SLOPE_STEPS[1]].reshape(-1, 3)
_STEADY = np.array([2.0, 50.0, 50.0], dtype=np.float32)  # keeps a slope of few samples small
_JOINTS_PER_BLOCK = 64  # intermediate arrays of so many stay in the processor's cache


def find_void_fraction(outlines: Outlines) -> NDArray[np.float32]:
    """Return projected void area over projected ball area, (n,); NaN where there is no ball in any slice."""
    solder = np.any(outlines.present, axis=1)
    fraction: Array = np.where(solder, 0.0, np.nan).astype(np.float32)
    if not solder.any():
        return fraction
    contrast = _find_contrast(outlines)
    depths = CONFIRMED if outlines.core.shape[1] >= CONFIRMED_FROM else ALONE
    profile, trust = _find_sound_profile(outlines, contrast, depths.seed)
    for start in range(0, len(fraction), _JOINTS_PER_BLOCK):
        block = slice(start, start + _JOINTS_PER_BLOCK)
        depth = _project_depth(outlines, contrast, block, profile, trust)
        seed = depth > depths.seed
        # Seeds grow into what touches them: one ray to either side, two samples inwards and outwards.
        wide = seed | np.roll(seed, 1, axis=2) | np.roll(seed, -1, axis=2)
        near = wide.copy()
        for shift in (1, 2):
            near[:, shift:] |= wide[:, :-shift]
            near[:, :-shift] |= wide[:, shift:]
        rim = np.maximum(depths.grow, depths.grow_share * depth.max(axis=(1, 2), keepdims=True))
        void = seed | (near & (depth > rim))
        area = RADII[: depth.shape[1]] @ void.sum(axis=2).T * (2 * np.pi / ANGLES)
        ball = np.pi * np.square(np.where(outlines.present[block], outlines.circle[block, :, 0], 0)).max(axis=1)
        fraction[block] += np.clip(area / np.maximum(ball, 1e-6), 0, 1).astype(np.float32)
    return fraction


def _find_contrast(outlines: Outlines) -> Array:
    """Return how much brighter than its surroundings each ball is, (n, s), whatever voids it has.

    A void of half the ball's width and more darkens the ring that `core` is taken from. Then the brightest ring next to the
    edge counts.
    """
    below = outlines.circle[:, :, :1] - RADII
    ring = (outlines.polar.mean(axis=3) - outlines.background[:, :, None]) * ((below >= _RIM_DEPTH) & (below < _RIM_DEPTH + 1.5))
    contrast: Array = np.maximum(outlines.core - outlines.background, _RIM_SHARE * ring.max(axis=2))
    return np.maximum(contrast, np.float32(0.2))


def _thin_depth(
    polar: Array,
    profile: Array,
    first: NDArray[np.intp],
    along: NDArray[np.int16],
    scale: Array,
    level: Array,
    inside: NDArray[np.int16],
) -> tuple[Array, NDArray[np.bool_]]:
    """Return what a slope is fitted to: the depth at every second sample of every fourth ray, and whether it lies in the rim.

    All as in `_project_depth`, which has the depth slice by slice; the results are (m, s, samples).
    """
    m, s, length = *polar.shape[:2], profile.shape[1]
    thin = slice(None, None, _SLOPE_STEPS[0]), slice(None, None, _SLOPE_STEPS[1])
    place = np.clip(first[:, :, None, thin[1]] + along[thin[0]], 0, length - 1)
    place += (np.arange(s) * length)[:, None, None]
    depth = profile.ravel().take(place)
    depth -= polar[:, :, *thin] * scale
    depth += level
    radius = np.arange(polar.shape[2], dtype=np.int16)[thin[0], None]
    within = radius < inside[:, :, None, thin[1]]
    return depth.reshape(m, s, -1), within.reshape(m, s, -1)


def _find_slope(depth: Array, within: NDArray[np.bool_]) -> Array:
    """Find the slope across each ball, (m, s, 3): what it lifts the ball's core by, and the depth per sample of x, y.

    Ghosts of other balls brighten one side of a ball in slice after slice, and make the other look like a void. The slope is
    fitted to what is shallow, so that voids do not bend it. `depth` and `within` come from `_thin_depth`.
    """
    flat, use_any = depth.reshape(-1, depth.shape[2]), within.reshape(-1, depth.shape[2])
    basis = _SLOPE_BASIS[: flat.shape[1]]
    slope = np.zeros((len(flat), 3), dtype=np.float32)
    for reach in _SHALLOW:
        error = flat - slope @ basis.T
        use = (use_any & (np.abs(error) < reach)).astype(np.float32)
        # Rays all round: the sums of 1, x and y over a ball hardly depend on one another.
        slope += ((use * error) @ basis) / (use @ np.square(basis) + _STEADY)
    steep = np.hypot(slope[:, 1], slope[:, 2])
    bound = np.minimum(steep, _STEEPEST)
    slope[:, 0] = np.clip(slope[:, 0], 0, _LIFT * bound)
    slope[:, 1:] *= (bound / np.maximum(steep, np.float32(1e-6)))[:, None]
    return slope.reshape(*depth.shape[:2], 3)


def _project_depth(outlines: Outlines, contrast: Array, block: slice, profile: Array, trust: Array) -> Array:
    """Return how much darker than a sound ball some joints are, in the two darkest slices, (m, k, ANGLES).

    The first k of `RADII` reach to all their edges. 0 outside of the rim.
    """
    edge = circle_radii(outlines.circle[block]) - RADII[0]
    inside = np.where(outlines.present[block, :, None], np.ceil(edge - np.float32(RIM)), 0).astype(np.int16)
    radius = np.arange(np.clip(inside.max(initial=1), 1, len(RADII)), dtype=np.int16)[:, None]
    # A step along a ray is the same number of steps of the profile everywhere.
    first = np.floor(np.float32(0.5) - (edge + _OFFSETS[0]) / np.float32(_STEP)).astype(np.intp)
    along = radius * round(1 / _STEP)
    scale = (trust / contrast[block])[:, :, None, None]
    level = outlines.background[block, :, None, None] * scale
    polar, sound_profile = outlines.polar[block, :, : len(radius)], profile * trust[:, None]
    slope = _find_slope(*_thin_depth(polar, sound_profile, first, along, scale, level, inside))
    slices = edge.shape[1]
    depth = np.zeros((len(edge), len(radius), ANGLES), dtype=np.float32)
    sound, before, darker = np.empty_like(depth), np.zeros_like(depth), np.empty_like(depth)
    for k in range(slices):
        sound_profile[k].take(first[:, k, None] + along, out=sound, mode="clip")
        sound -= np.multiply(polar[:, k], scale[:, k], out=darker)
        sound += level[:, k]
        np.multiply((slope[:, k, 1:] @ _DIRECTIONS)[:, None], RADII[: len(radius), None], out=darker)
        darker += slope[:, k, :1, None]
        sound -= darker
        sound *= radius < inside[:, k, None]
        if slices < CONFIRMED_FROM:
            np.maximum(depth, sound, out=depth)
            continue
        np.minimum(before, sound, out=before)  # what both slices show
        if k in (1, slices - 1):
            before *= np.float32(OUTERMOST)
        np.maximum(depth, before, out=depth)
        sound, before = before, sound
    return depth


def _find_sound_profile(outlines: Outlines, contrast: Array, seed: float) -> tuple[Array, Array]:
    """Find the grey of a ball without voids against the distance below its edge, (s, len(_OFFSETS)): the median of many.

    The second value (s,) says how far each slice's depths are to be trusted: 1, or less where even sound balls are uneven.
    """
    use = slice(None, None, max(1, len(outlines.centre) // TYPICAL_FROM))
    edge = circle_radii(outlines.circle[use])
    polar = np.ascontiguousarray(outlines.polar[use])
    grey = np.stack([sample_rays(polar, edge + offset) for offset in _OFFSETS])
    grey = (grey - outlines.background[use][None, :, :, None]) / contrast[use][None, :, :, None]
    grey = grey.transpose(2, 0, 1, 3).reshape(outlines.core.shape[1], len(_OFFSETS), -1)
    profile = row_median(grey)
    sigma = MAD_TO_SIGMA * row_median(np.abs(grey - profile[:, :, None]).reshape(len(grey), -1))
    trust: Array = np.minimum(1.0, seed / np.maximum(NOISE * sigma, 1e-6)).astype(np.float32)
    return profile, trust

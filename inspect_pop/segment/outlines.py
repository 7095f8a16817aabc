"""Outline every ball in every slice, and find the voids inside.

Unrolled, a ball's edge is one crossing per ray: voids do not tear it, and a web to a neighbour is a few long rays among
round ones.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.robust import MAD_TO_SIGMA, biweight, row_median
from inspect_pop.segment.windows import CONFIRMED_FROM, SAMPLES_PER_PITCH, SIZE, Windows, sample_windows

__all__ = ["ANGLES", "RADII", "Outlines", "circle_radii", "find_outlines", "find_void_fraction", "sample_rays", "unroll"]

Array = NDArray[np.float32]
ANGLES = 32
# From next to the middle to the line half way to the neighbour, in samples.
RADII = np.arange(0.5, SAMPLES_PER_PITCH / 2, 1.0, dtype=np.float32)
# Solder at less than this of the typical joint's grey is blur from other heights, not solder in this slice. A ball that
# is wholly out of a slice leaves 0.1 to 0.25 in laminography.
LEAST_CORE = 0.35
# Distance from the edge at which inside and outside are sampled, in samples: beyond the blur, before the next joint's.
_FROM_EDGE = 3.0
# How far the outline may leave its best circle inwards and outwards, in samples: deeper dents are voids that break
# through the edge in blur, longer points are webs and spikes.
_DENT, _POINT = 1.5, 4.0
_RECENTRE = 0.7  # samples off the middle from which on rays are drawn again
_LONG_ROW = 512  # values from which on a row is parted faster than it is sorted
_JOINTS_PER_BLOCK = 256  # intermediate arrays of so many stay near the processor; smaller blocks cost more in calls
_ANGLE = np.arange(ANGLES, dtype=np.float32) * np.float32(2 * np.pi / ANGLES)
_HARMONICS = np.stack([np.ones(ANGLES), np.cos(_ANGLE), np.sin(_ANGLE)], axis=1).astype(np.float32)
_PRODUCTS = np.stack([_HARMONICS[:, i] * _HARMONICS[:, j] for i in range(3) for j in range(i, 3)], axis=1)
_RIDGE = np.float32(1e-3)  # keeps the circle's equations solvable
_NEAR = 16  # samples about the window's middle in which a ball is searched
# (4 _NEAR^2, 3): one, x and y of each sample of the square about the middle, 0 outside its inscribed circle.
_X, _Y = np.meshgrid(np.arange(-_NEAR, _NEAR) + 0.5, -(np.arange(-_NEAR, _NEAR) + 0.5))
_IN_REACH = np.hypot(_X, _Y) <= _NEAR
_MOMENTS = np.stack([_IN_REACH, _X * _IN_REACH, _Y * _IN_REACH], axis=-1).reshape(-1, 3).astype(np.float32)


@dataclass(frozen=True)
class Outlines:
    """Ball outlines of n joints in s slices, in samples of the window; angles counter-clockwise from +x.

    `centre` (n, 2): (x, y) of the point that rays start from, relative to the window's middle, y up. `radius`
    (n, s, ANGLES): where each ray leaves the solder, bounded about the best circle so that voids do not dent it and webs
    do not stretch it; 0 without solder. `circle` (n, s, 3): that circle as mean radius and the (x, y) of its middle
    relative to `centre`. `core`, `background` (n, s): grey inside and around. `present` (n, s) bool: solder in that slice.
    `polar` (n, s, len(RADII), ANGLES): the unrolled windows. All others are float32.
    """

    centre: Array
    radius: Array
    circle: Array
    core: Array
    background: Array
    present: NDArray[np.bool_]
    polar: Array


def find_outlines(windows: Windows) -> Outlines:
    """Outline the ball in the middle of each window.

    A first crossing at half grey gives a circle that a third of wrong rays cannot pull; each ray is then placed half way
    between what lies just inside and just outside of it, which halos and shading of the surroundings do not shift.
    """
    starts = range(0, max(len(windows.values), 1), _JOINTS_PER_BLOCK)
    parts = [_outline_block(windows.values[start : start + _JOINTS_PER_BLOCK]) for start in starts]
    return Outlines(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Outlines)))


def _outline_block(values: Array) -> Outlines:
    # Centroid of what is brighter than half a typical joint, over all slices, near the window's middle.
    low, high = SIZE // 2 - _NEAR, SIZE // 2 + _NEAR
    mean = values[:, 0, low:high, low:high].copy()
    for k in range(1, values.shape[1]):
        mean += values[:, k, low:high, low:high]
    mean = mean.reshape(len(mean), -1) * (_MOMENTS[:, 0] / values.shape[1])
    peak = np.maximum(_rank(mean, 0.9), 0.2)
    total, x, y = (np.clip(mean - 0.5 * peak[:, None], 0, None) @ _MOMENTS).T
    centre: Array = np.clip(np.stack([x, y], axis=1) / np.maximum(total, 1e-6)[:, None], -6, 6)
    # First circles at half grey, and rays drawn again from their middles where those are off.
    polar = unroll(values, centre)
    core, background = _find_levels(polar)
    circle = _fit_circles(_find_last_crossing(polar, (core + background) / np.float32(2)))
    shift = np.clip(np.median(circle[:, :, 1:], axis=1), -6, 6)
    off = np.flatnonzero(np.hypot(shift[:, 0], shift[:, 1]) > _RECENTRE)
    if len(off):
        centre[off] += shift[off]
        polar[off] = unroll(values[off], centre[off])
        core[off], background[off] = _find_levels(polar[off])
        circle[off] = _fit_circles(_find_last_crossing(polar[off], (core[off] + background[off]) / np.float32(2)))
    # Each ray half way between the grey inside and outside of the circle, in two Newton steps; circles through them.
    least = (background + 0.6 * (core - background))[:, :, None]
    for _ in range(2):
        rays = circle_radii(circle)
        inside = np.maximum(sample_rays(polar, rays - _FROM_EDGE), least)
        level = (inside + sample_rays(polar, rays + _FROM_EDGE)) / 2
        slope = np.maximum((sample_rays(polar, rays - 1) - sample_rays(polar, rays + 1)) / 2, 0.03)
        for _ in range(2):
            rays = rays + np.clip((sample_rays(polar, rays) - level) / slope, -1.5, 1.5)
        rays = np.clip(rays, 0, RADII[-1])
        circle = _fit_circles(rays, circle)
    present = core - background > LEAST_CORE
    round_ = circle_radii(circle)
    radius = (round_ + np.clip(rays - round_, -_DENT, _POINT)) * present[:, :, None]
    return Outlines(centre, radius, circle, core, background, present, polar)


def unroll(values: Array, centre: Array) -> Array:
    """Sample (n, s, SIZE, SIZE) windows along rays from each joint's centre, bilinear: (n, s, len(RADII), ANGLES)."""
    n, s = values.shape[:2]
    col = (SIZE - 1) / 2 + centre[:, 0, None] + (RADII[:, None] * np.cos(_ANGLE)).ravel()
    row = (SIZE - 1) / 2 - centre[:, 1, None] - (RADII[:, None] * np.sin(_ANGLE)).ravel()
    return sample_windows(values, np.arange(n), row, col).reshape(n, s, len(RADII), ANGLES)


def circle_radii(circle: Array) -> Array:
    """Return the radius (n, s, ANGLES) of each circle (n, s, 3) along each ray, to first order in its offset."""
    radius: Array = (circle.reshape(-1, 3) @ _HARMONICS.T).reshape(*circle.shape[:2], ANGLES)
    return radius


def _find_levels(polar: Array) -> tuple[Array, Array]:
    """Find the grey of the ball's inside and of its surroundings, (n, s) each.

    The inside is the upper quartile of a wide ring, so that a void of half the ball's width does not pass for it; the
    surroundings are the lower quartile next to the half-way line, so that webs and halos on one side do not.
    """
    n, s = polar.shape[:2]
    return _rank(polar[:, :, 3:10].reshape(n, s, -1), 0.75), _rank(polar[:, :, -3:].reshape(n, s, -1), 0.25)


def _rank(values: Array, share: float) -> Array:
    """Return the value below which `share` of the last axis lies."""
    k = min(int(share * values.shape[-1]), values.shape[-1] - 1)
    ranked = np.sort(values, axis=-1) if values.shape[-1] < _LONG_ROW else np.partition(values, k, axis=-1)
    return np.asarray(ranked[..., k])


def _find_last_crossing(polar: Array, level: Array) -> Array:
    """Find the radius, in samples, at which each ray last falls below `level` (n, s); 0 where it never lies above."""
    above = polar > level[:, :, None, None]
    count = len(RADII)
    found = np.zeros((*level.shape, ANGLES), dtype=np.uint8)
    for k in range(1, count):
        np.copyto(found, k, where=above[:, :, k])
    last = found.astype(np.intp)
    following = np.minimum(last + 1, count - 1)
    inner, outer = (polar.reshape(-1).take(_ray_index(k)) for k in (last, following))
    drop = np.maximum(inner - outer, 1e-6)
    part = np.where(following > last, np.clip((inner - level[:, :, None]) / drop, 0, 1), 0)
    crossing: Array = np.where((found > 0) | above[:, :, 0], RADII[last] + part, 0).astype(np.float32)
    return crossing


def _fit_circles(rays: Array, start: Array | None = None) -> Array:
    """Fit mean radius and middle (x, y), (n, s, 3), of the circle through most rays (n, s, ANGLES).

    First harmonics by iteratively reweighted least squares with Tukey's biweight, its reach shrinking from four samples
    to two; from a circle that is near already, two rounds do.
    """
    edge = rays.reshape(-1, ANGLES)
    if start is None:
        reaches: tuple[float, ...] = (4.0, 3.0, 2.5, 2.0, 2.0)
        circle = np.zeros((len(edge), 3), dtype=np.float32)
        circle[:, 0] = row_median(edge)
    else:
        reaches, circle = (2.0, 2.0), start.reshape(-1, 3)
    for reach in reaches:
        error = edge - circle @ _HARMONICS.T
        weight = biweight(error / np.float32(reach))
        # Symmetric normal equations, (n, 6) upper triangles row by row, steadied a little and solved by elimination.
        a, b, c, d, e, f = (weight @ _PRODUCTS).T
        p, q, r = ((weight * error) @ _HARMONICS).T
        a, d, f = a + _RIDGE, d + _RIDGE, f + _RIDGE
        u, v = b / a, c / a
        d, e, q = d - u * b, e - u * c, q - u * p
        w = e / d
        z = (r - v * p - w * q) / (f - v * c - w * e)
        y = (q - e * z) / d
        circle = circle + np.stack([(p - b * y - c * z) / a, y, z], axis=1)
    return circle.reshape(*rays.shape[:2], 3)


def sample_rays(polar: Array, radius: Array) -> Array:
    """Sample the unrolled windows at these radii (n, s, ANGLES), linear between samples."""
    place = np.clip(radius - RADII[0], 0, np.float32(len(RADII) - 1.001))
    low = place.astype(np.intp)
    place -= low.astype(np.float32)  # a whole number would make 64-bit numbers of all that follows
    index = _ray_index(low)
    first = polar.reshape(-1).take(index)
    index += ANGLES
    between: Array = polar.reshape(-1).take(index)
    between -= first
    between *= place
    between += first
    return between


def _ray_index(place: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where in memory the sample of each ray lies whose index along it is `place` (n, s, ANGLES)."""
    return _first_ray_samples(place.size // ANGLES).reshape(place.shape) + place * ANGLES


@lru_cache(maxsize=8)
def _first_ray_samples(pictures: int) -> NDArray[np.intp]:
    """Return where each ray of so many unrolled pictures begins in memory, (pictures, ANGLES)."""
    return np.arange(pictures)[:, None] * (len(RADII) * ANGLES) + np.arange(ANGLES)


# Find voids: what is darker inside a ball than a ball of its size is at that depth below its edge.
#
# Measured in the manner of IPC-7095: the voids' area as projected along the beam, over the ball's. A void fills only part
# of the height, so each lies dark in some slices; the projection is the darkest of all. In a stack of
# five slices and more, only what is dark in a slice and in one beside it is a void. Ghosts of the other interface,
# which shade the last slices on its side, are taken out in this way. What brightens one side of a ball in all slices
# is taken out as a slope across the ball. A void that blur makes shallow loses its rim below the depths that count; how much
# of its area that is follows from its depth, alike on all simulated machines (docs/lab/evidence.md).


class Depths(NamedTuple):
    """How dark a void is against a sound ball, as shares of the ball's contrast.

    `seed` begins a void; next to one, `grow` at least still belongs to it, and `grow_share` of the deepest: a blurred rim.
    """

    seed: float
    grow: float
    grow_share: float


ALONE = Depths(0.2, 0.1, 0.35)  # noise and ghosts of one slice reach 0.1 to 0.15
CONFIRMED = Depths(0.12, 0.06, 0.2)  # what two slices share of them reaches 0.1, slopes taken out
# True area over what is found, where the deepest void of a ball has this depth: at least 1, at most the last.
_LOST_RIM = (0.95, 0.03, 2.2)  # of a + b / depth^2: 2.0 at 0.17, 1.35 at 0.27, 1 from 0.8 on; medians of 2,200 voids within 0.1
# A blurred void is that deep, of its deepest, in a third of what is found; one with a flat bottom in most, and it loses no rim.
_FLAT_DEPTH, _FLAT_SHARE, _BLURRED_SHARE = 0.7, 0.75, 0.5
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
_VOID_ANGLE = np.arange(ANGLES) * 2 * np.pi / ANGLES
_DIRECTIONS = np.stack([np.cos(_VOID_ANGLE), np.sin(_VOID_ANGLE)]).astype(np.float32)
# 1, x and y of those samples.
_SLOPE_BASIS = np.stack(
    [np.ones((len(RADII), ANGLES)), *(RADII[:, None] * direction for direction in _DIRECTIONS)], axis=-1
).astype(np.float32)
_SLOPE_BASIS = _SLOPE_BASIS[:: _SLOPE_STEPS[0], :: _SLOPE_STEPS[1]].reshape(-1, 3)
_STEADY = np.array([2.0, 50.0, 50.0], dtype=np.float32)  # keeps a slope of few samples small
_VOID_JOINTS_PER_BLOCK = 64  # intermediate arrays of so many stay in the processor's cache


def find_void_fraction(outlines: Outlines) -> NDArray[np.float32]:
    """Return projected void area over projected ball area, (n,); NaN where there is no ball in any slice."""
    solder = np.any(outlines.present, axis=1)
    fraction: Array = np.where(solder, 0.0, np.nan).astype(np.float32)
    if not solder.any():
        return fraction
    contrast = _find_contrast(outlines)
    depths = CONFIRMED if outlines.core.shape[1] >= CONFIRMED_FROM else ALONE
    profile, trust = _find_sound_profile(outlines, contrast, depths.seed)
    for start in range(0, len(fraction), _VOID_JOINTS_PER_BLOCK):
        block = slice(start, start + _VOID_JOINTS_PER_BLOCK)
        depth = _project_depth(outlines, contrast, block, profile, trust)
        seed = depth > depths.seed
        # Seeds grow into what touches them: one ray to either side, two samples inwards and outwards.
        wide = seed | np.roll(seed, 1, axis=2) | np.roll(seed, -1, axis=2)
        near = wide.copy()
        for shift in (1, 2):
            near[:, shift:] |= wide[:, :-shift]
            near[:, :-shift] |= wide[:, shift:]
        deepest = depth.max(axis=(1, 2))
        rim = np.maximum(depths.grow, depths.grow_share * deepest)[:, None, None]
        void = seed | (near & (depth > rim))
        area = RADII[: depth.shape[1]] @ void.sum(axis=2).T * (2 * np.pi / ANGLES)
        some = np.flatnonzero(area > 0)
        area[some] *= _restore_rim(void[some], depth[some], deepest[some], area[some])
        ball = np.pi * np.square(np.where(outlines.present[block], outlines.circle[block, :, 0], 0)).max(axis=1)
        fraction[block] += np.clip(area / np.maximum(ball, 1e-6), 0, 1).astype(np.float32)
    return fraction


def _restore_rim(void: NDArray[np.bool_], depth: Array, deepest: Array, area: Array) -> Array:
    """Return how many times larger the voids of each ball are than the `area` that is found of them, (m,), all above 0."""
    flat = void & (depth > _FLAT_DEPTH * deepest[:, None, None])
    share = RADII[: depth.shape[1]] @ flat.sum(axis=2).T * (2 * np.pi / ANGLES) / area
    blurred = np.clip((_FLAT_SHARE - share) / (_FLAT_SHARE - _BLURRED_SHARE), 0.0, 1.0)
    lost = np.clip(_LOST_RIM[0] + _LOST_RIM[1] / np.square(deepest), 1.0, _LOST_RIM[2])
    return np.asarray(1 + (lost - 1) * blurred, dtype=np.float32)


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

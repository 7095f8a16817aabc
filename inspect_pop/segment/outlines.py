"""Outline every ball in every slice, all joints at once, on their windows unrolled about their middles.

Unrolled, a ball's edge is one crossing per ray: voids do not tear it, and a web to a neighbour is a few long rays among
round ones.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.robust import biweight, row_median
from inspect_pop.segment.windows import SAMPLES_PER_PITCH, SIZE, Windows, sample_windows

__all__ = ["ANGLES", "RADII", "Outlines", "circle_radii", "find_outlines", "sample_rays", "unroll"]

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

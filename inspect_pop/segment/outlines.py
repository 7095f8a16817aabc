"""The outline of every ball in every slice, all joints at once, from their windows unrolled about their middles.

Unrolled, a ball's edge is one crossing a ray: voids do not tear it, and a web to a neighbour is a few long rays among
round ones.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from inspect_pop.segment.windows import SAMPLES_PER_PITCH, SIZE, Windows, sample_windows

__all__ = ["ANGLES", "RADII", "Outlines", "circles_at", "find_outlines", "grey_at", "unroll"]

Array = NDArray[np.float32]
ANGLES = 32
# From next to the middle to the line half way to the neighbour, in samples.
RADII = np.arange(0.5, SAMPLES_PER_PITCH / 2, 1.0, dtype=np.float32)
# Solder at less than this of the typical joint's grey is blur from other heights, not solder in this slice. A ball that
# is wholly out of a slice leaves 0.1 to 0.25 in laminography.
LEAST_CORE = 0.35
# Inside and outside are looked at this far from the edge, in samples: beyond the blur, before the next joint's.
_BESIDE = 3.0
# How far the outline may leave its best circle inwards and outwards, in samples: deeper dents are voids that break
# through the edge in blur, longer points are webs and spikes.
_DENT, _POINT = 1.5, 4.0
_RECENTRE = 0.7  # samples off the middle from which on rays are drawn again
_JOINTS_AT_ONCE = 256  # what is made of them on the way stays near the processor; fewer cost more in calls
_ANGLE = np.arange(ANGLES, dtype=np.float32) * np.float32(2 * np.pi / ANGLES)
_HARMONICS = np.stack([np.ones(ANGLES), np.cos(_ANGLE), np.sin(_ANGLE)], axis=1).astype(np.float32)
_PRODUCTS = np.stack([_HARMONICS[:, i] * _HARMONICS[:, j] for i in range(3) for j in range(i, 3)], axis=1)
_STEADY = np.float32(1e-3)
_NEAR = 16  # samples about the window's middle in which a ball is looked for


def _moments() -> Array:
    """(4 _NEAR^2, 3): one, x and y of each sample of the square about the middle, 0 outside its inscribed circle."""
    axis = np.arange(-_NEAR, _NEAR) + 0.5
    x, y = np.meshgrid(axis, -axis)
    near = np.hypot(x, y) <= _NEAR
    return np.stack([near, x * near, y * near], axis=-1).reshape(-1, 3).astype(np.float32)


_MOMENTS = _moments()


@dataclass(frozen=True)
class Outlines:
    """Ball outlines of n joints in s slices, in samples of the window; angles counter-clockwise from +x.

    `centre` (n, 2): (x, y) of the point that rays start from, relative to the window's middle, y up. `radius`
    (n, s, ANGLES): where each ray leaves the solder, bounded about the best circle so that voids do not dent it and webs
    do not stretch it; 0 without solder. `circle` (n, s, 3): that circle as mean radius and the (x, y) of its middle
    relative to `centre`. `core`, `background` (n, s): grey inside and around. `present` (n, s): solder in that slice.
    `polar` (n, s, len(RADII), ANGLES): the unrolled windows.
    """

    centre: Array
    radius: Array
    circle: Array
    core: Array
    background: Array
    present: NDArray[np.bool_]
    polar: Array


def find_outlines(windows: Windows) -> Outlines:
    """Outline of the ball in the middle of each window.

    A first crossing at half grey gives a circle that a third of wrong rays cannot pull; each ray is then placed half way
    between what lies just inside and just outside of it, which halos and shading of the surroundings do not shift.
    """
    starts = range(0, max(len(windows.values), 1), _JOINTS_AT_ONCE)
    parts = [_outlined(windows.values[start : start + _JOINTS_AT_ONCE]) for start in starts]
    return Outlines(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Outlines)))


def _outlined(values: Array) -> Outlines:
    centre = _middles(values)
    polar = unroll(values, centre)
    core, background = _levels(polar)
    circle = _circle(_leaving(polar, _half(core, background)))
    shift = np.clip(np.median(circle[:, :, 1:], axis=1), -6, 6)
    off = np.flatnonzero(np.hypot(shift[:, 0], shift[:, 1]) > _RECENTRE)
    if len(off):
        centre[off] += shift[off]
        polar[off] = unroll(values[off], centre[off])
        core[off], background[off] = _levels(polar[off])
        circle[off] = _circle(_leaving(polar[off], _half(core[off], background[off])))
    present = core - background > LEAST_CORE
    for _ in range(2):
        rays = _at_edge(polar, circles_at(circle), core, background)
        circle = _circle(rays, circle)
    round_ = circles_at(circle)
    radius = (round_ + np.clip(rays - round_, -_DENT, _POINT)) * present[:, :, None]
    return Outlines(centre, radius, circle, core, background, present, polar)


def unroll(values: Array, centre: Array) -> Array:
    """(n, s, len(RADII), ANGLES) bilinear samples of (n, s, SIZE, SIZE) windows along rays from each joint's centre."""
    n, s = values.shape[:2]
    col = (SIZE - 1) / 2 + centre[:, 0, None] + (RADII[:, None] * np.cos(_ANGLE)).ravel()
    row = (SIZE - 1) / 2 - centre[:, 1, None] - (RADII[:, None] * np.sin(_ANGLE)).ravel()
    return sample_windows(values, np.arange(n), row, col).reshape(n, s, len(RADII), ANGLES)


def _middles(values: Array) -> Array:
    """(n, 2) centroid (x, y) of what is brighter than half a typical joint, over all slices, near the window's middle."""
    low, high = SIZE // 2 - _NEAR, SIZE // 2 + _NEAR
    mean = values[:, 0, low:high, low:high].copy()
    for k in range(1, values.shape[1]):
        mean += values[:, k, low:high, low:high]
    mean = mean.reshape(len(mean), -1) * (_MOMENTS[:, 0] / values.shape[1])
    peak = np.maximum(_rank(mean, 0.9), 0.2)
    total, x, y = (np.clip(mean - 0.5 * peak[:, None], 0, None) @ _MOMENTS).T
    centre: Array = np.clip(np.stack([x, y], axis=1) / np.maximum(total, 1e-6)[:, None], -6, 6)
    return centre


def circles_at(circle: Array) -> Array:
    """(n, s, ANGLES) radius of each circle (n, s, 3) along each ray, to first order in how far off the middle it is."""
    radius: Array = (circle.reshape(-1, 3) @ _HARMONICS.T).reshape(*circle.shape[:2], ANGLES)
    return radius


def _levels(polar: Array) -> tuple[Array, Array]:
    """Grey of the ball's inside and of its surroundings, (n, s) each.

    The inside is the upper quartile of a wide ring, so that a void of half the ball's width does not pass for it; the
    surroundings are the lower quartile next to the half-way line, so that webs and halos on one side do not.
    """
    n, s = polar.shape[:2]
    return _rank(polar[:, :, 3:10].reshape(n, s, -1), 0.75), _rank(polar[:, :, -3:].reshape(n, s, -1), 0.25)


def _rank(values: Array, share: float) -> Array:
    """The value below which `share` of the last axis lies."""
    k = min(int(share * values.shape[-1]), values.shape[-1] - 1)
    ranked: Array = np.sort(values, axis=-1)[..., k]  # short rows are sorted faster than they are parted
    return ranked


def _leaving(polar: Array, level: Array) -> Array:
    """Radius, in samples, at which each ray last falls below `level` (n, s); 0 where it never lies above."""
    above = polar > level[:, :, None, None]
    count = len(RADII)
    found = np.zeros((*level.shape, ANGLES), dtype=np.uint8)
    for k in range(1, count):
        np.copyto(found, k, where=above[:, :, k])
    last = found.astype(np.intp)
    following = np.minimum(last + 1, count - 1)
    inner, outer = (polar.reshape(-1).take(_index(k)) for k in (last, following))
    drop = np.maximum(inner - outer, 1e-6)
    part = np.where(following > last, np.clip((inner - level[:, :, None]) / drop, 0, 1), 0)
    leaving: Array = np.where((found > 0) | above[:, :, 0], RADII[last] + part, 0).astype(np.float32)
    return leaving


def _half(core: Array, background: Array) -> Array:
    level: Array = ((core + background) / 2).astype(np.float32)
    return level


def _circle(rays: Array, start: Array | None = None) -> Array:
    """(n, s, 3) mean radius and middle (x, y) of the circle through most rays (n, s, ANGLES).

    First harmonics by iteratively reweighted least squares with Tukey's biweight, its reach shrinking from four samples
    to two; from a circle that is near already, two rounds do.
    """
    edge = rays.reshape(-1, ANGLES)
    if start is None:
        reaches: tuple[float, ...] = (4.0, 3.0, 2.5, 2.0, 2.0)
        circle = np.zeros((len(edge), 3), dtype=np.float32)
        circle[:, 0] = np.sort(edge, axis=1)[:, ANGLES // 2 - 1 : ANGLES // 2 + 1].mean(axis=1)
    else:
        reaches, circle = (2.0, 2.0), start.reshape(-1, 3)
    for reach in reaches:
        error = edge - circle @ _HARMONICS.T
        weight = np.square(np.clip(1 - np.square(error / np.float32(reach)), 0, None))
        circle = circle + _solved(weight @ _PRODUCTS, (weight * error) @ _HARMONICS)
    return circle.reshape(*rays.shape[:2], 3)


def _solved(normal: Array, right: Array) -> Array:
    """(n, 3) solutions of symmetric equations with `normal` (n, 6): upper triangle, row by row, steadied a little."""
    a, b, c, d, e, f = (normal[..., k] for k in range(6))
    p, q, r = (right[..., k] for k in range(3))
    a, d, f = a + _STEADY, d + _STEADY, f + _STEADY
    u, v = b / a, c / a
    d, e, q = d - u * b, e - u * c, q - u * p
    w = e / d
    z = (r - v * p - w * q) / (f - v * c - w * e)
    y = (q - e * z) / d
    out = np.empty_like(right)
    out[..., 0], out[..., 1], out[..., 2] = (p - b * y - c * z) / a, y, z
    return out


def _at_edge(polar: Array, radius: Array, core: Array, background: Array) -> Array:
    """Each ray's crossing of the level half way between inside and outside near `radius` (n, s, ANGLES): two Newton steps."""
    least = (background + 0.6 * (core - background))[:, :, None]
    inside = np.maximum(grey_at(polar, radius - _BESIDE), least)
    level = (inside + grey_at(polar, radius + _BESIDE)) / 2
    slope = np.maximum((grey_at(polar, radius - 1) - grey_at(polar, radius + 1)) / 2, 0.03)
    rays = radius
    for _ in range(2):
        rays = rays + np.clip((grey_at(polar, rays) - level) / slope, -1.5, 1.5)
    return np.clip(rays, 0, RADII[-1])


def grey_at(polar: Array, radius: Array) -> Array:
    """The unrolled windows at these radii (n, s, ANGLES), linear between samples."""
    place = np.clip(radius - RADII[0], 0, np.float32(len(RADII) - 1.001))
    low = place.astype(np.intp)
    place -= low.astype(np.float32)  # a whole number would make 64-bit numbers of all that follows
    index = _index(low)
    first = polar.reshape(-1).take(index)
    index += ANGLES
    between: Array = polar.reshape(-1).take(index)
    between -= first
    between *= place
    between += first
    return between


def _index(place: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where in memory the sample of each ray lies whose index along it is `place` (n, s, ANGLES)."""
    return _first_samples(place.size // ANGLES).reshape(place.shape) + place * ANGLES


@lru_cache(maxsize=8)
def _first_samples(pictures: int) -> NDArray[np.intp]:
    """Where each ray of so many unrolled pictures begins in memory, (pictures, ANGLES)."""
    return np.arange(pictures)[:, None] * (len(RADII) * ANGLES) + np.arange(ANGLES)

"""Axisymmetric solder bodies between two pads, and their volumes.

A body that wets both pads is bounded by a circular arc through both pads' rims (at nominal volume and stand-off exactly
the truncated sphere of the export format; a convex barrel above that, an hourglass below). A body that does not is made of
up to two spheroid segments, one on each pad: the deposit's dome and the ball. Heights `u` are measured from the lower pad.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bodies", "arc_sagitta", "arc_volume", "cap", "cap_volume", "empty_bodies"]

Floats = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


@dataclass(frozen=True)
class Bodies:
    """Solder of `n` joints. All lengths in um.

    `standoff` (n,) between the pads; `low`, `high` (n,) the wetted radii; `sagitta` (n,) of the arc between them (positive:
    barrel), NaN where the joint is not one merged body; `parts` (n, 2, 5): lower and upper spheroid segment as centre height,
    horizontal radius, vertical semi-axis, first and last height; a segment with radius 0 is not there. `crease` (n,) is the
    height of the gap or crease, NaN without one.
    """

    standoff: Floats
    low: Floats
    high: Floats
    sagitta: Floats
    parts: Floats
    crease: Floats

    def radius(self, u_um: Floats) -> Floats:
        """Radius (n, m) at heights `u_um` (n, m) above each joint's lower pad; 0 where there is no solder."""
        merged = ~np.isnan(self.sagitta)
        out = np.zeros(u_um.shape)
        out[merged] = _arc(u_um[merged], self.standoff[merged], self.low[merged], self.high[merged], self.sagitta[merged])
        rest = ~merged
        out[rest] = np.maximum(_segment(u_um[rest], self.parts[rest, 0]), _segment(u_um[rest], self.parts[rest, 1]))
        return out

    def volume(self) -> Floats:
        """Volume (n,) in um^3, by the midpoint rule over 400 layers."""
        u = (np.arange(400) + 0.5) / 400 * self.standoff[:, None]
        return np.pi * np.mean(self.radius(u) ** 2, axis=1) * self.standoff  # type: ignore[no-any-return]


def empty_bodies(standoff: Floats) -> Bodies:
    """Bodies without any solder, to be filled in."""
    n = len(standoff)
    zero = np.zeros(n)
    return Bodies(standoff.astype(float), zero.copy(), zero.copy(), np.full(n, np.nan), np.zeros((n, 2, 5)), np.full(n, np.nan))


def arc_volume(standoff: Floats, low: Floats, high: Floats, sagitta: Floats) -> Floats:
    """Volume (n,) inside the arc body, um^3 (Gauss-Legendre, exact to 1e-6 for these shapes)."""
    u = (_NODES + 1) / 2 * standoff[:, None]
    radius = _arc(u, standoff, low, high, sagitta)
    return np.pi * (radius**2 @ (_WEIGHTS / 2)) * standoff


def arc_sagitta(volume: Floats, standoff: Floats, low: Floats, high: Floats) -> Floats:
    """Sagitta (n,) of the arc whose body has the given volume: bisection between a pinched neck and a half circle."""
    a, b = -0.9 * np.minimum(low, high), 0.499 * standoff
    a = np.maximum(a, -0.499 * standoff)
    for _ in range(40):
        middle = (a + b) / 2
        above = arc_volume(standoff, low, high, middle) > volume
        b, a = np.where(above, middle, b), np.where(above, a, middle)
    return (a + b) / 2


def cap(base: Floats | float, height: Floats | float) -> tuple[Floats, Floats]:
    """(sphere's radius, centre above the base plane; negative for a flat cap) of a spherical cap."""
    radius = (np.square(base) + np.square(height)) / (2 * np.asarray(height, float))
    return radius, height - radius


def cap_volume(base: Floats | float, height: Floats | float) -> Floats:
    """Volume of a spherical cap, um^3."""
    return np.pi * np.asarray(height, float) * (3 * np.square(base) + np.square(height)) / 6  # type: ignore[no-any-return]


def _arc(u: Floats, standoff: Floats, low: Floats, high: Floats, sagitta: Floats) -> Floats:
    h, s = standoff[:, None], sagitta[:, None]
    safe = np.where(np.abs(s) < 1e-6, 1e-6, s)
    radius = (h**2 / 4 + safe**2) / (2 * np.abs(safe))
    inside = np.sqrt(np.maximum(radius**2 - (u - h / 2) ** 2, 0)) - (radius - np.abs(safe))
    line = low[:, None] + (high - low)[:, None] * np.clip(u / h, 0, 1)
    return np.where((u >= 0) & (u <= h), np.maximum(line + np.sign(safe) * inside, 0.0), 0.0)


def _segment(u: Floats, part: Floats) -> Floats:
    centre, radius, semi, first, last = (part[:, k : k + 1] for k in range(5))
    inside = 1 - ((u - centre) / np.where(semi > 0, semi, 1.0)) ** 2
    return np.where((u >= first) & (u <= last) & (radius > 0), radius * np.sqrt(np.maximum(inside, 0.0)), 0.0)

"""Axisymmetric solder bodies between two pads, and their volumes.

A body that wets both pads is bounded by a circular arc through both pads' rims (at nominal volume and stand-off exactly
the truncated sphere of the export format; a convex barrel above that, an hourglass below). A body that does not is made of
up to two spheroid segments, one on each pad: the deposit's dome and the ball. Heights `u` are measured from the lower pad.

Every variety of joint: how its solder lies, graded up to the thresholds of the export format.

A variety belongs to one class. Each is made for many joints at once from local stand-off, pad radius, nominal volume and a
generator; what comes out are `Bodies` and the truth that follows from them (volume, gap).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASS_OF",
    "STARVED_BELOW",
    "Bodies",
    "arc_sagitta",
    "arc_volume",
    "build_bodies",
    "cap",
    "cap_volume",
    "empty_bodies",
]

# ---- simulate/shapes
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


# ---- simulate/varieties
STARVED_BELOW = 2 / 3  # export format: a continuous joint below this share of nominal volume is starved

CLASS_OF = {
    "plain": "good",
    "low_volume": "good",
    "excess": "good",
    "big_void": "good",
    "spike": "good",
    "shoulder": "good",
    "pear": "good",
    "web": "bridged",
    "hanging": "open",
    "standing": "open",
    "two_domes": "open",
    "missing": "open",
    "dome_on_dome": "head_in_pillow",
    "cupped": "head_in_pillow",
    "hourglass": "starved",
}


@dataclass(frozen=True)
class _Site:
    """What a variety is made from, all (n,): stand-off, pad radius, volume wanted (um^3)."""

    standoff: Floats
    pad: Floats
    volume: Floats


def build_bodies(
    rng: np.random.Generator, variety: NDArray[np.object_], standoff_um: Floats, pad_radius_um: float, volume_um3: Floats
) -> tuple[Bodies, Floats]:
    """Bodies (n joints) and the gap (n,) in um without metal between the pads: NaN where the joint is one body.

    `volume_um3` (n,) is what each joint should hold. Unwetted varieties take what their shape allows of it.
    """
    n = len(variety)
    bodies = empty_bodies(standoff_um)
    gap = np.full(n, np.nan)
    # a ball that did not merge takes little of the deposit with it: what the samples' widest slices say of their volume
    unmerged = np.array([CLASS_OF[v] == "head_in_pillow" for v in variety])
    volume_um3 = np.where(unmerged, volume_um3 * np.maximum(rng.normal(0.92, 0.10, n), 0.5), volume_um3)
    wetting = 1 + 0.015 * rng.standard_normal((2, n))
    for name in np.unique(variety.astype(str)):
        at = np.flatnonzero(variety == name)
        site = _Site(standoff_um[at], np.full(len(at), pad_radius_um), volume_um3[at])
        if name != "pear" and CLASS_OF[name] in ("good", "bridged", "starved"):
            bodies.low[at], bodies.high[at] = site.pad * wetting[0, at], site.pad * wetting[1, at]
            bodies.sagitta[at] = arc_sagitta(site.volume, site.standoff, bodies.low[at], bodies.high[at])
        elif name == "pear":
            bodies.parts[at] = _pear(rng, site)
        else:
            gap[at], bodies.parts[at], bodies.crease[at] = _UNWETTED[name](rng, site)
    return bodies, gap


def _hanging(rng: np.random.Generator, site: _Site) -> tuple[Floats, Floats, Floats]:
    """All solder on the upper pad, and a gap below it: graded from 5 um up."""
    gap = np.minimum(5.0 + rng.exponential(9.0, len(site.pad)), 0.5 * site.standoff)
    return gap, _on_pads(site, None, _dome(rng, site, site.standoff - gap, upper=True)), gap / 2


def _standing(rng: np.random.Generator, site: _Site) -> tuple[Floats, Floats, Floats]:
    gap = np.minimum(5.0 + rng.exponential(9.0, len(site.pad)), 0.5 * site.standoff)
    return gap, _on_pads(site, _dome(rng, site, site.standoff - gap, upper=False), None), site.standoff - gap / 2


def _two_domes(rng: np.random.Generator, site: _Site) -> tuple[Floats, Floats, Floats]:
    """A ball on the upper pad, a deposit on the lower one, and a gap that one can drive through."""
    gap = np.minimum(5.0 + rng.exponential(9.0, len(site.pad)), 0.4 * site.standoff)
    deposit = (site.standoff - gap) * rng.uniform(0.12, 0.45, len(site.pad))
    parts = _on_pads(site, _dome(rng, site, deposit, upper=False), _dome(rng, site, site.standoff - gap - deposit, upper=True))
    return gap, parts, deposit + gap / 2


def _missing(_: np.random.Generator, site: _Site) -> tuple[Floats, Floats, Floats]:
    return site.standoff.copy(), np.zeros((len(site.pad), 2, 5)), site.standoff / 2


def _dome_on_dome(rng: np.random.Generator, site: _Site) -> tuple[Floats, Floats, Floats]:
    """The ball on the upper pad rests on the deposit's dome: a waist where they touch, less than 5 um apart.

    The deposit is half an ellipsoid, steep at the pad, as the samples' pad slices show it.
    """
    n = len(site.pad)
    gap = rng.uniform(0.0, 4.5, n)
    deposit = site.standoff * rng.uniform(0.2, 0.45, n)
    zero, base = np.zeros(n), site.pad * rng.uniform(0.88, 1.02, n)
    low = np.stack([zero, base, deposit, zero, deposit], axis=1)
    rest = site.volume - 2 / 3 * np.pi * base**2 * deposit
    parts = _on_pads(site, low, _ball(rng, site, site.standoff - deposit - gap, rest))
    return _some_turned(rng, site, gap, parts, deposit + gap / 2)


def _cupped(rng: np.random.Generator, site: _Site) -> tuple[Floats, Floats, Floats]:
    """The deposit has risen around the ball: nearly the outline of a good joint, with a notch at the rim of the cup."""
    gap = rng.uniform(0.0, 4.5, len(site.pad))
    rim = site.standoff * rng.uniform(0.2, 0.45, len(site.pad))
    tip = rim * rng.uniform(0.15, 0.7, len(site.pad))
    semi = rim / np.sqrt(1 - rng.uniform(0.75, 0.98, len(site.pad)) ** 2)
    low = np.stack([np.zeros_like(rim), site.pad, semi, np.zeros_like(rim), rim], axis=1)
    cup = np.pi * site.pad**2 * (rim - tip) * 0.6
    parts = _on_pads(site, low, _ball(rng, site, site.standoff - tip, site.volume - cup))
    return _some_turned(rng, site, gap, parts, rim)


def _some_turned(
    rng: np.random.Generator, site: _Site, gap: Floats, parts: Floats, crease: Floats
) -> tuple[Floats, Floats, Floats]:
    """One in twelve with the ball on the lower pad: where the package's own solder is the deposit."""
    turned = rng.random(len(gap)) < 1 / 12
    parts[turned] = _upside_down(parts[turned], site.standoff[turned])
    return gap, parts, np.where(turned, site.standoff - crease, crease)


def _pear(rng: np.random.Generator, site: _Site) -> Floats:
    """One body, but uneven: a wide end that sits like a ball in a narrow one, without a crease.

    The good joint that most looks like head-in-pillow; one in ten stands on its wide end.
    """
    n = len(site.pad)
    end = site.standoff * rng.uniform(0.3, 0.6, n)
    semi = end / np.sqrt(1 - rng.uniform(0.75, 0.98, n) ** 2)
    zero = np.zeros(n)
    narrow = np.stack([zero, site.pad * rng.uniform(0.93, 1.02, n), semi, zero, end], axis=1)
    # The ball reaches so far down that both are equally wide where they meet, and no notch is left.
    ball = _ball(rng, site, site.standoff * rng.uniform(0.93, 0.995, n), site.volume * rng.uniform(0.9, 1.0, n), (1.0, 1.2))
    parts = np.stack([narrow, ball], axis=1)
    turned = rng.random(n) < 0.1
    parts[turned] = _upside_down(parts[turned], site.standoff[turned])
    return parts


def _upside_down(parts: Floats, standoff: Floats) -> Floats:
    """Segments (n, 2, 5) as seen from the other pad, lower one first."""
    out = parts[:, ::-1].copy()
    out[:, :, 0] = standoff[:, None] - parts[:, ::-1, 0]
    out[:, :, 3] = standoff[:, None] - parts[:, ::-1, 4]
    out[:, :, 4] = standoff[:, None] - parts[:, ::-1, 3]
    return out


def _dome(rng: np.random.Generator, site: _Site, height: Floats, *, upper: bool) -> Floats:
    """Spherical cap (n, 5) on a pad that it wets to the rim, or a little over it."""
    radius, centre = cap(site.pad * rng.uniform(0.98, 1.12, len(site.pad)), height)
    zero = np.zeros_like(height)
    if upper:
        return np.stack([site.standoff - centre, radius, radius, site.standoff - height, site.standoff], axis=1)
    return np.stack([centre, radius, radius, zero, height], axis=1)


def _ball(
    rng: np.random.Generator, site: _Site, height: Floats, volume: Floats, foot: tuple[float, float] = (1.0, 1.36)
) -> Floats:
    """Oblate ball (n, 5) of given height below the upper pad, with the given volume where it can.

    Its foot is as many times as wide as the pad as `foot` spans: in the samples, balls that did not merge stand over its rim.
    With s = sqrt(1 - (foot / R)^2): height = b (1 + s), volume = pi R^2 b (s - s^3 / 3 + 2 / 3); R by bisection.
    """
    base = site.pad * rng.uniform(*foot, len(site.pad))
    low, high = base * 1.0001, base * 1.8
    for _ in range(40):
        radius = (low + high) / 2
        s = np.sqrt(1 - (base / radius) ** 2)
        above = np.pi * radius**2 * height / (1 + s) * (s - s**3 / 3 + 2 / 3) > volume
        high, low = np.where(above, radius, high), np.where(above, low, radius)
    s = np.sqrt(1 - (base / radius) ** 2)
    semi = height / (1 + s)
    return np.stack([site.standoff - s * semi, radius, semi, site.standoff - height, site.standoff], axis=1)


def _on_pads(site: _Site, low: Floats | None, high: Floats | None) -> Floats:
    none = np.zeros((len(site.pad), 5))
    return np.stack([none if low is None else low, none if high is None else high], axis=1)


_UNWETTED = {
    "hanging": _hanging,
    "standing": _standing,
    "two_domes": _two_domes,
    "missing": _missing,
    "dome_on_dome": _dome_on_dome,
    "cupped": _cupped,
}

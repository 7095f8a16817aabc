"""Every variety of joint: how its solder lies, graded up to the thresholds of the export format.

A variety belongs to one class. Each is made for many joints at once from local stand-off, pad radius, nominal volume and a
generator; what comes out are `Bodies` and the truth that follows from them (volume, gap).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.simulate.shapes import Bodies, arc_sagitta, cap, empty_bodies

__all__ = ["CLASS_OF", "STARVED_BELOW", "build_bodies"]

Floats = NDArray[np.float64]
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

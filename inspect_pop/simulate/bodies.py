"""Axisymmetric solder bodies between two pads, in every variety that the export format's classes contain.

A body that wets both pads is bounded by a circular arc through both pads' rims (at nominal volume and stand-off exactly
the truncated sphere of the export format; a convex barrel above that, an hourglass below). A body that does not is made of
up to two spheroid segments, one on each pad: the deposit's dome and the ball. Heights `u` are measured from the lower pad.

A variety belongs to one class. Each is graded up to the thresholds of the export format and is made for many joints at once
from local stand-off, pad radius, nominal volume and a generator. The truth (volume, gap) follows from the bodies.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "STARVED_BELOW",
    "VARIETIES",
    "Bodies",
    "Variety",
    "arc_sagitta",
    "arc_volume",
    "build_bodies",
    "cap_sphere",
    "cap_volume",
    "empty_bodies",
]

Floats = NDArray[np.float64]
Segments = tuple[
    Floats, Floats, Floats
]  # gap (n,), segments (n, 2, 5), height of the gap or crease (n,); NaN where there is none
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)

STARVED_BELOW = 2 / 3  # export format: a continuous joint below this share of nominal volume is starved


@dataclass(frozen=True)
class Bodies:
    """Solder of `n` joints. All lengths in um.

    `standoff` (n,) between the pads; `low`, `high` (n,) the wetted radii; `sagitta` (n,) of the arc between them (positive:
    barrel), NaN where the joint is not one merged body; `parts` (n, 2, 5): lower and upper spheroid segment as centre height,
    horizontal radius, vertical semi-axis, first and last height; a segment with radius 0 is absent. `crease` (n,) is the
    height of the gap or crease, NaN without one.
    """

    standoff: Floats
    low: Floats
    high: Floats
    sagitta: Floats
    parts: Floats
    crease: Floats

    def radius_at(self, u_um: Floats) -> Floats:
        """Return the radius (n, m) at heights `u_um` (n, m) above each joint's lower pad; 0 where there is no solder."""
        merged = ~np.isnan(self.sagitta)
        out = np.zeros(u_um.shape)
        out[merged] = _arc_radius(u_um[merged], self.standoff[merged], self.low[merged], self.high[merged], self.sagitta[merged])
        rest = ~merged
        out[rest] = np.maximum(_segment_radius(u_um[rest], self.parts[rest, 0]), _segment_radius(u_um[rest], self.parts[rest, 1]))
        return out

    def volume(self) -> Floats:
        """Return the volume (n,) in um^3, by the midpoint rule over 400 layers."""
        u = (np.arange(400) + 0.5) / 400 * self.standoff[:, None]
        return np.pi * np.mean(self.radius_at(u) ** 2, axis=1) * self.standoff  # type: ignore[no-any-return]


def empty_bodies(standoff: Floats) -> Bodies:
    """Return bodies without any solder, to be filled in."""
    n = len(standoff)
    zero = np.zeros(n)
    return Bodies(standoff.astype(float), zero.copy(), zero.copy(), np.full(n, np.nan), np.zeros((n, 2, 5)), np.full(n, np.nan))


def arc_volume(standoff: Floats, low: Floats, high: Floats, sagitta: Floats) -> Floats:
    """Return the volume (n,) inside the arc body, um^3 (Gauss-Legendre, exact to 1e-6 for these shapes)."""
    u = (_NODES + 1) / 2 * standoff[:, None]
    radius = _arc_radius(u, standoff, low, high, sagitta)
    return np.pi * (radius**2 @ (_WEIGHTS / 2)) * standoff


def arc_sagitta(volume: Floats, standoff: Floats, low: Floats, high: Floats) -> Floats:
    """Find the sagitta (n,) of the arc whose body has this volume, by bisection between a pinched neck and a half circle."""
    a, b = -0.9 * np.minimum(low, high), 0.499 * standoff
    a = np.maximum(a, -0.499 * standoff)
    for _ in range(40):
        middle = (a + b) / 2
        above = arc_volume(standoff, low, high, middle) > volume
        b, a = np.where(above, middle, b), np.where(above, a, middle)
    return (a + b) / 2


def cap_sphere(base: Floats | float, height: Floats | float) -> tuple[Floats, Floats]:
    """Return the sphere of a spherical cap: its radius, and its centre above the base plane (negative for a flat cap)."""
    radius = (np.square(base) + np.square(height)) / (2 * np.asarray(height, float))
    return radius, height - radius


def cap_volume(base: Floats | float, height: Floats | float) -> Floats:
    """Return the volume of a spherical cap, um^3."""
    return np.pi * np.asarray(height, float) * (3 * np.square(base) + np.square(height)) / 6  # type: ignore[no-any-return]


def _arc_radius(u: Floats, standoff: Floats, low: Floats, high: Floats, sagitta: Floats) -> Floats:
    h, s = standoff[:, None], sagitta[:, None]
    safe = np.where(np.abs(s) < 1e-6, 1e-6, s)
    radius = (h**2 / 4 + safe**2) / (2 * np.abs(safe))
    inside = np.sqrt(np.maximum(radius**2 - (u - h / 2) ** 2, 0)) - (radius - np.abs(safe))
    line = low[:, None] + (high - low)[:, None] * np.clip(u / h, 0, 1)
    return np.where((u >= 0) & (u <= h), np.maximum(line + np.sign(safe) * inside, 0.0), 0.0)


def _segment_radius(u: Floats, part: Floats) -> Floats:
    centre, radius, semi, first, last = (part[:, k : k + 1] for k in range(5))
    inside = 1 - ((u - centre) / np.where(semi > 0, semi, 1.0)) ** 2
    return np.where((u >= first) & (u <= last) & (radius > 0), radius * np.sqrt(np.maximum(inside, 0.0)), 0.0)


@dataclass(frozen=True)
class PadPairs:
    """Joints of one variety: stand-off, pad radius (um) and wanted volume (um^3), each (n,)."""

    standoff: Floats
    pad: Floats
    volume: Floats


def build_bodies(
    rng: np.random.Generator, variety: NDArray[np.object_], standoff_um: Floats, pad_radius_um: float, volume_um3: Floats
) -> tuple[Bodies, Floats]:
    """Build the bodies of n joints, and return them with the gap (n,) in um without metal between the pads.

    The gap is NaN where the joint is one body. `volume_um3` (n,) is what each joint should hold; unwetted varieties take
    what their shape allows of it.
    """
    n = len(variety)
    bodies = empty_bodies(standoff_um)
    gap = np.full(n, np.nan)
    # A ball that did not merge takes little of the deposit with it, as the widest slices of the samples show.
    unmerged = np.array([VARIETIES[v].label == "head_in_pillow" for v in variety])
    volume_um3 = np.where(unmerged, volume_um3 * np.maximum(rng.normal(0.92, 0.10, n), 0.5), volume_um3)
    wetting = 1 + 0.015 * rng.standard_normal((2, n))
    for name in np.unique(variety.astype(str)):
        at = np.flatnonzero(variety == name)
        pads = PadPairs(standoff_um[at], np.full(len(at), pad_radius_um), volume_um3[at])
        make = VARIETIES[name].make
        if make is not None:
            gap[at], bodies.parts[at], bodies.crease[at] = make(rng, pads)
        else:
            bodies.low[at], bodies.high[at] = pads.pad * wetting[0, at], pads.pad * wetting[1, at]
            bodies.sagitta[at] = arc_sagitta(pads.volume, pads.standoff, bodies.low[at], bodies.high[at])
    return bodies, gap


def make_hanging(rng: np.random.Generator, pads: PadPairs) -> Segments:
    """Put all solder on the upper pad, above a gap that is graded from 5 um up."""
    gap = np.minimum(5.0 + rng.exponential(9.0, len(pads.pad)), 0.5 * pads.standoff)
    return gap, _stack_segments(pads, None, _make_dome(rng, pads, pads.standoff - gap, upper=True)), gap / 2


def make_standing(rng: np.random.Generator, pads: PadPairs) -> Segments:
    """Put all solder on the lower pad, below a gap that is graded from 5 um up."""
    gap = np.minimum(5.0 + rng.exponential(9.0, len(pads.pad)), 0.5 * pads.standoff)
    dome = _make_dome(rng, pads, pads.standoff - gap, upper=False)
    return gap, _stack_segments(pads, dome, None), pads.standoff - gap / 2


def make_two_domes(rng: np.random.Generator, pads: PadPairs) -> Segments:
    """Put a ball on the upper pad and a deposit on the lower one, with a clear gap between them."""
    gap = np.minimum(5.0 + rng.exponential(9.0, len(pads.pad)), 0.4 * pads.standoff)
    deposit = (pads.standoff - gap) * rng.uniform(0.12, 0.45, len(pads.pad))
    low = _make_dome(rng, pads, deposit, upper=False)
    high = _make_dome(rng, pads, pads.standoff - gap - deposit, upper=True)
    return gap, _stack_segments(pads, low, high), deposit + gap / 2


def leave_empty(rng: np.random.Generator, pads: PadPairs) -> Segments:  # noqa: ARG001 (one signature for all varieties)
    """Leave the pads without solder: the gap is the whole stand-off."""
    return pads.standoff.copy(), np.zeros((len(pads.pad), 2, 5)), pads.standoff / 2


def make_dome_on_dome(rng: np.random.Generator, pads: PadPairs) -> Segments:
    """Rest the upper pad's ball on the deposit's dome: a waist where they touch, less than 5 um apart.

    The deposit is half an ellipsoid, steep at the pad, as the samples' pad slices show it.
    """
    n = len(pads.pad)
    gap = rng.uniform(0.0, 4.5, n)
    deposit = pads.standoff * rng.uniform(0.2, 0.45, n)
    zero, base = np.zeros(n), pads.pad * rng.uniform(0.88, 1.02, n)
    low = np.stack([zero, base, deposit, zero, deposit], axis=1)
    rest = pads.volume - 2 / 3 * np.pi * base**2 * deposit
    parts = _stack_segments(pads, low, _make_ball(rng, pads, pads.standoff - deposit - gap, rest))
    return _flip_some(rng, pads, gap, parts, deposit + gap / 2)


def make_cup(rng: np.random.Generator, pads: PadPairs) -> Segments:
    """Raise the deposit around the ball: nearly the outline of a good joint, with a notch at the rim of the cup."""
    gap = rng.uniform(0.0, 4.5, len(pads.pad))
    rim = pads.standoff * rng.uniform(0.2, 0.45, len(pads.pad))
    tip = rim * rng.uniform(0.15, 0.7, len(pads.pad))
    semi = rim / np.sqrt(1 - rng.uniform(0.75, 0.98, len(pads.pad)) ** 2)
    low = np.stack([np.zeros_like(rim), pads.pad, semi, np.zeros_like(rim), rim], axis=1)
    cup = np.pi * pads.pad**2 * (rim - tip) * 0.6
    parts = _stack_segments(pads, low, _make_ball(rng, pads, pads.standoff - tip, pads.volume - cup))
    return _flip_some(rng, pads, gap, parts, rim)


def _flip_some(rng: np.random.Generator, pads: PadPairs, gap: Floats, parts: Floats, crease: Floats) -> Segments:
    """Put the ball of one joint in twelve on the lower pad: there the package's solder is the deposit."""
    flipped = rng.random(len(gap)) < 1 / 12
    parts[flipped] = _flip_segments(parts[flipped], pads.standoff[flipped])
    return gap, parts, np.where(flipped, pads.standoff - crease, crease)


def make_pear(rng: np.random.Generator, pads: PadPairs) -> Segments:
    """Make one uneven body: a wide end that sits like a ball in a narrow one, without a crease.

    This good joint looks most like head-in-pillow. One in ten stands on its wide end.
    """
    n = len(pads.pad)
    end = pads.standoff * rng.uniform(0.3, 0.6, n)
    semi = end / np.sqrt(1 - rng.uniform(0.75, 0.98, n) ** 2)
    zero = np.zeros(n)
    narrow = np.stack([zero, pads.pad * rng.uniform(0.93, 1.02, n), semi, zero, end], axis=1)
    # The ball reaches so far down that both are equally wide where they meet, and no notch is left.
    height, volume = pads.standoff * rng.uniform(0.93, 0.995, n), pads.volume * rng.uniform(0.9, 1.0, n)
    parts = np.stack([narrow, _make_ball(rng, pads, height, volume, (1.0, 1.2))], axis=1)
    flipped = rng.random(n) < 0.1
    parts[flipped] = _flip_segments(parts[flipped], pads.standoff[flipped])
    return np.full(n, np.nan), parts, np.full(n, np.nan)


def _flip_segments(parts: Floats, standoff: Floats) -> Floats:
    """Return segments (n, 2, 5) as seen from the other pad, lower one first."""
    out = parts[:, ::-1].copy()
    out[:, :, 0] = standoff[:, None] - parts[:, ::-1, 0]
    out[:, :, 3] = standoff[:, None] - parts[:, ::-1, 4]
    out[:, :, 4] = standoff[:, None] - parts[:, ::-1, 3]
    return out


def _make_dome(rng: np.random.Generator, pads: PadPairs, height: Floats, *, upper: bool) -> Floats:
    """Make a spherical cap (n, 5) on a pad that it wets to the rim, or a little over it."""
    radius, centre = cap_sphere(pads.pad * rng.uniform(0.98, 1.12, len(pads.pad)), height)
    zero = np.zeros_like(height)
    if upper:
        return np.stack([pads.standoff - centre, radius, radius, pads.standoff - height, pads.standoff], axis=1)
    return np.stack([centre, radius, radius, zero, height], axis=1)


def _make_ball(
    rng: np.random.Generator, pads: PadPairs, height: Floats, volume: Floats, foot: tuple[float, float] = (1.0, 1.36)
) -> Floats:
    """Make an oblate ball (n, 5) of the given height below the upper pad, with the given volume where it can.

    Its foot is as many times as wide as the pad as `foot` spans: in the samples, balls that did not merge stand over its rim.
    With s = sqrt(1 - (foot / R)^2): height = b (1 + s), volume = pi R^2 b (s - s^3 / 3 + 2 / 3); R by bisection.
    """
    base = pads.pad * rng.uniform(*foot, len(pads.pad))
    low, high = base * 1.0001, base * 1.8
    for _ in range(40):
        radius = (low + high) / 2
        s = np.sqrt(1 - (base / radius) ** 2)
        above = np.pi * radius**2 * height / (1 + s) * (s - s**3 / 3 + 2 / 3) > volume
        high, low = np.where(above, radius, high), np.where(above, low, radius)
    s = np.sqrt(1 - (base / radius) ** 2)
    semi = height / (1 + s)
    return np.stack([pads.standoff - s * semi, radius, semi, pads.standoff - height, pads.standoff], axis=1)


def _stack_segments(pads: PadPairs, low: Floats | None, high: Floats | None) -> Floats:
    none = np.zeros((len(pads.pad), 5))
    return np.stack([none if low is None else low, none if high is None else high], axis=1)


@dataclass(frozen=True)
class Variety:
    """One shape of joint.

    `label` is the class that it belongs to. `chance` weighs it among the joints that are odd without a cause: plentiful near
    the thresholds, and good joints that look bad as often as bad ones. `make` builds it from segments; None: one arc that wets
    both pads.
    """

    label: str
    chance: float
    make: Callable[[np.random.Generator, PadPairs], Segments] | None = None


VARIETIES = {
    "plain": Variety("good", 0.0),
    "low_volume": Variety("good", 0.10),
    "excess": Variety("good", 0.07),
    "big_void": Variety("good", 0.07),
    "spike": Variety("good", 0.10),
    "shoulder": Variety("good", 0.05),
    "pear": Variety("good", 0.06, make_pear),
    "web": Variety("bridged", 0.11),
    "hanging": Variety("open", 0.11, make_hanging),
    "standing": Variety("open", 0.025, make_standing),
    "two_domes": Variety("open", 0.03, make_two_domes),
    "missing": Variety("open", 0.02, leave_empty),
    "dome_on_dome": Variety("head_in_pillow", 0.12, make_dome_on_dome),
    "cupped": Variety("head_in_pillow", 0.06, make_cup),
    "hourglass": Variety("starved", 0.135),
}

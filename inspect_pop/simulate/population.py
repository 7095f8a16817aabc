"""Which joint is what: varieties, volumes, webs, voids and lateral shifts of one interface, and the truth that follows.

The shares are chosen for learning, not to mimic a line: what lies near a threshold is plentiful in every class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Interface
from inspect_pop.simulate.bodies import CLASS_OF, STARVED_BELOW, Bodies, build_bodies
from inspect_pop.simulate.spurs import Spurs, bridge, join, spurs_of

__all__ = ["Population", "Voids", "populate"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Voids:
    """Gas in the solder: spheres in the joints' own frame (offset from the joint's axis, height above its lower pad)."""

    joint: NDArray[np.int64]
    dx_um: Floats
    dy_um: Floats
    u_um: Floats
    radius_um: Floats


@dataclass(frozen=True)
class Population:
    """All joints of one interface: truth and geometry, in the order of the recipe's table."""

    interface: Interface
    label: NDArray[np.object_]
    variety: NDArray[np.object_]
    bodies: Bodies
    z_low_um: Floats
    dx_um: Floats
    dy_um: Floats
    shear_um: Floats  # (n, 2): the upper pad's centre against the lower one's
    volume_ratio: Floats
    gap_um: Floats
    web_um: Floats
    voids: Voids
    spurs: Spurs


def populate(
    rng: np.random.Generator,
    interface: Interface,
    z_low_um: Floats,
    standoff_um: Floats,
    variety: NDArray[np.object_],
    volume_factor: Floats,
    shear_um: Floats,
    web_angle: float | None = None,
) -> Population:
    """Joints of the given varieties (n,) on pads at `z_low_um`, `standoff_um` apart; `volume_factor` scales plain volumes."""
    n = len(variety)
    nominal = interface.nominal_volume_um3
    variety, webs = bridge(rng, interface, variety, standoff_um, web_angle)
    ratio = _volume_ratios(rng, variety, volume_factor)
    bodies, gap = build_bodies(rng, variety, standoff_um, interface.pad_diameter_um / 2, ratio * nominal)
    true_ratio = bodies.volume() / nominal
    label = np.array([CLASS_OF[v] for v in variety], object)
    label[(label == "good") & (true_ratio < STARVED_BELOW)] = "starved"
    label[(label == "starved") & (true_ratio >= STARVED_BELOW)] = "good"
    variety[(label == "starved") & (variety == "plain")] = "hourglass"
    width = np.full(n, np.nan)
    for joint, w in zip(webs.joint, webs.width_um, strict=True):
        width[joint] = np.fmin(width[joint], w)
    jitter = rng.normal(0, 4.0, (2, n))
    spurs = join(webs, spurs_of(rng, interface, variety, bodies))
    return Population(
        interface,
        label,
        variety,
        bodies,
        z_low_um,
        jitter[0],
        jitter[1],
        shear_um,
        true_ratio,
        gap,
        width,
        _voids(rng, bodies, variety, interface.ball_diameter_um),
        spurs,
    )


def _volume_ratios(rng: np.random.Generator, variety: NDArray[np.object_], factor: Floats) -> Floats:
    n = len(variety)
    ratio = np.maximum(factor * (1 + 0.075 * rng.standard_normal(n)), 0.2)
    draws = {
        "low_volume": rng.uniform(0.67, 0.74, n),
        "excess": rng.uniform(1.25, 1.6, n),
        "hourglass": np.where(rng.random(n) < 0.4, rng.uniform(0.56, 0.664, n), rng.uniform(0.3, 0.6, n)),
    }
    for name, values in draws.items():
        ratio = np.where(variety == name, values, ratio)
    return ratio


def _voids(rng: np.random.Generator, bodies: Bodies, variety: NDArray[np.object_], size: float) -> Voids:
    """Small voids in about half of the joints, mostly in their upper half (gas rises), and the big ones asked for."""
    n = len(variety)
    count = rng.poisson(1.0, n)
    chance = np.where(np.isin(variety.astype(str), ("dome_on_dome", "cupped")), 0.35, 0.03)
    big = (variety == "big_void") | (rng.random(n) < chance)
    joint = np.repeat(np.arange(n), count + big)
    large = (
        np.concatenate([np.r_[np.zeros(c, bool), np.ones(int(b), bool)] for c, b in zip(count, big, strict=True)])
        if len(joint)
        else np.zeros(0, bool)
    )
    radius = np.where(
        large,
        size * rng.uniform(0.15, 0.3, len(joint)),
        np.clip(size * rng.lognormal(np.log(0.095), 0.42, len(joint)), 7, 0.22 * size),
    )
    h = bodies.standoff[joint]
    u = h * np.clip(rng.beta(1.6, 1.2, len(joint)), 0.05, 0.95)
    u = np.clip(u, np.minimum(radius, h / 2), h - np.minimum(radius, h / 2))
    local = bodies.radius(np.repeat(u[:, None], 1, axis=1)[:0]) if not len(joint) else _radius_at(bodies, joint, u)
    keep = local > radius + 8
    angle, share = rng.uniform(0, 2 * np.pi, len(joint)), np.sqrt(rng.random(len(joint)))
    away = share * np.maximum(local - radius - 8, 0)
    return Voids(joint[keep], (away * np.cos(angle))[keep], (away * np.sin(angle))[keep], u[keep], radius[keep])


def _radius_at(bodies: Bodies, joint: NDArray[np.int64], u: Floats) -> Floats:
    chosen = Bodies(
        bodies.standoff[joint],
        bodies.low[joint],
        bodies.high[joint],
        bodies.sagitta[joint],
        bodies.parts[joint],
        bodies.crease[joint],
    )
    return chosen.radius(u[:, None])[:, 0]

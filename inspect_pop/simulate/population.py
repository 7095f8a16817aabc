"""Which joint is what: varieties, volumes, webs, voids and lateral shifts of one interface, and the truth that follows.

The shares are chosen for learning, not to mimic a line: what lies near a threshold is plentiful in every class.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inspect_pop.recipe import Interface
from inspect_pop.simulate.shapes import Bodies
from inspect_pop.simulate.varieties import CLASS_OF, STARVED_BELOW, build_bodies

__all__ = ["Population", "Spurs", "Voids", "populate"]

Floats = NDArray[np.float64]
_ORDER = ("bridged", "open", "head_in_pillow", "starved", "good")  # a joint that shows two of these has the first


@dataclass(frozen=True)
class Voids:
    """Gas in the solder: spheres in the joints' own frame (offset from the joint's axis, height above its lower pad)."""

    joint: NDArray[np.int64]
    dx_um: Floats
    dy_um: Floats
    u_um: Floats
    radius_um: Floats


@dataclass(frozen=True)
class Spurs:
    """Solder that leaves a joint sideways: webs that reach the neighbour, spikes that stop short, shoulders.

    `ends_um` (n, 4): x0, y0, x1, y1 relative to the joint's axis; `width_um` at the thinnest (n,), `flare` (n, 2): width at either
    end over the thinnest; `u_um` (n,) height above the joint's lower pad, `semi_um` (n,) half its vertical extent.
    """

    joint: NDArray[np.int64]
    ends_um: Floats
    width_um: Floats
    flare: Floats
    u_um: Floats
    semi_um: Floats


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
    extra: dict[str, Floats] = field(default_factory=dict)


def populate(
    rng: np.random.Generator,
    interface: Interface,
    z_low_um: Floats,
    standoff_um: Floats,
    variety: NDArray[np.object_],
    volume_factor: Floats,
    shear_um: Floats,
) -> Population:
    """Joints of the given varieties (n,) on pads at `z_low_um`, `standoff_um` apart; `volume_factor` scales plain volumes."""
    n = len(variety)
    nominal = interface.nominal_volume_um3
    variety, webs = _webs(rng, interface, variety, standoff_um)
    ratio = _volume_ratios(rng, variety, volume_factor)
    bodies, gap = build_bodies(rng, variety, standoff_um, interface.pad_diameter_um / 2, ratio * nominal)
    true_ratio = bodies.volume() / nominal
    label = np.array([CLASS_OF[v] for v in variety], object)
    label[(label == "good") & (true_ratio < STARVED_BELOW)] = "starved"
    label[(label == "starved") & (true_ratio >= STARVED_BELOW)] = "good"
    width = np.full(n, np.nan)
    for joint, w in zip(webs.joint, webs.width_um, strict=True):
        width[joint] = np.fmin(width[joint], w)
    jitter = rng.normal(0, 4.0, (2, n))
    spurs = _join(webs, _spikes(rng, interface, variety, bodies, standoff_um))
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
        _voids(rng, bodies, variety),
        spurs,
    )


def _volume_ratios(rng: np.random.Generator, variety: NDArray[np.object_], factor: Floats) -> Floats:
    n = len(variety)
    ratio = factor * (1 + 0.06 * rng.standard_normal(n))
    ratio = np.maximum(ratio, 0.69)
    draws = {
        "low_volume": rng.uniform(0.67, 0.74, n),
        "excess": rng.uniform(1.25, 1.6, n),
        "hourglass": np.where(rng.random(n) < 0.4, rng.uniform(0.56, 0.664, n), rng.uniform(0.3, 0.6, n)),
    }
    for name, values in draws.items():
        ratio = np.where(variety == name, values, ratio)
    return ratio


def _webs(
    rng: np.random.Generator, interface: Interface, variety: NDArray[np.object_], standoff: Floats
) -> tuple[NDArray[np.object_], Spurs]:
    """Webs from every joint marked `web` to a neighbour, which becomes one too; a joint without neighbours becomes plain."""
    variety = variety.copy()
    rows: list[tuple[int, tuple[float, ...], float, tuple[float, float], float, float]] = []
    x, y = interface.x_um, interface.y_um
    for joint in np.flatnonzero(variety == "web"):
        reach = interface.pitch_um * (1.45 if rng.random() < 0.08 else 1.05)
        distance = np.hypot(x - x[joint], y - y[joint])
        near = np.flatnonzero(
            (distance > 0) & (distance <= reach) & np.isin(variety.astype(str), ["plain", "web", "excess", "big_void"])
        )
        if not len(near):
            variety[joint] = "plain"
            continue
        other = int(rng.choice(near))
        variety[other] = "web"
        width = float(rng.uniform(24, 60) if rng.random() < 0.5 else rng.uniform(50, 160))
        semi = width / 2 * float(rng.uniform(0.7, 1.3))
        height = float(standoff[joint])
        u = float(np.clip(rng.uniform(0.0, 0.75) * height, min(semi * 0.6, height / 2), height - min(semi * 0.6, height / 2)))
        flare = tuple(rng.uniform(1.2, 2.2, 2))
        ends = (0.0, 0.0, float(x[other] - x[joint]), float(y[other] - y[joint]))
        rows.append((int(joint), ends, width, (flare[0], flare[1]), u, semi))
        rows.append((other, (0.0, 0.0, 0.0, 0.0), width, (1.0, 1.0), u, 0.0))  # the partner's truth; it draws nothing
    return variety, _spurs(rows)


def _spikes(
    rng: np.random.Generator, interface: Interface, variety: NDArray[np.object_], bodies: Bodies, standoff: Floats
) -> Spurs:
    rows: list[tuple[int, tuple[float, ...], float, tuple[float, float], float, float]] = []
    for joint in np.flatnonzero(np.isin(variety.astype(str), ["spike", "shoulder"])):
        u = float(rng.uniform(0.2, 0.7) * standoff[joint])
        radius = float(bodies.radius(np.broadcast_to(np.array([[u]]), (len(variety), 1)))[joint, 0])
        room = interface.pitch_um - 2 * radius
        if variety[joint] == "spike":
            angle = float(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.08))
            reach, width = radius + room * float(rng.uniform(0.3, 0.75)), float(rng.uniform(24, 80))
            flare = (float(rng.uniform(1.3, 2.2)), float(rng.uniform(0.4, 1.0)))
        else:
            angle, width = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.6, 1.1) * radius)
            reach, flare = radius + float(rng.uniform(0.0, 0.18)) * room - width / 4, (1.0, 1.0)
        rows.append((int(joint), (0.0, 0.0, reach * np.cos(angle), reach * np.sin(angle)), width, flare, u, width / 2))
    return _spurs(rows)


def _spurs(rows: list[tuple[int, tuple[float, ...], float, tuple[float, float], float, float]]) -> Spurs:
    joint = np.array([r[0] for r in rows], np.int64)
    return Spurs(
        joint,
        np.array([r[1] for r in rows], float).reshape(-1, 4),
        np.array([r[2] for r in rows], float),
        np.array([r[3] for r in rows], float).reshape(-1, 2),
        np.array([r[4] for r in rows], float),
        np.array([r[5] for r in rows], float),
    )


def _join(a: Spurs, b: Spurs) -> Spurs:
    return Spurs(
        *(np.concatenate([getattr(a, f), getattr(b, f)]) for f in ("joint", "ends_um", "width_um", "flare", "u_um", "semi_um"))
    )


def _voids(rng: np.random.Generator, bodies: Bodies, variety: NDArray[np.object_]) -> Voids:
    """Small voids in about half of the joints, mostly in their upper half (gas rises), and the big ones asked for."""
    n = len(variety)
    count = rng.poisson(0.7, n)
    big = (variety == "big_void") | (rng.random(n) < 0.03)
    joint = np.repeat(np.arange(n), count + big)
    large = (
        np.concatenate([np.r_[np.zeros(c, bool), np.ones(int(b), bool)] for c, b in zip(count, big, strict=True)])
        if len(joint)
        else np.zeros(0, bool)
    )
    radius = np.where(large, rng.uniform(40, 80, len(joint)), np.clip(rng.lognormal(np.log(18), 0.4, len(joint)), 6, 45))
    h = bodies.standoff[joint]
    u = h * np.clip(rng.beta(2.2, 1.4, len(joint)), 0.05, 0.95)
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
    return chosen.radius(u[:, None])[:, 0]  # type: ignore[no-any-return]

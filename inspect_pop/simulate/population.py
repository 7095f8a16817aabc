"""All joints of one interface: varieties, volumes, voids, lateral shifts, solder that leaves a joint sideways, and the truth.

The shares are chosen for learning, not to mimic a line: what lies near a threshold is plentiful in every class.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Interface
from inspect_pop.simulate.bodies import STARVED_BELOW, VARIETIES, Bodies, build_bodies

__all__ = ["Population", "Spurs", "Voids", "add_webs", "make_spurs", "place_voids", "populate"]

Floats = NDArray[np.float64]
_CHAINED = 0.22  # share of webs whose far joint sends out another one: groups of three and more
_BRIDGEABLE = ("plain", "web", "excess", "big_void")


@dataclass(frozen=True)
class Voids:
    """Gas in the solder: spheres in the joints' frame (offset from the joint's axis, height above its lower pad)."""

    joint: NDArray[np.int64]
    dx_um: Floats
    dy_um: Floats
    u_um: Floats
    radius_um: Floats


@dataclass(frozen=True)
class Spurs:
    """Solder that leaves a joint sideways, as capsules with a flare at either end: webs, spikes, shoulders.

    `ends_um` (n, 4): x0, y0, x1, y1 relative to the joint's axis; `width_um` (n,) at the thinnest; `flare` (n, 2): width at
    either end over the thinnest; `u_um` (n,) height above the joint's lower pad; `semi_um` (n,) half the vertical extent, 0
    for the entry of a web's partner, which draws nothing.
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
    """Make joints of the given varieties (n,) on pads at `z_low_um`, `standoff_um` above one another.

    `volume_factor` scales plain volumes; `web_angle` (radians) makes webs run along one direction.
    """
    n = len(variety)
    nominal = interface.nominal_volume_um3
    variety, webs = add_webs(rng, interface, variety, standoff_um, web_angle)

    ratio = np.maximum(volume_factor * (1 + 0.075 * rng.standard_normal(n)), 0.2)
    ratio_by_variety = {
        "low_volume": rng.uniform(0.67, 0.74, n),
        "excess": rng.uniform(1.25, 1.6, n),
        "hourglass": np.where(rng.random(n) < 0.4, rng.uniform(0.56, 0.664, n), rng.uniform(0.3, 0.6, n)),
    }
    for name, values in ratio_by_variety.items():
        ratio = np.where(variety == name, values, ratio)

    bodies, gap = build_bodies(rng, variety, standoff_um, interface.pad_diameter_um / 2, ratio * nominal)
    true_ratio = bodies.volume() / nominal
    label = np.array([VARIETIES[v].label for v in variety], object)
    label[(label == "good") & (true_ratio < STARVED_BELOW)] = "starved"
    label[(label == "starved") & (true_ratio >= STARVED_BELOW)] = "good"
    variety[(label == "starved") & (variety == "plain")] = "hourglass"

    web_um = np.full(n, np.nan)
    for joint, width in zip(webs.joint, webs.width_um, strict=True):
        web_um[joint] = np.fmin(web_um[joint], width)
    jitter = rng.normal(0, 4.0, (2, n))
    others = make_spurs(rng, interface, variety, bodies)
    spurs = Spurs(*(np.concatenate([getattr(webs, f.name), getattr(others, f.name)]) for f in fields(Spurs)))
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
        web_um,
        place_voids(rng, bodies, variety, interface.ball_diameter_um),
        spurs,
    )


def place_voids(rng: np.random.Generator, bodies: Bodies, variety: NDArray[np.object_], ball_diameter_um: float) -> Voids:
    """Place small voids in about half of the joints, mostly in their upper half (gas rises), and the large ones of `big_void`.

    A void that does not fit into its joint with 8 um of solder around it is left out.
    """
    n = len(variety)
    small = rng.poisson(1.0, n)
    chance = np.where(np.isin(variety.astype(str), ("dome_on_dome", "cupped")), 0.35, 0.03)
    counts = small + ((variety == "big_void") | (rng.random(n) < chance))
    joint = np.repeat(np.arange(n), counts)
    position = np.arange(len(joint)) - np.repeat(np.cumsum(counts) - counts, counts)  # among the voids of its joint
    large = position >= small[joint]
    radius = np.where(
        large,
        ball_diameter_um * rng.uniform(0.15, 0.3, len(joint)),
        np.clip(ball_diameter_um * rng.lognormal(np.log(0.095), 0.42, len(joint)), 7, 0.22 * ball_diameter_um),
    )
    h = bodies.standoff[joint]
    u = h * np.clip(rng.beta(1.6, 1.2, len(joint)), 0.05, 0.95)
    u = np.clip(u, np.minimum(radius, h / 2), h - np.minimum(radius, h / 2))
    body_of_void = Bodies(*(getattr(bodies, f.name)[joint] for f in fields(Bodies)))
    local = body_of_void.radius_at(u[:, None])[:, 0]
    fits = local > radius + 8
    angle, share = rng.uniform(0, 2 * np.pi, len(joint)), np.sqrt(rng.random(len(joint)))
    offset = share * np.maximum(local - radius - 8, 0)
    return Voids(joint[fits], (offset * np.cos(angle))[fits], (offset * np.sin(angle))[fits], u[fits], radius[fits])


@dataclass(frozen=True)
class _Spur:
    joint: int
    end_um: tuple[float, float]
    width_um: float
    flare: tuple[float, float]
    u_um: float
    semi_um: float


def add_webs(
    rng: np.random.Generator, interface: Interface, variety: NDArray[np.object_], standoff_um: Floats, angle_rad: float | None
) -> tuple[NDArray[np.object_], Spurs]:
    """Draw a web from every joint marked `web` to a neighbour, and return the varieties with the webs.

    The neighbour becomes `web` too; a joint without a sound neighbour becomes plain. Half of the webs are thin (24 to 60 um),
    the others up to 160 um; they lie at any height, more often low. One in twelve may run diagonally. `angle_rad` makes them
    run along one direction (a placement offset).
    """
    variety = variety.copy()
    spurs: list[_Spur] = []
    waiting = [int(j) for j in np.flatnonzero(variety == "web")]
    for joint in waiting:
        reach = interface.pitch_um * (1.45 if angle_rad is None and rng.random() < 0.08 else 1.05)
        dx, dy = interface.x_um - interface.x_um[joint], interface.y_um - interface.y_um[joint]
        distance = np.hypot(dx, dy)
        near = (distance > 0) & (distance <= reach) & np.isin(variety.astype(str), _BRIDGEABLE)
        if angle_rad is not None:
            near &= np.abs(dx * np.cos(angle_rad) + dy * np.sin(angle_rad)) > 0.8 * distance
        candidates = np.flatnonzero(near)
        if not len(candidates):
            variety[joint] = "plain"
            continue
        other = int(rng.choice(candidates))
        variety[other] = "web"
        if rng.random() < _CHAINED and len(waiting) < len(variety):
            waiting.append(other)
        width = float(rng.uniform(24, 60) if rng.random() < 0.5 else rng.uniform(50, 160))
        semi, height = width / 2 * float(rng.uniform(0.7, 1.3)), float(standoff_um[joint])
        inset = min(semi * 0.6, height / 2)
        u = float(np.clip(rng.uniform(0.0, 0.65) * height, inset, height - inset))
        flare = (float(rng.uniform(1.2, 2.2)), float(rng.uniform(1.2, 2.2)))
        spurs.append(_Spur(joint, (float(dx[other]), float(dy[other])), width, flare, u, semi))
        spurs.append(_Spur(other, (0.0, 0.0), width, (1.0, 1.0), u, 0.0))
    return variety, _to_arrays(spurs)


def make_spurs(rng: np.random.Generator, interface: Interface, variety: NDArray[np.object_], bodies: Bodies) -> Spurs:
    """Draw the spikes and shoulders of the joints marked so; a spike leaves at least a quarter of the room to the neighbour."""
    spurs = []
    for joint in (int(j) for j in np.flatnonzero(np.isin(variety.astype(str), ("spike", "shoulder")))):
        u = float(rng.uniform(0.15, 0.75) * bodies.standoff[joint])
        radius = float(bodies.radius_at(np.full((len(variety), 1), u))[joint, 0])
        room = max(interface.pitch_um - 2 * radius, 20.0)
        if variety[joint] == "spike":
            angle = float(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.08))
            reach, width = radius + room * float(rng.uniform(0.25, 0.75)), float(rng.uniform(24, 90))
            flare = (float(rng.uniform(1.3, 2.2)), float(rng.uniform(0.4, 1.0)))
        else:
            angle, width = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.6, 1.1) * radius)
            reach = radius + float(rng.uniform(0.0, 0.18)) * room - width / 4
            flare = (1.0, 1.0)
        end = (reach * float(np.cos(angle)), reach * float(np.sin(angle)))
        spurs.append(_Spur(joint, end, width, flare, u, width / 2))
    return _to_arrays(spurs)


def _to_arrays(spurs: list[_Spur]) -> Spurs:
    return Spurs(
        np.array([s.joint for s in spurs], np.int64),
        np.array([(0.0, 0.0, *s.end_um) for s in spurs], float).reshape(-1, 4),
        np.array([s.width_um for s in spurs], float),
        np.array([s.flare for s in spurs], float).reshape(-1, 2),
        np.array([s.u_um for s in spurs], float),
        np.array([s.semi_um for s in spurs], float),
    )

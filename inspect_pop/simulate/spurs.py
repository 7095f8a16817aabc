"""Solder that leaves a joint sideways: webs to a neighbour, spikes that stop short of it, shoulders."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Interface
from inspect_pop.simulate.bodies import Bodies

__all__ = ["Spurs", "bridge", "join", "spurs_of"]

Floats = NDArray[np.float64]
_CHAINED = 0.22  # share of webs whose far joint sends out another one: groups of three and more
_BRIDGEABLE = ("plain", "web", "excess", "big_void")


@dataclass(frozen=True)
class Spurs:
    """Capsules with a flare at either end.

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
class _Spur:
    joint: int
    end_um: tuple[float, float]
    width_um: float
    flare: tuple[float, float]
    u_um: float
    semi_um: float


def bridge(
    rng: np.random.Generator, interface: Interface, variety: NDArray[np.object_], standoff_um: Floats, angle_rad: float | None
) -> tuple[NDArray[np.object_], Spurs]:
    """Webs from every joint marked `web` to a neighbour, which becomes one too; one without a sound neighbour becomes plain.

    Half of the webs are thin (24 to 60 um), the others up to 160 um; they lie at any height, more often low. One in twelve may
    run diagonally. `angle_rad` makes them run along one direction (a placement offset).
    """
    variety = variety.copy()
    spurs: list[_Spur] = []
    waiting = [int(j) for j in np.flatnonzero(variety == "web")]
    for joint in waiting:
        other = _neighbour(rng, interface, variety, joint, angle_rad)
        if other is None:
            variety[joint] = "plain"
            continue
        variety[other] = "web"
        if rng.random() < _CHAINED and len(waiting) < len(variety):
            waiting.append(other)
        width = float(rng.uniform(24, 60) if rng.random() < 0.5 else rng.uniform(50, 160))
        semi, height = width / 2 * float(rng.uniform(0.7, 1.3)), float(standoff_um[joint])
        inset = min(semi * 0.6, height / 2)
        u = float(np.clip(rng.uniform(0.0, 0.65) * height, inset, height - inset))
        flare = (float(rng.uniform(1.2, 2.2)), float(rng.uniform(1.2, 2.2)))
        end = (float(interface.x_um[other] - interface.x_um[joint]), float(interface.y_um[other] - interface.y_um[joint]))
        spurs.append(_Spur(joint, end, width, flare, u, semi))
        spurs.append(_Spur(other, (0.0, 0.0), width, (1.0, 1.0), u, 0.0))
    return variety, _table(spurs)


def _neighbour(
    rng: np.random.Generator, interface: Interface, variety: NDArray[np.object_], joint: int, angle_rad: float | None
) -> int | None:
    reach = interface.pitch_um * (1.45 if angle_rad is None and rng.random() < 0.08 else 1.05)
    dx, dy = interface.x_um - interface.x_um[joint], interface.y_um - interface.y_um[joint]
    distance = np.hypot(dx, dy)
    near = (distance > 0) & (distance <= reach) & np.isin(variety.astype(str), _BRIDGEABLE)
    if angle_rad is not None:
        near &= np.abs(dx * np.cos(angle_rad) + dy * np.sin(angle_rad)) > 0.8 * distance
    candidates = np.flatnonzero(near)
    return int(rng.choice(candidates)) if len(candidates) else None


def spurs_of(rng: np.random.Generator, interface: Interface, variety: NDArray[np.object_], bodies: Bodies) -> Spurs:
    """Spikes that leave at least a quarter of the room to the neighbour, and shoulders, of the joints marked so."""
    spurs = []
    for joint in (int(j) for j in np.flatnonzero(np.isin(variety.astype(str), ("spike", "shoulder")))):
        u = float(rng.uniform(0.15, 0.75) * bodies.standoff[joint])
        radius = float(bodies.radius(np.full((len(variety), 1), u))[joint, 0])
        room = max(interface.pitch_um - 2 * radius, 20.0)
        make = _spike if variety[joint] == "spike" else _shoulder
        spurs.append(make(rng, joint, u, radius, room))
    return _table(spurs)


def _spike(rng: np.random.Generator, joint: int, u: float, radius: float, room: float) -> _Spur:
    angle = float(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.08))
    reach, width = radius + room * float(rng.uniform(0.25, 0.75)), float(rng.uniform(24, 90))
    flare = (float(rng.uniform(1.3, 2.2)), float(rng.uniform(0.4, 1.0)))
    return _Spur(joint, (reach * float(np.cos(angle)), reach * float(np.sin(angle))), width, flare, u, width / 2)


def _shoulder(rng: np.random.Generator, joint: int, u: float, radius: float, room: float) -> _Spur:
    angle, width = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.6, 1.1) * radius)
    reach = radius + float(rng.uniform(0.0, 0.18)) * room - width / 4
    return _Spur(joint, (reach * float(np.cos(angle)), reach * float(np.sin(angle))), width, (1.0, 1.0), u, width / 2)


def _table(spurs: list[_Spur]) -> Spurs:
    return Spurs(
        np.array([s.joint for s in spurs], np.int64),
        np.array([(0.0, 0.0, *s.end_um) for s in spurs], float).reshape(-1, 4),
        np.array([s.width_um for s in spurs], float),
        np.array([s.flare for s in spurs], float).reshape(-1, 2),
        np.array([s.u_um for s in spurs], float),
        np.array([s.semi_um for s in spurs], float),
    )


def join(a: Spurs, b: Spurs) -> Spurs:
    """Both, one after the other."""
    return Spurs(*(np.concatenate([getattr(a, f.name), getattr(b, f.name)]) for f in fields(Spurs)))

"""The joints of an interface, and the scene that an X-ray beam passes.

The shares are chosen for learning, not to mimic a line: what lies near a threshold is plentiful in every class.
"""

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Interface, Package
from inspect_pop.simulate.bodies import STARVED_BELOW, VARIETIES, Bodies, build_bodies

__all__ = [
    "LAYER_UM",
    "Capsules",
    "Discs",
    "FlatShapes",
    "Passive",
    "Population",
    "Scene",
    "SolderLayers",
    "Spurs",
    "Voids",
    "add_webs",
    "build_copper",
    "build_passives",
    "build_solder",
    "build_surroundings",
    "make_spurs",
    "place_passives",
    "place_voids",
    "populate",
    "slice_bodies",
    "slice_spurs",
    "slice_voids",
]

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


# What an X-ray beam passes: solder in thin layers, and flat shapes for everything else, in the package frame.
#
# Everything is measured as attenuation relative to solder (solder is 1). Layers are `LAYER_UM` thick; layer `i` lies from
# `i * LAYER_UM` to `(i + 1) * LAYER_UM` above the board's surface (negative below it).
#
# Besides solder, the beam passes bumps under the die, traces, copper areas and vias of the board, and passive parts beside the
# package. Shapes and sizes follow what the sample exports show: bumps on a 160 um grid about 30 um above the bottom package's
# surface with a third of them missing, traces along the axes, vias as a stack of rings.


LAYER_UM = 10.0
_SUB = 4  # heights sampled in each layer
_STEPS = 8  # straight pieces of a web
_COPPER, _CERAMIC, _TERMINAL = 0.38, 0.28, 0.55
_PART_STEP_UM = 160.0  # a tall part is drawn as flat shapes this far above one another


@dataclass(frozen=True)
class Discs:
    """Discs of one thin layer each: `layer` (n,) int, `x_um`, `y_um`, `radius_um`, `weight` (n,)."""

    layer: NDArray[np.int64]
    x_um: Floats
    y_um: Floats
    radius_um: Floats
    weight: Floats


@dataclass(frozen=True)
class Capsules:
    """Thick segments of one thin layer each: `ends_um` (n, 4) = x0, y0, x1, y1; `half_width_um`, `weight` (n,)."""

    layer: NDArray[np.int64]
    ends_um: Floats
    half_width_um: Floats
    weight: Floats


@dataclass(frozen=True)
class FlatShapes:
    """Shapes at one height. A tall part is a few of these above one another, which is how its ghosts look in the samples.

    Weights are relative attenuation times thickness in um. `rectangles` (n, 5): x, y, width, height, turn in radians;
    `discs` (n, 3): x, y, radius; `lines` (n, 5): x0, y0, x1, y1, half width.
    """

    z_um: float
    rectangles: Floats = field(default_factory=lambda: np.zeros((0, 5)))
    rectangle_weight: Floats = field(default_factory=lambda: np.zeros(0))
    discs: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    disc_weight: Floats = field(default_factory=lambda: np.zeros(0))
    lines: Floats = field(default_factory=lambda: np.zeros((0, 5)))
    line_weight: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class SolderLayers:
    """Solder: the union of bodies and webs, less the voids."""

    bodies: Discs
    webs: Capsules
    voids: Discs


@dataclass(frozen=True)
class Scene:
    """All that lies in the beam: solder in thin layers, and flat shapes for everything else."""

    solder: SolderLayers
    surroundings: tuple[FlatShapes, ...]


def build_solder(populations: tuple[Population, ...]) -> SolderLayers:
    """Cut all solder of a package's interfaces into thin layers, in the package frame."""
    webs = [slice_spurs(p) for p in populations]
    return SolderLayers(
        _concatenate_discs([slice_bodies(p) for p in populations]),
        Capsules(*(np.concatenate([getattr(w, f) for w in webs]) for f in ("layer", "ends_um", "half_width_um", "weight"))),
        _concatenate_discs([slice_voids(p) for p in populations]),
    )


def slice_bodies(p: Population) -> Discs:
    """Cut the solder bodies of an interface into discs of equal area, one per joint and layer."""
    first = np.floor(p.z_low_um / LAYER_UM).astype(int)
    last = np.ceil((p.z_low_um + p.bodies.standoff) / LAYER_UM).astype(int)
    layers = np.arange(first.min(initial=0), last.max(initial=1))
    z = (layers[:, None] + (np.arange(_SUB) + 0.5) / _SUB).ravel() * LAYER_UM
    u = z[None, :] - p.z_low_um[:, None]
    area = p.bodies.radius_at(u) ** 2
    mean = np.sqrt(area.reshape(len(u), -1, _SUB).mean(axis=2))
    joint, index = np.nonzero(mean > 0)
    middle = (layers[index] + 0.5) * LAYER_UM - p.z_low_um[joint]
    x, y = _axis_at(p, joint, middle)
    return Discs(layers[index], x, y, mean[joint, index], np.ones(len(joint)))


def slice_voids(p: Population) -> Discs:
    """Cut the voids of an interface into discs of equal area, one per void and layer."""
    v = p.voids
    centre = p.z_low_um[v.joint] + v.u_um
    reach = int(np.ceil(v.radius_um.max(initial=0) / LAYER_UM)) + 1
    layers = np.floor(centre / LAYER_UM).astype(int)[:, None] + np.arange(-reach, reach + 1)[None, :]
    z = (layers[:, :, None] + (np.arange(_SUB) + 0.5) / _SUB) * LAYER_UM
    area = np.maximum(v.radius_um[:, None, None] ** 2 - (z - centre[:, None, None]) ** 2, 0).mean(axis=2)
    which, index = np.nonzero(area > 0)
    x, y = _axis_at(p, v.joint[which], v.u_um[which])
    return Discs(layers[which, index], x + v.dx_um[which], y + v.dy_um[which], np.sqrt(area[which, index]), np.ones(len(which)))


def slice_spurs(p: Population) -> Capsules:
    """Cut the webs, spikes and shoulders of an interface into capsules, `_STEPS` per spur and layer."""
    s = p.spurs
    rows: list[tuple[int, float, float, float, float, float]] = []
    for k in np.flatnonzero(s.semi_um > 0):
        joint = s.joint[k : k + 1]
        axis_x, axis_y = (float(v[0]) for v in _axis_at(p, joint, s.u_um[k : k + 1]))
        centre = float(p.z_low_um[joint[0]] + s.u_um[k])
        t = np.linspace(0, 1, _STEPS + 1)
        flare = 1 + (s.flare[k, 0] - 1) * (1 - t) ** 3 * 1.6 + (s.flare[k, 1] - 1) * t**3 * 1.6
        x = axis_x + s.ends_um[k, 0] + t * (s.ends_um[k, 2] - s.ends_um[k, 0])
        y = axis_y + s.ends_um[k, 1] + t * (s.ends_um[k, 3] - s.ends_um[k, 1])
        for layer in range(int(np.floor((centre - s.semi_um[k]) / LAYER_UM)), int(np.ceil((centre + s.semi_um[k]) / LAYER_UM))):
            z = (layer + (np.arange(_SUB) + 0.5) / _SUB) * LAYER_UM
            chord = float(np.sqrt(np.maximum(1 - ((z - centre) / s.semi_um[k]) ** 2, 0)).mean())
            if chord > 0:
                half = s.width_um[k] / 2 * flare * chord
                rows += [(layer, x[i], y[i], x[i + 1], y[i + 1], (half[i] + half[i + 1]) / 2) for i in range(_STEPS)]
    table = np.array(rows, float).reshape(-1, 6)
    return Capsules(table[:, 0].astype(np.int64), table[:, 1:5], table[:, 5], np.ones(len(table)))


def _axis_at(p: Population, joint: NDArray[np.int64], u: Floats) -> tuple[Floats, Floats]:
    """Return (x, y) of the joints' axes at heights u: sheared linearly from pad to pad, half before and half after the centre."""
    share = u / p.bodies.standoff[joint] - 0.5
    x = p.interface.x_um[joint] + p.dx_um[joint] + p.shear_um[joint, 0] * share
    y = p.interface.y_um[joint] + p.dy_um[joint] + p.shear_um[joint, 1] * share
    return x, y


def _concatenate_discs(parts: list[Discs]) -> Discs:
    return Discs(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("layer", "x_um", "y_um", "radius_um", "weight")))


@dataclass(frozen=True)
class Passive:
    """A two-terminal part: centre, length along its axis, width, height, all in um; turned by 90 degrees where `upright`."""

    x_um: float
    y_um: float
    length_um: float
    width_um: float
    height_um: float
    upright: bool


def place_passives(rng: np.random.Generator, package: Package) -> tuple[Passive, ...]:
    """Place up to four parts around the body, 200 to 700 um away from its edge."""
    half = package.body_um[0] / 2, package.body_um[1] / 2
    parts = []
    for side in rng.permutation(4)[: rng.integers(0, 5)]:
        length, width, height = ((1000, 500, 350), (600, 300, 300), (1600, 800, 500))[rng.integers(3)]
        upright = bool(rng.random() < 0.5)
        depth = width if (side < 2) == upright else length
        away = half[0 if side < 2 else 1] + rng.uniform(200, 700) + depth / 2
        along = rng.uniform(-0.9, 0.9) * half[1 if side < 2 else 0]
        sign = 1 if side % 2 else -1
        x, y = (sign * away, along) if side < 2 else (along, sign * away)
        parts.append(Passive(float(x), float(y), length, width, height * float(rng.uniform(0.8, 1.15)), upright))
    return tuple(parts)


def build_surroundings(
    rng: np.random.Generator, package: Package, passives: tuple[Passive, ...], reach_um: float
) -> tuple[FlatShapes, ...]:
    """Build everything of one board but its joints; `reach_um` is how far from the centre the pictures see."""
    copper = build_copper(rng, package, reach_um)

    base = package.interfaces[-1].pads_z_um[0]
    half = 0.5 * package.body_um[0] * rng.uniform(0.3, 0.5)
    pitch = 160.0
    line = (np.arange(-int(half / pitch), int(half / pitch) + 1)) * pitch
    x, y = (v.ravel() for v in np.meshgrid(line, line))
    exists = rng.random(len(x)) < 0.65
    radius = rng.uniform(30, 36)
    bumps = np.stack([x, y, np.full(len(x), radius)], axis=1)[exists]
    bump_weight = rng.uniform(14.0, 17.0, len(bumps))
    die = [FlatShapes(base + z, discs=bumps, disc_weight=bump_weight) for z in (12.0, 30.0, 48.0)]

    n = int(rng.poisson(1.5))  # beads of solder on the board, 10 to 30 um across
    bead_radius = rng.uniform(5, 15, n)
    beads = np.column_stack([rng.uniform(-reach_um, reach_um, (n, 2)), bead_radius])
    return (*die, *copper, FlatShapes(10.0, discs=beads, disc_weight=4 / 3 * bead_radius), *build_passives(passives))


def build_copper(rng: np.random.Generator, package: Package, reach_um: float) -> tuple[FlatShapes, ...]:
    """Build the board's copper: pads, traces, none to three areas on each of three layers, and vias."""
    lower = package.interfaces[0]
    n_pads = len(lower.ball)
    # A missing joint shows the board's pads; the pads above are too thin to be seen.
    pads = np.column_stack([lower.x_um, lower.y_um, np.full(n_pads, lower.pad_diameter_um / 2)])

    n = int(rng.integers(4, 10) * (reach_um / 2640))
    across = rng.uniform(-reach_um, reach_um, n)
    start = rng.uniform(-reach_um, reach_um, n)
    end = np.clip(start + rng.choice([-1, 1], n) * rng.uniform(600, 2 * reach_um, n), -reach_um, reach_um)
    flat = rng.random(n) < 0.5
    ends = np.where(flat[:, None], np.stack([start, across, end, across], axis=1), np.stack([across, start, across, end], axis=1))
    width = rng.choice([60.0, 80.0, 100.0], n)
    traces = FlatShapes(-17.0, lines=np.column_stack([ends, width / 2]), line_weight=rng.uniform(4.0, 9.0, n))

    areas = []
    for z, thick in ((-17.0, 35.0), (-120.0, 18.0), (-420.0, 18.0)):
        n = int(rng.integers(0, 4))
        centre, size = rng.uniform(-reach_um, reach_um, (n, 2)), rng.uniform(400, 2400, (n, 2))
        holes, hole_weight = np.zeros((0, 3)), np.zeros(0)
        if z == -17.0:  # on the board's face the areas are cleared around the pads
            overlaps = [
                int((np.abs(centre - at) < size / 2).all(axis=1).sum()) for at in zip(lower.x_um, lower.y_um, strict=True)
            ]
            radius = np.full(n_pads, lower.pad_diameter_um / 2 + rng.uniform(30, 60))
            holes, hole_weight = np.column_stack([lower.x_um, lower.y_um, radius]), -thick * _COPPER * np.array(overlaps, float)
        boxes = np.column_stack([centre, size, np.zeros(n)])
        areas.append(FlatShapes(z, boxes, np.full(n, thick * _COPPER), discs=holes, disc_weight=hole_weight))

    n = int(rng.poisson(float(rng.uniform(4, 26)) * (reach_um / 2640) ** 2))
    x, y = rng.uniform(-reach_um, reach_um, (2, n))
    rings = np.concatenate([np.stack([x, y, np.full(n, 105.0)], axis=1), np.stack([x, y, np.full(n, 80.0)], axis=1)])
    ring_weight = 60.0 * np.concatenate([np.full(n, _COPPER), np.full(n, -_COPPER)])
    vias = [FlatShapes(z, discs=rings, disc_weight=ring_weight) for z in (-120.0, -280.0, -440.0, -600.0)]
    return (FlatShapes(-17.0, discs=pads, disc_weight=np.full(n_pads, 35.0 * _COPPER)), traces, *areas, *vias)


def build_passives(passives: tuple[Passive, ...]) -> tuple[FlatShapes, ...]:
    """Build bodies and terminals of the parts, 160 um thick each; the uppermost of a part is as thick as what is left of it."""
    levels = []
    for index in range(4):
        boxes: list[tuple[float, ...]] = []
        weights: list[float] = []
        for part in passives:
            thick = min(_PART_STEP_UM, part.height_um - index * _PART_STEP_UM)
            if thick <= 0:
                continue
            terminal = 0.22 * part.length_um
            shift = (part.length_um - terminal) / 2
            for along, length in ((0.0, part.length_um), (-shift, terminal), (shift, terminal)):
                if part.upright:
                    boxes.append((part.x_um, part.y_um + along, part.width_um, length, 0.0))
                else:
                    boxes.append((part.x_um + along, part.y_um, length, part.width_um, 0.0))
            weights += [thick * _CERAMIC, *[thick * (_TERMINAL - _CERAMIC)] * 2]
        if boxes:
            levels.append(FlatShapes((index + 0.5) * _PART_STEP_UM, np.array(boxes), np.array(weights)))
    return tuple(levels)

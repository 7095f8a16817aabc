"""What an X-ray beam passes: solder in thin layers, and flat shapes for everything else, in the package frame.

Everything is measured as attenuation relative to solder (solder is 1). Layers are `LAYER_UM` thick; layer `i` lies from
`i * LAYER_UM` to `(i + 1) * LAYER_UM` above the board's surface (negative below it).

Besides solder, the beam passes bumps under the die, traces, copper areas and vias of the board, and passive parts beside the
package. Shapes and sizes follow what the sample exports show: bumps on a 160 um grid about 30 um above the bottom package's
surface with a third of them missing, traces along the axes, vias as a stack of rings.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Package
from inspect_pop.simulate.population import Population

__all__ = [
    "LAYER_UM",
    "Capsules",
    "Discs",
    "FlatShapes",
    "Passive",
    "Scene",
    "SolderLayers",
    "build_copper",
    "build_passives",
    "build_solder",
    "build_surroundings",
    "place_passives",
    "slice_bodies",
    "slice_spurs",
    "slice_voids",
]

LAYER_UM = 10.0
Floats = NDArray[np.float64]
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

"""What an X-ray beam passes: a board cut into thin layers of plain shapes, in the package frame.

Everything is measured as attenuation relative to solder (solder is 1). Layers are `LAYER_UM` thick; layer `i` lies from
`i * LAYER_UM` to `(i + 1) * LAYER_UM` above the board's surface (negative below it).

From joints to the thin discs and capsules that the X-ray simulator draws.

What else lies in the beam: bumps under the die, traces, copper areas and vias of the board, passive parts beside the package.

Weights are attenuation relative to solder. Shapes and sizes follow what the sample exports show: bumps on a 160 um grid about
30 um above the bottom package's surface with a third of them missing, traces along the axes, vias as a stack of rings.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Package
from inspect_pop.simulate.population import Population, Voids
from inspect_pop.simulate.spurs import Spurs

__all__ = ["LAYER_UM", "Capsules", "Discs", "Passive", "Scene", "Sheet", "Solids", "place_passives", "sheets_around", "solder_of"]

# ---- simulate/scene
LAYER_UM = 10.0
Floats = NDArray[np.float64]


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
class Sheet:
    """Shapes at one height: a tall part is a few sheets above one another, which is how its ghosts look in the samples.

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
class Solids:
    """Solder: the union of bodies and webs, less the voids."""

    bodies: Discs
    webs: Capsules
    voids: Discs


@dataclass(frozen=True)
class Scene:
    """All that lies in the beam: solder in thin layers, and sheets of everything else."""

    solder: Solids
    sheets: tuple[Sheet, ...]


# ---- simulate/solids
_SUB = 4  # heights sampled in each layer
_STEPS = 8  # straight pieces of a web


def solder_of(populations: tuple[Population, ...]) -> Solids:
    """All solder of the interfaces of a package, in its frame."""
    bodies = [_bodies(p) for p in populations]
    webs = [_webs(p) for p in populations]
    voids = [_voids(p) for p in populations]
    return Solids(_cat_discs(bodies), _cat_capsules(webs), _cat_discs(voids))


def _axis(p: Population, joint: NDArray[np.int64], u: Floats) -> tuple[Floats, Floats]:
    """(x, y) of the joints' axes at heights u: sheared linearly from pad to pad, half before and half after the centre."""
    share = u / p.bodies.standoff[joint] - 0.5
    x = p.interface.x_um[joint] + p.dx_um[joint] + p.shear_um[joint, 0] * share
    y = p.interface.y_um[joint] + p.dy_um[joint] + p.shear_um[joint, 1] * share
    return x, y


def _bodies(p: Population) -> Discs:
    first = np.floor(p.z_low_um / LAYER_UM).astype(int)
    last = np.ceil((p.z_low_um + p.bodies.standoff) / LAYER_UM).astype(int)
    layers = np.arange(first.min(initial=0), last.max(initial=1))
    z = (layers[:, None] + (np.arange(_SUB) + 0.5) / _SUB).ravel() * LAYER_UM
    u = z[None, :] - p.z_low_um[:, None]
    area = p.bodies.radius(u) ** 2
    mean = np.sqrt(area.reshape(len(u), -1, _SUB).mean(axis=2))
    joint, index = np.nonzero(mean > 0)
    middle = (layers[index] + 0.5) * LAYER_UM - p.z_low_um[joint]
    x, y = _axis(p, joint, middle)
    return Discs(layers[index], x, y, mean[joint, index], np.ones(len(joint)))


def _voids(p: Population) -> Discs:
    v: Voids = p.voids
    centre = p.z_low_um[v.joint] + v.u_um
    reach = int(np.ceil(v.radius_um.max(initial=0) / LAYER_UM)) + 1
    layers = np.floor(centre / LAYER_UM).astype(int)[:, None] + np.arange(-reach, reach + 1)[None, :]
    z = (layers[:, :, None] + (np.arange(_SUB) + 0.5) / _SUB) * LAYER_UM
    area = np.maximum(v.radius_um[:, None, None] ** 2 - (z - centre[:, None, None]) ** 2, 0).mean(axis=2)
    which, index = np.nonzero(area > 0)
    x, y = _axis(p, v.joint[which], v.u_um[which])
    return Discs(layers[which, index], x + v.dx_um[which], y + v.dy_um[which], np.sqrt(area[which, index]), np.ones(len(which)))


def _webs(p: Population) -> Capsules:
    s: Spurs = p.spurs
    rows: list[tuple[int, float, float, float, float, float]] = []
    for k in np.flatnonzero(s.semi_um > 0):
        joint = s.joint[k : k + 1]
        x, y = (float(v[0]) for v in _axis(p, joint, s.u_um[k : k + 1]))
        centre = float(p.z_low_um[joint[0]] + s.u_um[k])
        t = np.linspace(0, 1, _STEPS + 1)
        flare = 1 + (s.flare[k, 0] - 1) * (1 - t) ** 3 * 1.6 + (s.flare[k, 1] - 1) * t**3 * 1.6
        for layer in range(int(np.floor((centre - s.semi_um[k]) / LAYER_UM)), int(np.ceil((centre + s.semi_um[k]) / LAYER_UM))):
            rows += _web_layer(s, int(k), layer, (x, y), centre, t, flare)
    table = np.array(rows, float).reshape(-1, 6)
    return Capsules(table[:, 0].astype(np.int64), table[:, 1:5], table[:, 5], np.ones(len(table)))


def _web_layer(
    s: Spurs, k: int, layer: int, start: tuple[float, float], centre: float, t: Floats, flare: Floats
) -> list[tuple[int, float, float, float, float, float]]:
    z = (layer + (np.arange(_SUB) + 0.5) / _SUB) * LAYER_UM
    chord = float(np.sqrt(np.maximum(1 - ((z - centre) / s.semi_um[k]) ** 2, 0)).mean())
    if chord <= 0:
        return []
    x = start[0] + s.ends_um[k, 0] + t * (s.ends_um[k, 2] - s.ends_um[k, 0])
    y = start[1] + s.ends_um[k, 1] + t * (s.ends_um[k, 3] - s.ends_um[k, 1])
    half = s.width_um[k] / 2 * flare * chord
    return [(layer, x[i], y[i], x[i + 1], y[i + 1], (half[i] + half[i + 1]) / 2) for i in range(len(t) - 1)]


def _cat_discs(parts: list[Discs]) -> Discs:
    return Discs(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("layer", "x_um", "y_um", "radius_um", "weight")))


def _cat_capsules(parts: list[Capsules]) -> Capsules:
    return Capsules(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("layer", "ends_um", "half_width_um", "weight")))


# ---- simulate/surroundings
_COPPER, _CERAMIC, _TERMINAL = 0.38, 0.28, 0.55
_SHEET_UM = 160.0


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
    """Up to four parts around the body, 150 to 900 um away from its edge."""
    half = package.body_um[0] / 2, package.body_um[1] / 2
    parts = []
    for side in rng.permutation(4)[: rng.integers(0, 5)]:
        length, width, height = ((1000, 500, 350), (600, 300, 300), (1600, 800, 500))[rng.integers(3)]
        upright = bool(rng.random() < 0.5)
        deep, broad = (width, length) if (side < 2) == upright else (length, width)
        away = half[0 if side < 2 else 1] + rng.uniform(200, 700) + deep / 2
        along = rng.uniform(-0.9, 0.9) * half[1 if side < 2 else 0]
        x, y = (away, along) if side < 2 else (along, away)
        sign = 1 if side % 2 else -1
        x, y = (sign * x, y) if side < 2 else (x, sign * y)
        parts.append(Passive(float(x), float(y), length, width, height * float(rng.uniform(0.8, 1.15)), upright))
        del broad
    return tuple(parts)


def sheets_around(
    rng: np.random.Generator, package: Package, passives: tuple[Passive, ...], reach_um: float
) -> tuple[Sheet, ...]:
    """All sheets of one board; `reach_um` is how far from the centre the pictures see."""
    copper = (_pads(package), _traces(rng, reach_um), *_areas(rng, package, reach_um), *_vias(rng, reach_um))
    return (*_bumps(rng, package), *copper, *_beads(rng, reach_um), *_parts(passives))


def _bumps(rng: np.random.Generator, package: Package) -> tuple[Sheet, ...]:
    base = package.interfaces[-1].pads_z_um[0]
    half = 0.5 * package.body_um[0] * rng.uniform(0.3, 0.5)
    pitch = 160.0
    line = (np.arange(-int(half / pitch), int(half / pitch) + 1)) * pitch
    x, y = (v.ravel() for v in np.meshgrid(line, line))
    kept = rng.random(len(x)) < 0.65
    radius = rng.uniform(30, 36)
    discs = np.stack([x, y, np.full(len(x), radius)], axis=1)[kept]
    weight = rng.uniform(14.0, 17.0, len(discs))
    return tuple(Sheet(base + z, discs=discs, disc_weight=weight) for z in (12.0, 30.0, 48.0))


def _pads(package: Package) -> Sheet:
    """The board's copper pads: a missing joint shows them, the pads above are too thin to be seen."""
    lower = package.interfaces[0]
    n = len(lower.ball)
    discs = np.column_stack([lower.x_um, lower.y_um, np.full(n, lower.pad_diameter_um / 2)])
    return Sheet(-17.0, discs=discs, disc_weight=np.full(n, 35.0 * _COPPER))


def _traces(rng: np.random.Generator, reach: float) -> Sheet:
    n = int(rng.integers(4, 10) * (reach / 2640))
    fixed = rng.uniform(-reach, reach, n)
    start = rng.uniform(-reach, reach, n)
    end = np.clip(start + rng.choice([-1, 1], n) * rng.uniform(600, 2 * reach, n), -reach, reach)
    flat = rng.random(n) < 0.5
    ends = np.where(flat[:, None], np.stack([start, fixed, end, fixed], axis=1), np.stack([fixed, start, fixed, end], axis=1))
    width = rng.choice([60.0, 80.0, 100.0], n)
    return Sheet(-17.0, lines=np.column_stack([ends, width / 2]), line_weight=rng.uniform(4.0, 9.0, n))


def _areas(rng: np.random.Generator, package: Package, reach: float) -> tuple[Sheet, ...]:
    """Copper areas: on the board's face, cleared around the pads, and on two inner layers; none to three on each."""
    sheets = []
    lower = package.interfaces[0]
    for z, thick in ((-17.0, 35.0), (-120.0, 18.0), (-420.0, 18.0)):
        n = int(rng.integers(0, 4))
        centre, size = rng.uniform(-reach, reach, (n, 2)), rng.uniform(400, 2400, (n, 2))
        boxes, weight = np.column_stack([centre, size, np.zeros(n)]), np.full(n, thick * _COPPER)
        holes, without = np.zeros((0, 3)), np.zeros(0)
        if z == -17.0:
            over = [
                int(((np.abs(centre - at) < size / 2).all(axis=1)).sum()) for at in zip(lower.x_um, lower.y_um, strict=True)
            ]  # how many areas each pad lies in
            radius = np.full(len(over), lower.pad_diameter_um / 2 + rng.uniform(30, 60))
            holes, without = np.column_stack([lower.x_um, lower.y_um, radius]), -thick * _COPPER * np.array(over, float)
        sheets.append(Sheet(z, rectangles=boxes, rectangle_weight=weight, discs=holes, disc_weight=without))
    return tuple(sheets)


def _beads(rng: np.random.Generator, reach: float) -> tuple[Sheet, ...]:
    """A few beads of solder on the board, 10 to 30 um across."""
    n = int(rng.poisson(1.5))
    radius = rng.uniform(5, 15, n)
    discs = np.column_stack([rng.uniform(-reach, reach, (n, 2)), radius])
    return (Sheet(10.0, discs=discs, disc_weight=4 / 3 * radius),)


def _vias(rng: np.random.Generator, reach: float) -> tuple[Sheet, ...]:
    n = int(rng.poisson(float(rng.uniform(4, 26)) * (reach / 2640) ** 2))
    x, y = rng.uniform(-reach, reach, (2, n))
    discs = np.concatenate([np.stack([x, y, np.full(n, 105.0)], axis=1), np.stack([x, y, np.full(n, 80.0)], axis=1)])
    weight = 60.0 * np.concatenate([np.full(n, _COPPER), np.full(n, -_COPPER)])
    return tuple(Sheet(z, discs=discs, disc_weight=weight) for z in (-120.0, -280.0, -440.0, -600.0))


def _parts(passives: tuple[Passive, ...]) -> tuple[Sheet, ...]:
    """Sheets of 160 um each; the uppermost of a part is as thick as what is left of it."""
    sheets = []
    for index in range(4):
        boxes: list[tuple[float, ...]] = []
        weights: list[float] = []
        for part in passives:
            thick = min(_SHEET_UM, part.height_um - index * _SHEET_UM)
            if thick > 0:
                boxes += _boxes(part)
                weights += [thick * _CERAMIC, *[thick * (_TERMINAL - _CERAMIC)] * 2]
        if boxes:
            sheets.append(Sheet((index + 0.5) * _SHEET_UM, rectangles=np.array(boxes), rectangle_weight=np.array(weights)))
    return tuple(sheets)


def _boxes(part: Passive) -> list[tuple[float, ...]]:
    """The body and its two terminals, as rectangles."""
    terminal = 0.22 * part.length_um
    shift = (part.length_um - terminal) / 2
    if part.upright:
        ends = [(part.x_um, part.y_um + s * shift, part.width_um, terminal, 0.0) for s in (-1, 1)]
        return [(part.x_um, part.y_um, part.width_um, part.length_um, 0.0), *ends]
    ends = [(part.x_um + s * shift, part.y_um, terminal, part.width_um, 0.0) for s in (-1, 1)]
    return [(part.x_um, part.y_um, part.length_um, part.width_um, 0.0), *ends]

"""What else lies in the beam: bumps under the die, traces, copper areas and vias of the board, passive parts beside the package.

Weights are attenuation relative to solder. Shapes and sizes follow what the sample exports show: bumps on a 160 um grid about
30 um above the bottom package's surface with a third of them missing, traces along the axes, vias as a stack of rings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.recipe import Package
from inspect_pop.simulate.scene import Sheet

__all__ = ["Passive", "place_passives", "sheets_around"]

Floats = NDArray[np.float64]
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

"""Height maps: what a fringe projector sees of a package before stacking and after reflow.

From the samples: noise of 2 to 4 um, 0.3 % lone dropouts and 0.1 % outliers; two lights from opposite sides, in the shadow of the
first a point is lost with a chance of 45 %, in that of the second 13 %; steep walls lose 60 %; text engraved 15 um, a pin-1
dimple of 35 um; conical openings in the mold with the bottom solder's dome in them; parts beside the package, at times a
tall one.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inspect_pop.core.geometry import Grid, HeightMap, Placement
from inspect_pop.core.recipe import Package
from inspect_pop.simulate.machines import Machine
from inspect_pop.simulate.scene import Passive
from inspect_pop.simulate.warpage import Stack

__all__ = ["MOLD_ABOVE_UM", "Domes", "View", "height_map"]

Floats = NDArray[np.float64]
MOLD_ABOVE_UM = 172.0  # the mold's surface above the upper interface's lower pads
_OPENING_FLOOR, _OPENING_WALL = 1.07, 0.5  # radius of the floor over the pad's; width of the sloping wall over the pad radius
_LOST_FIRST, _LOST_SECOND, _LOST_WALL = 0.45, 0.13, 0.6


@dataclass(frozen=True)
class Domes:
    """The bottom solder in the mold's openings: place (n,), height above the floor (n,; 0: none) and pad radius."""

    x_um: Floats
    y_um: Floats
    height_um: Floats
    pad_radius_um: float


@dataclass(frozen=True)
class View:
    """What is looked at, and from where: the stage, the finished stack, the domes, the parts beside it, the marking."""

    stage: str
    stack: Stack
    domes: Domes
    passives: tuple[Passive, ...]
    text: tuple[str, ...]


def height_map(
    rng: np.random.Generator, package: Package, view: View, grid: Grid, placement: Placement, machine: Machine
) -> HeightMap:
    """Height map (float32 um, NaN: no data) of one stage, `pre_stack` or `post_reflow`, through the machine's tilt and noise."""
    rows, cols = np.mgrid[: grid.shape[0], : grid.shape[1]].astype(np.float64)
    gx, gy = grid.to_um(rows, cols)
    x, y = (np.asarray(v, np.float64) for v in placement.undo(gx, gy))
    true, body = _true_height(rng, package, view, x, y)
    height = true + _texture(rng, body, machine)
    lost = _lost(rng, true, machine, grid.pixel_um)
    odd = rng.random(true.shape) < machine.outliers
    height = np.where(odd, height + rng.normal(0, 130, true.shape), height)
    turn, tilt = rng.uniform(0, 2 * math.pi), math.tan(math.radians(min(abs(float(rng.normal(0, 0.05))), 0.3)))
    height = height + tilt * (gx * math.cos(turn) + gy * math.sin(turn))
    return HeightMap(package.refdes, view.stage, np.where(lost, np.nan, height).astype(np.float32), grid)


def _true_height(
    rng: np.random.Generator, package: Package, view: View, x: Floats, y: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    height = np.full(x.shape, 3.0)
    for part in view.passives:
        size = (part.width_um, part.length_um) if part.upright else (part.length_um, part.width_um)
        height[(np.abs(x - part.x_um) < size[0] / 2) & (np.abs(y - part.y_um) < size[1] / 2)] = part.height_um
    body = (np.abs(x) < package.body_um[0] / 2) & (np.abs(y) < package.body_um[1] / 2)
    if view.stage == "pre_stack":
        mold = package.interfaces[-1].pads_z_um[0] + MOLD_ABOVE_UM
        top = mold + view.stack.lift_um + view.stack.early * view.stack.bottom.bent().at(x, y) + _openings(x, y, view.domes)
        top = top - 55.0 * _disc(x, y, package, inset=0.04, radius=60.0 / package.body_um[0])
    else:
        top = package.stack_height_um + view.stack.memory.at(x, y)
        top = top - 35.0 * _disc(x, y, package, inset=0.08, radius=0.028) - _engraved(x, y, package, view.text)
    height[body] = top[body]
    return _tall_neighbour(rng, height, package, (x, y)), body


def _openings(x: Floats, y: Floats, domes: Domes) -> Floats:
    """Depth (negative) of the openings with their domes, relative to the mold's surface."""
    out = np.zeros(x.shape)
    floor, wall = _OPENING_FLOOR * domes.pad_radius_um, _OPENING_WALL * domes.pad_radius_um
    for dx, dy, high in zip(domes.x_um, domes.y_um, domes.height_um, strict=True):
        rows, cols = np.nonzero((np.abs(x - dx) < floor + wall) & (np.abs(y - dy) < floor + wall))
        if not len(rows):
            continue
        box = (slice(rows.min(), rows.max() + 1), slice(cols.min(), cols.max() + 1))
        r = np.hypot(x[box] - dx, y[box] - dy)
        depth = -(MOLD_ABOVE_UM) * np.clip((floor + wall - r) / wall, 0, 1)
        if high > 0:
            sphere = (domes.pad_radius_um**2 + high**2) / (2 * high)
            cap = np.sqrt(np.maximum(sphere**2 - r**2, 0)) - (sphere - high)
            depth = np.where(r < domes.pad_radius_um, depth + np.maximum(cap, 0), depth)
        out[box] = np.minimum(out[box], depth)
    return out


def _disc(x: Floats, y: Floats, package: Package, *, inset: float, radius: float) -> Floats:
    """A round dimple (1 inside, soft over its last tenth) near the corner that carries the pin-1 mark."""
    sx = -1.0 if package.a1_corner.endswith("left") else 1.0
    sy = 1.0 if package.a1_corner.startswith("upper") else -1.0
    width = package.body_um[0]
    r = np.hypot(x - sx * (0.5 - inset) * width, y - sy * (0.5 - inset) * width) / (radius * width)
    return np.asarray(np.clip((1.05 - r) / 0.1, 0, 1), np.float64)


def _engraved(x: Floats, y: Floats, package: Package, text: tuple[str, ...]) -> Floats:
    """Depth of the laser marking: three lines in the middle of the top."""
    size = 512
    canvas = np.zeros((size, size), np.uint8)
    for line, content in enumerate(text):
        width = cv2.getTextSize(content, cv2.FONT_HERSHEY_SIMPLEX, 1.6, 7)[0][0]
        cv2.putText(canvas, content, ((size - width) // 2, 150 + 125 * line), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 255, 7, cv2.LINE_AA)
    scale = size / (0.62 * package.body_um[0])
    rows, cols = (size / 2 - y * scale).astype(np.float32), (size / 2 + x * scale).astype(np.float32)
    depth = cv2.remap(canvas, cols, rows, cv2.INTER_AREA, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(depth, np.float64) / 255 * 16.0


def _tall_neighbour(rng: np.random.Generator, height: Floats, package: Package, at: tuple[Floats, Floats]) -> Floats:
    """In a third of the pictures a tall part reaches into the field from one side."""
    if rng.random() > 0.35:
        return height
    away = package.body_um[0] / 2 + float(rng.uniform(560, 680))
    axis, sign = at[int(rng.integers(2))], float(rng.choice([-1, 1]))
    return np.where(sign * axis > away, float(rng.uniform(900, 1400)), height)


def _texture(rng: np.random.Generator, body: NDArray[np.bool_], machine: Machine) -> Floats:
    fine = rng.normal(0, machine.height_noise_um, body.shape)
    rough = ndimage.gaussian_filter(rng.standard_normal(body.shape), 1.2) * 4.2
    stripes = ndimage.gaussian_filter1d(rng.standard_normal((body.shape[0], 1)), 6.0, axis=0) * 12.0
    return np.where(body, fine, fine + rough * 6.0 / 2.2 + stripes)


def _lost(rng: np.random.Generator, height: Floats, machine: Machine, pixel_um: float) -> NDArray[np.bool_]:
    azimuth = float(rng.uniform(0, 2 * math.pi))
    first = _shadow(height, azimuth, float(rng.uniform(2.6, 4.2)), pixel_um)
    second = _shadow(height, azimuth + math.pi, float(rng.uniform(2.6, 4.2)), pixel_um)
    slope = np.hypot(*np.gradient(height)) / pixel_um
    wall = _LOST_WALL * np.clip((slope - 1.2) / 1.2, 0, 1)
    keep = (1 - _LOST_FIRST * first) * (1 - _LOST_SECOND * second) * (1 - wall) * (1 - machine.dropouts)
    return np.asarray(rng.random(height.shape) > keep)


def _shadow(height: Floats, azimuth: float, steepness: float, pixel_um: float) -> NDArray[np.bool_]:
    """Points that something nearer to the light hides; the light comes from `azimuth`, rising `steepness` um per um."""
    steps = int(np.ptp(height) / steepness / pixel_um) + 1
    hidden = np.zeros(height.shape, bool)
    for step in range(1, steps + 1):
        dr, dc = round(math.sin(azimuth) * step), round(math.cos(azimuth) * step)
        hidden |= _moved(height, dr, dc) - step * pixel_um * steepness > height + 8.0
    return hidden


def _moved(height: Floats, dr: int, dc: int) -> Floats:
    """The map seen from (dr, dc) away: value at (r + dr, c + dc), the border repeated."""
    rows = np.clip(np.arange(height.shape[0]) + dr, 0, height.shape[0] - 1)
    cols = np.clip(np.arange(height.shape[1]) + dc, 0, height.shape[1] - 1)
    return height[rows[:, None], cols[None, :]]

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
from inspect_pop.core.recipe import Package, describe_construction
from inspect_pop.simulate.machines import Machine
from inspect_pop.simulate.scene import Passive
from inspect_pop.simulate.warpage import WarpedStack

__all__ = [
    "MOLD_ABOVE_UM",
    "Domes",
    "HeightScene",
    "RaisedMiddle",
    "carve_openings",
    "draw_middle",
    "engrave_text",
    "render_height_map",
]

Floats = NDArray[np.float64]
MOLD_ABOVE_UM = 172.0  # the mold's surface above the upper interface's lower pads
_OPENING_FLOOR, _OPENING_WALL = 1.07, 0.5  # radius of the floor over the pad's; width of the sloping wall over the pad radius
_LOSS_FIRST, _LOSS_SECOND, _LOSS_WALL = 0.45, 0.13, 0.6


@dataclass(frozen=True)
class Domes:
    """The bottom solder in the mold's openings: place (n,), height above the floor (n,; 0: none) and pad radius."""

    x_um: Floats
    y_um: Floats
    height_um: Floats
    pad_radius_um: float


@dataclass(frozen=True)
class RaisedMiddle:
    """A mould cap or a die on the bottom package: its half sides, its height above the surface around it, um.

    `bend_share`: how much it bends for the package's bend. `fillet_um`: width of the underfill's slope around it.
    `land_above_um`: the package's surface above the upper interface's lower pads.
    """

    half_um: tuple[float, float]
    height_um: float
    bend_share: float
    fillet_um: float
    land_above_um: float


@dataclass(frozen=True)
class HeightScene:
    """What the projector sees: the stage, the finished stack, the domes, the parts beside it, the marking, a cap or die."""

    stage: str
    stack: WarpedStack
    domes: Domes
    passives: tuple[Passive, ...]
    text: tuple[str, ...]
    middle: RaisedMiddle | None = None


def draw_middle(rng: np.random.Generator, package: Package) -> RaisedMiddle | None:
    """Draw the cap or die of a package whose construction has one, None for the others (which draw nothing).

    A cap is 30 um high up to the upper gap, and reaches nearly to the joints; a die is smaller, with underfill around it; an
    exposed die lies in the mould, up to 25 um below its surface or 60 um above it.
    """
    if not describe_construction(package.construction).raised_middle:
        return None
    upper = package.interface("upper")
    ring = float(np.max(np.stack([np.abs(upper.x_um), np.abs(upper.y_um)]), axis=0).min()) - 0.75 * upper.pitch_um
    share, fillet, land, low, high = {
        "standard": ((0.8, 1.0), (0.0, 20.0), (15.0, 60.0), 30.0, upper.gap_um),
        "psfccsp": ((0.5, 0.95), (40.0, 250.0), (15.0, 60.0), 30.0, upper.gap_um),
        "exposed_die_tmv": ((0.4, 0.8), (0.0, 0.0), (MOLD_ABOVE_UM, MOLD_ABOVE_UM), -25.0, 60.0),
    }[package.construction]
    half = (ring * float(rng.uniform(*share)), ring * float(rng.uniform(*share)))
    height, bend = float(rng.uniform(low, high)), float(rng.uniform(0.5, 1.2))
    return RaisedMiddle(half, height, bend, float(rng.uniform(*fillet)), float(rng.uniform(*land)))


def render_height_map(
    rng: np.random.Generator, package: Package, scene: HeightScene, grid: Grid, placement: Placement, machine: Machine
) -> HeightMap:
    """Render the height map (float32 um, NaN: no data) of one stage, through the machine's tilt and noise.

    The stage is `pre_stack` or `post_reflow`.
    """
    rows, cols = np.mgrid[: grid.shape[0], : grid.shape[1]].astype(np.float64)
    grid_x, grid_y = grid.to_um(rows, cols)
    x, y = (np.asarray(v, np.float64) for v in placement.undo(grid_x, grid_y))

    surface = np.full(x.shape, 3.0)
    for part in scene.passives:
        size = (part.width_um, part.length_um) if part.upright else (part.length_um, part.width_um)
        surface[(np.abs(x - part.x_um) < size[0] / 2) & (np.abs(y - part.y_um) < size[1] / 2)] = part.height_um
    body = (np.abs(x) < package.body_um[0] / 2) & (np.abs(y) < package.body_um[1] / 2)
    if scene.stage == "pre_stack":
        above = MOLD_ABOVE_UM if scene.middle is None else scene.middle.land_above_um
        mold = package.interfaces[-1].pads_z_um[0] + above
        bend = scene.stack.early_share * scene.stack.bottom.without_plane().height_at(x, y)
        top = mold + scene.stack.lift_um + bend
        if above == MOLD_ABOVE_UM:
            top = top + carve_openings(x, y, scene.domes)
        if scene.middle is not None:
            top = _raise_middle(x, y, top, bend, scene.middle)
        top = top - 55.0 * _dimple(x, y, package, inset=0.04, radius=60.0 / package.body_um[0])
    else:
        top = package.stack_height_um + scene.stack.memory.height_at(x, y)
        top = top - 35.0 * _dimple(x, y, package, inset=0.08, radius=0.028) - engrave_text(x, y, package, scene.text)
    surface[body] = top[body]
    if rng.random() <= 0.35:  # a tall part reaches into the field from one side
        away = package.body_um[0] / 2 + float(rng.uniform(560, 680))
        axis, sign = (x, y)[int(rng.integers(2))], float(rng.choice([-1, 1]))
        surface = np.where(sign * axis > away, float(rng.uniform(900, 1400)), surface)

    fine = rng.normal(0, machine.height_noise_um, body.shape)
    rough = ndimage.gaussian_filter(rng.standard_normal(body.shape), 1.2) * 4.2
    stripes = ndimage.gaussian_filter1d(rng.standard_normal((body.shape[0], 1)), 6.0, axis=0) * 12.0
    height = surface + np.where(body, fine, fine + rough * 6.0 / 2.2 + stripes)

    azimuth = float(rng.uniform(0, 2 * math.pi))
    first = _cast_shadow(surface, azimuth, float(rng.uniform(2.6, 4.2)), grid.pixel_um)
    second = _cast_shadow(surface, azimuth + math.pi, float(rng.uniform(2.6, 4.2)), grid.pixel_um)
    slope = np.hypot(*np.gradient(surface)) / grid.pixel_um
    wall = _LOSS_WALL * np.clip((slope - 1.2) / 1.2, 0, 1)
    p_seen = (1 - _LOSS_FIRST * first) * (1 - _LOSS_SECOND * second) * (1 - wall) * (1 - machine.dropouts)
    lost = np.asarray(rng.random(surface.shape) > p_seen)

    outlier = rng.random(surface.shape) < machine.outliers
    height = np.where(outlier, height + rng.normal(0, 130, surface.shape), height)
    turn, tilt = rng.uniform(0, 2 * math.pi), math.tan(math.radians(min(abs(float(rng.normal(0, 0.05))), 0.3)))
    height = height + tilt * (grid_x * math.cos(turn) + grid_y * math.sin(turn))
    return HeightMap(package.refdes, scene.stage, np.where(lost, np.nan, height).astype(np.float32), grid)


def carve_openings(x: Floats, y: Floats, domes: Domes) -> Floats:
    """Return the depth (um, negative) of the openings with their domes, relative to the mold's surface."""
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


def _raise_middle(x: Floats, y: Floats, top: Floats, bend: Floats, middle: RaisedMiddle) -> Floats:
    """Return the heights with the cap or die, and the slope of underfill around it."""
    beyond = np.hypot(np.maximum(np.abs(x) - middle.half_um[0], 0), np.maximum(np.abs(y) - middle.half_um[1], 0))
    raised = top + middle.height_um + (middle.bend_share - 1) * bend
    if middle.fillet_um > 0:
        top = top + 0.6 * max(middle.height_um, 0.0) * np.clip(1 - beyond / middle.fillet_um, 0, 1) ** 2
    return np.where(beyond > 0, top, raised)


def engrave_text(x: Floats, y: Floats, package: Package, text: tuple[str, ...]) -> Floats:
    """Return the depth (um) of the laser marking: up to three lines in the middle of the top."""
    size = 512
    canvas = np.zeros((size, size), np.uint8)
    for line, content in enumerate(text):
        width = cv2.getTextSize(content, cv2.FONT_HERSHEY_SIMPLEX, 1.6, 7)[0][0]
        cv2.putText(canvas, content, ((size - width) // 2, 150 + 125 * line), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 255, 7, cv2.LINE_AA)
    scale = size / (0.62 * package.body_um[0])
    rows, cols = (size / 2 - y * scale).astype(np.float32), (size / 2 + x * scale).astype(np.float32)
    depth = cv2.remap(canvas, cols, rows, cv2.INTER_AREA, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(depth, np.float64) / 255 * 16.0


def _dimple(x: Floats, y: Floats, package: Package, *, inset: float, radius: float) -> Floats:
    """Return a round dimple (1 inside, soft over its last tenth) near the corner that carries the pin-1 mark."""
    sx = -1.0 if package.a1_corner.endswith("left") else 1.0
    sy = 1.0 if package.a1_corner.startswith("upper") else -1.0
    width = package.body_um[0]
    r = np.hypot(x - sx * (0.5 - inset) * width, y - sy * (0.5 - inset) * width) / (radius * width)
    return np.asarray(np.clip((1.05 - r) / 0.1, 0, 1), np.float64)


def _cast_shadow(height: Floats, azimuth: float, steepness: float, pixel_um: float) -> NDArray[np.bool_]:
    """Mark points that something nearer to the light hides; the light comes from `azimuth`, rising `steepness` um per um."""
    steps = int(np.ptp(height) / steepness / pixel_um) + 1
    rows, cols = np.arange(height.shape[0]), np.arange(height.shape[1])
    hidden = np.zeros(height.shape, bool)
    for step in range(1, steps + 1):
        # the map `step` pixels towards the light, its border repeated
        nearer_rows = np.clip(rows + round(math.sin(azimuth) * step), 0, height.shape[0] - 1)
        nearer_cols = np.clip(cols + round(math.cos(azimuth) * step), 0, height.shape[1] - 1)
        hidden |= height[nearer_rows[:, None], nearer_cols[None, :]] - step * pixel_um * steepness > height + 8.0
    return hidden

"""The pictures that machines take of a scene: height maps, X-ray views and slices.

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
from scipy import fft as sfft
from scipy import ndimage

from inspect_pop.core.geometry import Grid, HeightMap, Placement
from inspect_pop.core.recipe import Package, describe_construction
from inspect_pop.simulate.catalog import Machine
from inspect_pop.simulate.causes import WarpedStack
from inspect_pop.simulate.scene import LAYER_UM, FlatShapes, Passive, Scene, SolderLayers

__all__ = [
    "MOLD_ABOVE_UM",
    "Domes",
    "HeightScene",
    "RaisedMiddle",
    "add_capsules",
    "add_discs",
    "add_rectangles",
    "carve_openings",
    "draw_middle",
    "engrave_text",
    "reconstruct",
    "render_height_map",
    "to_grey_values",
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


# X-ray views of a scene, and the slices that a machine makes of them.
#
# A view is the parallel projection of the whole board at a tilt; each thin layer is drawn once, transformed once, and
# shifted by a phase for every view. A view passes the detector (beam hardening, quantum noise, blur); then the views are
# filtered, shifted so that one height coincides, and averaged (shift-and-add laminography). What lies at another height by `dz`
# therefore appears as a ring of ghosts of radius `dz * tan(tilt)`, as in the sample exports. A transmission picture is a single
# straight view; in computed tomography a slice holds what lies at its height, give or take the axial blur. At the end solder
# units become the grey values that a machine writes: level, span, drift, shading, response, polarity, dtype.
#
# The simulator draws anti-aliased discs, capsules and rectangles only. Their coordinates are (row, col) in pixels, pixel centres
# at whole numbers. Coverage of a pixel is approximated by a ramp one pixel wide across the edge, exact for a straight edge along
# an axis and good to 2 % of the area for a disc of radius 1.


AnyFloats = NDArray[np.floating]
Complex = NDArray[np.complex64]
Image = NDArray[np.float32]
_CHUNK = 400_000  # pixels evaluated at once: keeps the temporaries inside the cache
_THICK_UM = 200.0  # path of solder that counts as 1 in a slice
_MOTTLE_UM = 14.0  # sd of the coarser grain, from the noise's spectrum in the samples


def add_discs(image: Image, row: AnyFloats, col: AnyFloats, radius: AnyFloats, weight: AnyFloats) -> None:
    """Add discs to `image` (rows, cols) in place; `row`, `col`, `radius` (n,) in pixels, `weight` (n,) is added inside."""
    half = np.ceil(radius + 1.0).astype(int)
    for size in np.unique(half[(radius > 0) & (weight != 0)]):
        index = np.flatnonzero((half == size) & (radius > 0) & (weight != 0))
        step = max(1, _CHUNK // (2 * int(size) + 1) ** 2)
        for start in range(0, len(index), step):
            part = index[start : start + step]
            _add_discs_of_one_size(image, row[part], col[part], radius[part], weight[part], int(size))


def _add_discs_of_one_size(image: Image, row: AnyFloats, col: AnyFloats, radius: AnyFloats, weight: AnyFloats, half: int) -> None:
    offsets = np.arange(-half, half + 1)
    r0, c0 = np.rint(row).astype(int), np.rint(col).astype(int)
    dr = (offsets[None, :] + (r0 - row)[:, None]).astype(np.float32)
    dc = (offsets[None, :] + (c0 - col)[:, None]).astype(np.float32)
    distance = np.sqrt(dr[:, :, None] ** 2 + dc[:, None, :] ** 2)
    # Below a radius of half a pixel the ramp would overstate the area: the weight is scaled down to the true one.
    small = np.minimum(1.0, (np.asarray(radius) / 0.5) ** 2 * 0.75 + 0.25)
    cover = np.clip(np.asarray(radius, np.float32)[:, None, None] + 0.5 - distance, 0.0, 1.0)
    cover *= (np.asarray(weight) * small).astype(np.float32)[:, None, None]
    rows, cols = r0[:, None, None] + offsets[None, :, None], c0[:, None, None] + offsets[None, None, :]
    inside = (rows >= 0) & (rows < image.shape[0]) & (cols >= 0) & (cols < image.shape[1])
    flat = np.broadcast_to(rows * image.shape[1] + cols, cover.shape)
    if inside.all():
        np.add.at(image.reshape(-1), flat.ravel(), cover.ravel())
    else:
        np.add.at(image.reshape(-1), flat[inside], cover[inside])


def add_capsules(image: Image, ends: AnyFloats, half_width: AnyFloats, weight: AnyFloats) -> None:
    """Add thick segments: `ends` (n, 4) = row0, col0, row1, col1; `half_width` and `weight` (n,), in pixels."""
    for (r0, c0, r1, c1), half, w in zip(ends, half_width, weight, strict=True):
        margin = half + 1.5
        box = _clip_box(image, min(r0, r1) - margin, max(r0, r1) + margin, min(c0, c1) - margin, max(c0, c1) + margin)
        if box is None:
            continue
        rr, cc = np.mgrid[box].astype(np.float32)
        length2 = max((r1 - r0) ** 2 + (c1 - c0) ** 2, 1e-9)
        along = np.clip(((rr - r0) * (r1 - r0) + (cc - c0) * (c1 - c0)) / length2, 0.0, 1.0)
        distance = np.hypot(rr - r0 - along * (r1 - r0), cc - c0 - along * (c1 - c0))
        thin = min(1.0, 2 * half)  # a line thinner than a pixel covers only so much of it
        image[box] += w * thin * np.clip(max(half, 0.5) + 0.5 - distance, 0.0, 1.0)


def add_rectangles(image: Image, centre: AnyFloats, size: AnyFloats, angle_rad: AnyFloats, weight: AnyFloats) -> None:
    """Add turned rectangles: `centre` (n, 2) row, col; `size` (n, 2) along row and col before turning; pixels."""
    for (r, c), (height, width), angle, w in zip(centre, size, angle_rad, weight, strict=True):
        reach = 0.5 * np.hypot(height, width) + 1.5
        box = _clip_box(image, r - reach, r + reach, c - reach, c + reach)
        if box is None:
            continue
        rr, cc = np.mgrid[box].astype(np.float32)
        cos, sin = np.cos(angle), np.sin(angle)
        across = np.abs(cos * (rr - r) + sin * (cc - c))
        along = np.abs(cos * (cc - c) - sin * (rr - r))
        cover = np.clip(height / 2 + 0.5 - across, 0, min(1.0, height)) * np.clip(width / 2 + 0.5 - along, 0, min(1.0, width))
        image[box] += w * cover


def _clip_box(image: Image, top: float, bottom: float, left: float, right: float) -> tuple[slice, slice] | None:
    r0, r1 = max(0, int(np.floor(top))), min(image.shape[0], int(np.ceil(bottom)) + 1)
    c0, c1 = max(0, int(np.floor(left))), min(image.shape[1], int(np.ceil(right)) + 1)
    return (slice(r0, r1), slice(c0, c1)) if r1 > r0 and c1 > c0 else None


@dataclass(frozen=True)
class _Canvas:
    """A padded grid in the image's frame: it holds what a view sees beyond the picture's edge, and keeps wrap-around outside."""

    shape: tuple[int, int]
    margin: int
    grid: Grid
    placement: Placement

    def pixels(self, x_um: AnyFloats, y_um: AnyFloats) -> tuple[AnyFloats, AnyFloats]:
        """Return (row, col) on the canvas of points in the package frame."""
        row, col = self.grid.to_pixel(*self.placement.apply(x_um, y_um))
        return row + self.margin, col + self.margin

    def segments(self, ends_um: AnyFloats) -> AnyFloats:
        """Return the ends (n, 4) of segments, row0, col0, row1, col1, from x0, y0, x1, y1 in the package frame."""
        r0, c0 = self.pixels(ends_um[:, 0], ends_um[:, 1])
        r1, c1 = self.pixels(ends_um[:, 2], ends_um[:, 3])
        return np.stack([r0, c0, r1, c1], axis=1)

    def crop(self, image: Image) -> Image:
        """Return the part of a canvas that the picture shows."""
        m = self.margin
        return image[m : m + self.grid.shape[0], m : m + self.grid.shape[1]]

    def frequencies(self) -> tuple[Image, Image]:
        """Return the frequencies of the half plane along rows and columns, in cycles per pixel."""
        return sfft.fftfreq(self.shape[0]).astype(np.float32), sfft.rfftfreq(self.shape[1]).astype(np.float32)

    def transform_view(self, image: Image) -> Complex:
        """Transform what the detector saw: its field, the border repeated beyond it, as the machines' software does."""
        m, (rows, cols) = self.margin, self.grid.shape
        after = self.shape[0] - m - rows, self.shape[1] - m - cols
        return _rfft(np.pad(self.crop(image), ((m, after[0]), (m, after[1])), mode="edge"))

    def invert(self, transform: Complex) -> Image:
        """Return the image of a transform."""
        return sfft.irfft2(transform, self.shape, workers=1)  # type: ignore[no-any-return]

    def transform_solder(self, solder: SolderLayers) -> list[tuple[int, Complex]]:
        """Draw and transform the solder: (layer, transform) of every layer that holds some, from the lowest up."""
        bodies, webs, voids = solder.bodies, solder.webs, solder.voids
        pix = self.grid.pixel_um
        layers = []
        for layer in np.unique(np.concatenate([bodies.layer, webs.layer])):
            image = np.zeros(self.shape, np.float32)
            at = bodies.layer == layer
            add_discs(image, *self.pixels(bodies.x_um[at], bodies.y_um[at]), bodies.radius_um[at] / pix, bodies.weight[at])
            at = webs.layer == layer
            if at.any():
                add_capsules(image, self.segments(webs.ends_um[at]), webs.half_width_um[at] / pix, webs.weight[at])
            np.minimum(image, 1.0, out=image)
            at = voids.layer == layer
            if at.any():
                add_discs(image, *self.pixels(voids.x_um[at], voids.y_um[at]), voids.radius_um[at] / pix, -voids.weight[at])
                np.maximum(image, 0.0, out=image)
            layers.append((int(layer), _rfft(image)))
        return layers

    def transform_shapes(self, shapes: FlatShapes) -> Complex:
        """Draw and transform the shapes of one height."""
        image = np.zeros(self.shape, np.float32)
        pix = self.grid.pixel_um
        if len(shapes.rectangles):
            rows, cols = self.pixels(shapes.rectangles[:, 0], shapes.rectangles[:, 1])
            # the raster turns rows towards columns: with y up and rows down that is counter-clockwise seen from the top
            turn = shapes.rectangles[:, 4] + math.radians(self.placement.rotation_deg)
            sizes = shapes.rectangles[:, [3, 2]] / pix
            add_rectangles(image, np.stack([rows, cols], axis=1), sizes, turn, shapes.rectangle_weight)
        if len(shapes.discs):
            add_discs(image, *self.pixels(shapes.discs[:, 0], shapes.discs[:, 1]), shapes.discs[:, 2] / pix, shapes.disc_weight)
        if len(shapes.lines):
            add_capsules(image, self.segments(shapes.lines), shapes.lines[:, 4] / pix, shapes.line_weight)
        return _rfft(image)


@dataclass(frozen=True)
class _Spectra:
    """The scene, drawn and transformed: (layer, transform) of solder from the lowest up; (height, transform) of the rest."""

    layers: list[tuple[int, Complex]]
    surroundings: list[tuple[float, Complex]]


def reconstruct(
    rng: np.random.Generator,
    scene: Scene,
    grid: Grid,
    placement: Placement,
    z_um: tuple[float, ...],
    machine: Machine,
    phase_rad: float,
) -> Image:
    """Make the slices (len(z_um), rows, cols), float32, in units of solder: about 1 inside a joint, 0 far from everything.

    `z_um` are true heights above the board's surface in the scene; `phase_rad` is the first view's angle. Deterministic for a
    given generator state.
    """
    layers, heights = scene.solder.bodies.layer, [shapes.z_um for shapes in scene.surroundings]
    lowest = min([float(layers.min(initial=0)) * LAYER_UM, *heights])
    highest = max([float(layers.max(initial=0) + 1) * LAYER_UM, *heights])
    reach_um = max(abs(height - z) for height in (lowest, highest) for z in z_um) * _tilt_tangent(machine)
    margin = math.ceil(reach_um / grid.pixel_um) + 4
    shape = tuple(sfft.next_fast_len(n + 2 * margin, real=True) for n in grid.shape)
    canvas = _Canvas((shape[0], shape[1]), margin, grid, placement)
    spectra = _Spectra(
        canvas.transform_solder(scene.solder),
        [(shapes.z_um, canvas.transform_shapes(shapes)) for shapes in scene.surroundings],
    )
    if machine.method == "ct":
        return _reconstruct_ct(rng, spectra, canvas, z_um, machine)
    return _shift_and_add(rng, spectra, canvas, z_um, machine, phase_rad)


def _shift_and_add(
    rng: np.random.Generator, spectra: _Spectra, canvas: _Canvas, z_um: tuple[float, ...], machine: Machine, phase_rad: float
) -> Image:
    fy, fx = canvas.frequencies()
    pixel_um = canvas.grid.pixel_um
    optics, grain_blur, unsharp = _transfer_functions(fy, fx, machine, pixel_um)
    tan = _tilt_tangent(machine) / pixel_um
    slant = 1 / math.cos(math.atan(_tilt_tangent(machine)))
    unit = np.float32(1 / (machine.mu_per_um * slant * _THICK_UM))
    sums = [np.zeros((len(fy), len(fx)), np.complex64) for _ in z_um]
    for view in range(machine.views):
        angle = phase_rad + 2 * math.pi * view / machine.views
        # phase per micrometre of height along each axis: columns to the right, rows down
        ky, kx = 2j * math.pi * fy * (math.sin(angle) * tan), -2j * math.pi * fx * (math.cos(angle) * tan)
        path_um = canvas.invert(_project(spectra, ky, kx) * optics * _shift(ky, kx, -machine.reference_um))
        # The logarithm of what the detector records, as solder over a slanted path of 200 um. Quantum noise grows with the
        # square root of what the solder has taken from the beam: exp(p / 2) in the logarithm.
        p = np.maximum(path_um, 0) * np.float32(machine.mu_per_um)
        grain = rng.standard_normal(p.shape, dtype=np.float32) * np.exp(p / 2) * np.float32(machine.noise * 12.0 / pixel_um)
        signal = _saturate(p, machine) * unit
        spectrum = (canvas.transform_view(signal) + canvas.transform_view(grain * unit) * grain_blur) * unsharp
        for k, z in enumerate(z_um):
            sums[k] += spectrum * _shift(ky, kx, machine.reference_um - z)
    return np.stack([canvas.crop(canvas.invert(total)) for total in sums]) / np.float32(machine.views)


def _project(spectra: _Spectra, ky: NDArray[np.complexfloating], kx: NDArray[np.complexfloating]) -> Complex:
    """Return the transform of the solder path (um, upright) along one view: Horner's scheme over equally spaced layers."""
    step = _shift(ky, kx, LAYER_UM)
    total = np.zeros_like(step)
    above: int | None = None
    for layer, transform in reversed(spectra.layers):
        for _ in range(0 if above is None else above - layer):
            total *= step
        total += transform
        above = layer
    total *= LAYER_UM * _shift(ky, kx, ((above or 0) + 0.5) * LAYER_UM)
    for z, transform in spectra.surroundings:
        total += transform * _shift(ky, kx, z)
    return total


def _reconstruct_ct(
    rng: np.random.Generator, spectra: _Spectra, canvas: _Canvas, z_um: tuple[float, ...], machine: Machine
) -> Image:
    """Make slices of a computed tomography: Gaussian along the axis, cupping from beam hardening, rings around the axis, grain.

    A full turn has no first view, so that its angle does not matter.
    """
    fy, fx = canvas.frequencies()
    optics, grain_blur, unsharp = _transfer_functions(fy, fx, machine, canvas.grid.pixel_um)
    # rings around the axis of rotation, from detector elements that differ
    rows, cols = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    radius = np.hypot(rows - canvas.shape[0] / 2, cols - canvas.shape[1] / 2)
    profile = rng.normal(0, machine.rings, int(radius.max()) + 2).astype(np.float32)
    rings = np.interp(radius, np.arange(len(profile)), profile).astype(np.float32)

    thick = np.float32(machine.mu_per_um * _THICK_UM)
    out = []
    for z in z_um:
        total = np.zeros((len(fy), len(fx)), np.complex64)
        for layer, transform in spectra.layers:
            total += transform * np.float32(LAYER_UM * _axial_weight((layer + 0.5) * LAYER_UM - z, machine.axial_blur_um))
        for height, transform in spectra.surroundings:
            total += transform * np.float32(_axial_weight(height - z, machine.axial_blur_um))
        density = canvas.invert(total * optics * unsharp)
        bent = _saturate(density * thick, machine) / thick
        grain = rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(machine.noise)
        out.append(canvas.crop(bent + canvas.invert(_rfft(grain) * grain_blur) + rings * np.float32(rng.uniform(0.5, 1.5))))
    return np.stack(out)


def _transfer_functions(fy: Image, fx: Image, machine: Machine, pixel_um: float) -> tuple[Image, Image, Image]:
    """Return the transfers over the half plane: spot and detector, noise, reconstruction filter (an unsharp mask)."""
    f2 = (fy[:, None] / pixel_um) ** 2 + (fx[None, :] / pixel_um) ** 2
    blur = np.exp(-2 * math.pi**2 * machine.blur_um**2 * f2)
    power = np.exp(-4 * math.pi**2 * machine.noise_blur_um**2 * f2) + machine.mottle * np.exp(
        -4 * math.pi**2 * _MOTTLE_UM**2 * f2
    )
    unsharp = 1 - machine.unsharp * np.exp(-2 * math.pi**2 * machine.unsharp_um**2 * f2)
    unsharp -= machine.crisp * np.exp(-2 * math.pi**2 * machine.crisp_um**2 * f2)
    return blur.astype(np.float32), np.sqrt(power).astype(np.float32), unsharp.astype(np.float32)


def _tilt_tangent(machine: Machine) -> float:
    return 0.0 if machine.method != "laminography" else math.tan(math.radians(machine.tilt_deg))


def _shift(ky: NDArray[np.complexfloating], kx: NDArray[np.complexfloating], dz_um: float) -> Complex:
    """Return the phase of a shift by what a height of `dz_um` moves a view."""
    return np.exp(ky * dz_um).astype(np.complex64)[:, None] * np.exp(kx * dz_um).astype(np.complex64)[None, :]  # type: ignore[no-any-return]


def _saturate(p: Image, machine: Machine) -> Image:
    """Bend the signal as beam hardening and scatter do: (1 - exp(-c p)) / c with c = `hardening` (0: a perfect logarithm)."""
    c = np.float32(max(machine.hardening, 1e-3))
    return (1 - np.exp(-c * p)) / c  # type: ignore[no-any-return]


def _axial_weight(dz_um: float, sigma_um: float) -> float:
    """Return the weight per um of a layer `dz_um` away from the slice."""
    return math.exp(-0.5 * (dz_um / sigma_um) ** 2) / (sigma_um * math.sqrt(2 * math.pi))


def _rfft(image: Image) -> Complex:
    return sfft.rfft2(image, workers=1)  # type: ignore[no-any-return]


def to_grey_values(rng: np.random.Generator, slices: Image, machine: Machine, drift: tuple[float, float]) -> NDArray[np.generic]:
    """Convert slices (n, rows, cols) from solder units to grey values of the machine's dtype.

    `drift` scales gain and level.
    """
    gain, level = drift
    # a slow multiplicative field over the picture, relative sd `machine.shading`
    shape = slices.shape[1:]
    coarse = rng.normal(0, machine.shading, (3, 3))
    zoom = ndimage.zoom(coarse, (shape[0] / 3, shape[1] / 3), order=3, mode="nearest", grid_mode=True)
    response: Image = slices * (1 + zoom[: shape[0], : shape[1]]).astype(np.float32)
    if machine.gamma != 1.0:  # a power law that leaves 0 and 1 where they are
        ends = 0.5**machine.gamma, 1.5**machine.gamma
        response = (np.maximum(response + 0.5, 0.0) ** machine.gamma - ends[0]) / (ends[1] - ends[0])
    grey = response * (machine.span * gain)
    base = machine.level * level
    grey = base + grey if machine.polarity == "solder_bright" else base + machine.span * 1.4 - grey
    if machine.dead_row:  # a detector row without signal, stuck at one value in every page
        row = int(rng.integers(grey.shape[1]))
        grey[:, row, :] = 0.0 if rng.random() < 0.5 else float(grey.max())
    if machine.dtype == "float32":
        return grey.astype(np.float32)
    counts: NDArray[np.generic] = np.clip(np.rint(grey), 0, np.iinfo(machine.dtype).max).astype(machine.dtype)
    return counts

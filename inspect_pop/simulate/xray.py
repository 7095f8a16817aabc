"""Anti-aliased discs, capsules and rectangles on a pixel grid: the only thing that the X-ray simulator draws.

Coordinates are (row, col) in pixels, pixel centres at whole numbers. Coverage of a pixel is approximated by a ramp one
pixel wide across the edge, exact for a straight edge along an axis and good to 2 % of the area for a disc of radius 1.

Views of a scene by X-ray, and the slices that a machine makes of them.

A view is the parallel projection of the whole board at a tilt; each thin layer is drawn once, transformed once, and
shifted by a phase for every view. A view passes the detector (beam hardening, quantum noise, blur); then the views are
filtered, shifted so that one height coincides, and averaged (shift-and-add laminography). What lies at another height by `dz`
therefore appears as a ring of ghosts of radius `dz * tan(tilt)`, as in the sample exports. A transmission picture is a single
straight view; in computed tomography a slice holds what lies at its height, give or take the axial blur.

From solder units to the grey values that a machine writes: level, span, drift, shading, response, polarity, dtype.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sfft
from scipy import ndimage

from inspect_pop.core.geometry import Grid, Placement
from inspect_pop.simulate.machines import Machine
from inspect_pop.simulate.scene import LAYER_UM, Scene, Sheet

__all__ = ["add_capsules", "add_discs", "add_rectangles", "reconstruct", "recorded"]

# ---- simulate/raster
Floats = NDArray[np.floating]
_CHUNK = 400_000  # pixels evaluated at once: keeps the temporaries inside the cache


def add_discs(image: NDArray[np.float32], row: Floats, col: Floats, radius: Floats, weight: Floats) -> None:
    """Add discs to `image` (rows, cols) in place; `row`, `col`, `radius` (n,) in pixels, `weight` (n,) is added inside."""
    half = np.ceil(radius + 1.0).astype(int)
    for size in np.unique(half[(radius > 0) & (weight != 0)]):
        index = np.flatnonzero((half == size) & (radius > 0) & (weight != 0))
        step = max(1, _CHUNK // (2 * int(size) + 1) ** 2)
        for start in range(0, len(index), step):
            part = index[start : start + step]
            _discs_of_one_size(image, row[part], col[part], radius[part], weight[part], int(size))


def _discs_of_one_size(image: NDArray[np.float32], row: Floats, col: Floats, radius: Floats, weight: Floats, half: int) -> None:
    offsets = np.arange(-half, half + 1)
    r0, c0 = np.rint(row).astype(int), np.rint(col).astype(int)
    dr = (offsets[None, :] + (r0 - row)[:, None]).astype(np.float32)
    dc = (offsets[None, :] + (c0 - col)[:, None]).astype(np.float32)
    distance = np.sqrt(dr[:, :, None] ** 2 + dc[:, None, :] ** 2)
    # below a radius of half a pixel the ramp would overstate the area: scale the weight down to the true one
    small = np.minimum(1.0, (np.asarray(radius) / 0.5) ** 2 * 0.75 + 0.25)
    cover = np.clip(np.asarray(radius, np.float32)[:, None, None] + 0.5 - distance, 0.0, 1.0)
    cover *= (np.asarray(weight) * small).astype(np.float32)[:, None, None]
    _scatter(image, r0[:, None, None] + offsets[None, :, None], c0[:, None, None] + offsets[None, None, :], cover)


def _scatter(image: NDArray[np.float32], rows: NDArray[np.int_], cols: NDArray[np.int_], values: NDArray[np.float32]) -> None:
    inside = (rows >= 0) & (rows < image.shape[0]) & (cols >= 0) & (cols < image.shape[1])
    if inside.all():
        np.add.at(image.reshape(-1), (rows * image.shape[1] + cols).ravel(), values.ravel())
    else:
        flat = np.broadcast_to(rows * image.shape[1] + cols, values.shape)[inside]
        np.add.at(image.reshape(-1), flat, values[inside])


def add_capsules(image: NDArray[np.float32], ends: Floats, half_width: Floats, weight: Floats) -> None:
    """Add thick segments: `ends` (n, 4) = row0, col0, row1, col1; `half_width` and `weight` (n,), in pixels."""
    for (r0, c0, r1, c1), half, w in zip(ends, half_width, weight, strict=True):
        margin = half + 1.5
        box = _window(image, min(r0, r1) - margin, max(r0, r1) + margin, min(c0, c1) - margin, max(c0, c1) + margin)
        if box is None:
            continue
        rr, cc = np.mgrid[box].astype(np.float32)
        length2 = max((r1 - r0) ** 2 + (c1 - c0) ** 2, 1e-9)
        along = np.clip(((rr - r0) * (r1 - r0) + (cc - c0) * (c1 - c0)) / length2, 0.0, 1.0)
        distance = np.hypot(rr - r0 - along * (r1 - r0), cc - c0 - along * (c1 - c0))
        thin = min(1.0, 2 * half)  # a line thinner than a pixel covers only so much of it
        image[box] += w * thin * np.clip(max(half, 0.5) + 0.5 - distance, 0.0, 1.0)


def add_rectangles(image: NDArray[np.float32], centre: Floats, size: Floats, angle_rad: Floats, weight: Floats) -> None:
    """Add turned rectangles: `centre` (n, 2) row, col; `size` (n, 2) along row and col before turning; pixels."""
    for (r, c), (height, width), angle, w in zip(centre, size, angle_rad, weight, strict=True):
        reach = 0.5 * np.hypot(height, width) + 1.5
        box = _window(image, r - reach, r + reach, c - reach, c + reach)
        if box is None:
            continue
        rr, cc = np.mgrid[box].astype(np.float32)
        cos, sin = np.cos(angle), np.sin(angle)
        across = np.abs(cos * (rr - r) + sin * (cc - c))
        along = np.abs(cos * (cc - c) - sin * (rr - r))
        cover = np.clip(height / 2 + 0.5 - across, 0, min(1.0, height)) * np.clip(width / 2 + 0.5 - along, 0, min(1.0, width))
        image[box] += w * cover


def _window(image: NDArray[np.float32], top: float, bottom: float, left: float, right: float) -> tuple[slice, slice] | None:
    r0, r1 = max(0, int(np.floor(top))), min(image.shape[0], int(np.ceil(bottom)) + 1)
    c0, c1 = max(0, int(np.floor(left))), min(image.shape[1], int(np.ceil(right)) + 1)
    return (slice(r0, r1), slice(c0, c1)) if r1 > r0 and c1 > c0 else None


# ---- simulate/xray
Complex = NDArray[np.complex64]
Image = NDArray[np.float32]
_THICK_UM = 200.0  # path of solder that counts as 1 in a slice
_MOTTLE_UM = 14.0  # sd of the coarser grain, from the noise's spectrum in the samples


@dataclass(frozen=True)
class _Canvas:
    """A padded grid in the image's frame: what a view sees beyond the picture's edge, and no wrap-around inside it."""

    shape: tuple[int, int]
    margin: int
    grid: Grid
    placement: Placement

    def pixels(self, x_um: NDArray[np.floating], y_um: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """(row, col) on the canvas of points in the package frame."""
        row, col = self.grid.to_pixel(*self.placement.apply(x_um, y_um))
        return row + self.margin, col + self.margin

    def crop(self, image: Image) -> Image:
        """The part of a canvas that the picture shows."""
        m = self.margin
        return image[m : m + self.grid.shape[0], m : m + self.grid.shape[1]]

    def transform(self, image: Image) -> Complex:
        """Transform of what the detector saw: its own field, the border repeated beyond it, as the machines' software does."""
        m, (rows, cols) = self.margin, self.grid.shape
        after = self.shape[0] - m - rows, self.shape[1] - m - cols
        return _rfft(np.pad(self.crop(image), ((m, after[0]), (m, after[1])), mode="edge"))


@dataclass(frozen=True)
class _Drawn:
    """The scene, drawn and transformed: (layer, transform) of solder from the lowest up; (height, transform) of the rest."""

    layers: list[tuple[int, Complex]]
    sheets: list[tuple[float, Complex]]


def reconstruct(
    rng: np.random.Generator,
    scene: Scene,
    grid: Grid,
    placement: Placement,
    z_um: tuple[float, ...],
    machine: Machine,
    phase_rad: float,
) -> Image:
    """Slices (len(z_um), rows, cols), float32, in units of solder: about 1 inside a joint, 0 far from everything.

    `z_um` are true heights above the board's surface in the scene. Deterministic for a given generator state.
    """
    reach_um = max(abs(height - z) for height in _span(scene) for z in z_um) * _tangent(machine)
    margin = math.ceil(reach_um / grid.pixel_um) + 4
    shape = tuple(sfft.next_fast_len(n + 2 * margin, real=True) for n in grid.shape)
    canvas = _Canvas((shape[0], shape[1]), margin, grid, placement)
    drawn = _Drawn(list(_layers(scene, canvas)), [(sheet.z_um, _draw_sheet(sheet, canvas)) for sheet in scene.sheets])
    slices = _tomography if machine.method == "ct" else _shift_and_add
    return slices(rng, drawn, canvas, z_um, machine, phase_rad)


def _tangent(machine: Machine) -> float:
    return 0.0 if machine.method != "laminography" else math.tan(math.radians(machine.tilt_deg))


def _span(scene: Scene) -> tuple[float, float]:
    layers, heights = scene.solder.bodies.layer, [sheet.z_um for sheet in scene.sheets]
    return min([float(layers.min(initial=0)) * LAYER_UM, *heights]), max([float(layers.max(initial=0) + 1) * LAYER_UM, *heights])


def _rfft(image: Image) -> Complex:
    return sfft.rfft2(image, workers=1)  # type: ignore[no-any-return]


def _irfft(transform: Complex, canvas: _Canvas) -> Image:
    return sfft.irfft2(transform, canvas.shape, workers=1)  # type: ignore[no-any-return]


def _layers(scene: Scene, canvas: _Canvas) -> Iterator[tuple[int, Complex]]:
    """(layer, transform) of the solder in every layer that holds some, from the lowest up."""
    bodies, webs, voids = scene.solder.bodies, scene.solder.webs, scene.solder.voids
    pix = canvas.grid.pixel_um
    for layer in np.unique(np.concatenate([bodies.layer, webs.layer])):
        image = np.zeros(canvas.shape, np.float32)
        here = bodies.layer == layer
        add_discs(image, *canvas.pixels(bodies.x_um[here], bodies.y_um[here]), bodies.radius_um[here] / pix, bodies.weight[here])
        here = webs.layer == layer
        if here.any():
            add_capsules(image, _segments(canvas, webs.ends_um[here]), webs.half_width_um[here] / pix, webs.weight[here])
        np.minimum(image, 1.0, out=image)
        here = voids.layer == layer
        if here.any():
            add_discs(image, *canvas.pixels(voids.x_um[here], voids.y_um[here]), voids.radius_um[here] / pix, -voids.weight[here])
            np.maximum(image, 0.0, out=image)
        yield int(layer), _rfft(image)


def _draw_sheet(sheet: Sheet, canvas: _Canvas) -> Complex:
    image = np.zeros(canvas.shape, np.float32)
    pix = canvas.grid.pixel_um
    if len(sheet.rectangles):
        rows, cols = canvas.pixels(sheet.rectangles[:, 0], sheet.rectangles[:, 1])
        # the raster turns rows towards columns: with y up and rows down that is counter-clockwise seen from the top
        turn = sheet.rectangles[:, 4] + math.radians(canvas.placement.rotation_deg)
        add_rectangles(image, np.stack([rows, cols], axis=1), sheet.rectangles[:, [3, 2]] / pix, turn, sheet.rectangle_weight)
    if len(sheet.discs):
        add_discs(image, *canvas.pixels(sheet.discs[:, 0], sheet.discs[:, 1]), sheet.discs[:, 2] / pix, sheet.disc_weight)
    if len(sheet.lines):
        add_capsules(image, _segments(canvas, sheet.lines), sheet.lines[:, 4] / pix, sheet.line_weight)
    return _rfft(image)


def _segments(canvas: _Canvas, ends_um: NDArray[np.floating]) -> NDArray[np.floating]:
    r0, c0 = canvas.pixels(ends_um[:, 0], ends_um[:, 1])
    r1, c1 = canvas.pixels(ends_um[:, 2], ends_um[:, 3])
    return np.stack([r0, c0, r1, c1], axis=1)


def _shift_and_add(
    rng: np.random.Generator, drawn: _Drawn, canvas: _Canvas, z_um: tuple[float, ...], machine: Machine, phase_rad: float
) -> Image:
    fy, fx = _frequencies(canvas)
    optics, grain_blur, unsharp = _optics(fy, fx, machine, canvas.grid.pixel_um)
    tan = _tangent(machine) / canvas.grid.pixel_um
    sums = [np.zeros((len(fy), len(fx)), np.complex64) for _ in z_um]
    for view in range(machine.views):
        angle = phase_rad + 2 * math.pi * view / machine.views
        # phase per micrometre of height along each axis: columns to the right, rows down
        ky, kx = 2j * math.pi * fy * (math.sin(angle) * tan), -2j * math.pi * fx * (math.cos(angle) * tan)
        path = _project(drawn, ky, kx) * optics * _shift(ky, kx, -machine.reference_um)
        signal, grain = _detect(rng, _irfft(path, canvas), machine, canvas.grid.pixel_um)
        spectrum = (canvas.transform(signal) + canvas.transform(grain) * grain_blur) * unsharp
        for k, z in enumerate(z_um):
            sums[k] += spectrum * _shift(ky, kx, machine.reference_um - z)
    return np.stack([canvas.crop(_irfft(total, canvas)) for total in sums]) / np.float32(machine.views)


def _frequencies(canvas: _Canvas) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return sfft.fftfreq(canvas.shape[0]).astype(np.float32), sfft.rfftfreq(canvas.shape[1]).astype(np.float32)


def _shift(ky: NDArray[np.complexfloating], kx: NDArray[np.complexfloating], dz_um: float) -> Complex:
    """Phase of a shift by what a height of `dz_um` moves a view."""
    return np.exp(ky * dz_um).astype(np.complex64)[:, None] * np.exp(kx * dz_um).astype(np.complex64)[None, :]  # type: ignore[no-any-return]


def _project(drawn: _Drawn, ky: NDArray[np.complexfloating], kx: NDArray[np.complexfloating]) -> Complex:
    """Transform of the solder path (um, upright) along one view: Horner's scheme over equally spaced layers."""
    step = _shift(ky, kx, LAYER_UM)
    total = np.zeros_like(step)
    above: int | None = None
    for layer, transform in reversed(drawn.layers):
        for _ in range(0 if above is None else above - layer):
            total *= step
        total += transform
        above = layer
    total *= LAYER_UM * _shift(ky, kx, ((above or 0) + 0.5) * LAYER_UM)
    for z, transform in drawn.sheets:
        total += transform * _shift(ky, kx, z)
    return total


def _optics(fy: NDArray[np.float32], fx: NDArray[np.float32], machine: Machine, pixel_um: float) -> tuple[Image, Image, Image]:
    """Transfers over the half plane of frequencies: spot and detector, noise, reconstruction filter (an unsharp mask)."""
    f2 = (fy[:, None] / pixel_um) ** 2 + (fx[None, :] / pixel_um) ** 2
    blur = np.exp(-2 * math.pi**2 * machine.blur_um**2 * f2)
    power = np.exp(-4 * math.pi**2 * machine.noise_blur_um**2 * f2) + machine.mottle * np.exp(
        -4 * math.pi**2 * _MOTTLE_UM**2 * f2
    )
    unsharp = 1 - machine.unsharp * np.exp(-2 * math.pi**2 * machine.unsharp_um**2 * f2)
    unsharp -= machine.crisp * np.exp(-2 * math.pi**2 * machine.crisp_um**2 * f2)
    return blur.astype(np.float32), np.sqrt(power).astype(np.float32), unsharp.astype(np.float32)


def _detect(rng: np.random.Generator, path_um: Image, machine: Machine, pixel_um: float) -> tuple[Image, Image]:
    """One view as recorded and put through the logarithm: (signal, grain), as solder over a slanted path of 200 um.

    Beam hardening and scatter let the signal saturate: (1 - exp(-c p)) / c with c = `hardening` (0: a perfect logarithm; 1: none
    was taken). Quantum noise grows with the square root of what the solder has taken from the beam: exp(p / 2) in the logarithm.
    """
    slant = 1 / math.cos(math.atan(_tangent(machine)))
    p = np.maximum(path_um, 0) * np.float32(machine.mu_per_um)
    unit = np.float32(1 / (machine.mu_per_um * slant * _THICK_UM))
    grain = rng.standard_normal(path_um.shape, dtype=np.float32) * np.exp(p / 2) * np.float32(machine.noise * 12.0 / pixel_um)
    return _saturated(p, machine) * unit, grain * unit


def _saturated(p: Image, machine: Machine) -> Image:
    c = np.float32(max(machine.hardening, 1e-3))
    return (1 - np.exp(-c * p)) / c  # type: ignore[no-any-return]


def _tomography(
    rng: np.random.Generator, drawn: _Drawn, canvas: _Canvas, z_um: tuple[float, ...], machine: Machine, phase_rad: float
) -> Image:
    """Slices of a computed tomography: Gaussian along the axis, cupping from beam hardening, rings around the axis, grain.

    `phase_rad` turns nothing here: a full turn has no first view.
    """
    del phase_rad
    fy, fx = _frequencies(canvas)
    optics, grain_blur, unsharp = _optics(fy, fx, machine, canvas.grid.pixel_um)
    rings = _rings(rng, canvas, machine)
    out = []
    for z in z_um:
        total = np.zeros((len(fy), len(fx)), np.complex64)
        for layer, transform in drawn.layers:
            total += transform * np.float32(LAYER_UM * _axial((layer + 0.5) * LAYER_UM - z, machine.axial_blur_um))
        for height, transform in drawn.sheets:
            total += transform * np.float32(_axial(height - z, machine.axial_blur_um))
        density = _irfft(total * optics * unsharp, canvas)
        bent = _saturated(density * np.float32(machine.mu_per_um * _THICK_UM), machine) / np.float32(
            machine.mu_per_um * _THICK_UM
        )
        grain = rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(machine.noise)
        out.append(canvas.crop(bent + _irfft(_rfft(grain) * grain_blur, canvas) + rings * np.float32(rng.uniform(0.5, 1.5))))
    return np.stack(out)


def _axial(dz_um: float, sigma_um: float) -> float:
    """Weight per um of a layer `dz_um` away from the slice."""
    return math.exp(-0.5 * (dz_um / sigma_um) ** 2) / (sigma_um * math.sqrt(2 * math.pi))


def _rings(rng: np.random.Generator, canvas: _Canvas, machine: Machine) -> Image:
    """Rings around the axis of rotation from detector elements that differ, relative sd `machine.rings`."""
    rows, cols = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    radius = np.hypot(rows - canvas.shape[0] / 2, cols - canvas.shape[1] / 2)
    profile = rng.normal(0, machine.rings, int(radius.max()) + 2).astype(np.float32)
    return np.interp(radius, np.arange(len(profile)), profile).astype(np.float32)


# ---- simulate/record
def recorded(
    rng: np.random.Generator, slices: NDArray[np.float32], machine: Machine, drift: tuple[float, float]
) -> NDArray[np.generic]:
    """Slices (n, rows, cols) in solder units, as grey values of the machine's dtype; `drift` scales gain and level."""
    gain, level = drift
    shaded = slices * _shading(rng, slices.shape[1:], machine)
    grey = _response(shaded, machine.gamma) * (machine.span * gain)
    base = machine.level * level
    grey = base + grey if machine.polarity == "solder_bright" else base + machine.span * 1.4 - grey
    if machine.dead_row:
        grey = _with_dead_row(rng, grey)
    if machine.dtype == "float32":
        return grey.astype(np.float32)
    return np.clip(np.rint(grey), 0, np.iinfo(machine.dtype).max).astype(machine.dtype)


def _response(slices: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """A response that is not straight: a power law that leaves 0 and 1 where they are."""
    if gamma == 1.0:
        return slices
    raised = np.maximum(slices + 0.5, 0.0)
    ends = 0.5**gamma, 1.5**gamma
    return (raised**gamma - ends[0]) / (ends[1] - ends[0])  # type: ignore[no-any-return]


def _shading(rng: np.random.Generator, shape: tuple[int, ...], machine: Machine) -> NDArray[np.float32]:
    """A slow multiplicative field over the picture, relative sd `machine.shading`."""
    coarse = rng.normal(0, machine.shading, (3, 3))
    zoom = ndimage.zoom(coarse, (shape[0] / 3, shape[1] / 3), order=3, mode="nearest", grid_mode=True)
    return (1 + zoom[: shape[0], : shape[1]]).astype(np.float32)  # type: ignore[no-any-return]


def _with_dead_row(rng: np.random.Generator, grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """One row of every page stuck at one value (a dead detector row that nobody interpolated)."""
    row = int(rng.integers(grey.shape[1]))
    stuck = grey.copy()
    stuck[:, row, :] = 0.0 if rng.random() < 0.5 else float(grey.max())
    return stuck

"""Oblique X-ray views of a scene, and the slices that a machine makes of them.

A view is the parallel projection of the whole board at a tilt; each thin layer is drawn once, transformed once, and
shifted by a phase for every view. A view passes the detector (exponential attenuation, beam hardening, scatter, shading,
quantum and row noise, logarithm); then the views are filtered, shifted so that one height coincides, and averaged
(shift-and-add laminography). What lies at another height by `dz` therefore appears as a ring of ghosts of radius
`dz * tan(tilt)`, as in the sample exports.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sfft

from inspect_pop.geometry import Grid, Placement
from inspect_pop.simulate.machines import Machine
from inspect_pop.simulate.raster import add_capsules, add_discs, add_rectangles
from inspect_pop.simulate.scene import LAYER_UM, Scene, Slab

__all__ = ["reconstruct"]

Complex = NDArray[np.complex64]
Image = NDArray[np.float32]


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
    reach_um = max(abs(bottom - z) for bottom in _span(scene) for z in z_um) * math.tan(math.radians(machine.tilt_deg))
    margin = math.ceil(reach_um / grid.pixel_um) + 4
    shape = tuple(sfft.next_fast_len(n + 2 * margin, real=True) for n in grid.shape)
    canvas = _Canvas((shape[0], shape[1]), margin, grid, placement)
    layers = list(_layers(scene, canvas))
    slabs = [(slab, _draw_slab(slab, canvas)) for slab in scene.slabs]
    return _slices(rng, layers, slabs, canvas, z_um, machine, phase_rad)


def _span(scene: Scene) -> tuple[float, float]:
    low = min([float(scene.solder.bodies.layer.min(initial=0)) * LAYER_UM, *(s.z_um[0] for s in scene.slabs)])
    high = max([float(scene.solder.bodies.layer.max(initial=0) + 1) * LAYER_UM, *(s.z_um[1] for s in scene.slabs)])
    return low, high


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
            ends = webs.ends_um[here]
            r0, c0 = canvas.pixels(ends[:, 0], ends[:, 1])
            r1, c1 = canvas.pixels(ends[:, 2], ends[:, 3])
            add_capsules(image, np.stack([r0, c0, r1, c1], axis=1), webs.half_width_um[here] / pix, webs.weight[here])
        np.minimum(image, 1.0, out=image)
        here = voids.layer == layer
        if here.any():
            add_discs(image, *canvas.pixels(voids.x_um[here], voids.y_um[here]), voids.radius_um[here] / pix, -voids.weight[here])
            np.maximum(image, 0.0, out=image)
        yield int(layer), sfft.rfft2(image, workers=1)


def _draw_slab(slab: Slab, canvas: _Canvas) -> Complex:
    image = np.zeros(canvas.shape, np.float32)
    pix = canvas.grid.pixel_um
    turn = math.radians(canvas.placement.rotation_deg)
    if len(slab.rectangles):
        rows, cols = canvas.pixels(slab.rectangles[:, 0], slab.rectangles[:, 1])
        # y points up and rows down: a counter-clockwise turn is clockwise in (row, col)
        angle = -(slab.rectangles[:, 4] + turn)
        add_rectangles(image, np.stack([rows, cols], axis=1), slab.rectangles[:, [3, 2]] / pix, -angle, slab.rectangle_weight)
    if len(slab.discs):
        add_discs(image, *canvas.pixels(slab.discs[:, 0], slab.discs[:, 1]), slab.discs[:, 2] / pix, slab.disc_weight)
    if len(slab.lines):
        r0, c0 = canvas.pixels(slab.lines[:, 0], slab.lines[:, 1])
        r1, c1 = canvas.pixels(slab.lines[:, 2], slab.lines[:, 3])
        add_capsules(image, np.stack([r0, c0, r1, c1], axis=1), slab.lines[:, 4] / pix, slab.line_weight)
    return sfft.rfft2(image, workers=1)  # type: ignore[no-any-return]


def _slices(
    rng: np.random.Generator,
    layers: list[tuple[int, Complex]],
    slabs: list[tuple[Slab, Complex]],
    canvas: _Canvas,
    z_um: tuple[float, ...],
    machine: Machine,
    phase_rad: float,
) -> Image:
    fy = sfft.fftfreq(canvas.shape[0]).astype(np.float32)
    fx = sfft.rfftfreq(canvas.shape[1]).astype(np.float32)
    optics, grain_blur, transfer = _optics(fy, fx, machine, canvas.grid.pixel_um)
    z_ref = (z_um[0] + z_um[-1]) / 2 if machine.reference_um is None else machine.reference_um
    tan, pix = math.tan(math.radians(machine.tilt_deg)), canvas.grid.pixel_um
    sums = [np.zeros((len(fy), len(fx)), np.complex64) for _ in z_um]
    for view in range(machine.views):
        angle = phase_rad + 2 * math.pi * view / machine.views
        # phase per micrometre of height along each axis: columns to the right, rows down
        ky, kx = 2j * math.pi * fy * (math.sin(angle) * tan / pix), -2j * math.pi * fx * (math.cos(angle) * tan / pix)
        to_reference = np.exp(-ky * z_ref)[:, None] * np.exp(-kx * z_ref)[None, :]
        path = _project(layers, slabs, ky, kx) * optics * to_reference.astype(np.complex64)
        signal, grain = _detect(rng, sfft.irfft2(path, canvas.shape, workers=1), machine, pix)
        spectrum = (_transform(signal, canvas) + _transform(grain, canvas) * grain_blur) * transfer
        for k, z in enumerate(z_um):
            dz = z - z_ref
            sums[k] += spectrum * np.exp(-ky * dz).astype(np.complex64)[:, None] * np.exp(-kx * dz).astype(np.complex64)[None, :]
    return np.stack([canvas.crop(sfft.irfft2(total, canvas.shape, workers=1)) for total in sums]) / machine.views  # type: ignore[no-any-return]


def _transform(image: Image, canvas: _Canvas) -> Complex:
    """Transform of what the detector saw: its own field only, the border repeated beyond it, as the machines' software does."""
    m, (rows, cols) = canvas.margin, canvas.grid.shape
    after = canvas.shape[0] - m - rows, canvas.shape[1] - m - cols
    padded = np.pad(canvas.crop(image), ((m, after[0]), (m, after[1])), mode="edge")
    return sfft.rfft2(padded, workers=1)  # type: ignore[no-any-return]


def _project(
    layers: list[tuple[int, Complex]],
    slabs: list[tuple[Slab, Complex]],
    ky: NDArray[np.complexfloating],
    kx: NDArray[np.complexfloating],
) -> Complex:
    """Transform of the solder path (um) along one view: Horner's scheme over equally spaced layers, slabs by their integral."""
    step = np.exp(ky * LAYER_UM).astype(np.complex64)[:, None] * np.exp(kx * LAYER_UM).astype(np.complex64)[None, :]
    total = np.zeros_like(step)
    at = None
    for layer, transform in reversed(layers):
        for _ in range(0 if at is None else at - layer):
            total *= step
        total += transform
        at = layer
    first = (at or 0) * LAYER_UM + LAYER_UM / 2
    total *= np.exp(ky * first).astype(np.complex64)[:, None] * (LAYER_UM * np.exp(kx * first)).astype(np.complex64)[None, :]
    for slab, transform in slabs:
        low, high = slab.z_um
        k = (ky[:, None] + kx[None, :]).imag * np.float32(0.5 / math.pi * (high - low))
        middle = (low + high) / 2
        phase = np.exp(ky * middle).astype(np.complex64)[:, None] * np.exp(kx * middle).astype(np.complex64)[None, :]
        total += transform * phase * (np.sinc(k) * np.float32(high - low))
    return total


def _optics(fy: NDArray[np.float32], fx: NDArray[np.float32], machine: Machine, pixel_um: float) -> tuple[Image, Image, Image]:
    """Transfers over the half plane of frequencies: spot and detector, noise, reconstruction filter (an unsharp mask)."""
    f2 = (fy[:, None] / pixel_um) ** 2 + (fx[None, :] / pixel_um) ** 2
    blur = np.exp(-2 * math.pi**2 * machine.blur_um**2 * f2)
    grain = np.exp(-2 * math.pi**2 * machine.noise_blur_um**2 * f2)
    unsharp = 1 - machine.unsharp * np.exp(-2 * math.pi**2 * machine.unsharp_um**2 * f2)
    return blur.astype(np.float32), grain.astype(np.float32), unsharp.astype(np.float32)


def _detect(rng: np.random.Generator, path_um: Image, machine: Machine, pixel_um: float) -> tuple[Image, Image]:
    """One view as recorded and put through the logarithm: (signal, grain), as solder over a slanted thickness of 200 um.

    Beam hardening and scatter let the signal saturate: (1 - exp(-c p)) / c with c = `hardening` (0: a perfect logarithm; 1: none
    was taken). Quantum noise grows with the square root of what the solder has taken from the beam: exp(p / 2) in the logarithm.
    """
    slant = 1 / math.cos(math.radians(machine.tilt_deg))
    p = np.maximum(path_um, 0) * np.float32(machine.mu_per_um)
    unit = np.float32(1 / (machine.mu_per_um * slant * 200.0))
    grain = rng.standard_normal(path_um.shape, dtype=np.float32) * np.exp(p / 2) * np.float32(machine.noise * 12.0 / pixel_um)
    hardening = np.float32(max(machine.hardening, 1e-3))
    return (1 - np.exp(-hardening * p)) / hardening * unit, grain * unit

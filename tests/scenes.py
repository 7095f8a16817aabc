"""Packages drawn by hand with known placements: slices as discs, height maps as warped boxes with their marks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.recipe import Interface, Package
from tests.drawn import drawn_interface

HOME = Placement(0.0, 0.0, 0.0, 0.0)
TOP_UM = {"pre_stack": 740.0, "post_reflow": 1350.0}


def make_package(*interfaces: Interface, body_um: float = 4400.0, a1_corner: str = "upper_left") -> Package:
    """A square package; without interfaces given, a full lower array of 8 x 8 and a ring of 28 upper joints."""
    built = interfaces or (drawn_interface(8), ring(8))
    return Package("U1", "POP4", "tmv", (body_um, body_um), 1350.0, 60.0, tuple(built), a1_corner)


def ring(side: int, pitch_um: float = 500.0) -> Interface:
    """The outermost row of a square array."""
    full = drawn_interface(side, pitch_um, "upper")
    edge = np.abs(full.x_um).max()
    return without(full, np.flatnonzero(np.maximum(np.abs(full.x_um), np.abs(full.y_um)) < edge - 1))


def without(interface: Interface, rows: Sequence[int] | NDArray[np.intp]) -> Interface:
    """The interface less some of its joints: an array with missing positions."""
    keep = np.delete(np.arange(len(interface.ball)), np.asarray(rows, dtype=int))
    return Interface(
        interface.name,
        tuple(interface.ball[k] for k in keep),
        interface.x_um[keep],
        interface.y_um[keep],
        interface.pitch_um,
        interface.ball_diameter_um,
        interface.pad_diameter_um,
        interface.pad_definition,
        interface.pads_z_um,
        interface.solder,
    )


def stack_of(
    interface: Interface,
    placement: Placement = HOME,
    *,
    without: Sequence[int] = (),
    more_um: Sequence[tuple[float, float]] = (),
    moved_um: NDArray[np.float64] | None = None,
    pixel_um: float = 12.0,
    half_um: float | None = None,
    slices: int = 3,
    noise: float = 0.02,
    method: str = "laminography",
    seed: int = 0,
) -> SliceStack:
    """Soft discs of the interface's usual width at its joints as placed, solder bright, uint16, 1000 on 400.

    `without` names joints left out, `more_um` places (package frame) with solder that the recipe does not have.
    """
    x, y = interface.x_um.copy(), interface.y_um.copy()
    if moved_um is not None:
        x, y = x + moved_um[:, 0], y + moved_um[:, 1]
    keep = np.delete(np.arange(len(x)), list(without))
    x, y = np.r_[x[keep], [p[0] for p in more_um]], np.r_[y[keep], [p[1] for p in more_um]]
    half = half_um or float(max(np.abs(interface.x_um).max(), np.abs(interface.y_um).max())) + 900.0
    n = int(2 * half / pixel_um)
    grid = Grid((n, n), pixel_um, (-half, half))
    cover = discs(grid, *placement.apply(x, y), radius_um=0.34 * interface.pitch_um)
    rng = np.random.default_rng(seed)
    pages = [cover + rng.normal(0, noise, cover.shape) for _ in range(slices)]
    z = tuple(np.linspace(interface.pads_z_um[0] + 5, interface.pads_z_um[1] - 5, slices))
    values = np.clip(400 + 1000 * np.stack(pages), 0, 65535).astype(np.uint16)
    return SliceStack("U1", interface.name, values, z, grid, "solder_bright", method)


def discs(
    grid: Grid, x_um: NDArray[np.floating], y_um: NDArray[np.floating], radius_um: float, blur_um: float = 15.0
) -> NDArray[np.float64]:
    """Discs of 1 on 0 with edges as wide as `blur_um`, drawn one small square at a time."""
    out = np.zeros(grid.shape)
    reach = int(np.ceil((radius_um + 2 * blur_um) / grid.pixel_um)) + 1
    for jx, jy in zip(x_um, y_um, strict=True):
        row, col = (grid.origin_um[1] - jy) / grid.pixel_um, (jx - grid.origin_um[0]) / grid.pixel_um
        r0, r1 = max(int(row) - reach, 0), min(int(row) + reach + 2, grid.shape[0])
        c0, c1 = max(int(col) - reach, 0), min(int(col) + reach + 2, grid.shape[1])
        if r0 < r1 and c0 < c1:
            away = np.hypot(*np.meshgrid(np.arange(r0, r1) - row, np.arange(c0, c1) - col, indexing="ij")) * grid.pixel_um
            out[r0:r1, c0:c1] = np.maximum(out[r0:r1, c0:c1], np.clip((radius_um - away) / (2 * blur_um) + 0.5, 0, 1))
    return out


def map_of(
    package: Package,
    placement: Placement = HOME,
    *,
    stage: str = "post_reflow",
    warpage_um: float = 0.0,
    tilt: tuple[float, float] = (0.0, 0.0),
    lean: tuple[float, float] = (0.0, 0.0),
    mark: str | None = "upper_left",
    lettering: bool = False,
    domes_um: NDArray[np.float64] | None = None,
    dropouts: float = 0.005,
    pixel_um: float = 24.0,
    noise_um: float = 2.5,
    seed: int = 0,
) -> HeightMap:
    """A body on a bare board. `tilt` is the machine's slope of the whole map, `lean` the body's own; `warpage_um` convex."""
    half = max(package.body_um) / 2 + 800.0
    n = int(2 * half / pixel_um)
    grid = Grid((n, n), pixel_um, (-half, half))
    row, col = np.meshgrid(np.arange(n, dtype=float), np.arange(n, dtype=float), indexing="ij")
    ix, iy = grid.to_um(row, col)
    x, y = placement.undo(ix, iy)
    bx, by = package.body_um[0] / 2, package.body_um[1] / 2
    body = (np.abs(x) < bx) & (np.abs(y) < by)
    bend = -warpage_um * ((x / bx) ** 2 + (y / by) ** 2) / 2
    top = TOP_UM[stage] + bend + lean[0] * x + lean[1] * y
    if mark is not None:
        sx, sy = (1 if "right" in mark else -1), (1 if "upper" in mark else -1)
        top = np.where(np.hypot(x - sx * (bx - 450), y - sy * (by - 450)) < 220, top - 25, top)
    if lettering:
        top = np.where((np.abs(y) < 300) & (np.abs(x) < 1200) & (np.floor(x / 120) % 2 == 0), top - 12, top)
    if domes_um is not None:
        upper = package.interface("upper")
        for k, (jx, jy) in enumerate(zip(upper.x_um, upper.y_um, strict=True)):
            away = np.hypot(x - jx, y - jy)
            top = np.where(away < 180, top - 200, top)
            top = np.where(away < 120, TOP_UM[stage] + bend + domes_um[k] - away**2 / 600, top)
    rng = np.random.default_rng(seed)
    height = np.where(body, top, 0.0) + tilt[0] * ix + tilt[1] * iy + rng.normal(0, noise_um, (n, n))
    height[rng.random((n, n)) < dropouts] = np.nan
    return HeightMap("U1", stage, height.astype(np.float32), grid)

"""Joints drawn by hand for tests: an interface on a square grid, and a stack of discs with known places and sizes."""

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import Grid, SliceStack
from inspect_pop.core.recipe import Interface


def drawn_interface(side: int = 6, pitch_um: float = 400.0, name: str = "lower") -> Interface:
    axis = (np.arange(side) - (side - 1) / 2) * pitch_um
    x, y = np.tile(axis, side), np.repeat(axis[::-1], side)
    rows = "ABCDEFGHJK"
    ball = tuple(f"{rows[k // side]}{k % side + 1}" for k in range(side * side))
    pads = (0.0, 170.0) if name == "lower" else (520.0, 740.0)
    return Interface(name, ball, x, y, pitch_um, 0.62 * pitch_um, 0.57 * pitch_um, "nsmd", pads, "SAC305")


def drawn_stack(
    interface: Interface,
    *,
    radius_um: float = 120.0,
    pixel_um: float = 10.0,
    z_um: tuple[float, ...] = (5.0, 45.0, 85.0, 125.0, 165.0),
    shift_um: tuple[float, float] = (0.0, 0.0),
    dtype: str = "uint16",
    dark: bool = False,
    without: tuple[int, ...] = (),
) -> SliceStack:
    """Discs with soft edges, grey 1500 on 400 (uint16; int16: 250 on -800), 200 on 50 (uint8) or 0.8 on 0.1 (float32)."""
    half = float(np.abs(interface.x_um).max() + interface.pitch_um)
    n = int(2 * half / pixel_um) + 1
    grid = Grid((n, n), pixel_um, (-half, half))
    row, col = np.mgrid[:n, :n].astype(np.float64)
    x, y = grid.to_um(row, col)
    cover: NDArray[np.float64] = np.zeros((n, n))
    for k, (jx, jy) in enumerate(zip(interface.x_um, interface.y_um, strict=True)):
        if k not in without:
            away = np.hypot(x - jx - shift_um[0], y - jy - shift_um[1])
            cover = np.maximum(cover, np.clip((radius_um - away) / pixel_um + 0.5, 0, 1))
    low, high = {"uint16": (400, 1500), "int16": (-800, 250), "uint8": (50, 200), "float32": (0.1, 0.8)}[dtype]
    grey = (high - (high - low) * cover) if dark else (low + (high - low) * cover)
    values = np.repeat(grey.astype(dtype)[None], len(z_um), axis=0)
    return SliceStack("U1", interface.name, values, z_um, grid, "solder_dark" if dark else "solder_bright", "laminography")

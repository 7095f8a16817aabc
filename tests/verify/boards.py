"""Boards with slices, made by hand: what the verify station shows, without an inspection."""

from dataclasses import replace
from typing import Any

import numpy as np

from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Interface, Recipe
from tests.factories import make_inspection
from tests.report.recipes import recipe_of

PIXEL_UM = 20.0
PLACEMENT = Placement(33.0, -47.0, 0.4, 2.0)
SLICES = 5


def make_seen_board(serial: str, *, dtype: Any = np.uint16, seed: int = 0, **options: Any) -> tuple[Inspection, Recipe]:
    """An inspection with the slices and height maps that it was made of. Options are those of `make_inspection`."""
    inspection = make_inspection(serial, seed=seed, **options)
    recipe = recipe_of(inspection)
    rng = np.random.default_rng([seed, *serial.encode()])
    labels = {
        tuple(key): label
        for *key, label in zip(*(inspection.joints[c] for c in ("refdes", "interface", "ball", "label")), strict=True)
    }
    stacks, heights, placements = [], [], {}
    for package in recipe.packages:
        for interface in package.interfaces:
            stacks.append(_make_stack(package.refdes, interface, labels, rng, dtype))
            placements[f"{package.refdes}/{interface.name}"] = PLACEMENT
        for stage in ("pre_stack", "post_reflow"):
            heights.append(_make_heights(package.refdes, stage, package.body_um[0], rng))
            placements[f"{package.refdes}/{stage}"] = PLACEMENT
    return replace(inspection, stacks=tuple(stacks), heights=tuple(heights), placements=placements, crops=None), recipe


def _grid(reach_um: float, pixel_um: float) -> Grid:
    n = int(2 * reach_um / pixel_um)
    return Grid((n, n), pixel_um, (-reach_um, reach_um))


def _make_stack(refdes: str, interface: Interface, labels: dict[Any, Any], rng: np.random.Generator, dtype: Any) -> SliceStack:
    """Discs of solder, noise, and what the labels say: an open joint is pale, a bridged one reaches its right neighbour."""
    grid = _grid(float(np.abs(interface.x_um).max()) + 450, PIXEL_UM)
    rows, cols = np.mgrid[0 : grid.shape[0], 0 : grid.shape[1]]
    values = np.empty((SLICES, *grid.shape), dtype=np.float32)
    at = [a.tolist() for a in grid.to_pixel(*PLACEMENT.apply(interface.x_um, interface.y_um))]
    for k in range(SLICES):
        page = np.full(grid.shape, 400.0)
        radius = interface.ball_diameter_um / 2 / PIXEL_UM * (0.85 + 0.15 * np.sin(np.pi * k / (SLICES - 1)))
        for ball, row, col in zip(interface.ball, *at, strict=True):
            label = labels.get((refdes, interface.name, ball))
            size = radius * {"starved": 0.7, "head_in_pillow": 0.9}.get(label, 1.0)
            level = 500 if label == "open" and k == 0 else 1500
            page = np.maximum(page, np.where(np.hypot(rows - row, cols - col) < size, level, 0))
            if label == "head_in_pillow" and k == SLICES // 2:
                page[np.hypot(rows - row, cols - col) < size / 2] = 900
            if label == "bridged":
                page[(np.abs(rows - row) < radius / 2) & (cols > col) & (cols < col + interface.pitch_um / PIXEL_UM)] = 1450
        values[k] = page + rng.normal(0, 40, grid.shape)
    scaled = values if np.dtype(dtype).kind == "f" else np.clip(values, 0, np.iinfo(dtype).max)
    low, high = interface.pads_z_um
    z_um = tuple(float(z) for z in np.linspace(low, high, SLICES))
    return SliceStack(refdes, interface.name, scaled.astype(dtype), z_um, grid, "solder_bright", "laminography")


def _make_heights(refdes: str, stage: str, body_um: float, rng: np.random.Generator) -> HeightMap:
    grid = _grid(body_um / 2 + 300, 40.0)
    height_um = rng.normal(1300 if stage == "post_reflow" else 600, 3, grid.shape).astype(np.float32)
    height_um[:2] = np.nan
    return HeightMap(refdes, stage, height_um, grid)

"""One scale for every machine: a typical joint is 1, whatever the grey values."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.align.slices import centroids
from inspect_pop.align.solder_map import inverted, solder_map
from tests.drawn import drawn_interface
from tests.scenes import stack_of

INTERFACE = drawn_interface(6)


def at_joints(values: np.ndarray, grid: object) -> np.ndarray:
    row, col = (np.rint(v).astype(int) for v in grid.to_pixel(INTERFACE.x_um, INTERFACE.y_um))  # type: ignore[attr-defined]
    return values[row, col]


@pytest.mark.parametrize("pixel", [6.0, 12.0, 20.0, 35.0])
def test_joints_are_one_and_the_rest_is_none(pixel: float) -> None:
    seen = solder_map(stack_of(INTERFACE, pixel_um=pixel), INTERFACE.ball_diameter_um, 36)
    assert at_joints(seen.response, seen.grid) == pytest.approx(1.0, abs=0.2)
    assert at_joints(seen.likeness, seen.grid).min() > 0.95
    assert seen.likeness[:4].max() == 0


def test_the_small_picture_keeps_its_place() -> None:
    stack = stack_of(INTERFACE, pixel_um=10.0)
    seen = solder_map(stack, INTERFACE.ball_diameter_um, 36)
    assert seen.grid.pixel_um > 10.0
    assert seen.grid.shape == seen.response.shape
    x, y, found = centroids(seen.response, seen.grid, INTERFACE.x_um, INTERFACE.y_um, 0.6 * INTERFACE.ball_diameter_um)
    assert found.all()
    assert np.mean(x - INTERFACE.x_um) == pytest.approx(0, abs=0.5)
    assert np.mean(y - INTERFACE.y_um) == pytest.approx(0, abs=0.5)


def test_nan_and_empty_pictures_respond_nowhere() -> None:
    stack = stack_of(INTERFACE)
    flat = replace(stack, values=np.full(stack.values.shape, 3.5, dtype=np.float32))
    assert solder_map(flat, 250.0, 36).likeness.max() == 0
    holed = stack.values.astype(np.float32)
    holed[:, 5:9] = np.nan
    assert np.isfinite(solder_map(replace(stack, values=holed), 250.0, 36).response).all()


def test_inverted_is_what_the_other_polarity_gives() -> None:
    stack = stack_of(INTERFACE)
    dark = solder_map(replace(stack, polarity="solder_dark"), 250.0, 36)
    assert inverted(dark, 36).response == pytest.approx(solder_map(stack, 250.0, 36).response, abs=1e-4)

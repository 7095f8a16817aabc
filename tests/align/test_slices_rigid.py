"""A rotation and an offset from joints of which some are wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_pop.align.slices import centroids, robust_rigid
from inspect_pop.core.geometry import Grid, Placement
from tests.drawn import drawn_interface
from tests.scenes import discs

DESIGN = np.column_stack([drawn_interface(8).x_um, drawn_interface(8).y_um])


@settings(max_examples=50, deadline=None)
@given(x=st.floats(-500, 500), y=st.floats(-500, 500), turn=st.floats(-5, 5), seed=st.integers(0, 1000))
def test_a_quarter_of_wrong_joints_does_not_matter(x: float, y: float, turn: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = np.column_stack(Placement(x, y, turn, 0.0).apply(DESIGN[:, 0], DESIGN[:, 1])) + rng.normal(0, 1, DESIGN.shape)
    wrong = rng.choice(64, 16, replace=False)
    found[wrong] += rng.choice([-1, 1], (16, 2)) * rng.uniform(60, 150, (16, 2))
    placement, agree = robust_rigid(DESIGN, found)
    assert np.hypot(placement.offset_x_um - x, placement.offset_y_um - y) < 1.0
    assert placement.rotation_deg == pytest.approx(turn, abs=0.05)
    assert not agree[wrong].any()
    assert placement.residual_um < 3


@pytest.mark.parametrize("pixel", [12.0, 30.0, 45.0])
@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_centroids_do_not_depend_on_the_grid_of_pixels(pixel: float, shift: float) -> None:
    grid = Grid((60, 60), pixel, (-30 * pixel, 30 * pixel))
    x, y = np.array([shift * pixel]), np.array([-shift * pixel / 2])
    picture = discs(grid, x, y, 125.0, blur_um=60.0).astype(np.float32)
    fx, fy, found = centroids(picture, grid, x + 20, y - 15, 240.0)
    assert found.all()
    assert np.hypot(fx - x, fy - y)[0] < 0.05 * pixel


def test_nothing_is_found_outside_or_on_nothing() -> None:
    grid = Grid((60, 60), 30.0, (-900.0, 900.0))
    picture = np.zeros((60, 60), dtype=np.float32)
    _, _, found = centroids(picture, grid, np.array([0.0, 5000.0]), np.array([0.0, 0.0]), 200.0)
    assert not found.any()

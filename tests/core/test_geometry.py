"""Pixel grids and placements: one convention, there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_pop.core.geometry import Grid, Placement

GRID = Grid((100, 200), 5.0, (-500.0, 250.0))


def test_the_first_pixel_is_the_upper_left_one_and_y_points_up() -> None:
    x, y = GRID.to_um(np.array([0.0, 2.0]), np.array([0.0, 3.0]))
    assert (x.tolist(), y.tolist()) == ([-500.0, -485.0], [250.0, 240.0])


def test_pixels_and_micrometres_are_inverse() -> None:
    row, col = np.array([0.25, 99.0]), np.array([17.5, 199.0])
    back = GRID.to_pixel(*GRID.to_um(row, col))
    np.testing.assert_allclose(back, (row, col))


def test_a_placement_turns_counter_clockwise_then_shifts() -> None:
    x, y = Placement(10.0, -5.0, 90.0, 0.0).apply(np.array([100.0]), np.array([0.0]))
    assert (x[0], y[0]) == pytest.approx((10.0, 95.0))


@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(-180, 180), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_undo_is_the_inverse_of_apply(dx: float, dy: float, degrees: float, x: float, y: float) -> None:
    placement = Placement(dx, dy, degrees, 0.0)
    back = placement.undo(*placement.apply(np.array([x]), np.array([y])))
    assert (back[0][0], back[1][0]) == pytest.approx((x, y), abs=1e-6)

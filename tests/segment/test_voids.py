"""Void area over ball area, as projected."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.segment.outlines import find_outlines, find_void_fraction
from inspect_pop.segment.windows import cut_slices
from tests.drawn import drawn_interface
from tests.scenes import HOME, discs, stack_of

INTERFACE = drawn_interface(6)
RADIUS_UM = 0.34 * 400.0


def measured(voids: dict[int, list[tuple[float, float, float, int]]], *, depth: float = 0.6, slices: int = 3) -> np.ndarray:
    """Fractions of all joints, with voids (x, y, radius, slice) drawn into some of them."""
    stack = stack_of(INTERFACE, slices=slices)
    values = stack.values.astype(float)
    for joint, its in voids.items():
        for x, y, radius, k in its:
            at = np.array([INTERFACE.x_um[joint] + x]), np.array([INTERFACE.y_um[joint] + y])
            values[k] -= 1000 * depth * discs(stack.grid, *at, radius, blur_um=12.0)
    cut = cut_slices(replace(stack, values=values.astype(np.uint16)), INTERFACE, HOME)
    return find_void_fraction(find_outlines(cut))


def test_sound_balls_have_none() -> None:
    assert measured({}).max() == 0


@pytest.mark.parametrize("noise", [0.1, 0.25])
def test_grain_is_no_void(noise: float) -> None:
    fraction = find_void_fraction(find_outlines(cut_slices(stack_of(INTERFACE, noise=noise), INTERFACE, HOME)))
    assert np.median(fraction) == 0
    assert fraction.max() < 0.05


@pytest.mark.parametrize("radius", [25.0, 45.0, 70.0])
@pytest.mark.parametrize("x", [0.0, 35.0, -60.0])
def test_area_of_one_void(radius: float, x: float) -> None:
    fraction = measured({14: [(x, 10.0, radius, 1)]})
    assert fraction[14] == pytest.approx((radius / RADIUS_UM) ** 2, abs=0.04)
    assert fraction[np.arange(36) != 14].max() == 0


@pytest.mark.parametrize("radius", [55.0, 70.0])
def test_a_void_that_blur_makes_shallow_keeps_its_area(radius: float) -> None:
    """As deep as laminography shows it, a paraboloid: its rim lies below the depths that count."""
    steps = [(0.0, 0.0, radius * (1 - k / 6) ** 0.5, 1) for k in range(6)]
    fraction = measured({14: steps}, depth=0.06)
    assert fraction[14] == pytest.approx((radius / RADIUS_UM) ** 2, rel=0.25)


def test_voids_at_different_heights_add_up_as_projected() -> None:
    two = measured({14: [(-50.0, 0.0, 35.0, 0), (50.0, 0.0, 35.0, 2)]})[14]
    same = measured({14: [(40.0, 0.0, 35.0, 0), (40.0, 0.0, 35.0, 2)]})[14]
    assert two == pytest.approx(2 * (35 / RADIUS_UM) ** 2, abs=0.05)
    assert same == pytest.approx((35 / RADIUS_UM) ** 2, abs=0.04)


def test_larger_voids_never_measure_smaller() -> None:
    series = [measured({14: [(20.0, 0.0, radius, 1)]})[14] for radius in (20.0, 35.0, 50.0, 65.0, 80.0)]
    assert np.all(np.diff(series) > 0)


def test_no_ball_no_fraction() -> None:
    cut = cut_slices(stack_of(INTERFACE, without=[14]), INTERFACE, HOME)
    fraction = find_void_fraction(find_outlines(cut))
    assert np.isnan(fraction[14])
    assert np.isfinite(fraction[np.arange(36) != 14]).all()


@pytest.mark.parametrize("radius", [45.0, 70.0])
def test_a_void_in_neighbouring_slices_of_five_counts(radius: float) -> None:
    fraction = measured({14: [(10.0, 10.0, radius, k) for k in (1, 2, 3)]}, slices=5)
    assert fraction[14] == pytest.approx((radius / RADIUS_UM) ** 2, abs=0.08)


def test_a_void_of_half_the_ball_is_beyond_any_limit() -> None:
    assert measured({14: [(10.0, 10.0, 100.0, k) for k in range(5)]}, slices=5)[14] > 0.35


def test_shade_in_one_slice_of_five_is_no_void() -> None:
    assert measured({14: [(0.0, 0.0, 90.0, 4)]}, slices=5)[14] == 0


@pytest.mark.parametrize(("x", "y"), [(1.0, 0.0), (-0.6, 0.8)])
def test_a_ghost_that_brightens_one_side_makes_no_void_of_the_other(x: float, y: float) -> None:
    """In every slice, and at a joint that has a void, too: the void keeps its area."""
    stack = stack_of(INTERFACE, slices=5)
    values = stack.values.astype(float)
    rows, cols = np.indices(stack.grid.shape)
    across = {}
    for joint in (14, 21):
        row, col = stack.grid.to_pixel(INTERFACE.x_um[joint], INTERFACE.y_um[joint])
        away_x, away_y = (cols - col) * stack.grid.pixel_um, (row - rows) * stack.grid.pixel_um
        near = np.maximum(np.abs(away_x), np.abs(away_y)) < 0.5 * INTERFACE.pitch_um
        across[joint] = np.where(near, (x * away_x + y * away_y) / RADIUS_UM, 0)
        values += 220 * across[joint]
    ball = np.array([INTERFACE.x_um[21] + 10.0]), np.array([INTERFACE.y_um[21]])
    values -= 600 * discs(stack.grid, *ball, 60.0, blur_um=12.0)
    values = np.clip(values, 0, None)
    cut = cut_slices(replace(stack, values=values.astype(np.uint16)), INTERFACE, HOME)
    fraction = find_void_fraction(find_outlines(cut))
    assert fraction[14] < 0.02
    assert fraction[21] == pytest.approx((60 / RADIUS_UM) ** 2, abs=0.06)


@pytest.mark.parametrize("share", [0.55, 0.65])
def test_a_void_that_leaves_a_thin_wall_is_measured_whole(share: float) -> None:
    """It darkens what a ball's grey is taken from."""
    fraction = measured({14: [(0.0, 0.0, share**0.5 * RADIUS_UM, k) for k in range(5)]}, depth=0.5, slices=5)
    assert fraction[14] == pytest.approx(share, abs=0.12)

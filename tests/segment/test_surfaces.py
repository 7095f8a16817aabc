"""Surfaces through noisy, lettered, holed height maps."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.geometry import HeightMap, Placement
from inspect_pop.segment.surfaces import (
    Points,
    find_dome_heights,
    find_levels,
    fit_surface,
    sample_board,
    sample_top,
    smooth_surface,
)
from inspect_pop.segment.windows import cut_height
from tests.scenes import TOP_UM, make_package, map_of, without

PACKAGE = make_package()
PLACED = Placement(80.0, -50.0, 0.6, 0.0)


def test_polynomial_is_recovered_under_outliers() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-2000, 2000, (2, 6000))
    z = 10 + 3e-3 * x - 2e-3 * y + 4e-6 * x * x - 1e-6 * x * y + rng.normal(0, 2, 6000)
    z[:900] -= 30  # a seventh of it is lettering
    surface = fit_surface(Points(x, y, z), 2, 2000.0)
    assert surface.coefficient(0, 0) == pytest.approx(10, abs=0.5)
    assert surface.coefficient(1, 0) == pytest.approx(3e-3, rel=0.05)
    assert surface.coefficient(2, 0) == pytest.approx(4e-6, rel=0.05)
    assert surface.coefficient(3, 0) == 0
    assert surface.noise_um == pytest.approx(2, rel=0.15)
    assert surface.height_um(np.array([1000.0]), np.array([500.0]))[0] == pytest.approx(10 + 3 - 1 + 4 - 0.5, abs=0.5)


def test_top_points_lie_on_the_body_only() -> None:
    points = sample_top(map_of(PACKAGE, PLACED), PLACED, PACKAGE)
    assert len(points.z_um) > 4000
    assert np.abs(points.x_um).max() < 2200
    assert np.median(points.z_um) == pytest.approx(TOP_UM["post_reflow"], abs=1)


def test_top_points_before_stacking_leave_the_openings_out() -> None:
    points = sample_top(map_of(PACKAGE, PLACED, stage="pre_stack", domes_um=np.full(28, -80.0)), PLACED, PACKAGE)
    assert np.percentile(points.z_um, 1) > TOP_UM["pre_stack"] - 40


def capped_map(height_um: float, half_um: float = 1250.0, warpage_um: float = 0.0) -> HeightMap:
    """The map before stacking of a package with a cap or die of this height, in the middle of the upper joints' frame."""
    flat = map_of(PACKAGE, PLACED, stage="pre_stack", warpage_um=warpage_um)
    x, y = PLACED.undo(*flat.grid.to_um(*np.indices(flat.grid.shape).astype(float)))
    cap = np.where((np.abs(x) < half_um) & (np.abs(y) < half_um), height_um, 0.0)
    return replace(flat, height_um=(flat.height_um + cap).astype(np.float32))


@pytest.mark.parametrize("height", [-20.0, 8.0, 15.0, 40.0, 120.0, 220.0])
def test_a_cap_of_any_height_is_no_bend(height: float) -> None:
    standard = replace(PACKAGE, construction="standard")
    points = sample_top(capped_map(height, warpage_um=40.0), PLACED, standard)
    surface = smooth_surface(points, PACKAGE.body_um)
    at = np.array([0.0, 1750.0]), np.array([0.0, 1750.0])  # under the cap, where lower joints are, and at the upper joints
    assert surface.height_um(*at) == pytest.approx(TOP_UM["pre_stack"] - 20 * (at[0] ** 2 + at[1] ** 2) / 2200**2, abs=2)


def test_a_step_is_found_whatever_the_recipe_calls_the_package() -> None:
    points = sample_top(capped_map(120.0), PLACED, PACKAGE)
    assert smooth_surface(points, PACKAGE.body_um).height_um(np.zeros(1), np.zeros(1)) == pytest.approx(740, abs=2)
    assert len(find_levels(sample_top(capped_map(0.0), PLACED, PACKAGE), PACKAGE.body_um)[1]) == 1


def test_lands_on_two_sides_only_do_not_show_the_bend() -> None:
    upper = PACKAGE.interface("upper")
    two = replace(PACKAGE, construction="standard", interfaces=(without(upper, np.flatnonzero(np.abs(upper.x_um) < 1500)),))
    assert len(sample_top(capped_map(120.0), PLACED, two).z_um) == 0


def test_the_cap_of_a_plain_bga_is_its_top() -> None:
    bga = replace(PACKAGE, construction="bga", interfaces=(PACKAGE.interface("lower"),), stack_height_um=1350.0)
    flat = map_of(PACKAGE, PLACED)
    x, y = PLACED.undo(*flat.grid.to_um(*np.indices(flat.grid.shape).astype(float)))
    edge = ((np.abs(x) > 1800) | (np.abs(y) > 1800)) & (flat.height_um > 700)
    heights = replace(flat, height_um=np.where(edge, flat.height_um - 500, flat.height_um).astype(np.float32))
    assert np.median(sample_top(heights, PLACED, bga).z_um) == pytest.approx(1350, abs=1)
    assert np.ptp(sample_top(heights, PLACED, bga).z_um) < 120


def test_board_points_are_bare_board() -> None:
    points = sample_board(map_of(PACKAGE, PLACED, tilt=(0.003, 0.0)), PLACED, PACKAGE)
    plane = fit_surface(points, 1, 1000.0)
    assert plane.coefficient(1, 0) == pytest.approx(0.003, abs=2e-4)


def test_dome_heights_and_what_is_not_seen() -> None:
    upper = PACKAGE.interface("upper")
    domes = np.linspace(-100, -40, 28)
    heights = map_of(PACKAGE, PLACED, stage="pre_stack", domes_um=domes)
    found = find_dome_heights(cut_height(heights, upper, PLACED))
    # The upper quartile over a cap lies a few um under its apex, the same for all.
    assert found - TOP_UM["pre_stack"] - domes == pytest.approx(np.mean(found - TOP_UM["pre_stack"] - domes), abs=3)
    blind = map_of(PACKAGE, PLACED, stage="pre_stack", domes_um=domes, dropouts=0.9)
    assert np.isnan(find_dome_heights(cut_height(blind, upper, PLACED))).all()


def test_smooth_surface_keeps_a_blister_and_passes_over_marks_and_letters() -> None:
    flat = map_of(PACKAGE, PLACED, warpage_um=40.0, lettering=True)
    row, col = np.indices(flat.grid.shape)
    x, y = PLACED.undo(*flat.grid.to_um(row, col))
    blister = 40 * np.exp(-((x - 600) ** 2 + (y + 500) ** 2) / (2 * 500**2))
    swollen = replace(flat, height_um=(flat.height_um + blister).astype(np.float32))
    plain = smooth_surface(sample_top(flat, PLACED, PACKAGE), PACKAGE.body_um)
    risen = smooth_surface(sample_top(swollen, PLACED, PACKAGE), PACKAGE.body_um)
    at = np.array([600.0, -1750.0]), np.array([-500.0, 1750.0])  # on the blister; on the pin-1 mark
    bend = TOP_UM["post_reflow"] - 20 * (at[0] ** 2 + at[1] ** 2) / 2200**2
    assert plain.height_um(*at) == pytest.approx(bend, abs=2)
    assert risen.height_um(*at) - bend == pytest.approx([40, 0], abs=9)
    assert plain.bumps_um is not None
    assert np.abs(plain.bumps_um).max() < 1


def test_smooth_surface_with_holes_in_the_map() -> None:
    heights = map_of(PACKAGE, PLACED, warpage_um=40.0)
    holed = heights.height_um.copy()
    holed[60:120, 70:140] = np.nan
    surface = smooth_surface(sample_top(replace(heights, height_um=holed), PLACED, PACKAGE), PACKAGE.body_um)
    assert surface.height_um(np.zeros(1), np.zeros(1))[0] == pytest.approx(TOP_UM["post_reflow"], abs=2)

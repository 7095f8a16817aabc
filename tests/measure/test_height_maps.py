"""Warpage with its sign, stack height, tilt, stand-off, domes and bulges from height maps with known shapes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_pop.core.geometry import Grid, HeightMap, Placement
from inspect_pop.diagnose import find_bulge
from inspect_pop.measure import TopShape, level_windows, measure_domes, measure_standoff, measure_top
from inspect_pop.segment.windows import cut_height
from tests.diagnose.patterns import package as large_package
from tests.scenes import TOP_UM, make_package, map_of

PACKAGE = make_package()
LOWER, UPPER = PACKAGE.interfaces
PLACED = Placement(80.0, -50.0, 0.6, 0.0)


def top(**shape: object) -> TopShape:
    found = measure_top(map_of(PACKAGE, PLACED, **shape), PLACED, PACKAGE)  # type: ignore[arg-type]
    assert found is not None
    return found


@settings(max_examples=15, deadline=None)
@given(warpage=st.floats(-170, 170), slope=st.floats(-0.005, 0.005), seed=st.integers(0, 99))
def test_warpage_within_four_um_whatever_the_tilt(warpage: float, slope: float, seed: int) -> None:
    found = top(warpage_um=warpage, tilt=(slope, -slope / 2), lettering=True, seed=seed)
    if abs(warpage) > 6:  # flatter tops have no sign to speak of
        assert found.warpage_um == pytest.approx(warpage, abs=4)
    else:
        assert abs(found.warpage_um) < 10


def test_sign_is_positive_for_edges_down() -> None:
    assert top(warpage_um=60.0).warpage_um > 0
    assert top(warpage_um=-60.0).warpage_um < 0


def test_stack_height_is_the_mean_planes_at_the_middle() -> None:
    # A paraboloid that falls by w at the corners lies w / 3 lower on average: (1/3 + 1/3) / 2.
    assert top(warpage_um=60.0).height_um == pytest.approx(TOP_UM["post_reflow"] - 20, abs=2)


def test_the_machines_tilt_is_not_the_parts() -> None:
    machine = top(tilt=(0.004, 0.002))
    assert (machine.tilt_x_deg, machine.tilt_y_deg) == pytest.approx((0, 0), abs=0.02)
    part = top(lean=(0.004, -0.002))
    assert (part.tilt_x_deg, part.tilt_y_deg) == pytest.approx((np.degrees(0.004), np.degrees(-0.002)), abs=0.02)


def test_too_little_to_see_is_none() -> None:
    assert measure_top(map_of(PACKAGE, PLACED, dropouts=0.999), PLACED, PACKAGE) is None


def test_standoff_is_nominal_for_a_nominal_stack() -> None:
    after, before = top(), top(stage="pre_stack")
    for interface in PACKAGE.interfaces:
        assert measure_standoff(interface, PACKAGE, after, before) == pytest.approx(interface.gap_um, abs=2)


def test_standoff_without_a_map_is_unknown() -> None:
    assert np.isnan(measure_standoff(LOWER, PACKAGE, None, top(stage="pre_stack"))).all()


def test_a_warped_bottom_package_opens_the_lower_gap_in_the_middle() -> None:
    """Convex: the middle stands higher. The memory above is flat here: the upper gap closes as the lower one opens."""
    before, after = top(stage="pre_stack", warpage_um=60.0), top()
    middle = np.argmin(np.hypot(LOWER.x_um, LOWER.y_um))
    corner = np.argmax(np.hypot(LOWER.x_um, LOWER.y_um))
    lower = measure_standoff(LOWER, PACKAGE, after, before)
    r2 = (LOWER.x_um / 2200) ** 2 + (LOWER.y_um / 2200) ** 2
    assert lower[middle] - lower[corner] == pytest.approx(30 * (r2[corner] - r2[middle]), abs=3)
    upper = measure_standoff(UPPER, PACKAGE, after, before)
    far = np.argmax(np.hypot(UPPER.x_um, UPPER.y_um))
    near = np.argmin(np.hypot(UPPER.x_um, UPPER.y_um))
    assert upper[far] > upper[near]


def test_a_leaning_stack_opens_both_gaps_on_one_side() -> None:
    after = top(lean=(0.004, 0.0))
    total = LOWER.gap_um + UPPER.gap_um
    for interface in PACKAGE.interfaces:
        gap = measure_standoff(interface, PACKAGE, after, None)
        slope = np.polyfit(interface.x_um, gap, 1)[0]
        assert slope == pytest.approx(0.004 * interface.gap_um / total, rel=0.15)


def test_an_impossible_standoff_is_unknown() -> None:
    gap = measure_standoff(LOWER, PACKAGE, top(lean=(0.2, 0.0)), None)
    known = np.isfinite(gap)
    assert 0 < known.sum() < len(gap)
    assert gap[known].min() >= 0.5 * LOWER.gap_um
    assert gap[known].max() <= 2 * LOWER.gap_um
    other = replace(PACKAGE, stack_height_um=1050.0)  # a recipe whose stack is not this one
    assert np.isnan(measure_standoff(UPPER, other, top(), top(stage="pre_stack"))).all()


def test_standoff_does_not_follow_the_order_of_the_interfaces() -> None:
    after, before = top(), top(stage="pre_stack", warpage_um=60.0)
    swapped = replace(PACKAGE, interfaces=(UPPER, LOWER))
    for interface in PACKAGE.interfaces:
        found = measure_standoff(interface, swapped, after, before)
        assert found == pytest.approx(measure_standoff(interface, PACKAGE, after, before))


def test_domes_against_their_neighbours() -> None:
    domes = np.full(28, -70.0)
    domes[5], domes[20] = -200.0, -55.0
    heights = map_of(PACKAGE, PLACED, stage="pre_stack", domes_um=domes, warpage_um=40.0)
    found = measure_domes(cut_height(heights, UPPER, PLACED), UPPER, measure_top(heights, PLACED, PACKAGE))
    assert found[5] == pytest.approx(-130, abs=15)
    assert found[20] == pytest.approx(15, abs=6)
    assert np.abs(np.delete(found, [5, 20])).max() < 8


def test_domes_that_are_not_seen_are_unknown() -> None:
    heights = map_of(PACKAGE, PLACED, stage="pre_stack", dropouts=0.95)
    assert np.isnan(measure_domes(cut_height(heights, UPPER, PLACED), UPPER, None)).all()


def test_how_a_map_leans_does_not_show_in_upright_windows() -> None:
    def windows(tilt: tuple[float, float]) -> np.ndarray:
        heights = map_of(PACKAGE, PLACED, stage="pre_stack", tilt=tilt)
        return level_windows(cut_height(heights, UPPER, PLACED), UPPER, measure_top(heights, PLACED, PACKAGE))

    straight, leaning = (np.nanmedian(windows(tilt), axis=(1, 2)) for tilt in ((0.0, 0.0), (0.004, -0.003)))
    assert np.ptp(leaning - straight) < 2  # of 20 um and more over the package
    assert abs(np.median(leaning) - np.median(straight)) < 8  # what a median over all joints takes off


def test_windows_of_a_map_without_a_top_stay_as_they_are() -> None:
    windows = np.ones((len(UPPER.ball), 4, 4), np.float32)
    assert level_windows(windows, UPPER, None) is windows


LARGE = large_package()
LARGE_PLACED = Placement(80.0, -60.0, 0.5, 1.0)


def blistered_top(
    warpage_um: float = 0.0, rise_um: float = 0.0, at_um: tuple[float, float] = (0.0, 0.0), noise_um: float = 3.0
) -> HeightMap:
    n, pixel = 281, 48.0
    half = (n - 1) / 2 * pixel
    grid = Grid((n, n), pixel, (-half, half))
    row, col = np.mgrid[0:n, 0:n].astype(float)
    x, y = LARGE_PLACED.undo(*grid.to_um(row, col))
    shape = -warpage_um * (x**2 + y**2 + 0.3 * (x**4 + y**4) / 6000**2) / (2 * 6000**2)
    blister = rise_um * np.exp(-((x - at_um[0]) ** 2 + (y - at_um[1]) ** 2) / (2 * 1400.0**2))
    body = (np.abs(x) < 6000) & (np.abs(y) < 6000)
    height = np.where(body, 1350 + shape + blister, 0.0) + np.random.default_rng(0).normal(0, noise_um, x.shape)
    return HeightMap("U1", "post_reflow", height.astype(np.float32), grid)


@pytest.mark.parametrize("at", [(0.0, 0.0), (1800.0, -1200.0), (-2500.0, 2500.0)])
def test_a_blister_is_found_at_its_place(at: tuple[float, float]) -> None:
    bulge = find_bulge(measure_top(blistered_top(warpage_um=-60.0, rise_um=40.0, at_um=at), LARGE_PLACED, LARGE), LARGE)
    assert bulge is not None
    assert 18 < bulge.height_um < 40  # the mean over its disc
    assert np.hypot(bulge.x_um - at[0], bulge.y_um - at[1]) < 900


@pytest.mark.parametrize("warpage_um", [-150.0, -40.0, 0.0, 90.0, 170.0])
def test_a_warped_top_is_no_blister(warpage_um: float) -> None:
    bulge = find_bulge(measure_top(blistered_top(warpage_um), LARGE_PLACED, LARGE), LARGE)
    assert bulge is None or bulge.height_um < 5


def test_without_data_there_is_none() -> None:
    seen = blistered_top()
    empty = HeightMap("U1", "post_reflow", np.full_like(seen.height_um, np.nan), seen.grid)
    assert find_bulge(measure_top(empty, LARGE_PLACED, LARGE), LARGE) is None

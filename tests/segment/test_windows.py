"""Windows: centred on the joint, on one grey axis, whatever the machine; heights found from the joints' bellies."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.geometry import Grid, HeightMap, Placement
from inspect_pop.segment.windows import (
    SAMPLES_PER_PITCH,
    SIZE,
    Windows,
    correct_heights,
    cut_height,
    cut_slices,
    estimate_height_error_um,
    find_slices_beyond_pads,
    merge_slices,
)
from tests.drawn import drawn_interface, drawn_stack

HOME = Placement(0.0, 0.0, 0.0, 0.0)


def _area_um2(window: np.ndarray, step_um: float) -> float:
    """Area of the middle ball: neighbours lie beyond 0.6 of a pitch."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    near = np.hypot(axis[:, None], axis[None]) < 0.5 * SAMPLES_PER_PITCH
    return float(np.clip(window, 0, 1)[near].sum()) * step_um**2


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("dark", [False, True])
def test_grey_axis_is_the_same_for_every_machine(dtype: str, dark: bool) -> None:
    interface = drawn_interface()
    windows = cut_slices(drawn_stack(interface, dtype=dtype, dark=dark), interface, HOME)
    assert windows.values.shape == (36, 5, SIZE, SIZE)
    assert windows.values[:, :, 23:25, 23:25] == pytest.approx(1.0, abs=0.02)
    assert windows.values[7, 2, 24, 42] == pytest.approx(0.0, abs=0.02)  # half way to the neighbour


@pytest.mark.parametrize("pitch", [350.0, 400.0, 650.0])
@pytest.mark.parametrize("pixel", [5.0, 10.0, 16.0])
def test_area_survives_the_change_of_scale(pitch: float, pixel: float) -> None:
    interface = drawn_interface(pitch_um=pitch)
    windows = cut_slices(drawn_stack(interface, radius_um=0.3 * pitch, pixel_um=pixel), interface, HOME)
    assert _area_um2(windows.values[14, 2], windows.step_um) == pytest.approx(np.pi * (0.3 * pitch) ** 2, rel=0.03)


def test_placement_is_followed() -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface, shift_um=(60.0, -40.0))
    moved = cut_slices(stack, interface, Placement(60.0, -40.0, 0.0, 0.0))
    home = cut_slices(drawn_stack(interface), interface, HOME)
    assert np.abs(moved.values[14] - home.values[14]).mean() < 0.02


def test_a_missing_ball_does_not_move_the_scale() -> None:
    interface = drawn_interface()
    windows = cut_slices(drawn_stack(interface, without=(14, 3, 20)), interface, HOME)
    assert windows.values[14, :, 23:25, 23:25] == pytest.approx(0.0, abs=0.02)
    assert windows.values[15, :, 23:25, 23:25] == pytest.approx(1.0, abs=0.02)


def test_lost_slices_are_left_out() -> None:
    interface = drawn_interface()
    stack = dataclasses.replace(drawn_stack(interface), lost=(1,))
    windows = cut_slices(stack, interface, HOME)
    assert windows.values.shape[1] == 4
    assert list(windows.z_um) == [5.0, 85.0, 125.0, 165.0]


def test_thin_slices_are_averaged_to_nine() -> None:
    interface = drawn_interface()
    one = drawn_stack(interface, z_um=tuple(np.linspace(-300, 900, 61)))  # a whole volume: 20 um apart
    values = one.values + np.arange(61, dtype=np.uint16)[:, None, None]
    merged = merge_slices(dataclasses.replace(one, values=values), interface)
    assert merged.z_um == (10.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0, 160.0, 180.0)  # of the ten from 0 to 180 um
    assert merged.values.dtype == np.uint16
    np.testing.assert_array_equal(merged.values[0], values[15:17].mean(axis=0).round())
    np.testing.assert_array_equal(merged.values[8], values[24])


def test_nine_slices_stay_as_they_are() -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface, z_um=tuple(np.linspace(-300, 900, 9)))
    assert merge_slices(stack, interface) is stack


def test_of_slices_that_all_lie_beyond_the_pads_the_nearest_are_left() -> None:
    interface = drawn_interface()
    assert merge_slices(drawn_stack(interface, z_um=tuple(200.0 + 10 * np.arange(12))), interface).z_um == (200.0,)


@pytest.mark.parametrize("method_of_loss", ["one", "most"])
def test_a_group_of_thin_slices_is_lost_with_half_of_them(method_of_loss: str) -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface, z_um=tuple(np.linspace(0, 170, 36)))
    lost = (4,) if method_of_loss == "one" else (4, 6)
    values = stack.values.copy()
    values[list(lost)] = 0
    merged = merge_slices(dataclasses.replace(stack, values=values, lost=lost), interface)
    assert merged.lost == (() if method_of_loss == "one" else (1,))
    if method_of_loss == "one":  # the group's other slices are alike
        np.testing.assert_array_equal(merged.values[1], stack.values[5])


@pytest.mark.parametrize(("dtype", "dark", "end"), [("uint16", False, 65535), ("int16", True, -32768), ("uint8", True, 0)])
def test_one_saturated_thin_slice_is_marked(dtype: str, dark: bool, end: int) -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface, z_um=tuple(np.linspace(5, 165, 45)), dtype=dtype, dark=dark)
    values = stack.values.copy()
    row, col = (int(v[14]) for v in stack.grid.to_pixel(interface.x_um, interface.y_um))
    values[20, row - 8 : row + 9, col - 8 : col + 9] = end
    windows = cut_slices(merge_slices(dataclasses.replace(stack, values=values), interface), interface, HOME)
    assert windows.saturated.tolist() == [k == 14 for k in range(36)]


def test_a_pixel_without_data_in_one_thin_slice_is_none() -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface, z_um=tuple(np.linspace(5, 165, 45)), dtype="float32")
    values = stack.values.copy()
    row, col = (int(v[14]) for v in stack.grid.to_pixel(interface.x_um, interface.y_um))
    values[20, row, col] = np.nan
    windows = cut_slices(merge_slices(dataclasses.replace(stack, values=values), interface), interface, HOME)
    assert windows.unscanned.tolist() == [k == 14 for k in range(36)]


def test_coverage_says_how_much_lies_inside() -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface)
    windows = cut_slices(stack, interface, Placement(1600.0, 0.0, 0.0, 0.0))
    assert windows.covered[5] < 0.2  # the right column lies beyond the edge
    assert windows.covered[0] == pytest.approx(1.0)


def test_saturated_cores_are_marked() -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface, dtype="uint8")
    burnt = dataclasses.replace(stack, values=np.where(stack.values > 150, 255, stack.values).astype(np.uint8))
    assert cut_slices(burnt, interface, HOME).saturated.all()
    assert not cut_slices(stack, interface, HOME).saturated.any()


def test_one_saturated_slice_is_marked() -> None:
    """One of five hides a joint's shape, measured: 2 to 6 % of the defects pass by it."""
    interface = drawn_interface()
    stack = drawn_stack(interface, dtype="uint8")
    stack.values[2][stack.values[2] > 150] = 255
    assert cut_slices(stack, interface, HOME).saturated.all()


@pytest.mark.parametrize("end", [-32768, 0, 32767])
def test_a_core_at_an_end_of_a_signed_scale_is_marked(end: int) -> None:
    """Signed grey often comes from an unsigned scale: its 0 is an end, too."""
    interface = drawn_interface()
    stack = drawn_stack(interface, dtype="uint8")
    signed = stack.values.astype(np.int16) - 90
    assert not cut_slices(dataclasses.replace(stack, values=signed), interface, HOME).saturated.any()
    signed[2][stack.values[2] > 150] = end
    assert cut_slices(dataclasses.replace(stack, values=signed), interface, HOME).saturated.all()


@pytest.mark.parametrize("pixel_um", [3.0, 10.0])
def test_joints_that_a_pixel_without_data_touches_are_marked_and_no_other_changes(pixel_um: float) -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface, dtype="float32", pixel_um=pixel_um)
    whole = cut_slices(stack, interface, HOME)
    values = stack.values.copy()
    row, col = (int(v[14]) for v in stack.grid.to_pixel(interface.x_um, interface.y_um))
    values[2, row, col] = np.nan  # the middle of one ball, in one slice
    values[:, :, : int(stack.grid.to_pixel(interface.x_um, interface.y_um)[1].min())] = np.nan  # half of the left column
    holed = cut_slices(dataclasses.replace(stack, values=values), interface, HOME)
    assert np.isfinite(holed.values).all()
    assert holed.unscanned[14]
    left = interface.x_um == interface.x_um.min()
    assert holed.unscanned[left].all()
    away = np.hypot(interface.x_um - interface.x_um[14], interface.y_um - interface.y_um[14]) > 1.5 * interface.pitch_um
    second = interface.x_um < interface.x_um.min() + 1.5 * interface.pitch_um
    assert not holed.unscanned[away & ~second].any()
    np.testing.assert_allclose(holed.values[~holed.unscanned], whole.values[~holed.unscanned], atol=0.02)
    assert not whole.unscanned.any()


def test_heights_are_nan_beyond_the_map() -> None:
    interface = drawn_interface()
    heights = np.full((100, 100), 250.0, dtype=np.float32)
    heights[50, 50] = np.nan
    grid = Grid((100, 100), 24.0, (-1188.0, 1188.0))
    windows = cut_height(HeightMap("U1", "pre_stack", heights, grid), interface, HOME)
    assert windows.shape == (36, SIZE, SIZE)
    assert np.isnan(windows[0]).any()  # reaches beyond the upper left corner
    assert np.nanmedian(windows) == 250.0


INTERFACE = drawn_interface()  # pads at 0 and 170 um
CUT_AT = np.array([5.0, 45.0, 85.0, 125.0, 165.0])


def _windows(stated_um: np.ndarray, *, cut_um: np.ndarray = CUT_AT, belly_um: float = 40.0, absent: float = 0.0) -> Windows:
    """Balls of 240 um at the pads and `belly_um` more half way between, cut at `cut_um`; a share of them is not there."""
    n, step = 36, 400 / 36
    diameter = 240 + belly_um * (1 - ((cut_um - 85) / 85) ** 2)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    away_um = np.hypot(axis[:, None], axis[None]) * step
    slices = np.clip((diameter[:, None, None] / 2 - away_um) / step + 0.5, 0, 1).astype(np.float32)
    values = np.repeat(slices[None], n, axis=0)
    values[: round(absent * n)] = 0
    ones = np.ones(len(stated_um), np.float32)
    return Windows(values, stated_um, step, np.ones(n, np.float32), np.zeros(n, bool), 0 * ones, ones)


@pytest.mark.parametrize("error_um", [-10.0, -4.0, 0.0, 6.0, 10.0])
def test_most_of_an_error_of_the_heights_is_found(error_um: float) -> None:
    found = correct_heights(_windows(CUT_AT + error_um), INTERFACE).z_um
    assert found - CUT_AT == pytest.approx(0.2 * error_um, abs=1.0)


def test_no_more_is_taken_off_than_heights_can_be_off() -> None:
    assert estimate_height_error_um(_windows(CUT_AT + 40), INTERFACE) == pytest.approx(15.0)


def test_balls_that_are_not_there_say_nothing() -> None:
    assert estimate_height_error_um(_windows(CUT_AT + 8, absent=0.4), INTERFACE) == pytest.approx(6.4, abs=1.0)
    assert estimate_height_error_um(_windows(CUT_AT + 8, absent=1.0), INTERFACE) == 0.0


@pytest.mark.parametrize("belly_um", [0.0, 5.0, -30.0])
def test_without_a_belly_heights_stay_as_stated(belly_um: float) -> None:
    """Balls that are all torn, sunk or pillars have no widest place that could be trusted."""
    assert estimate_height_error_um(_windows(CUT_AT + 8, belly_um=belly_um), INTERFACE) == 0.0


def test_two_slices_stay_as_stated() -> None:
    two = _windows(CUT_AT[[0, 4]] + 8, cut_um=CUT_AT[[0, 4]])
    assert list(correct_heights(two, INTERFACE).z_um) == [13.0, 173.0]


@pytest.mark.parametrize(("blind", "left_out"), [((4,), [4]), ((0, 4), [0, 4]), ((2,), []), ((), [])])
def test_a_blind_slice_at_a_pad_lies_beyond_it_and_one_between_the_pads_does_not(
    blind: tuple[int, ...], left_out: list[int]
) -> None:
    windows = _windows(CUT_AT)
    solder = np.full(5, 1500.0, np.float32)
    background = np.full(5, 400.0, np.float32)
    solder[list(blind)] = 430.0
    assert find_slices_beyond_pads(replace(windows, solder=solder, background=background), INTERFACE) == left_out

"""The heights at which slices cut: found from the joints' bellies, whatever the machine believes."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.segment.windows import SIZE, Windows, at_found_heights, beyond_pads, found_error_um
from tests.drawn import drawn_interface

INTERFACE = drawn_interface()  # pads at 0 and 170 um
CUT_AT = np.array([5.0, 45.0, 85.0, 125.0, 165.0])


def _windows(told_um: np.ndarray, *, cut_um: np.ndarray = CUT_AT, belly_um: float = 40.0, absent: float = 0.0) -> Windows:
    """Balls of 240 um at the pads and `belly_um` more half way between, cut at `cut_um`; a share of them is not there."""
    n, step = 36, 400 / 36
    diameter = 240 + belly_um * (1 - ((cut_um - 85) / 85) ** 2)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    away_um = np.hypot(axis[:, None], axis[None]) * step
    slices = np.clip((diameter[:, None, None] / 2 - away_um) / step + 0.5, 0, 1).astype(np.float32)
    values = np.repeat(slices[None], n, axis=0)
    values[: round(absent * n)] = 0
    ones = np.ones(len(told_um), np.float32)
    return Windows(values, told_um, step, np.ones(n, np.float32), np.zeros(n, bool), 0 * ones, ones)


@pytest.mark.parametrize("error_um", [-10.0, -4.0, 0.0, 6.0, 10.0])
def test_most_of_an_error_of_the_heights_is_found(error_um: float) -> None:
    found = at_found_heights(_windows(CUT_AT + error_um), INTERFACE).z_um
    assert found - CUT_AT == pytest.approx(0.2 * error_um, abs=1.0)


def test_no_more_is_taken_off_than_heights_can_be_off() -> None:
    assert found_error_um(_windows(CUT_AT + 40), INTERFACE) == pytest.approx(15.0)


def test_balls_that_are_not_there_say_nothing() -> None:
    assert found_error_um(_windows(CUT_AT + 8, absent=0.4), INTERFACE) == pytest.approx(6.4, abs=1.0)
    assert found_error_um(_windows(CUT_AT + 8, absent=1.0), INTERFACE) == 0.0


@pytest.mark.parametrize("belly_um", [0.0, 5.0, -30.0])
def test_without_a_belly_heights_stay_as_told(belly_um: float) -> None:
    """Balls that are all torn, sunk or pillars have no widest place that could be trusted."""
    assert found_error_um(_windows(CUT_AT + 8, belly_um=belly_um), INTERFACE) == 0.0


def test_two_slices_stay_where_they_are_told() -> None:
    two = _windows(CUT_AT[[0, 4]] + 8, cut_um=CUT_AT[[0, 4]])
    assert list(at_found_heights(two, INTERFACE).z_um) == [13.0, 173.0]


@pytest.mark.parametrize(("blind", "left_out"), [((4,), [4]), ((0, 4), [0, 4]), ((2,), []), ((), [])])
def test_a_blind_slice_at_a_pad_lies_beyond_it_and_one_between_the_pads_does_not(
    blind: tuple[int, ...], left_out: list[int]
) -> None:
    windows = _windows(CUT_AT)
    solder = np.full(5, 1500.0, np.float32)
    background = np.full(5, 400.0, np.float32)
    solder[list(blind)] = 430.0
    assert beyond_pads(replace(windows, solder=solder, background=background), INTERFACE) == left_out

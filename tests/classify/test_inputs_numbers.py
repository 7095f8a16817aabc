"""The measured numbers beside the pictures: scaled, against neighbours, and nothing where nothing was measured."""

import numpy as np
import pytest
from numpy.typing import NDArray

from inspect_pop.classify.inputs import NUMBERS, measured_numbers
from tests.drawn import drawn_interface

WHERE = {name: k for k, name in enumerate(NUMBERS)}


def columns(n: int, volume: float = 1.0) -> dict[str, NDArray[np.float32]]:
    """What `measure_joints` says of n joints that are all alike."""
    values = {"volume_ratio": volume, "waist": 0.9, "clearance_um": 400.0, "z_low": 0.0, "z_mid": 0.0, "z_high": 0.0}
    return {name: np.full(n, value, np.float32) for name, value in values.items()}


def test_two_thirds_of_the_volume_is_zero_and_neighbours_are_taken_off() -> None:
    interface = drawn_interface()
    found = columns(36)
    found["volume_ratio"][14] = 2 / 3
    told = measured_numbers(found, interface)
    assert told.dtype == np.float32
    assert told[14, WHERE["volume"]] == pytest.approx(0, abs=1e-6)
    assert told[0, WHERE["volume"]] == pytest.approx(5 / 3)
    assert told[14, WHERE["volume_deviation"]] == pytest.approx(-5 / 3, abs=0.01)
    assert np.abs(told[28, WHERE["volume_deviation"]]) < 0.1
    assert told[:, WHERE["volume_typical"]] == pytest.approx(0)
    assert (told[:, WHERE["measured"]] == 1).all()


def test_a_board_with_little_paste_says_so_beside_each_joint() -> None:
    told = measured_numbers(columns(36, volume=0.8), drawn_interface())
    assert told[:, WHERE["volume_typical"]] == pytest.approx(-1.0, abs=1e-5)
    assert told[:, WHERE["volume_deviation"]] == pytest.approx(0, abs=1e-5)


def test_paste_that_changes_slowly_over_the_board_is_no_deviation() -> None:
    interface = drawn_interface(side=8)
    found = columns(64)
    found["volume_ratio"] += (1e-4 * (interface.x_um - interface.x_um.mean())).astype(np.float32)
    told = measured_numbers(found, interface)
    inner = np.flatnonzero(np.abs(interface.x_um - interface.x_um.mean()) < 1.6 * interface.pitch_um)
    assert np.abs(told[inner, WHERE["volume_deviation"]]).max() < 0.1
    assert np.ptp(told[inner, WHERE["volume"]]) > 0.4


def test_nothing_is_told_beyond_what_a_network_has_seen() -> None:
    found = columns(36)
    found["volume_ratio"][2] = 40
    found["z_mid"][3] = -1000
    told = measured_numbers(found, drawn_interface())
    assert told[2, WHERE["volume"]] == 2.5
    assert told[3, WHERE["z_mid"]] == -2.5


def test_little_room_to_a_neighbour_shows() -> None:
    interface = drawn_interface()
    found = columns(36)
    found["clearance_um"][3] = 0
    told = measured_numbers(found, interface)
    assert told[3, WHERE["clearance"]] == -1
    assert told[4, WHERE["clearance"]] == 0


def test_what_was_not_measured_is_nought_and_said_to_be() -> None:
    interface = drawn_interface()
    assert not measured_numbers(None, interface).any()
    found = columns(36)
    found["volume_ratio"][5] = np.nan
    found["waist"][6] = np.nan
    found["z_low"][7] = np.inf
    told = measured_numbers(found, interface)
    assert not told[5].any()
    assert told[6, WHERE["waist"]] == 0
    assert told[6, WHERE["measured"]] == 1
    assert np.isfinite(told).all()
    found["volume_ratio"][:] = np.nan
    assert not measured_numbers(found, interface).any()


@pytest.mark.parametrize("side", [1, 2])
def test_few_joints_have_few_neighbours(side: int) -> None:
    interface = drawn_interface(side=side)
    assert np.isfinite(measured_numbers(columns(side * side), interface)).all()

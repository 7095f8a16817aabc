"""What the classifier sees: fixed heights, differences from neighbours, the dome, the measured numbers."""

import numpy as np
import pytest
from numpy.typing import NDArray

from inspect_pop.classify.inputs import CHANNELS, HEIGHTS, NUMBERS, SCALARS, build_inputs, build_numbers, interpolate_slices
from inspect_pop.core.geometry import Placement
from inspect_pop.segment.windows import SIZE, cut_slices
from tests.drawn import drawn_interface, drawn_stack

HOME = Placement(0.0, 0.0, 0.0, 0.0)


def test_shapes_and_scalars() -> None:
    interface = drawn_interface(name="upper")
    stack = drawn_stack(interface, z_um=(525.0, 630.0, 735.0))
    windows = cut_slices(stack, interface, HOME)
    standoff = np.full(36, interface.gap_um * 1.1, dtype=np.float32)
    standoff[3] = np.nan
    inputs = build_inputs(windows, interface, pixel_um=10.0, method="ct", standoff_um=standoff)
    assert inputs.images.shape == (36, CHANNELS, SIZE, SIZE)
    assert inputs.images.dtype == np.float32
    number = dict(zip(SCALARS, inputs.scalars[0], strict=True))
    assert number["upper"] == 1
    assert number["ct"] == 1
    assert number["slices_per_nine"] == pytest.approx(3 / 9)
    assert number["standoff_deviation"] == pytest.approx(0.5, abs=1e-5)
    assert inputs.scalars[3][SCALARS.index("standoff_known")] == 0
    assert inputs.scalars[3][SCALARS.index("standoff_deviation")] == 0


def test_slices_are_interpolated_between_heights() -> None:
    interface = drawn_interface()
    stack = drawn_stack(interface, z_um=(0.0, 170.0, 200.0))
    windows = cut_slices(stack, interface, HOME)
    ramp = windows.values.copy()
    ramp[:, 0], ramp[:, 1], ramp[:, 2] = 0.0, 1.0, 5.0
    out = interpolate_slices(type(windows)(**{**vars(windows), "values": ramp}), interface)
    assert out[0, :, 0, 0] == pytest.approx(HEIGHTS, abs=1e-5)


def test_a_transmission_picture_fills_all_heights() -> None:
    interface = drawn_interface()
    windows = cut_slices(drawn_stack(interface, z_um=(85.0,)), interface, HOME)
    out = interpolate_slices(windows, interface)
    assert np.array_equal(out[:, 0], out[:, 4])


def test_difference_shows_only_the_odd_one() -> None:
    interface = drawn_interface()
    windows = cut_slices(drawn_stack(interface, without=(14,)), interface, HOME)
    images = build_inputs(windows, interface, pixel_um=10.0, method="laminography").images
    assert images[14, 7, 23:25, 23:25] == pytest.approx(-1.0, abs=0.1)
    assert np.abs(images[28, 7, 12:36, 12:36]).max() < 0.1


def test_dome_channel_is_zero_without_data() -> None:
    interface = drawn_interface(name="upper")
    windows = cut_slices(drawn_stack(interface, z_um=(525.0, 630.0, 735.0)), interface, HOME)
    domes = np.full((36, SIZE, SIZE), 600.0, dtype=np.float32)
    domes[2] = 640.0
    domes[5, :, :4] = np.nan
    images = build_inputs(windows, interface, pixel_um=10.0, method="ct", dome_windows_um=domes).images
    assert images[2, -1].max() == pytest.approx(0.4)
    assert images[5, -1].max() == 0
    assert np.isfinite(images).all()


def test_one_joint_alone_has_no_neighbours() -> None:
    interface = drawn_interface(side=1)
    windows = cut_slices(drawn_stack(interface), interface, HOME)
    images = build_inputs(windows, interface, pixel_um=10.0, method="laminography").images
    assert np.isfinite(images).all()


WHERE = {name: k for k, name in enumerate(NUMBERS)}


def columns(n: int, volume: float = 1.0) -> dict[str, NDArray[np.float32]]:
    """What `measure_joints` says of n joints that are all alike."""
    values = {"volume_ratio": volume, "waist": 0.9, "clearance_um": 400.0, "z_low": 0.0, "z_mid": 0.0, "z_high": 0.0}
    return {name: np.full(n, value, np.float32) for name, value in values.items()}


def test_two_thirds_of_the_volume_is_zero_and_neighbours_are_taken_off() -> None:
    interface = drawn_interface()
    found = columns(36)
    found["volume_ratio"][14] = 2 / 3
    numbers = build_numbers(found, interface)
    assert numbers.dtype == np.float32
    assert numbers[14, WHERE["volume"]] == pytest.approx(0, abs=1e-6)
    assert numbers[0, WHERE["volume"]] == pytest.approx(5 / 3)
    assert numbers[14, WHERE["volume_deviation"]] == pytest.approx(-5 / 3, abs=0.01)
    assert np.abs(numbers[28, WHERE["volume_deviation"]]) < 0.1
    assert numbers[:, WHERE["volume_typical"]] == pytest.approx(0)
    assert (numbers[:, WHERE["measured"]] == 1).all()


def test_a_board_with_little_paste_says_so_beside_each_joint() -> None:
    numbers = build_numbers(columns(36, volume=0.8), drawn_interface())
    assert numbers[:, WHERE["volume_typical"]] == pytest.approx(-1.0, abs=1e-5)
    assert numbers[:, WHERE["volume_deviation"]] == pytest.approx(0, abs=1e-5)


def test_paste_that_changes_slowly_over_the_board_is_no_deviation() -> None:
    interface = drawn_interface(side=8)
    found = columns(64)
    found["volume_ratio"] += (1e-4 * (interface.x_um - interface.x_um.mean())).astype(np.float32)
    numbers = build_numbers(found, interface)
    inner = np.flatnonzero(np.abs(interface.x_um - interface.x_um.mean()) < 1.6 * interface.pitch_um)
    assert np.abs(numbers[inner, WHERE["volume_deviation"]]).max() < 0.1
    assert np.ptp(numbers[inner, WHERE["volume"]]) > 0.4


def test_numbers_stay_within_what_a_network_has_seen() -> None:
    found = columns(36)
    found["volume_ratio"][2] = 40
    found["z_mid"][3] = -1000
    numbers = build_numbers(found, drawn_interface())
    assert numbers[2, WHERE["volume"]] == 2.5
    assert numbers[3, WHERE["z_mid"]] == -2.5


def test_little_room_to_a_neighbour_shows() -> None:
    interface = drawn_interface()
    found = columns(36)
    found["clearance_um"][3] = 0
    numbers = build_numbers(found, interface)
    assert numbers[3, WHERE["clearance"]] == -1
    assert numbers[4, WHERE["clearance"]] == 0


def test_unmeasured_joints_are_zero_and_marked_so() -> None:
    interface = drawn_interface()
    assert not build_numbers(None, interface).any()
    found = columns(36)
    found["volume_ratio"][5] = np.nan
    found["waist"][6] = np.nan
    found["z_low"][7] = np.inf
    numbers = build_numbers(found, interface)
    assert not numbers[5].any()
    assert numbers[6, WHERE["waist"]] == 0
    assert numbers[6, WHERE["measured"]] == 1
    assert np.isfinite(numbers).all()
    found["volume_ratio"][:] = np.nan
    assert not build_numbers(found, interface).any()


@pytest.mark.parametrize("side", [1, 2])
def test_few_joints_have_few_neighbours(side: int) -> None:
    interface = drawn_interface(side=side)
    assert np.isfinite(build_numbers(columns(side * side), interface)).all()

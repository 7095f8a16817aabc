"""What the classifier sees: fixed heights, differences from neighbours, the dome, the numbers."""

import numpy as np
import pytest

from inspect_pop.classify.inputs import CHANNELS, HEIGHTS, SCALARS, joint_inputs, virtual_slices
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
    inputs = joint_inputs(windows, interface, pixel_um=10.0, method="ct", standoff_um=standoff)
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
    out = virtual_slices(type(windows)(**{**vars(windows), "values": ramp}), interface)
    assert out[0, :, 0, 0] == pytest.approx(HEIGHTS, abs=1e-5)


def test_a_transmission_picture_fills_all_heights() -> None:
    interface = drawn_interface()
    windows = cut_slices(drawn_stack(interface, z_um=(85.0,)), interface, HOME)
    out = virtual_slices(windows, interface)
    assert np.array_equal(out[:, 0], out[:, 4])


def test_difference_shows_only_the_odd_one() -> None:
    interface = drawn_interface()
    windows = cut_slices(drawn_stack(interface, without=(14,)), interface, HOME)
    images = joint_inputs(windows, interface, pixel_um=10.0, method="laminography").images
    assert images[14, 7, 23:25, 23:25] == pytest.approx(-1.0, abs=0.1)
    assert np.abs(images[28, 7, 12:36, 12:36]).max() < 0.1


def test_dome_channel_is_zero_without_data() -> None:
    interface = drawn_interface(name="upper")
    windows = cut_slices(drawn_stack(interface, z_um=(525.0, 630.0, 735.0)), interface, HOME)
    domes = np.full((36, SIZE, SIZE), 600.0, dtype=np.float32)
    domes[2] = 640.0
    domes[5, :, :4] = np.nan
    images = joint_inputs(windows, interface, pixel_um=10.0, method="ct", dome_windows_um=domes).images
    assert images[2, -1].max() == pytest.approx(0.4)
    assert images[5, -1].max() == 0
    assert np.isfinite(images).all()


def test_one_joint_alone_has_no_neighbours() -> None:
    interface = drawn_interface(side=1)
    windows = cut_slices(drawn_stack(interface), interface, HOME)
    images = joint_inputs(windows, interface, pixel_um=10.0, method="laminography").images
    assert np.isfinite(images).all()

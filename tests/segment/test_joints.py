"""The segmentation step: outlines, voids and webs of all joints, as each finds them by itself."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.segment.joints import find_overlapped, find_webs, segment_joints
from inspect_pop.segment.outlines import find_outlines, find_void_fraction
from inspect_pop.segment.windows import cut_slices
from tests.drawn import drawn_interface
from tests.scenes import HOME, make_package, stack_of

INTERFACE = drawn_interface(6)


@pytest.mark.parametrize(("shift_um", "overlapped"), [(0.0, 36), (10_000.0, 0)])
def test_the_other_interface_lies_over_joints_by_design(shift_um: float, overlapped: int) -> None:
    lower = drawn_interface(6)
    upper = replace(lower, name="upper", x_um=lower.x_um + shift_um)
    assert find_overlapped(lower, make_package(lower, upper)).sum() == overlapped
    assert not find_overlapped(lower, make_package(lower)).any()


def test_all_parts_are_those_of_the_windows() -> None:
    windows = cut_slices(stack_of(INTERFACE, slices=3), INTERFACE, HOME)
    segmented = segment_joints(windows, INTERFACE, "laminography")
    outlines, webs = find_outlines(windows), find_webs(windows, INTERFACE)
    assert segmented.windows is windows
    assert (segmented.interface, segmented.method) == (INTERFACE, "laminography")
    assert np.array_equal(segmented.outlines.radius, outlines.radius)
    assert np.array_equal(segmented.void_fraction, find_void_fraction(outlines))
    assert np.array_equal(segmented.webs.free_um, webs.free_um)
    assert np.array_equal(segmented.webs.pairs, webs.pairs)


def test_a_joint_without_a_ball_keeps_its_row() -> None:
    windows = cut_slices(stack_of(INTERFACE, slices=3, without=[14]), INTERFACE, HOME)
    segmented = segment_joints(windows, INTERFACE, "ct")
    assert len(segmented.void_fraction) == len(segmented.outlines.present) == 36
    assert np.isnan(segmented.void_fraction[14])
    assert not segmented.outlines.present[14].any()
    assert np.isfinite(np.delete(segmented.void_fraction, 14)).all()

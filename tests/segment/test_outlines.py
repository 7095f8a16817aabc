"""Outlines keep their size and middle under voids, webs, halos and displacement."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.geometry import SliceStack
from inspect_pop.segment.outlines import ANGLES, Outlines, find_outlines
from inspect_pop.segment.windows import Windows, cut_slices
from tests.drawn import drawn_interface
from tests.scenes import HOME, discs, stack_of

INTERFACE = drawn_interface(6)
STEP_UM = 400.0 / 36
JOINT = 14  # of 36, inside the array
RADIUS_UM = 0.34 * 400.0


def outlined(stack: SliceStack) -> Outlines:
    return find_outlines(cut_slices(stack, INTERFACE, HOME))


def with_discs(stack: SliceStack, at_um: list[tuple[float, float]], radius_um: float, grey: float) -> SliceStack:
    """The stack with further discs of this grey mixed in (solder is 1400, background 400)."""
    x, y = (np.array(v) for v in zip(*at_um, strict=True))
    cover = discs(stack.grid, x, y, radius_um)
    values = stack.values * (1 - cover) + grey * cover
    return replace(stack, values=values.astype(np.uint16))


def middle_um(found: Outlines, joint: int) -> np.ndarray:
    return (found.centre[joint] + found.circle[joint, :, 1:].mean(axis=0)) * STEP_UM


def test_radius_and_middle_of_plain_balls() -> None:
    found = outlined(stack_of(INTERFACE))
    assert found.present.all()
    assert found.radius.shape == (36, 3, ANGLES)
    assert found.radius * STEP_UM == pytest.approx(RADIUS_UM, abs=2.5)
    assert np.abs(found.centre * STEP_UM).max() < 3
    assert {found.radius.dtype, found.circle.dtype, found.core.dtype, found.polar.dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("radius", [70.0, 100.0, 150.0])
def test_any_size_of_ball(radius: float) -> None:
    stack = stack_of(INTERFACE)
    cover = discs(stack.grid, INTERFACE.x_um, INTERFACE.y_um, radius)
    values = np.repeat((400 + 1000 * cover).astype(np.uint16)[None], 3, axis=0)
    found = outlined(replace(stack, values=values))
    assert found.radius.mean(axis=2) * STEP_UM == pytest.approx(radius, abs=3)


def test_displaced_joints_are_followed() -> None:
    moved = np.random.default_rng(1).uniform(-45, 45, (36, 2))
    found = outlined(stack_of(INTERFACE, moved_um=moved))
    place = (found.centre + found.circle[:, :, 1:].mean(axis=1)) * STEP_UM
    assert place == pytest.approx(moved, abs=1.0)


@pytest.mark.parametrize("void_at", [(0.0, 0.0), (60.0, 0.0), (85.0, 20.0), (-70.0, 70.0)])
def test_a_void_neither_dents_nor_moves_a_ball(void_at: tuple[float, float]) -> None:
    x, y = INTERFACE.x_um[JOINT] + void_at[0], INTERFACE.y_um[JOINT] + void_at[1]
    found = outlined(with_discs(stack_of(INTERFACE), [(x, y)], 50.0, 600))
    assert 2 * STEP_UM * found.circle[JOINT, :, 0] == pytest.approx(2 * RADIUS_UM, abs=5)
    assert np.hypot(*middle_um(found, JOINT)) < 3


def test_a_void_as_dark_as_the_background_through_the_edge() -> None:
    """A third of the rays end at the void; the first guess of the middle is off by two samples."""
    x, y = INTERFACE.x_um[JOINT] + 80, INTERFACE.y_um[JOINT]
    found = outlined(with_discs(stack_of(INTERFACE), [(x, y)], 75.0, 450))
    assert np.hypot(*middle_um(found, JOINT)) < 4
    assert 2 * STEP_UM * found.circle[JOINT, :, 0] == pytest.approx(2 * RADIUS_UM, abs=8)


def test_a_web_does_not_stretch_a_ball() -> None:
    x, y = INTERFACE.x_um[JOINT], INTERFACE.y_um[JOINT]
    found = outlined(with_discs(stack_of(INTERFACE), [(x + d, y) for d in range(130, 280, 10)], 30.0, 1400))
    assert 2 * STEP_UM * found.circle[JOINT, :, 0] == pytest.approx(2 * RADIUS_UM, abs=6)
    assert np.hypot(*middle_um(found, JOINT)) < 3


def test_a_halo_on_one_side_moves_it_little() -> None:
    """The other interface's balls raise the background by up to half of the contrast on one side."""
    stack = stack_of(INTERFACE)
    row, col = np.indices(stack.grid.shape)
    x, _ = stack.grid.to_um(row, col)
    halo = 500 / (1 + np.exp(-(x - INTERFACE.x_um[JOINT]) / 60.0))
    found = outlined(replace(stack, values=(stack.values + halo).astype(np.uint16)))
    assert np.hypot(*middle_um(found, JOINT)) < 3


def test_nothing_there_is_nothing_found() -> None:
    found = outlined(stack_of(INTERFACE, without=[JOINT]))
    assert not found.present[JOINT].any()
    assert (found.radius[JOINT] == 0).all()
    assert found.present[np.arange(36) != JOINT].all()


def test_more_joints_than_one_call_takes() -> None:
    """remap addresses 32767 rows: arrays of over 666 joints go in parts."""
    windows = cut_slices(stack_of(INTERFACE), INTERFACE, HOME)
    many = replace(windows, values=np.tile(windows.values, (20, 1, 1, 1)))
    assert isinstance(many, Windows)
    found = find_outlines(many)
    assert found.radius[-36:] == pytest.approx(found.radius[:36], abs=0.05)  # remap rounds places to 1/32 sample

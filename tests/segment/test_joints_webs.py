"""Free space between neighbours, and webs that close it."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.geometry import SliceStack
from inspect_pop.segment.joints import find_webs, neighbour_pairs
from inspect_pop.segment.windows import cut_slices
from tests.drawn import drawn_interface
from tests.scenes import HOME, discs, stack_of

INTERFACE = drawn_interface(6)
GAP_UM = 400.0 - 2 * 0.34 * 400.0


def bridged(
    stack: SliceStack, first: int, second: int, width_um: float, slices: slice, grey: float = 1400, aside_um: float = 0.0
) -> SliceStack:
    """A web of solder of this width between two joints, so far to the left of the straight way."""
    ends = np.array([[INTERFACE.x_um[k], INTERFACE.y_um[k]] for k in (first, second)])
    way = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
    ends += aside_um * np.array([-way[1], way[0]])
    path = ends[0] + np.linspace(0, 1, 60)[:, None] * (ends[1] - ends[0])
    cover = discs(stack.grid, path[:, 0], path[:, 1], width_um / 2, blur_um=10.0)
    values = stack.values.astype(float)
    values[slices] = np.maximum(values[slices], 400 + (grey - 400) * cover)
    return replace(stack, values=values.astype(np.uint16))


def test_pairs_are_rows_and_columns_once() -> None:
    pairs = neighbour_pairs(INTERFACE)
    assert len(pairs) == 2 * 6 * 5
    assert len({tuple(sorted(p)) for p in pairs.tolist()}) == len(pairs)


def test_free_space_is_the_pitch_less_the_balls() -> None:
    webs = find_webs(cut_slices(stack_of(INTERFACE), INTERFACE, HOME), INTERFACE)
    assert webs.free_um == pytest.approx(GAP_UM, abs=9)
    assert webs.saddle.max() < 0.15


@pytest.mark.parametrize("pair", [(14, 15), (14, 20)], ids=["along x", "along y"])
@pytest.mark.parametrize("width", [40.0, 80.0, 150.0])
def test_a_web_in_one_slice_closes_the_space(pair: tuple[int, int], width: float) -> None:
    stack = bridged(stack_of(INTERFACE), *pair, width, slice(1, 2))
    webs = find_webs(cut_slices(stack, INTERFACE, HOME), INTERFACE)
    this = (np.sort(webs.pairs, axis=1) == sorted(pair)).all(axis=1)
    assert this.sum() == 1
    assert webs.free_um[this, 1] < 10
    assert webs.saddle[this, 1] > 0.6
    assert webs.free_um[this, 0] == pytest.approx(GAP_UM, abs=12)
    assert webs.free_um[~this].min() > 60


@pytest.mark.parametrize("pair", [(14, 15), (14, 20)], ids=["along x", "along y"])
@pytest.mark.parametrize("aside_um", [-60.0, 60.0])
def test_a_web_to_one_side_closes_the_space(pair: tuple[int, int], aside_um: float) -> None:
    stack = bridged(stack_of(INTERFACE), *pair, 30.0, slice(1, 2), aside_um=aside_um)
    webs = find_webs(cut_slices(stack, INTERFACE, HOME), INTERFACE)
    this = (np.sort(webs.pairs, axis=1) == sorted(pair)).all(axis=1)
    assert webs.free_um[this, 1] < 15
    assert webs.saddle[this, 1] > 0.6


def test_a_broad_halo_is_no_web() -> None:
    """A ball of the other interface, out of focus over the gap: nearly as bright as a web, but as wide as a ball."""
    stack = stack_of(INTERFACE)
    x, y = (INTERFACE.x_um[14] + INTERFACE.x_um[15]) / 2, INTERFACE.y_um[14]
    cover = discs(stack.grid, np.array([x]), np.array([y]), 300.0, blur_um=90.0)
    halo = replace(stack, values=np.clip(stack.values + 650 * cover, 0, 1500).astype(np.uint16))
    webs = find_webs(cut_slices(halo, INTERFACE, HOME), INTERFACE)
    this = (np.sort(webs.pairs, axis=1) == [14, 15]).all(axis=1)
    assert webs.free_um[this].min() > 60


def test_a_joint_without_neighbours_has_no_pairs() -> None:
    far = drawn_interface(2, 400.0)
    alone = replace(far, x_um=far.x_um * 3, y_um=far.y_um * 3)
    webs = find_webs(cut_slices(stack_of(alone), alone, HOME), alone)
    assert webs.pairs.shape == (0, 2)
    assert webs.free_um.shape == (0, 3)


def test_a_ghost_in_the_last_slice_does_not_close_the_space() -> None:
    stack = bridged(stack_of(INTERFACE, slices=5), 14, 15, 150.0, slice(4, 5))
    webs = find_webs(cut_slices(stack, INTERFACE, HOME), INTERFACE)
    this = (np.sort(webs.pairs, axis=1) == [14, 15]).all(axis=1)
    assert webs.free_um[this, 4] < 10
    assert webs.clear_um[this] == pytest.approx(GAP_UM, abs=20)


@pytest.mark.parametrize("width", [80.0, 200.0, 300.0])
def test_a_web_in_two_slices_closes_the_space(width: float) -> None:
    stack = bridged(stack_of(INTERFACE, slices=5), 14, 15, width, slice(2, 4))
    webs = find_webs(cut_slices(stack, INTERFACE, HOME), INTERFACE)
    this = (np.sort(webs.pairs, axis=1) == [14, 15]).all(axis=1)
    assert webs.clear_um[this] < 10
    assert webs.clear_um[~this].min() > 60


def test_one_slice_of_three_counts_by_itself() -> None:
    webs = find_webs(cut_slices(bridged(stack_of(INTERFACE), 14, 15, 80.0, slice(1, 2)), INTERFACE, HOME), INTERFACE)
    assert webs.clear_um[(np.sort(webs.pairs, axis=1) == [14, 15]).all(axis=1)] < 10


def test_a_ghost_that_fades_from_the_last_slice_inwards_does_not_close_the_space() -> None:
    faint = bridged(stack_of(INTERFACE, slices=5), 14, 15, 150.0, slice(3, 4), grey=800)
    webs = find_webs(cut_slices(bridged(faint, 14, 15, 150.0, slice(4, 5)), INTERFACE, HOME), INTERFACE)
    this = (np.sort(webs.pairs, axis=1) == [14, 15]).all(axis=1)
    assert webs.free_um[this, 4] < 10
    assert webs.clear_um[this] > 40


def test_many_bridges_in_a_single_picture_do_not_hide_one_another() -> None:
    """Where more than a tenth of the spaces are closed, the solder's own level must not count as the halo's."""
    stack = stack_of(INTERFACE, slices=1)
    for first in (*range(0, 36, 6), *range(2, 36, 6)):
        stack = bridged(stack, first, first + 1, 150.0, slice(None), grey=1360)
    webs = find_webs(cut_slices(stack, INTERFACE, HOME), INTERFACE)
    ends = (np.sort(webs.pairs, axis=1) % 6).tolist()
    closed = np.array([pair in ([0, 1], [2, 3]) for pair in ends])
    assert webs.clear_um[closed].max() < 10
    assert webs.clear_um[~closed].min() > 60

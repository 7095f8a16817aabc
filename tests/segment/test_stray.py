"""Stray solder: found with its place and size wherever it lies among the joints, and nothing else taken for it."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.geometry import Grid, Placement, SliceStack
from inspect_pop.core.recipe import Interface
from inspect_pop.segment import stray
from inspect_pop.segment.outlines import find_outlines
from inspect_pop.segment.stray import StraySolder, find_stray_solder
from inspect_pop.segment.windows import cut_slices
from tests.drawn import drawn_interface
from tests.scenes import HOME, discs, make_package, ring, stack_of

INTERFACE = drawn_interface(8)
PACKAGE = make_package()


def with_ball(
    stack: SliceStack, x_um: float, y_um: float, diameter_um: float, slices: slice = slice(1, 4), grey: float = 1000.0
) -> SliceStack:
    """The stack with one more ball of solder in some slices, at a place of the image."""
    values = stack.values.astype(float)
    ball = discs(stack.grid, np.array([x_um]), np.array([y_um]), diameter_um / 2)
    values[slices] = np.maximum(values[slices], 400 + grey * ball)
    return replace(stack, values=values.astype(np.uint16))


def find(stack: SliceStack, placement: Placement = HOME, interface=INTERFACE) -> StraySolder:  # type: ignore[no-untyped-def]
    windows = cut_slices(stack, interface, placement)
    return find_stray_solder(stack, windows, find_outlines(windows), interface, PACKAGE, placement)


def test_a_clean_interface_has_none() -> None:
    found = find(stack_of(INTERFACE, slices=5))
    assert len(found.size_um) == 0
    assert found.aside_um.max() == 0


@pytest.mark.parametrize("place", [(0.0, 200.0), (0.0, 0.0), (400.0, 200.0)], ids=["between two", "between four", "elsewhere"])
def test_a_ball_between_joints_is_found_with_place_and_size(place: tuple[float, float]) -> None:
    half = np.array([INTERFACE.x_um[9] + 200.0, INTERFACE.y_um[9]])
    x, y = half + np.array([0.0, -200.0]) * (place[1] == 0.0) + np.array([place[0], 0.0])
    found = find(with_ball(stack_of(INTERFACE, slices=5), x, y, 130.0))
    assert len(found.size_um) == 1
    assert (found.x_um[0], found.y_um[0]) == (pytest.approx(x, abs=30), pytest.approx(y, abs=30))
    assert 75 < found.size_um[0] < 160
    near = np.hypot(INTERFACE.x_um - x, INTERFACE.y_um - y) < 0.75 * INTERFACE.pitch_um
    assert np.array_equal(found.aside_um > 0, near)


def test_in_the_empty_middle_it_is_reported_and_stops_no_joint() -> None:
    peripheral = ring(8)
    found = find(with_ball(stack_of(peripheral, slices=5), 100.0, -60.0, 150.0), interface=peripheral)
    assert len(found.size_um) == 1
    assert found.aside_um.max() == 0


def test_the_place_is_that_of_the_package() -> None:
    placement = Placement(90.0, -60.0, 0.5, 0.0)
    x, y = placement.apply(np.array([200.0]), np.array([0.0]))
    found = find(with_ball(stack_of(INTERFACE, placement, slices=5), float(x[0]), float(y[0]), 130.0), placement)
    assert len(found.size_um) == 1
    assert (found.x_um[0], found.y_um[0]) == (pytest.approx(200, abs=30), pytest.approx(0, abs=30))


def test_what_one_slice_of_five_shows_is_a_ghost() -> None:
    assert len(find(with_ball(stack_of(INTERFACE, slices=5), 0.0, 0.0, 130.0, slice(4, 5))).size_um) == 0


def test_a_broad_ghost_is_no_solder() -> None:
    ghost = with_ball(stack_of(INTERFACE, slices=5), 0.0, 0.0, 900.0, slice(3, 5), grey=250.0)
    assert len(find(ghost).size_um) == 0


def test_a_puddle_fills_the_gaps_of_its_joints() -> None:
    """Broad and darker than the joints, as halos are; the gaps around it are empty."""
    puddle = with_ball(stack_of(INTERFACE, slices=5), 0.0, 0.0, 700.0, slice(1, 4), grey=550.0)
    found = find(puddle)
    inside = np.hypot(INTERFACE.x_um, INTERFACE.y_um) < 0.75 * INTERFACE.pitch_um
    assert inside.sum() == 4
    assert (found.aside_um[inside] >= 80).all()
    assert (found.aside_um[np.hypot(INTERFACE.x_um, INTERFACE.y_um) > 1.6 * INTERFACE.pitch_um] == 0).all()


def find_gaps(grey_between: dict[tuple[str, str], float], others: tuple[Interface, ...] = (), usual: float = 0.0) -> set[str]:
    """The joints beside filled gaps, of a picture as grey as `usual` but between these joints."""
    grid = Grid((400, 400), 12.0, (-2400.0, 2400.0))
    grey = np.full(grid.shape, usual, dtype=np.float32)
    for pair, value in grey_between.items():
        first, second = (INTERFACE.ball.index(ball) for ball in pair)
        x = (INTERFACE.x_um[first] + INTERFACE.x_um[second]) / 2
        y = (INTERFACE.y_um[first] + INTERFACE.y_um[second]) / 2
        row, col = (round(float(v)) for v in grid.to_pixel(x, y))
        grey[row - 3 : row + 4, col - 3 : col + 4] = value
    balls = np.stack([INTERFACE.x_um, INTERFACE.y_um, np.full(len(INTERFACE.ball), 140.0)])
    found = stray._find_filled_gaps(grey, grid, HOME, INTERFACE, balls, others)
    return {INTERFACE.ball[joint] for joint in found.pairs.ravel()}


def test_one_bright_gap_or_two_greyer_ones_that_meet_are_filled() -> None:
    assert find_gaps({}) == set()
    assert find_gaps({("C3", "C4"): 0.6}) == {"C3", "C4"}
    assert find_gaps({("C3", "C4"): 0.5}) == set()  # a ghost along an edge
    assert find_gaps({("C3", "C4"): 0.4, ("C3", "D3"): 0.4}) == {"C3", "C4", "D3"}
    assert find_gaps({("C3", "C4"): 0.4, ("C3", "D3"): 0.2}) == set()
    assert find_gaps({("C3", "C4"): 0.4, ("F6", "G6"): 0.4}) == set()


def test_gaps_are_compared_with_those_around() -> None:
    assert find_gaps({}, usual=0.7) == set()
    assert find_gaps({("C3", "C4"): 0.9}, usual=0.45) == set()
    assert find_gaps({("C3", "C4"): 1.1}, usual=0.45) == {"C3", "C4"}


def test_gaps_under_the_other_interface_say_nothing() -> None:
    over = drawn_interface(8)  # its joints lie where these joints are moved to
    shifted = replace(over, x_um=over.x_um + INTERFACE.pitch_um / 2)
    beside = {tuple(sorted(pair)) for pair in (("C3", "C4"), ("C3", "D3"))}
    assert find_gaps(dict.fromkeys(beside, 0.9)) == {"C3", "C4", "D3"}
    assert len(find_gaps(dict.fromkeys(beside, 0.9), (shifted,))) == 2


def test_in_transmission_the_other_interface_is_no_stray_solder() -> None:
    stack = stack_of(INTERFACE, slices=1, method="transmission")
    other = PACKAGE.interface("upper")
    balls = discs(stack.grid, other.x_um, other.y_um, 160.0)
    values = np.maximum(stack.values.astype(float), 400 + 1000 * balls)
    assert len(find(replace(stack, values=values.astype(np.uint16))).size_um) == 0

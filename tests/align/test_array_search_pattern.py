"""Where solder must not be is what tells an array from itself a pitch beside."""

import numpy as np
import pytest

from inspect_pop.align.array_search import TURNS, pattern, turned, turns_seen
from tests.drawn import drawn_interface
from tests.scenes import make_package, ring, without


def test_empty_places_surround_a_full_array_once() -> None:
    expected = pattern(drawn_interface(4))
    assert len(expected.joints) == 16
    assert len(expected.empty) == 16  # four a side, no corners
    assert np.abs(expected.empty).max() == pytest.approx(1000.0)


def test_missing_positions_inside_are_empty_places() -> None:
    expected = pattern(without(drawn_interface(5), [12]))
    assert np.hypot(*expected.empty.T).min() == pytest.approx(0.0)


def test_margin_and_spill_of_a_full_array_are_its_rows() -> None:
    """A shift by one pitch loses a row of 8 and fills a row of 8 empty places."""
    expected = pattern(drawn_interface(8))
    assert expected.margin == 16
    assert expected.spill == 8


def test_a_ring_is_told_better_than_a_full_array() -> None:
    assert pattern(ring(8)).margin / 28 > pattern(drawn_interface(8)).margin / 64


def test_in_transmission_the_other_interface_is_no_evidence() -> None:
    lower, upper = make_package().interfaces
    alone, over = pattern(upper), pattern(upper, lower)
    assert len(over.empty) < len(alone.empty)
    seen = np.column_stack([lower.x_um, lower.y_um])
    assert np.linalg.norm(over.empty[:, None] - seen[None], axis=2).min() > 0.5 * (
        lower.ball_diameter_um + upper.ball_diameter_um
    )


@pytest.mark.parametrize("turn", TURNS)
def test_a_symmetric_array_looks_the_same_turned(turn: str) -> None:
    expected = pattern(drawn_interface(5))
    designed, other = turned(expected.joints, TURNS[turn], 400.0)
    assert len(designed) == len(other) == 0


def test_a_missing_corner_shows_where_it_would_be_turned() -> None:
    interface = without(drawn_interface(5), [0])
    designed, other = turned(pattern(interface).joints, TURNS["turned by 180 degrees"], 400.0)
    assert designed.tolist() == [[800.0, -800.0]]
    assert other.tolist() == [[-800.0, 800.0]]


def test_turns_that_nothing_shows_are_left_out() -> None:
    whole = drawn_interface(5)
    assert turns_seen(pattern(whole), 400.0) == ()
    corner = without(whole, [0])
    assert {name for name, _, _ in turns_seen(pattern(corner), 400.0)} >= {"turned by 180 degrees", "mirrored left to right"}

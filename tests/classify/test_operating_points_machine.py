import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.classify.operating_points import LEAST_JOINTS, machine_point

REFERENCE = OperatingPoint(pass_below=-2.0, fail_above=2.5, source="calibration")


def good(rng: np.random.Generator, n: int, awkward: float = 0.05) -> NDArray[np.float64]:
    """A bulk about -9 and, of some awkward joints, a tail towards suspicion, as networks give it."""
    bulk = -9 + 1.5 * rng.normal(0, 1, n)
    return np.where(rng.random(n) < awkward, -6 + rng.exponential(1.8, n), bulk)


KNOWN = np.quantile(good(np.random.default_rng(9), 200_000), np.linspace(0, 1, 101))


def board(n: int, defects: float = 0.003, shift: float = 0.0, awkward: float = 0.05, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    bad = round(n * defects)
    return np.r_[shift + good(rng, n - bad, awkward), 8 + rng.normal(0, 2, bad)]


def reviewed(scores: NDArray[np.float64], point: OperatingPoint) -> float:
    return float(np.mean((scores >= point.pass_below) & (scores < point.fail_above)))


def test_a_sharp_machine_spends_its_reviews_on_both_sides() -> None:
    scores = board(6560, awkward=0.03)
    found = machine_point(scores, KNOWN, REFERENCE)
    assert found.moved and found.lift == 0
    assert found.point.pass_below == pytest.approx(-2 - found.apart)
    assert found.point.fail_above == pytest.approx(2.5 + found.apart)
    assert reviewed(scores, REFERENCE) < reviewed(scores, found.point) <= 0.02


def test_a_machine_with_much_to_review_keeps_the_models_thresholds() -> None:
    found = machine_point(board(6560, awkward=0.25), KNOWN, REFERENCE)
    assert not found.moved
    assert (found.point.pass_below, found.point.fail_above) == (-2.0, 2.5)
    assert "for review" in found.point.source


def test_more_reviews_allowed_move_further() -> None:
    scores = board(6560, awkward=0.03)
    apart = [machine_point(scores, KNOWN, REFERENCE, review_share=share).apart for share in (0.005, 0.01, 0.02, 0.5)]
    assert apart == sorted(apart)
    assert apart[-1] == 2.0


def test_a_machine_whose_good_joints_all_look_worse_fails_later_and_passes_no_later() -> None:
    found = machine_point(board(6560, shift=6.0), KNOWN, REFERENCE)
    assert found.lift > 2
    assert found.point.fail_above == pytest.approx(2.5 + found.lift)
    assert found.point.pass_below == -2.0
    assert "higher than those of any machine known" in found.point.source


@pytest.mark.parametrize("defects", [0.0, 0.1, 0.25])
def test_bad_boards_are_not_taken_for_another_machine(defects: float) -> None:
    assert machine_point(board(820, defects), KNOWN, REFERENCE).lift == 0


def test_one_small_board_moves_less_than_many() -> None:
    small, large = (machine_point(board(n, 0.0, awkward=0.03, seed=4), KNOWN, REFERENCE).apart for n in (88, 8800))
    assert small <= large


@pytest.mark.parametrize(
    ("scores", "known", "words"),
    [
        (board(LEAST_JOINTS - 1), KNOWN, "too few to follow it"),
        (np.full(500, np.nan), KNOWN, "0 joints of this machine are too few"),
        (board(820), (), "keeps no good scores"),
    ],
)
def test_what_cannot_be_followed_keeps_the_thresholds(
    scores: NDArray[np.float64], known: NDArray[np.float64], words: str
) -> None:
    found = machine_point(scores, known, REFERENCE)
    assert not found.moved
    assert (found.point.pass_below, found.point.fail_above) == (-2.0, 2.5)
    assert words in found.point.source


def test_words_say_what_was_done() -> None:
    source = machine_point(board(6560, awkward=0.03), KNOWN, REFERENCE).point.source
    assert source.startswith("calibration; pass below -")
    assert "after 6560 joints of this machine" in source


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 900), defects=st.floats(0, 1), shift=st.floats(-30, 30), awkward=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_machine_makes_passing_easier_or_failing(n: int, defects: float, shift: float, awkward: float, seed: int) -> None:
    """Whatever its scores: nothing passes or fails that the model's own thresholds would not, and the reach is bounded."""
    point = machine_point(board(n, defects, shift, awkward, seed), KNOWN, REFERENCE).point
    assert -2 - 2 <= point.pass_below <= -2
    assert 2.5 <= point.fail_above <= 2.5 + 2 + 4

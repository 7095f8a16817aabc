import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspect_pop.classify.machine import LEAST_JOINTS, machine_point
from inspect_pop.classify.model import OperatingPoint

REFERENCE = OperatingPoint(pass_below=-1.6, fail_above=1.2, source="calibration")


def good(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A bulk about -9 with a longer tail towards suspicion, as networks give it."""
    return -9 + 1.5 * rng.normal(0, 1, n) + np.where(rng.random(n) < 0.12, rng.exponential(1.6, n), 0)


KNOWN = np.quantile(good(np.random.default_rng(9), 200_000), np.linspace(0, 1, 101))


def board(n: int, defects: float, shift: float, scale: float = 1.0, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    bad = round(n * defects)
    return np.r_[shift + scale * good(rng, n - bad), 9 + rng.normal(0, 1.5, bad)]


def test_a_machine_like_those_of_the_calibration_keeps_its_thresholds() -> None:
    found = machine_point(board(6560, 0.05, 0), KNOWN, REFERENCE)
    assert found.moved
    assert found.point.pass_below == pytest.approx(-1.6, abs=0.5)
    assert found.point.fail_above == pytest.approx(1.2, abs=0.5)


@pytest.mark.parametrize("defects", [0.0, 0.1])
@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_thresholds_move_with_the_machine(shift: float, defects: float) -> None:
    found = machine_point(board(6560, defects, shift), KNOWN, REFERENCE)
    assert found.point.pass_below + 1.6 == pytest.approx(shift, abs=0.8)
    assert found.point.fail_above - 1.2 == pytest.approx(shift, abs=0.8)


def test_false_calls_of_a_machine_with_blurred_scores_come_down() -> None:
    """Scale 1.2 and up by 3.3: its good joints would fail in 1,900 ppm at the calibration's threshold."""
    rng = np.random.default_rng(1)
    scores = 1.2 * good(rng, 200_000) + 3.3
    before, points = (
        np.mean(scores >= 1.2),
        [machine_point(board(820, 0.05, 3.3, 1.2, seed), KNOWN, REFERENCE) for seed in range(20)],
    )
    after = np.mean([np.mean(scores >= p.point.fail_above) for p in points])
    assert before > 1500e-6
    assert after < 700e-6


def test_one_small_board_moves_half_as_far_as_it_shows() -> None:
    found = machine_point(board(88, 0.1, 2.0), KNOWN, REFERENCE)
    assert 0.2 < found.point.fail_above - 1.2 < 2.0


def test_words_say_what_was_done() -> None:
    source = machine_point(board(820, 0, 1.0), KNOWN, REFERENCE).point.source
    assert source.startswith("calibration; follows the machine over 8")
    assert "pass below" in source and "for -1.60" in source


@pytest.mark.parametrize(
    ("scores", "known", "words"),
    [
        (board(LEAST_JOINTS - 1, 0, 3.0), KNOWN, "too few to follow"),
        (np.full(500, np.nan), KNOWN, "0 joints are too few"),
        (board(820, 0, 3.0), (), "keeps no good scores"),
        (np.full(820, 8.0), KNOWN, "only 0 of 820 joints look good"),
    ],
)
def test_what_cannot_be_followed_keeps_the_thresholds(
    scores: NDArray[np.float64], known: NDArray[np.float64], words: str
) -> None:
    found = machine_point(scores, known, REFERENCE)
    assert not found.moved
    assert (found.point.pass_below, found.point.fail_above) == (-1.6, 1.2)
    assert words in found.point.source


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 900),
    defects=st.floats(0, 0.3),
    shift=st.floats(-30, 30),
    scale=st.floats(0.01, 10),
    seed=st.integers(0, 99),
)
def test_thresholds_stay_in_order_and_in_reach(n: int, defects: float, shift: float, scale: float, seed: int) -> None:
    point = machine_point(board(n, defects, shift, scale, seed), KNOWN, REFERENCE).point
    assert point.pass_below <= point.fail_above
    assert abs(point.pass_below - REFERENCE.pass_below) <= 4 + 1e-9
    assert abs(point.fail_above - REFERENCE.fail_above) <= 4 + 1e-9

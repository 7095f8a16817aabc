import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binom, norm

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.classify.operating_points import choose, design_effect, needed
from inspect_pop.core.errors import PromiseRefused
from inspect_pop.core.statistics import clopper_pearson, clopper_pearson_upper


def scores(
    rng: np.random.Generator, boards: int, joints: int, spread: float = 0.0, defects: float = 0.1
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Log-odds of good joints about -6 and of defective ones about 6, with a shift of its own for each board."""
    board = np.repeat(np.arange(boards), joints)
    shift = rng.normal(0, spread, boards)[board]
    defective = rng.random(boards * joints) < defects
    return np.where(defective, 6.0, -6.0) + shift + rng.normal(0, 2.5, boards * joints), defective, board


@pytest.mark.parametrize(("errors", "n"), [(0, 10), (3, 50), (1, 2995), (7, 7)])
def test_bounds_are_the_exact_ones(errors: int, n: int) -> None:
    assert clopper_pearson_upper(errors, n) == pytest.approx(1.0 if errors == n else beta.ppf(0.95, errors + 1, n - errors))
    low, high = clopper_pearson(errors, n)
    assert low == pytest.approx(0.0 if errors == 0 else beta.ppf(0.025, errors, n - errors + 1))
    assert high == pytest.approx(1.0 if errors == n else beta.ppf(0.975, errors + 1, n - errors))


def test_no_joints_say_nothing() -> None:
    assert clopper_pearson_upper(0, 0) == 1.0
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("rate", "joints"), [(0.01, 299), (0.001, 2995), (0.0001, 29956)])
def test_what_a_claim_takes(rate: float, joints: int) -> None:
    assert needed(rate) == joints
    assert clopper_pearson_upper(0, joints) <= rate < clopper_pearson_upper(0, joints - 1)


def test_both_promises_leave_review_between() -> None:
    values, defective, _ = scores(np.random.default_rng(0), 40, 820)
    promise = choose(values, defective, max_escape_rate=0.005, max_false_call_ppm=1000)
    assert promise.point.pass_below < promise.point.fail_above
    assert promise.escape_bound <= 0.005
    assert promise.false_call_bound <= 0.001
    assert promise.review_share == pytest.approx(norm.sf((promise.point.pass_below + 6) / 2.5), rel=0.2)
    assert promise.escapes == np.sum(values[defective] < promise.point.pass_below)
    assert "95% confidence" in promise.point.source
    assert "pass" in promise.point.source and "fail" in promise.point.source


def test_the_threshold_is_the_last_that_the_promise_admits() -> None:
    """Of 1,000 defects 38 may pass for 5 % (bound of 38: 4.97 %, of 39: 5.08 %): passing ends at the 39th lowest score."""
    bad = np.random.default_rng(0).permutation(np.arange(1000.0))
    promise = choose(bad, np.ones(1000, bool), max_escape_rate=0.05)
    assert beta.ppf(0.95, 39, 962) < 0.05 < beta.ppf(0.95, 40, 961)
    assert (promise.point.pass_below, promise.escapes) == (38.0, 38)
    assert promise.escape_bound == pytest.approx(beta.ppf(0.95, 39, 962))


def test_no_joint_both_passes_and_fails() -> None:
    values, defective, _ = scores(np.random.default_rng(0), 40, 820)
    low = OperatingPoint(pass_below=-9, fail_above=-9, source="")
    promise = choose(values, defective, max_escape_rate=0.05, default=low)
    assert promise.point.fail_above == promise.point.pass_below > -9


def test_easy_promises_need_no_review() -> None:
    values, defective, _ = scores(np.random.default_rng(0), 40, 820)
    promise = choose(values, defective, max_escape_rate=0.05, max_false_call_ppm=50_000)
    assert promise.point.pass_below == promise.point.fail_above
    assert promise.review_share == 0


def test_the_side_without_a_promise_keeps_its_default() -> None:
    values, defective, _ = scores(np.random.default_rng(0), 40, 820)
    default = OperatingPoint(pass_below=-1, fail_above=2, source="")
    escapes = choose(values, defective, max_escape_rate=0.01, default=default)
    assert escapes.point.fail_above == max(2, escapes.point.pass_below)
    assert math.isnan(escapes.false_call_bound)
    calls = choose(values, defective, max_false_call_ppm=3000, default=default)
    assert calls.point.pass_below == min(-1, calls.point.fail_above)
    assert math.isnan(calls.escape_bound)


def test_too_few_joints_are_refused_with_the_number_that_it_takes() -> None:
    values, defective = np.r_[np.full(1000, -5.0), np.full(100, 5.0)], np.r_[np.zeros(1000, bool), np.ones(100, bool)]
    with pytest.raises(PromiseRefused, match="at least 299 defective joints in the calibration set, found 100"):
        choose(values, defective, max_escape_rate=0.01)
    with pytest.raises(PromiseRefused, match="at least 29956 good joints"):
        choose(values, defective, max_false_call_ppm=100)
    with pytest.raises(PromiseRefused, match="found 0"):
        choose(values, np.zeros(1100, bool), max_escape_rate=0.01)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "found neither"),
        ({"max_escape_rate": 0.0}, "can promise that nothing ever happens"),
        ({"max_escape_rate": 1.5}, "less than 1"),
        ({"max_false_call_ppm": -3.0}, "more than 0"),
        ({"max_escape_rate": 0.1, "confidence": 1.0}, "confidence"),
        ({"max_escape_rate": float("nan")}, "more than 0"),
    ],
)
def test_impossible_promises_are_refused(asked: dict[str, float], message: str) -> None:
    values, defective, _ = scores(np.random.default_rng(0), 10, 100)
    with pytest.raises(PromiseRefused, match=message):
        choose(values, defective, **asked)


def test_defects_heaped_on_one_board_carry_less() -> None:
    rng = np.random.default_rng(0)
    values, defective, board = scores(rng, 30, 200)
    hidden = board == 3  # one board whose defects all look good
    values = np.where(defective & hidden, -8.0, values)
    with pytest.raises(PromiseRefused, match="lie together on few boards"):
        choose(values, defective, max_escape_rate=0.015, boards=board)
    assert choose(values, defective, max_escape_rate=0.015).escape_bound <= 0.015


def test_design_effect_of_whole_boards_is_their_size() -> None:
    board = np.repeat(np.arange(50), 20)
    assert design_effect(board % 5 == 0, board) == pytest.approx(20, rel=0.05)
    assert design_effect(np.arange(1000) % 20 == 0, board) == 1.0
    assert design_effect(np.zeros(10, bool), np.zeros(10)) == 1.0


@pytest.mark.parametrize(("spread", "boards"), [(0.0, 20), (0.7, 20), (0.7, 60)])
def test_the_promise_holds_on_boards_drawn_afresh(spread: float, boards: int) -> None:
    """200 calibration sets; the true rate at the chosen threshold may exceed the promise in about one of twenty."""
    rng = np.random.default_rng(7)
    broken, refused, trials = {"escape": 0, "call": 0}, 0, 200
    for _ in range(trials):
        values, defective, board = scores(rng, boards, 400, spread)
        try:
            promise = choose(values, defective, max_escape_rate=0.03, max_false_call_ppm=5000, boards=board)
        except PromiseRefused:
            refused += 1
            continue
        scale = math.hypot(2.5, spread)
        broken["escape"] += norm.cdf((promise.point.pass_below - 6) / scale) > 0.03
        broken["call"] += norm.sf((promise.point.fail_above + 6) / scale) > 0.005
    assert refused < trials / 5
    allowed = binom.ppf(0.999, trials, 0.06)  # the design effect is itself estimated: nearly 95 %, not exactly
    assert max(broken.values()) <= allowed, broken


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rate=st.floats(0.02, 0.4),
    ppm=st.floats(5_000, 300_000),
    digits=st.integers(0, 3),
)
def test_what_is_promised_holds_on_the_calibration_joints_themselves(seed: int, rate: float, ppm: float, digits: int) -> None:
    """Also with ties: scores rounded to few digits."""
    values, defective, _ = scores(np.random.default_rng(seed), 10, 400, 1.0)
    values = np.round(values, digits)
    promise = choose(values, defective, max_escape_rate=rate, max_false_call_ppm=ppm)
    assert promise.point.pass_below <= promise.point.fail_above
    assert promise.escapes / promise.defects <= promise.escape_bound <= rate
    assert promise.false_calls / promise.good <= promise.false_call_bound <= ppm / 1e6

"""Rates with their intervals, against independent implementations and known values."""

import numpy as np
import pytest
from scipy.stats import binomtest, chi2

from inspect_pop.core.statistics import (
    bootstrap_boards,
    calibration_error,
    clopper_pearson,
    count_effective,
    estimate_rate,
    percent,
    poisson_interval,
    product_interval,
)


def test_a_rate_with_its_intervals() -> None:
    board = np.repeat(np.arange(10), 30)
    hit = np.arange(300) % 100 == 0
    rate = estimate_rate(hit, np.ones(300, bool), board)
    assert (rate.count, rate.of, rate.rate) == (3, 300, 0.01)
    assert (rate.low, rate.high) == pytest.approx((0.002067, 0.028943), abs=1e-5)  # tables of exact binomial limits
    assert rate.upper95 == pytest.approx(0.02564, abs=1e-4)
    assert rate.board_low is not None and rate.board_high is not None
    assert rate.board_low <= 0.01 <= rate.board_high
    assert "3 of 300" in str(rate)


def test_joints_that_stand_for_others_count_as_those() -> None:
    """90 suspects, half of them hit, and 10 joints that stand for 100 each, none hit: 45 of 1,090, as sure as 11.8 joints."""
    weight = np.array([1.0] * 90 + [100.0] * 10)
    hit, board = np.arange(100) < 45, np.arange(100) % 10
    rate = estimate_rate(hit, np.ones(100, bool), board, weight=weight)
    assert (rate.count, rate.of, rate.rate) == (45, 100, pytest.approx(45 / 1090))
    n = count_effective(weight)
    assert n == pytest.approx(1090**2 / 100_090)
    assert (rate.low, rate.high) == pytest.approx(clopper_pearson(45 / 1090 * n, n))
    assert rate.board_high is not None and rate.board_high < 0.06
    assert estimate_rate(hit, np.ones(100, bool), board, weight=np.full(100, 7.0)) == estimate_rate(
        hit, np.ones(100, bool), board
    )


def test_the_calibration_error_counts_what_joints_stand_for() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert calibration_error(p, np.array([0, 1]), np.array([9.0, 1.0])) == pytest.approx(0.0)
    assert calibration_error(p, np.array([0, 1])) == pytest.approx(0.4)


def test_hits_outside_the_group_do_not_count() -> None:
    rate = estimate_rate(np.ones(4, bool), np.array([True, False, False, False]), np.arange(4))
    assert (rate.count, rate.of) == (1, 1)


def test_no_joints_have_no_rate() -> None:
    rate = estimate_rate(np.zeros(3, bool), np.zeros(3, bool), np.arange(3))
    assert rate.rate is None
    assert rate.board_low is None
    assert str(rate) == "none to count"


def test_misses_heaped_on_one_board_widen_the_interval() -> None:
    board = np.repeat(np.arange(20), 50)
    spread, heaped = np.arange(1000) % 50 == 0, board == 3
    heaped &= np.arange(1000) % 50 < 20
    everything = np.ones(1000, bool)
    even, uneven = bootstrap_boards(spread, everything, board), bootstrap_boards(heaped, everything, board)
    assert even is not None and uneven is not None
    assert even == pytest.approx((0.02, 0.02))
    assert uneven[0] == 0
    assert uneven[1] >= 0.05


def test_one_board_says_nothing_about_boards() -> None:
    assert bootstrap_boards(np.ones(5, bool), np.ones(5, bool), np.zeros(5, int)) is None


def test_calibration_error_of_hand_made_bins() -> None:
    sure, unsure = [0.9, 0.1, 0, 0, 0], [0.6, 0.4, 0, 0, 0]
    probabilities = np.array([sure] * 10 + [unsure] * 10)
    label = np.array([0] * 8 + [1] * 2 + [0] * 6 + [1] * 4)  # right in 8 of 10 at 0.9, in 6 of 10 at 0.6
    assert calibration_error(probabilities, label) == pytest.approx(0.05)
    assert np.isnan(calibration_error(np.zeros((0, 5)), np.zeros(0, int)))


@pytest.mark.parametrize(("rate", "text"), [(0.5, "50.0 %"), (0.0057, "0.57 %"), (0.000105, "0.0105 %"), (0.0, "0.0000 %")])
def test_percent(rate: float, text: str) -> None:
    assert percent(rate) == text


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (3, 6), (0, 299), (43, 45), (999, 1000), (1, 10**6)])
def test_a_share_has_the_exact_interval(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.95, "exact")
    assert clopper_pearson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_known_values() -> None:
    assert clopper_pearson(3, 6) == pytest.approx((0.1181, 0.8819), abs=1e-4)
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(0, 10)[0] == 0.0
    assert clopper_pearson(10, 10)[1] == 1.0


@pytest.mark.parametrize("k", [0, 1, 7, 100])
def test_a_rate_has_garwoods_interval(k: int) -> None:
    low = chi2.ppf(0.025, 2 * k) / 2 if k else 0.0
    assert poisson_interval(k, 4.0) == pytest.approx((low / 4, chi2.ppf(0.975, 2 * k + 2) / 8))


def test_a_rate_over_nothing_has_none() -> None:
    assert poisson_interval(0, 0) is None


def test_a_product_is_wider_than_either_part_alone_would_make_it() -> None:
    low, high = product_interval([(90, 100), (80, 100)])
    assert (
        low
        < clopper_pearson(90, 100)[0] * clopper_pearson(80, 100)[0]
        < 0.72
        < clopper_pearson(90, 100)[1] * clopper_pearson(80, 100)[1]
        < high
    )
    assert product_interval([(90, 100)]) == clopper_pearson(90, 100)

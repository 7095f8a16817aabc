"""Control charts and capability against hand-worked and textbook values; each run rule on its own pattern."""

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Store
from inspect_pop.store.schema import COUNT_COLUMNS
from inspect_pop.yields import (
    YieldGroup,
    chart_series,
    compute_capability,
    individuals_chart,
    p_chart,
    read_series,
    u_chart,
    xbar_r_chart,
)
from inspect_pop.yields.control_charts import FACTORS, RULES, WESTERN_ELECTRIC, Signal, apply_run_rules
from inspect_pop.yields.selection import MEASURES, Series


def group(day: str, boards: int, passed: int, bridged: int = 0) -> YieldGroup:
    return YieldGroup({"day": day}, boards, passed, 0, 0, dict.fromkeys(COUNT_COLUMNS, 0) | {"n_bridged": bridged})


def of(values: list[float], low: float | None, high: float | None) -> Series:
    n = len(values)
    names = np.array([f"S{k}" for k in range(n)], dtype=object)
    return Series(MEASURES["warpage_um"], names, np.arange(n), np.array(values, dtype=float), 0, low, high)


def test_p_chart() -> None:
    days = [group("1", 100, 90), group("2", 400, 380), group("3", 0, 0), group("4", 100, 60)]
    chart = p_chart(days)
    mean = 70 / 600
    assert chart.centre == pytest.approx(mean)
    np.testing.assert_allclose(chart.value, [0.1, 0.05, np.nan, 0.4])
    half = 3 * np.sqrt(mean * (1 - mean) / np.array([100, 400, np.nan, 100]))
    np.testing.assert_allclose(chart.upper, mean + half)
    np.testing.assert_allclose(chart.lower, np.maximum(mean - half, 0))
    assert chart.labels == ("1", "2", "3", "4")
    assert [(s.rule, s.index) for s in chart.signals] == [(1, 1), (1, 3)]


def test_u_chart() -> None:
    chart = u_chart([group("1", 10, 10, 20), group("2", 40, 40, 80), group("3", 10, 10, 50)])
    assert chart.centre == pytest.approx(150 / 60)
    np.testing.assert_allclose(chart.upper, 2.5 + 3 * np.sqrt(2.5 / np.array([10, 40, 10])))
    assert [s.index for s in chart.signals] == [2]


@pytest.mark.parametrize("make", [p_chart, u_chart])
def test_charts_of_nothing_have_no_limits(make) -> None:
    assert len(make([]).value) == 0
    empty = make([group("1", 0, 0)])
    assert np.isnan(empty.value).all()
    assert empty.signals == ()


def test_a_chart_without_any_defect_has_no_signal() -> None:
    assert p_chart([group(str(k), 10, 10) for k in range(20)]).signals == ()


def test_individuals() -> None:
    chart = individuals_chart(np.array([10.0, 12.0, 11.0, 13.0, 30.0]), ["a", "b", "c", "d", "e"])
    mean_range = (2 + 1 + 2 + 17) / 4
    assert chart.sigma == pytest.approx(mean_range / 1.128)
    assert chart.values.centre == pytest.approx(15.2)
    assert chart.values.upper[0] == pytest.approx(15.2 + 2.66 * mean_range, rel=1e-3)
    assert chart.spread.upper[0] == pytest.approx(3.267 * mean_range)
    assert chart.spread.labels == ("b", "c", "d", "e")


def test_a_point_far_out_is_a_signal() -> None:
    value = np.tile([10.0, 10.2, 9.8], 20)
    value[30] = 14.0
    chart = individuals_chart(value)
    assert 30 in [s.index for s in chart.values.signals]
    assert [s.index for s in chart.spread.signals] == [29, 30]  # the step up and the step down


def test_means_and_ranges() -> None:
    value = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 3.0, 3.0, 3.0, 8.0, 99.0])
    chart = xbar_r_chart(value, 5, [str(k) for k in range(11)])
    np.testing.assert_allclose(chart.values.value, [3.0, 4.0])
    np.testing.assert_allclose(chart.spread.value, [4.0, 5.0])
    assert chart.values.labels == ("4", "9")
    assert chart.values.upper[0] == pytest.approx(3.5 + 0.577 * 4.5, rel=1e-3)  # A2 of five
    assert chart.spread.upper[0] == pytest.approx(2.114 * 4.5)
    assert chart.spread.lower[0] == 0.0


@pytest.mark.parametrize("size", sorted(FACTORS))
def test_the_constants_are_those_of_the_range_of_a_normal_sample(size: int) -> None:
    d2 = integrate.quad(lambda x: 1 - norm.cdf(x) ** size - norm.sf(x) ** size, -8, 8)[0]
    sample = np.random.default_rng(size).normal(size=(200_000, size))
    d3 = np.ptp(sample, axis=1).std()
    assert FACTORS[size][0] == pytest.approx(d2, abs=1e-3)
    assert FACTORS[size][1] == pytest.approx(max(0.0, 1 - 3 * d3 / d2), abs=0.01)
    assert FACTORS[size][2] == pytest.approx(1 + 3 * d3 / d2, abs=0.01)


def test_charts_of_too_little_are_empty_not_wrong() -> None:
    for value in (np.array([]), np.array([1.0])):
        assert np.isnan(individuals_chart(value).sigma)
        assert individuals_chart(value).values.signals == ()
        assert len(xbar_r_chart(value).values.value) == 0
    assert individuals_chart(np.ones(5)).values.signals == ()
    with pytest.raises(UsageFault, match="2 to 10"):
        xbar_r_chart(np.ones(50), 11)


def test_capability_between_two_limits() -> None:
    found = compute_capability(of([10, 12, 10, 12, 10, 12], 5, 15))
    sigma = 2 / 1.128
    assert found.mean == 11
    assert found.cp == pytest.approx(10 / (6 * sigma))
    assert found.cpk == pytest.approx(4 / (3 * sigma))
    assert found.ppk == pytest.approx(4 / (3 * np.std([10, 12] * 3, ddof=1)))
    assert found.cpk_low < found.cpk < found.cpk_high
    half = 1.96 * np.sqrt(1 / 54 + found.cpk**2 / 10)
    assert found.cpk_high - found.cpk == pytest.approx(half)
    assert found.outside == 0


def test_capability_with_one_limit_with_none_and_with_too_little() -> None:
    one = compute_capability(of([1, 2, 1, 4], None, 3))
    assert one.cp is None
    assert one.cpk == pytest.approx((3 - 2) / (3 * (5 / 3) / 1.128))
    assert one.outside == 1
    assert compute_capability(of([1, 2, 1, 4], 2, None)).outside == 2
    assert compute_capability(of([1, 2, 1], None, None)).cpk is None
    assert compute_capability(of([1], 0, 2)).cpk is None
    assert compute_capability(of([], 0, 2)).n == 0


def test_a_chart_of_a_stored_series_names_boards(store: Store) -> None:
    warpage = read_series(store, "warpage_um")
    assert chart_series(warpage).values.labels == tuple(warpage.serial)
    assert chart_series(warpage, "xbar_r").values.labels == (warpage.serial[4],)
    with pytest.raises(UsageFault, match="individuals or xbar_r"):
        chart_series(warpage, "pie")


PATTERNS = {
    1: [0.5, -0.5, 3.1],
    2: [-0.1, *[0.1] * 9],
    3: [0.5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    4: [0.1, *[-0.2, 0.2] * 6, -0.2],
    5: [2.1, 0.5, 2.2],
    6: [1.1, 1.2, 0.2, 1.3, 1.4],
    7: [1.5, *[0.5, -0.5, 0.2] * 5],
    8: [0.1, *[1.5, -1.5] * 4],
    9: [-0.1, *[0.1] * 8],
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_pattern_is_found_at_its_last_point(rule: int) -> None:
    z = np.array(PATTERNS[rule])
    assert apply_run_rules(z, [rule]) == [Signal(rule, len(z) - 1)]
    assert apply_run_rules(-z, [rule]) == [Signal(rule, len(z) - 1)]
    assert apply_run_rules(z[:-1], [rule]) == []


@pytest.mark.parametrize(
    ("rule", "z"),
    [
        (1, [3.0, -3.0]),
        (2, [*[0.1] * 8, -0.1, 0.1]),
        (3, [0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.6]),
        (4, [*[-0.2, 0.2] * 6, 0.3, 0.1]),
        (5, [2.1, 0.0, -2.2]),
        (5, [2.1, 0.0, 0.0, 2.2]),
        (6, [1.1, -1.2, 1.3, -1.4, 1.5]),
        (7, [*[0.5] * 14, 1.0]),
        (8, [*[1.5] * 7, 0.9]),
    ],
)
def test_what_is_almost_a_pattern_is_none(rule: int, z: list[float]) -> None:
    assert apply_run_rules(np.array(z), [rule]) == []


def test_empty_points_are_passed_over() -> None:
    z = np.array([0.1] * 4 + [np.nan] + [0.1] * 5)
    assert apply_run_rules(z, [2]) == [Signal(2, 9)]


def test_signals_come_in_order_and_have_words() -> None:
    found = apply_run_rules(np.array([3.5, 2.5, 2.5]), WESTERN_ELECTRIC)
    assert [(s.index, s.rule) for s in found] == [(0, 1), (1, 5), (2, 5)]
    assert found[0].text == "one point beyond 3 sigma"


def test_chance_seldom_makes_them() -> None:
    z = np.random.default_rng(1).normal(size=200_000)
    share = {rule: len(apply_run_rules(z, [rule])) / len(z) for rule in RULES}
    assert share[1] == pytest.approx(0.0027, abs=0.0005)  # 2 (1 - Phi(3))
    assert share[2] == pytest.approx(2 * 0.5**9, abs=0.0005)
    assert all(value < 0.012 for value in share.values())


def test_no_points_and_unknown_rules() -> None:
    assert apply_run_rules(np.array([]), tuple(RULES)) == []
    with pytest.raises(UsageFault, match="rule"):
        apply_run_rules(np.zeros(3), [10])

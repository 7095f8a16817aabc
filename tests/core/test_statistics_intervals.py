"""Intervals against independent implementations and known values."""

import pytest
from scipy.stats import binomtest, chi2

from inspect_pop.core.statistics import clopper_pearson, poisson_interval, product_interval


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

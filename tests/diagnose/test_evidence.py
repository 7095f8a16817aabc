"""How surprising a pattern is, against figures known otherwise."""

import math

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu, norm, rayleigh

from inspect_pop.diagnose.evidence import (
    binomial_surprise,
    cap,
    find_cluster,
    mixture_ratio,
    normal_ratio,
    range_ratio,
    rayleigh_ratio,
    remove_plane,
    trend_surprise,
)


@pytest.mark.parametrize(("hits", "trials", "share"), [(5, 12, 0.25), (1, 1, 0.1), (30, 40, 0.5), (200, 300, 0.25)])
def test_binomial_against_scipy(hits: int, trials: int, share: float) -> None:
    assert binomial_surprise(hits, trials, share) == pytest.approx(-binom.logsf(hits - 1, trials, share), rel=1e-6)


def test_nothing_is_no_surprise() -> None:
    assert binomial_surprise(0, 0, 0.2) == binomial_surprise(0, 9, 0.2) == 0.0
    assert normal_ratio(math.nan, 1, 1, 1) == rayleigh_ratio(math.nan, 1, 1, 1) == 0.0
    assert mixture_ratio(np.zeros(3), np.full(3, 1 / 3), np.array([1.0, 0, 0])) == 0.0


@pytest.mark.parametrize("value", [-1.0, 0.0, 0.2, 0.5])
def test_normal_ratio_against_scipy(value: float) -> None:
    expected = norm.logpdf(value, 0.25, math.hypot(0.1, 0.07)) - norm.logpdf(value, 0, 0.07)
    assert normal_ratio(value, 0.25, 0.1, 0.07) == pytest.approx(expected)


@pytest.mark.parametrize("value", [-0.1, 0.0, 0.05, 0.3, 0.7])
def test_range_ratio_against_an_integral(value: float) -> None:
    moved = np.linspace(0.02, 0.5, 20_001)
    with_cause = np.trapezoid(norm.pdf(value, moved, 0.07), moved) / 0.48
    assert range_ratio(value, 0.02, 0.5, 0.07) == pytest.approx(np.log(with_cause / norm.pdf(value, 0, 0.07)), abs=1e-4)
    assert range_ratio(np.nan, 0.02, 0.5, 0.07) == 0


@pytest.mark.parametrize("length", [3.0, 12.0, 40.0])
def test_rayleigh_ratio_against_scipy(length: float) -> None:
    expected = norm.logpdf(length, 40, 18) - rayleigh.logpdf(length, scale=5)
    assert rayleigh_ratio(length, 40, 18, 5) == pytest.approx(expected)


def test_counts_speak_for_what_they_are_made_of() -> None:
    chance, first = np.full(4, 0.25), np.array([1.0, 0, 0, 0])
    assert mixture_ratio(np.array([10.0, 10, 10, 10]), chance, first) == pytest.approx(-1)
    assert mixture_ratio(np.array([30.0, 10, 10, 10]), chance, first) > 3
    assert mixture_ratio(np.array([10.0, 30, 10, 10]), chance, first) == pytest.approx(-1)
    more = [mixture_ratio(np.array([10.0 + k, 10, 10, 10]), chance, first) for k in (5, 10, 20, 40)]
    assert more == sorted(more)


def test_bounds_hold_on_both_sides() -> None:
    assert (cap(-9, 4), cap(9, 4), cap(1, 4)) == (-4, 4, 1)


def test_trend_against_scipy() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 80)
    mask = np.arange(80) < 15
    values[mask] += 0.8
    expected = mannwhitneyu(values[mask], values[~mask], alternative="greater", method="asymptotic", use_continuity=False).pvalue
    assert trend_surprise(values, mask) == pytest.approx(-math.log(expected), rel=1e-6)
    values[20:40] = np.nan
    assert trend_surprise(values, mask) > 0
    assert trend_surprise(values, np.arange(80) < 2) == 0.0


def test_a_tilt_is_no_trend() -> None:
    x, y = (a.ravel().astype(float) for a in np.mgrid[0:12, 0:12])
    bowl = (x - 5.5) ** 2 + (y - 5.5) ** 2
    flat = remove_plane(x, y, bowl + 7 * x - 3 * y + 40)
    assert np.corrcoef(flat, bowl)[0, 1] == pytest.approx(1)
    assert np.isnan(remove_plane(x, y, np.full(144, np.nan))).all()


def test_a_cluster_is_found_where_it_is_and_not_where_there_is_none() -> None:
    x, y = (a.ravel() * 400.0 for a in np.mgrid[0:26, 0:26])
    together = np.hypot(x - 4000, y - 6000) < 900
    found = find_cluster(x, y, together, 1600)
    assert found.surprise > 15
    assert np.hypot(found.x_um - 4000, found.y_um - 6000) < 900
    assert found.members.sum() == together.sum()
    scattered = np.zeros(676, bool)
    scattered[np.random.default_rng(0).choice(676, 20, replace=False)] = True
    assert find_cluster(x, y, scattered, 1600).surprise < 3
    assert find_cluster(x, y, np.arange(676) < 2, 1600).surprise == 0.0

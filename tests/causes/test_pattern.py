"""How surprising a pattern is, against figures known otherwise."""

import math

import numpy as np
import pytest
from scipy.stats import betabinom, mannwhitneyu

from inspect_pop.causes.pattern import cluster, share_surprise, shift_surprise, trend_surprise, without_plane


@pytest.mark.parametrize(("hits", "trials", "share"), [(5, 12, 0.25), (1, 1, 0.1), (30, 40, 0.5), (200, 300, 0.25)])
def test_share_against_scipy(hits: int, trials: int, share: float) -> None:
    expected = -math.log(betabinom.sf(hits - 1, trials, 40 * share, 40 * (1 - share)))
    assert share_surprise(hits, trials, share) == pytest.approx(expected, rel=1e-6)


def test_nothing_is_no_surprise() -> None:
    assert share_surprise(0, 0, 0.2) == share_surprise(0, 9, 0.2) == 0.0
    assert shift_surprise(math.nan, 1.0) == 0.0
    assert shift_surprise(-2.0, 1.0) == 2.0


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
    flat = without_plane(x, y, bowl + 7 * x - 3 * y + 40)
    assert np.corrcoef(flat, bowl)[0, 1] == pytest.approx(1)
    assert np.isnan(without_plane(x, y, np.full(144, np.nan))).all()


def test_a_cluster_is_found_where_it_is_and_not_where_there_is_none() -> None:
    x, y = (a.ravel() * 400.0 for a in np.mgrid[0:26, 0:26])
    together = np.hypot(x - 4000, y - 6000) < 900
    found = cluster(x, y, together, 1600)
    assert found.surprise > 15
    assert np.hypot(found.x_um - 4000, found.y_um - 6000) < 900
    assert found.members.sum() == together.sum()
    scattered = np.zeros(676, bool)
    scattered[np.random.default_rng(0).choice(676, 20, replace=False)] = True
    assert cluster(x, y, scattered, 1600).surprise < 3
    assert cluster(x, y, np.arange(676) < 2, 1600).surprise == 0.0

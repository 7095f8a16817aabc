import json
from itertools import pairwise

import numpy as np
import pytest

from inspect_pop.learn.diagnostics import Point, fit_curve, measure_curve, nested, sizes


def points(
    scale: float, slope: float, boards: tuple[int, ...] = (5, 10, 20, 40), joints: int = 4000, seed: int = 0
) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [Point(n, int(rng.binomial(joints, scale * n**-slope)), joints) for n in boards]


def test_halving_with_each_doubling_is_found() -> None:
    curve = fit_curve(points(1.0, 1.0))
    assert curve.slope == pytest.approx(1.0, abs=0.1)
    assert [f.boards for f in curve.forecasts] == [80, 160, 320]
    assert curve.forecasts[0].rate == pytest.approx(1 / 80, rel=0.2)
    assert "Each doubling leaves" in curve.said
    json.dumps(curve.to_dict(), allow_nan=False)


def test_the_interval_holds_in_nine_of_ten_cases() -> None:
    inside = 0
    for seed in range(60):
        forecast = fit_curve(points(0.8, 0.8, seed=seed, joints=1500), [80]).forecasts[0]
        inside += forecast.low <= 0.8 * 80**-0.8 <= forecast.high
    assert 48 <= inside <= 60


def test_few_errors_widen_the_interval() -> None:
    many, few = (fit_curve(points(1.0, 1.0, joints=j)).forecasts[1] for j in (40_000, 300))
    assert few.high - few.low > 3 * (many.high - many.low)


def test_a_flat_curve_buys_nothing() -> None:
    curve = fit_curve([Point(2, 40, 1000), Point(4, 42, 1000), Point(8, 45, 1000)])
    assert curve.slope == 0
    assert "buy nothing" in curve.said


@pytest.mark.parametrize(
    ("few", "words"),
    [
        ([Point(4, 3, 100)], "two sets of different size"),
        ([Point(1, 3, 0), Point(2, 3, 10)], "two sets of different size"),
        ([Point(2, 0, 100), Point(4, 0, 100)], "No errors"),
        ([], "two sets"),
    ],
)
def test_what_says_nothing_says_so(few: list[Point], words: str) -> None:
    curve = fit_curve(few)
    assert curve.forecasts == ()
    assert words in curve.said


def test_sets_are_nested() -> None:
    assert sizes(4) == [1, 2, 4]
    assert sizes(100) == [12, 25, 50, 100]
    assert sizes(1) == [1]
    sets = nested([f"B{k}" for k in range(20)])
    assert [len(s) for s in sets] == [2, 5, 10, 20]
    assert all(set(a) < set(b) for a, b in pairwise(sets))


def test_a_way_of_learning_is_measured_on_each_set() -> None:
    curve = measure_curve([f"B{k}" for k in range(8)], lambda boards: (round(400 / len(boards)), 1000))
    assert [(p.boards, p.errors) for p in curve.points] == [(1, 400), (2, 200), (4, 100), (8, 50)]
    assert curve.slope == pytest.approx(1.0, abs=0.05)

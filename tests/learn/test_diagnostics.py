"""How far to go from the old weights to the new ones."""

import json
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.model import Calibration  # noqa: E402
from inspect_pop.core.classes import CLASSES  # noqa: E402
from inspect_pop.learn import diagnostics as quick  # noqa: E402
from inspect_pop.learn.diagnostics import CurvePoint, Fold, choose_share, curve_sizes, fit_curve, measure_curve, nest_boards  # noqa: E402  # noqa: E402
from tests.learn.sets import make_samples  # noqa: E402


def points(
    scale: float, slope: float, boards: tuple[int, ...] = (5, 10, 20, 40), joints: int = 4000, seed: int = 0
) -> list[CurvePoint]:
    rng = np.random.default_rng(seed)
    return [CurvePoint(n, int(rng.binomial(joints, scale * n**-slope)), joints) for n in boards]


def test_halving_with_each_doubling_is_found() -> None:
    curve = fit_curve(points(1.0, 1.0))
    assert curve.slope == pytest.approx(1.0, abs=0.1)
    assert [f.boards for f in curve.forecasts] == [80, 160, 320]
    assert curve.forecasts[0].rate == pytest.approx(1 / 80, rel=0.2)
    assert "Each doubling leaves" in curve.summary
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
    curve = fit_curve([CurvePoint(2, 40, 1000), CurvePoint(4, 42, 1000), CurvePoint(8, 45, 1000)])
    assert curve.slope == 0
    assert "bring nothing" in curve.summary


@pytest.mark.parametrize(
    ("few", "words"),
    [
        ([CurvePoint(4, 3, 100)], "two sets of different size"),
        ([CurvePoint(1, 3, 0), CurvePoint(2, 3, 10)], "two sets of different size"),
        ([CurvePoint(2, 0, 100), CurvePoint(4, 0, 100)], "No errors"),
        ([], "two sets"),
    ],
)
def test_what_says_nothing_says_so(few: list[CurvePoint], words: str) -> None:
    curve = fit_curve(few)
    assert curve.forecasts == ()
    assert words in curve.summary


def test_sets_are_nested() -> None:
    assert curve_sizes(4) == [1, 2, 4]
    assert curve_sizes(100) == [12, 25, 50, 100]
    assert curve_sizes(1) == [1]
    sets = nest_boards([f"B{k}" for k in range(20)])
    assert [len(s) for s in sets] == [2, 5, 10, 20]
    assert all(set(a) < set(b) for a, b in pairwise(sets))


def test_a_way_of_learning_is_measured_on_each_set() -> None:
    curve = measure_curve([f"B{k}" for k in range(8)], lambda boards: (round(400 / len(boards)), 1000))
    assert [(p.boards, p.errors) for p in curve.points] == [(1, 400), (2, 200), (4, 100), (8, 50)]
    assert curve.slope == pytest.approx(1.0, abs=0.05)


PRIOR = Calibration(temperature=1.0, bias=(0.0,) * len(CLASSES))
SHARES = (0.0, 0.5, 1.0)


def chosen(monkeypatch: pytest.MonkeyPatch, errors: dict[float, tuple[int, ...]]) -> tuple[float, dict[str, float]]:
    """Networks that are as sure of everything, and wrong about so many joints of each of four boards."""
    samples = make_samples(4, 50)

    def predict(share: float, held_out: object, prior: object) -> tuple[np.ndarray, None]:
        said = samples.label.astype(int)
        for board, wrong in enumerate(errors[share]):
            rows = np.flatnonzero(samples.board == board)[:wrong]
            said[rows] = (said[rows] + 1) % len(CLASSES)
        return 4 * np.eye(len(CLASSES), dtype=np.float32)[said], None

    monkeypatch.setattr(quick, "interpolate", lambda old, new, share: share)
    monkeypatch.setattr(quick, "predict_four_sided", predict)
    return choose_share(None, [Fold(None, samples)], SHARES, PRIOR)  # type: ignore[arg-type]


def test_what_explains_boards_held_out_best_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    share, losses = chosen(monkeypatch, {0.0: (8, 9, 8, 9), 0.5: (2, 2, 3, 2), 1.0: (8, 8, 9, 9)})
    assert share == 0.5
    assert set(losses) == {"0", "0.5", "1"}
    assert losses["0.5"] == min(losses.values())


def test_of_shares_that_explain_as_well_the_farthest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, {0.0: (4, 4, 4, 4), 0.5: (4, 4, 4, 4), 1.0: (1, 8, 2, 6)})[0] == 1.0


def test_what_is_worse_on_every_board_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, {0.0: (4, 4, 4, 4), 0.5: (5, 5, 5, 5), 1.0: (9, 9, 9, 8)})[0] == 0.0

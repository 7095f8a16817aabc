import numpy as np
import pytest
from numpy.typing import NDArray

from inspect_pop.classify.model import Calibration, OperatingPoint
from inspect_pop.joints import CLASSES
from inspect_pop.learn.calibrate import Targets, apply, calibrate, good_quantiles, working_point
from inspect_pop.learn.statistics import calibration_error


def honest(n: int, seed: int = 0, sharpness: float = 3.0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits whose softmax is exactly the chance of each label: drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharpness, (n, len(CLASSES)))
    logits[:, 0] += 2
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return logits, (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def test_a_network_that_is_too_sure_is_cooled() -> None:
    logits, label = honest(20_000)
    found = calibrate(logits * 2.5, label)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert np.abs(found.bias).max() < 0.1
    before = apply(found.model_copy(update={"temperature": 1.0}), logits * 2.5)[0]
    after = apply(found, logits * 2.5)[0]
    assert calibration_error(before, label) > 0.05
    assert calibration_error(after, label) < 0.01


def test_a_class_that_is_called_too_often_is_held_back() -> None:
    logits, label = honest(20_000)
    skewed = logits + np.array([0, 0, 1.5, 0, 0])
    found = calibrate(skewed, label)
    assert found.bias[2] - np.mean(np.delete(found.bias, 2)) == pytest.approx(-1.5, abs=0.1)
    assert calibration_error(apply(found, skewed)[0], label) < 0.01


def test_a_class_without_joints_keeps_a_finite_bias() -> None:
    logits, label = honest(2_000)
    kept = label != 4
    found = calibrate(logits[kept], label[kept])
    assert np.isfinite(found.bias).all()
    assert found.bias[4] < found.bias[0]


def test_joints_that_count_double_are_joints_there_twice() -> None:
    logits, label = honest(1_000)
    twice = label == 1
    weighted = calibrate(logits, label, np.where(twice, 2.0, 1.0))
    doubled = calibrate(np.concatenate([logits, logits[twice]]), np.concatenate([label, label[twice]]))
    assert weighted.temperature == pytest.approx(doubled.temperature, rel=1e-3)
    assert weighted.bias == pytest.approx(doubled.bias, abs=1e-3)


def test_few_joints_leave_the_calibration_where_it_was() -> None:
    prior = Calibration(temperature=2.0, bias=(1.0, 0.0, 0.0, 0.0, -1.0))
    logits, label = honest(5)
    assert calibrate(logits, label, prior=prior).temperature == pytest.approx(2.0, rel=0.3)
    assert calibrate(logits[:0], label[:0], prior=prior) == prior
    many = calibrate(*honest(20_000), prior=prior)
    assert many.temperature == pytest.approx(1.0, rel=0.05)
    assert many.bias == pytest.approx((0.0,) * 5, abs=0.15)


def test_nothing_to_learn_from_changes_nothing() -> None:
    found = calibrate(np.zeros((0, 5)), np.zeros(0, int))
    assert (found.temperature, found.bias) == (1.0, (0.0,) * 5)


def test_log_odds_and_probabilities_say_the_same() -> None:
    logits, _ = honest(50)
    p, odds = apply(calibrate(*honest(500)), logits)
    assert p.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert odds == pytest.approx(np.log(p[:, 1:].sum(axis=1) / p[:, 0]), abs=1e-3)


def test_quantiles_are_of_good_joints_alone() -> None:
    odds, label = np.r_[np.linspace(-10, 0, 101), 50.0], np.r_[np.zeros(101, int), 1]
    assert good_quantiles(odds, label) == pytest.approx(np.linspace(-10, 0, 101))
    assert good_quantiles(odds, np.ones(102, int)) == ()


def scores(n: int, apart: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.1).astype(int)
    return np.where(label, apart, -apart) + rng.normal(0, 2, n), label, np.arange(n) // 400


def test_the_working_point_is_a_promise_where_the_joints_carry_it() -> None:
    odds, label, boards = scores(60_000, 7)
    point = working_point(odds, label, boards)
    assert "confidence" in point.source
    assert np.mean(odds[label == 1] < point.pass_below) <= 0.01
    assert np.mean(odds[label == 0] >= point.fail_above) <= 500e-6


def test_too_few_joints_give_an_estimate_that_says_so() -> None:
    odds, label, boards = scores(800, 7)
    point = working_point(odds, label, boards)
    assert "without a promise" in point.source
    assert point.pass_below <= point.fail_above
    nothing = working_point(odds[label == 0], label[label == 0], boards[label == 0])
    assert nothing.pass_below < 0 < nothing.fail_above


def test_few_joints_move_the_old_thresholds_outwards_only() -> None:
    odds, label, boards = scores(88, 7)
    lenient = Targets(review_share=0.5)
    near = working_point(odds, label, boards, lenient, OperatingPoint(pass_below=-0.5, fail_above=0.5, source="released"))
    assert near.pass_below == min(-0.5, max(odds[label == 1].min(), -1.5))
    assert near.fail_above == max(0.5, min(odds[label == 0].max(), 1.5))
    odd = np.where(np.arange(88) == np.flatnonzero(label)[0], -20.0, odds)
    assert working_point(odd, label, boards, lenient, near).pass_below == near.pass_below - 1
    far = working_point(odds, label, boards, lenient, OperatingPoint(pass_below=-6.0, fail_above=6.0, source="released"))
    assert (far.pass_below, far.fail_above) == (-6.0, 6.0)


def test_less_review_is_not_bought_with_escapes_that_the_old_thresholds_did_not_have() -> None:
    odds, label, boards = scores(800, 2)
    prior = OperatingPoint(pass_below=-3.0, fail_above=3.0, source="released")
    point = working_point(odds, label, boards, Targets(review_share=0.01), prior)
    assert point.pass_below == -3.0
    assert "1.0% aimed at" in point.source


def test_review_stays_within_its_share() -> None:
    odds, label, boards = scores(60_000, 4)  # classes that overlap: the promise would ask people to look at half of all
    point = working_point(odds, label, boards, Targets(review_share=0.03))
    good = odds[label == 0]
    assert np.mean((good >= point.pass_below) & (good < point.fail_above)) == pytest.approx(0.03, abs=0.002)
    assert "passing raised" in point.source

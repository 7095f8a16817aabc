import numpy as np
import pytest
from numpy.typing import NDArray

from inspect_pop.classify.model import Calibration, OperatingPoint
from inspect_pop.core.columns import CLASSES
from inspect_pop.core.statistics import calibration_error
from inspect_pop.learn.calibrate import (
    PreviousModel,
    Targets,
    apply_calibration,
    calibrate,
    compute_distances,
    fit_familiarity,
    fit_operating_point,
    good_quantiles,
)


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
    before = apply_calibration(found.model_copy(update={"temperature": 1.0}), logits * 2.5)[0]
    after = apply_calibration(found, logits * 2.5)[0]
    assert calibration_error(before, label) > 0.05
    assert calibration_error(after, label) < 0.01


def test_a_class_that_is_called_too_often_is_held_back() -> None:
    logits, label = honest(20_000)
    skewed = logits.copy()
    skewed[:, 2] += 1.5
    found = calibrate(skewed, label)
    assert found.bias[2] - np.mean(np.delete(found.bias, 2)) == pytest.approx(-1.5, abs=0.1)
    assert calibration_error(apply_calibration(found, skewed)[0], label) < 0.01


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
    prior = Calibration(temperature=2.0, bias=(1.0, *[0.0] * (len(CLASSES) - 2), -1.0))
    logits, label = honest(5)
    assert calibrate(logits, label, prior=prior).temperature == pytest.approx(2.0, rel=0.3)
    assert calibrate(logits[:0], label[:0], prior=prior) == prior
    many = calibrate(*honest(20_000), prior=prior)
    assert many.temperature == pytest.approx(1.0, rel=0.05)
    assert many.bias == pytest.approx((0.0,) * len(CLASSES), abs=0.15)


def test_nothing_to_learn_from_changes_nothing() -> None:
    found = calibrate(np.zeros((0, len(CLASSES))), np.zeros(0, int))
    assert (found.temperature, found.bias) == (1.0, (0.0,) * len(CLASSES))


def test_log_odds_and_probabilities_say_the_same() -> None:
    logits, _ = honest(50)
    p, odds = apply_calibration(calibrate(*honest(500)), logits)
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
    point = fit_operating_point(odds, label, boards)
    assert "confidence" in point.source
    assert np.mean(odds[label == 1] < point.pass_below) <= 0.01
    assert np.mean(odds[label == 0] >= point.fail_above) <= 500e-6


def test_joints_at_which_people_chose_to_look_carry_no_promise() -> None:
    odds, label, boards = scores(60_000, 7)
    assert "those at which people looked" in fit_operating_point(odds, label, boards, is_drawn=True).source


def test_too_few_joints_give_an_estimate_that_says_so() -> None:
    odds, label, boards = scores(800, 7)
    point = fit_operating_point(odds, label, boards)
    assert "without a promise" in point.source
    assert point.pass_below <= point.fail_above
    nothing = fit_operating_point(odds[label == 0], label[label == 0], boards[label == 0])
    assert nothing.pass_below < 0 < nothing.fail_above


OLD = OperatingPoint(pass_below=-1.0, fail_above=1.5, source="released")


def errors(odds: NDArray[np.float64], label: NDArray[np.int64], point: OperatingPoint) -> tuple[int, int, int]:
    passed, failed = odds < point.pass_below, odds >= point.fail_above
    return int((passed & (label == 1)).sum()), int((failed & (label == 0)).sum()), int((~passed & ~failed).sum())


def test_a_sharper_network_errs_less_for_the_same_review() -> None:
    old, label, boards = scores(2400, 3)
    odds = old + np.where(label, 1.0, -1.0)
    before, after = PreviousModel(old, OLD), fit_operating_point(odds, label, boards, Targets(), PreviousModel(old, OLD))
    escapes, calls, reviewed = errors(odds, label, after)
    old_escapes, old_calls, old_reviewed = errors(old, label, before.point)
    assert escapes < old_escapes
    assert calls <= old_calls
    assert reviewed <= old_reviewed + 1
    assert f"{escapes} escapes ({old_escapes} before)" in after.source
    assert "without a promise" in after.source


def test_failing_begins_beyond_the_last_good_joint_where_many_lie_close_before_it() -> None:
    """Another network would place some of them beyond it; one that lies alone would be one false call at the most."""
    good, bad = np.linspace(-8, 2, 2000), np.linspace(-4, 12, 400)
    odds, label = np.r_[good, bad], np.r_[np.zeros(2000, int), np.ones(400, int)]
    before = PreviousModel(odds - label, OperatingPoint(pass_below=-1, fail_above=2.01, source="released"))
    point = fit_operating_point(odds, label, np.zeros(2400, int), Targets(), before)
    assert 2.5 < point.fail_above < 6
    assert errors(odds, label, point)[1] == 0


def test_scores_that_did_not_change_pass_no_more_defects() -> None:
    """In another unit: a calibration that cools all scores to a half moves the thresholds with them."""
    old, label, boards = scores(2400, 3)
    for unit in (1.0, 0.5):
        point = fit_operating_point(unit * old, label, boards, Targets(), PreviousModel(old, OLD))
        now, then = errors(unit * old, label, point), errors(old, label, OLD)
        assert now[0] <= then[0] + 2
        assert now[1] <= then[1]
        assert now[2] <= then[2] + 1


def test_review_rises_to_its_share_where_the_old_model_missed_a_target() -> None:
    odds, label, boards = scores(800, 3)
    sure = OperatingPoint(pass_below=0.0, fail_above=0.0, source="nobody looks")
    assert errors(odds, label, sure)[0] > 0.01 * label.sum()
    point = fit_operating_point(odds, label, boards, Targets(review_share=0.04), PreviousModel(odds, sure))
    assert errors(odds, label, point)[2] == pytest.approx(0.04 * 800, abs=1)
    none = fit_operating_point(odds, label, boards, Targets(1.0, 1e6, review_share=0.04), PreviousModel(odds, sure))
    assert errors(odds, label, none)[2] <= 1


def test_few_joints_let_passing_begin_later_by_no_more_than_one() -> None:
    """A set without a defect, of which the old model sent all to people, must not let all pass."""
    odds = np.linspace(-9, 9, 100)
    old = OperatingPoint(pass_below=-5.0, fail_above=5.0, source="released")
    before = PreviousModel(np.full(100, -8.0), old)
    assert fit_operating_point(odds, np.zeros(100, int), np.zeros(100, int), None, before).pass_below == -4.0


def test_less_review_is_not_bought_with_escapes_that_the_old_thresholds_did_not_have() -> None:
    odds, label, boards = scores(60_000, 4)
    known = OperatingPoint(pass_below=-2.0, fail_above=3.0, source="released")
    free = fit_operating_point(odds, label, boards, Targets(review_share=0.03))
    held = fit_operating_point(odds, label, boards, Targets(review_share=0.03), PreviousModel(odds, known))
    assert held.pass_below < free.pass_below
    assert np.mean(odds[label == 1] < held.pass_below) <= 0.01 < np.mean(odds[label == 1] < free.pass_below)
    assert "target 3.0%" in held.source


def test_without_good_joints_the_old_thresholds_stand() -> None:
    point = fit_operating_point(np.zeros(3), np.ones(3, int), np.zeros(3, int), None, PreviousModel(np.zeros(3), OLD))
    assert (point.pass_below, point.fail_above) == (-1.0, 1.5)


def test_review_stays_within_its_share() -> None:
    odds, label, boards = scores(60_000, 4)  # classes that overlap: the promise would ask people to look at half of all
    point = fit_operating_point(odds, label, boards, Targets(review_share=0.03))
    good = odds[label == 0]
    assert np.mean((good >= point.pass_below) & (good < point.fail_above)) == pytest.approx(0.03, abs=0.002)
    assert "pass_below raised" in point.source


def test_joints_like_those_learnt_are_familiar_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([3.0, 1.0, 0.2])
    learnt, held_out, alien = (rng.normal(at, spread, (4000, 3)) for at in (0, 0, (0, 0, 8)))
    found = fit_familiarity(learnt, held_out)
    mean, precision = np.array(found.mean), np.array(found.precision)
    assert (compute_distances(held_out, mean, precision) > found.limit).mean() == 0
    assert (compute_distances(alien, mean, precision) > found.limit).mean() > 0.99


def test_rare_classes_are_as_familiar_as_common_ones() -> None:
    rng = np.random.default_rng(0)
    label = (np.arange(5000) % 100 == 0).astype(int)
    learnt = rng.normal(0, 1, (5000, 4)) + 12 * label[:, None]
    found = fit_familiarity(learnt, learnt[:0], label)
    far = compute_distances(learnt, np.array(found.mean), np.array(found.precision))
    assert far[label == 1].mean() == pytest.approx(far[label == 0].mean(), rel=0.5)


def test_a_direction_that_never_varies_does_not_divide_by_zero() -> None:
    learnt = np.column_stack([np.random.default_rng(0).normal(0, 1, 100), np.zeros(100)])
    found = fit_familiarity(learnt, learnt)
    assert np.isfinite(found.precision).all()
    assert np.isfinite(fit_familiarity(np.zeros((5, 2)), np.zeros((0, 2))).limit)

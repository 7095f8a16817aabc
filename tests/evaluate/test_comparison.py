"""Two models on the same boards."""

import numpy as np
import pytest

from inspect_pop.core.errors import LabelsFault
from inspect_pop.evaluate.comparison import NOT_BETTER, compare_outcomes
from inspect_pop.evaluate.evaluation import Outcomes
from tests.evaluate.test_outcomes import make_outcomes


def with_errors(boards: int, *, escapes: int = 0, false_calls: int = 0) -> Outcomes:
    """On each board so many defects pass and so many good joints fail."""
    outcomes = make_outcomes(boards=boards, joints=100)
    truth = np.where(np.arange(len(outcomes)) % 10 == 0, 1, 0).astype(np.int8)
    verdict = np.where(truth == 0, "pass", "fail").astype(object)
    for board in range(boards):
        bad, good = (np.flatnonzero((truth > 0) == is_bad) for is_bad in (True, False))
        verdict[bad[(bad // 100 == board)][:escapes]] = "pass"
        verdict[good[(good // 100 == board)][:false_calls]] = "fail"
    fields = {k: v for k, v in outcomes.__dict__.items() if k != "board"}
    return Outcomes(**fields | {"truth": truth, "verdict": verdict})


def test_fewer_errors_on_every_board_are_better() -> None:
    found = compare_outcomes(("old", "new"), with_errors(8, false_calls=4), with_errors(8))
    rate = {rate.what: rate for rate in found.rates}["false calls"]
    assert (rate.of, rate.first, rate.second, rate.fixed, rate.new) == (720, 32, 0, 32, 0)
    assert rate.difference == pytest.approx(-32 / 720)
    assert rate.is_better and found.is_better and found.verdict == "new is better: fewer false calls"
    assert "the same 8 boards, 800 joints; learnt from: not known and not known of them" in found.lines()[0]


def test_equal_models_are_not_better() -> None:
    found = compare_outcomes(("old", "new"), with_errors(8, escapes=1), with_errors(8, escapes=1), (3, 0))
    assert NOT_BETTER in found.verdict and found.lines()[-1] == found.verdict
    assert not found.is_better and found.to_dict()["is_better"] is False
    assert "the comparison is not fair" in found.lines()[1]


def test_a_difference_that_chance_explains_is_not_better() -> None:
    first, second = with_errors(8), with_errors(8)
    first.verdict[1] = "fail"
    assert NOT_BETTER in compare_outcomes(("old", "new"), first, second).verdict


def test_better_by_one_of_interval_and_test_alone_is_not_better() -> None:
    few = compare_outcomes(("old", "new"), with_errors(5, escapes=1), with_errors(5)).rates[0]
    assert few.high is not None and few.high < 0 and few.p == pytest.approx(0.0625)  # on each board one, and five in all
    assert not few.is_better
    first, second = with_errors(8), with_errors(8)
    first.verdict[np.flatnonzero((first.truth == 0) & (np.arange(len(first)) < 100))[:9]] = "fail"
    one_board = compare_outcomes(("old", "new"), first, second).rates[1]
    assert one_board.p < 0.01 and one_board.high == 0  # nine, all of them on one board
    assert not one_board.is_better


def test_worse_and_mixed_are_said() -> None:
    assert compare_outcomes(("old", "new"), with_errors(8), with_errors(8, escapes=3)).verdict == "new is worse: more escapes"
    mixed = compare_outcomes(("old", "new"), with_errors(8, false_calls=4), with_errors(8, escapes=3))
    assert "fewer false calls and more escapes" in mixed.verdict and NOT_BETTER in mixed.verdict
    assert not mixed.is_better


def test_one_board_has_no_interval_and_decides_nothing() -> None:
    found = compare_outcomes(("old", "new"), with_errors(1, false_calls=20), with_errors(1))
    assert found.rates[1].low is None and NOT_BETTER in found.verdict


def test_other_joints_are_refused() -> None:
    with pytest.raises(LabelsFault, match="same joints"):
        compare_outcomes(("old", "new"), with_errors(2), with_errors(3))

"""Verdicts: two thresholds, flags that forbid a pass, partners of a bridge."""

import numpy as np
import pytest

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.classify.session import Scores
from inspect_pop.core import flags
from inspect_pop.decide.verdict import decide_board, decide_joints, leave_undecided

POINT = OperatingPoint(pass_below=-1.0, fail_above=1.0, source="a test")


def _scores(*rows: tuple[float, ...]) -> Scores:
    p = np.asarray(rows, dtype=np.float32)
    odds = np.log((1 - p[:, 0]) / p[:, 0]).astype(np.float32)
    return Scores(p, odds, np.zeros(len(p), np.float32))


GOOD = (0.96, 0.01, 0.01, 0.01, 0.01)
DOUBT = (0.5, 0.05, 0.05, 0.3, 0.1)
OPEN = (0.02, 0.02, 0.9, 0.03, 0.03)
BRIDGED = (0.02, 0.9, 0.02, 0.03, 0.03)
LEANS = (0.8, 0.17, 0.01, 0.01, 0.01)


def _decide(rows: list[tuple[float, ...]], flag: list[int] | None = None):  # type: ignore[no-untyped-def]
    n = len(rows)
    bits = np.asarray(flag or [0] * n, dtype=np.int64)
    return decide_joints(_scores(*rows), bits, POINT, x_um=np.arange(n) * 400.0, y_um=np.zeros(n), pitch_um=400.0)


@pytest.mark.parametrize(
    ("row", "label", "verdict"),
    [
        (GOOD, "good", "pass"),  # sure of good
        (OPEN, "open", "fail"),  # sure of a defect
        (DOUBT, "good", "review"),  # between the thresholds a person looks
    ],
)
def test_thresholds(row: tuple[float, ...], label: str, verdict: str) -> None:
    decided = _decide([row])
    assert (decided.label[0], decided.verdict[0]) == (label, verdict)
    assert (decided.reason[0] != "") == (verdict == "review")


@pytest.mark.parametrize("flag", [f for f in flags.FLAGS if f.forbids_pass])
def test_a_forbidding_flag_never_passes(flag: flags.Flag) -> None:
    decided = _decide([GOOD], [flag.value])
    assert decided.verdict[0] == "review"
    assert flag.meaning in decided.reason[0]


@pytest.mark.parametrize("name", ["crop_mismatch", "unfamiliar", "unscanned"])
def test_a_strange_picture_is_not_failed_either(name: str) -> None:
    assert _decide([OPEN], [flags.bit(name)]).verdict[0] == "review"


def test_without_slices_there_is_no_label() -> None:
    decided = _decide([OPEN], [flags.bit("no_slices")])
    assert decided.label[0] is None
    assert decided.verdict[0] == "review"


def test_the_partner_of_a_bridge_follows() -> None:
    decided = _decide([GOOD, BRIDGED, LEANS, GOOD])
    assert list(decided.label) == ["good", "bridged", "bridged", "good"]
    assert list(decided.verdict) == ["pass", "fail", "fail", "pass"]


def test_a_complete_bridge_takes_nobody_along() -> None:
    decided = _decide([GOOD, BRIDGED, BRIDGED, LEANS])
    assert list(decided.verdict) == ["pass", "fail", "fail", "pass"]


def test_undecided_is_review() -> None:
    decided = leave_undecided(3, "no slices were taken")
    assert list(decided.verdict) == ["review"] * 3
    assert all(label is None for label in decided.label)


@pytest.mark.parametrize(
    ("verdicts", "board"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "review"], "review"),
        (["review", "fail"], "fail"),
        ([], "review"),  # nothing inspected is nothing passed
    ],
)
def test_board_verdict(verdicts: list[str], board: str) -> None:
    assert decide_board(np.asarray(verdicts, dtype=object)) == board

"""Operating points: what a promise keeps, calibration joints, thresholds of a machine never seen."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binom, norm

from inspect_pop.classify.model import OperatingPoint, load
from inspect_pop.classify.operating_points import (
    LEAST_JOINTS,
    choose_machine_point,
    choose_model_point,
    choose_operating_point,
    count_needed_joints,
    design_effect,
    read_calibration,
)
from inspect_pop.core.classes import CLASSES, DEFECTS
from inspect_pop.core.errors import ModelFault, PromiseFault
from inspect_pop.core.statistics import clopper_pearson, clopper_pearson_upper
from tests.learn.models import make_model


def scores(
    rng: np.random.Generator, boards: int, joints: int, spread: float = 0.0, defects: float = 0.1
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Log-odds of good joints about -6 and of defective ones about 6, with a shift of its own for each board."""
    board = np.repeat(np.arange(boards), joints)
    shift = rng.normal(0, spread, boards)[board]
    defective = rng.random(boards * joints) < defects
    return np.where(defective, 6.0, -6.0) + shift + rng.normal(0, 2.5, boards * joints), defective, board


@pytest.mark.parametrize(("errors", "n"), [(0, 10), (3, 50), (1, 2995), (7, 7)])
def test_bounds_are_the_exact_ones(errors: int, n: int) -> None:
    assert clopper_pearson_upper(errors, n) == pytest.approx(1.0 if errors == n else beta.ppf(0.95, errors + 1, n - errors))
    low, high = clopper_pearson(errors, n)
    assert low == pytest.approx(0.0 if errors == 0 else beta.ppf(0.025, errors, n - errors + 1))
    assert high == pytest.approx(1.0 if errors == n else beta.ppf(0.975, errors + 1, n - errors))


def test_no_joints_say_nothing() -> None:
    assert clopper_pearson_upper(0, 0) == 1.0
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("rate", "joints"), [(0.01, 299), (0.001, 2995), (0.0001, 29956)])
def test_what_a_claim_takes(rate: float, joints: int) -> None:
    assert count_needed_joints(rate) == joints
    assert clopper_pearson_upper(0, joints) <= rate < clopper_pearson_upper(0, joints - 1)


def test_both_promises_leave_review_between() -> None:
    values, defective, _ = scores(np.random.default_rng(0), 40, 820)
    promise = choose_operating_point(values, defective, max_escape_rate=0.005, max_false_call_ppm=1000)
    assert promise.point.pass_below < promise.point.fail_above
    assert promise.escape_bound <= 0.005
    assert promise.false_call_bound <= 0.001
    assert promise.review_share == pytest.approx(norm.sf((promise.point.pass_below + 6) / 2.5), rel=0.2)
    assert promise.escapes == np.sum(values[defective] < promise.point.pass_below)
    assert "95% confidence" in promise.point.source
    assert "pass" in promise.point.source and "fail" in promise.point.source


def test_the_threshold_is_the_last_that_the_promise_admits() -> None:
    """Of 1,000 defects 38 may pass for 5 % (bound of 38: 4.97 %, of 39: 5.08 %): passing ends at the 39th lowest score."""
    bad = np.random.default_rng(0).permutation(np.arange(1000.0))
    promise = choose_operating_point(bad, np.ones(1000, bool), max_escape_rate=0.05)
    assert beta.ppf(0.95, 39, 962) < 0.05 < beta.ppf(0.95, 40, 961)
    assert (promise.point.pass_below, promise.escapes) == (38.0, 38)
    assert promise.escape_bound == pytest.approx(beta.ppf(0.95, 39, 962))


def test_no_joint_both_passes_and_fails() -> None:
    values, defective, _ = scores(np.random.default_rng(0), 40, 820)
    low = OperatingPoint(pass_below=-9, fail_above=-9, source="")
    promise = choose_operating_point(values, defective, max_escape_rate=0.05, default=low)
    assert promise.point.fail_above == promise.point.pass_below > -9


def test_easy_promises_need_no_review() -> None:
    values, defective, _ = scores(np.random.default_rng(0), 40, 820)
    promise = choose_operating_point(values, defective, max_escape_rate=0.05, max_false_call_ppm=50_000)
    assert promise.point.pass_below == promise.point.fail_above
    assert promise.review_share == 0


def test_the_side_without_a_promise_keeps_its_default() -> None:
    values, defective, _ = scores(np.random.default_rng(0), 40, 820)
    default = OperatingPoint(pass_below=-1, fail_above=2, source="")
    escapes = choose_operating_point(values, defective, max_escape_rate=0.01, default=default)
    assert escapes.point.fail_above == max(2, escapes.point.pass_below)
    assert math.isnan(escapes.false_call_bound)
    calls = choose_operating_point(values, defective, max_false_call_ppm=3000, default=default)
    assert calls.point.pass_below == min(-1, calls.point.fail_above)
    assert math.isnan(calls.escape_bound)


def test_too_few_joints_are_refused_with_the_number_that_it_takes() -> None:
    values, defective = np.r_[np.full(1000, -5.0), np.full(100, 5.0)], np.r_[np.zeros(1000, bool), np.ones(100, bool)]
    with pytest.raises(PromiseFault, match="at least 299 defective joints in the calibration set, found 100"):
        choose_operating_point(values, defective, max_escape_rate=0.01)
    with pytest.raises(PromiseFault, match="at least 29956 good joints"):
        choose_operating_point(values, defective, max_false_call_ppm=100)
    with pytest.raises(PromiseFault, match="found 0"):
        choose_operating_point(values, np.zeros(1100, bool), max_escape_rate=0.01)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "found neither"),
        ({"max_escape_rate": 0.0}, "can promise that nothing ever happens"),
        ({"max_escape_rate": 1.5}, "less than 1"),
        ({"max_false_call_ppm": -3.0}, "more than 0"),
        ({"max_escape_rate": 0.1, "confidence": 1.0}, "confidence"),
        ({"max_escape_rate": float("nan")}, "more than 0"),
    ],
)
def test_impossible_promises_are_refused(asked: dict[str, float], message: str) -> None:
    values, defective, _ = scores(np.random.default_rng(0), 10, 100)
    with pytest.raises(PromiseFault, match=message):
        choose_operating_point(values, defective, **asked)


def test_defects_heaped_on_one_board_carry_less() -> None:
    rng = np.random.default_rng(0)
    values, defective, board = scores(rng, 30, 200)
    hidden = board == 3  # one board whose defects all look good
    values = np.where(defective & hidden, -8.0, values)
    with pytest.raises(PromiseFault, match="lie together on few boards"):
        choose_operating_point(values, defective, max_escape_rate=0.015, boards=board)
    assert choose_operating_point(values, defective, max_escape_rate=0.015).escape_bound <= 0.015


def test_design_effect_of_whole_boards_is_their_size() -> None:
    board = np.repeat(np.arange(50), 20)
    assert design_effect(board % 5 == 0, board) == pytest.approx(20, rel=0.05)
    assert design_effect(np.arange(1000) % 20 == 0, board) == 1.0
    assert design_effect(np.zeros(10, bool), np.zeros(10)) == 1.0


@pytest.mark.parametrize(("spread", "boards"), [(0.0, 20), (0.7, 20), (0.7, 60)])
def test_the_promise_holds_on_boards_drawn_afresh(spread: float, boards: int) -> None:
    """200 calibration sets; the true rate at the chosen threshold may exceed the promise in about one of twenty."""
    rng = np.random.default_rng(7)
    broken, refused, trials = {"escape": 0, "call": 0}, 0, 200
    for _ in range(trials):
        values, defective, board = scores(rng, boards, 400, spread)
        try:
            promise = choose_operating_point(values, defective, max_escape_rate=0.03, max_false_call_ppm=5000, boards=board)
        except PromiseFault:
            refused += 1
            continue
        scale = math.hypot(2.5, spread)
        broken["escape"] += norm.cdf((promise.point.pass_below - 6) / scale) > 0.03
        broken["call"] += norm.sf((promise.point.fail_above + 6) / scale) > 0.005
    assert refused < trials / 5
    allowed = binom.ppf(0.999, trials, 0.06)  # the design effect is itself estimated: nearly 95 %, not exactly
    assert max(broken.values()) <= allowed, broken


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rate=st.floats(0.02, 0.4),
    ppm=st.floats(5_000, 300_000),
    digits=st.integers(0, 3),
)
def test_what_is_promised_holds_on_the_calibration_joints_themselves(seed: int, rate: float, ppm: float, digits: int) -> None:
    """Also with ties: scores rounded to few digits."""
    values, defective, _ = scores(np.random.default_rng(seed), 10, 400, 1.0)
    values = np.round(values, digits)
    promise = choose_operating_point(values, defective, max_escape_rate=rate, max_false_call_ppm=ppm)
    assert promise.point.pass_below <= promise.point.fail_above
    assert promise.escapes / promise.defects <= promise.escape_bound <= rate
    assert promise.false_calls / promise.good <= promise.false_call_bound <= ppm / 1e6


def test_the_joints_of_a_model_are_read(tmp_path: Path) -> None:
    joints = read_calibration(load(make_model(tmp_path / "m")))
    assert joints.logits.shape == (400, len(CLASSES))
    assert np.bincount(joints.label).tolist() == [320, *[80 // len(DEFECTS)] * len(DEFECTS)]
    assert set(joints.serial) == {"C0", "C1", "C2", "C3"}
    assert (joints.logits.argmax(axis=1) == joints.label).mean() > 0.95


def test_a_promise_rests_on_the_calibrated_scores(tmp_path: Path) -> None:
    """Twice the temperature halves the log-odds, and thresholds with them."""
    plain = choose_model_point(load(make_model(tmp_path / "a")), max_escape_rate=0.1)
    warmed = {"temperature": 2.0, "bias": [0.0] * len(CLASSES)}
    warm = choose_model_point(load(make_model(tmp_path / "b", calibration=warmed)), max_escape_rate=0.1)
    assert plain.escape_bound == warm.escape_bound <= 0.1
    assert 0 < warm.point.pass_below < plain.point.pass_below
    assert "defects pass" in plain.point.source
    shifted = {"temperature": 1.0, "bias": [0.0, *[1.0] * len(DEFECTS)]}
    moved = choose_model_point(load(make_model(tmp_path / "c", calibration=shifted)), max_escape_rate=0.1)
    assert moved.point.pass_below == pytest.approx(plain.point.pass_below + 1, abs=1e-5)


def test_what_the_model_cannot_carry_is_refused(tmp_path: Path) -> None:
    model = load(make_model(tmp_path / "m"))
    with pytest.raises(PromiseFault, match=r"at least \d+ defective joints in the calibration set, found 80"):
        choose_model_point(model, max_escape_rate=0.001)
    with pytest.raises(PromiseFault, match="neither"):
        choose_model_point(model)


def test_a_model_without_calibration_joints_promises_nothing(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    (folder / "calibration.parquet").unlink()
    files = {k: v for k, v in load(make_model(tmp_path / "n")).card.files.items() if k == "model.onnx"}
    with pytest.raises(ModelFault, match=r"expected calibration\.parquet"):
        read_calibration(load(make_model(folder, files=files)))


def test_damaged_joints_are_refused(tmp_path: Path) -> None:
    model = load(make_model(tmp_path / "m"))
    (model.folder / "calibration.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModelFault, match="Copy the model again"):
        read_calibration(model)


REFERENCE = OperatingPoint(pass_below=-2.0, fail_above=2.5, source="calibration")


def good(rng: np.random.Generator, n: int, awkward: float = 0.05) -> NDArray[np.float64]:
    """A bulk about -9 and, of some awkward joints, a tail towards suspicion, as networks give it."""
    bulk = -9 + 1.5 * rng.normal(0, 1, n)
    return np.where(rng.random(n) < awkward, -6 + rng.exponential(1.8, n), bulk)


KNOWN = np.quantile(good(np.random.default_rng(9), 200_000), np.linspace(0, 1, 101))


def board(n: int, defects: float = 0.003, shift: float = 0.0, awkward: float = 0.05, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    bad = round(n * defects)
    return np.r_[shift + good(rng, n - bad, awkward), 8 + rng.normal(0, 2, bad)]


def reviewed(scores: NDArray[np.float64], point: OperatingPoint) -> float:
    return float(np.mean((scores >= point.pass_below) & (scores < point.fail_above)))


def test_a_sharp_machine_spends_its_reviews_on_both_sides() -> None:
    scores = board(6560, awkward=0.03)
    found = choose_machine_point(scores, KNOWN, REFERENCE)
    assert found.is_moved and found.lift == 0
    assert found.point.pass_below == pytest.approx(-2 - found.widening)
    assert found.point.fail_above == pytest.approx(2.5 + found.widening)
    assert reviewed(scores, REFERENCE) < reviewed(scores, found.point) <= 0.02


def test_a_machine_with_much_to_review_keeps_the_models_thresholds() -> None:
    found = choose_machine_point(board(6560, awkward=0.25), KNOWN, REFERENCE)
    assert not found.is_moved
    assert (found.point.pass_below, found.point.fail_above) == (-2.0, 2.5)
    assert "for review" in found.point.source


def test_more_reviews_allowed_move_further() -> None:
    scores = board(6560, awkward=0.03)
    apart = [choose_machine_point(scores, KNOWN, REFERENCE, review_share=share).widening for share in (0.005, 0.01, 0.02, 0.5)]
    assert apart == sorted(apart)
    assert apart[-1] == 2.0


def test_a_machine_whose_good_joints_all_look_worse_fails_later_and_passes_no_later() -> None:
    found = choose_machine_point(board(6560, shift=6.0), KNOWN, REFERENCE)
    assert found.lift > 2
    assert found.point.fail_above == pytest.approx(2.5 + found.lift)
    assert found.point.pass_below == -2.0
    assert "higher than those of any machine known" in found.point.source


@pytest.mark.parametrize("defects", [0.0, 0.1, 0.25])
def test_bad_boards_are_not_taken_for_another_machine(defects: float) -> None:
    assert choose_machine_point(board(820, defects), KNOWN, REFERENCE).lift == 0


def test_one_small_board_moves_less_than_many() -> None:
    small, large = (choose_machine_point(board(n, 0.0, awkward=0.03, seed=4), KNOWN, REFERENCE).widening for n in (88, 8800))
    assert small <= large


@pytest.mark.parametrize(
    ("scores", "known", "words"),
    [
        (board(LEAST_JOINTS - 1), KNOWN, "too few to follow it"),
        (np.full(500, np.nan), KNOWN, "0 joints of this machine are too few"),
        (board(820), (), "keeps no good scores"),
    ],
)
def test_what_cannot_be_followed_keeps_the_thresholds(
    scores: NDArray[np.float64], known: NDArray[np.float64], words: str
) -> None:
    found = choose_machine_point(scores, known, REFERENCE)
    assert not found.is_moved
    assert (found.point.pass_below, found.point.fail_above) == (-2.0, 2.5)
    assert words in found.point.source


def test_words_say_what_was_done() -> None:
    source = choose_machine_point(board(6560, awkward=0.03), KNOWN, REFERENCE).point.source
    assert source.startswith("calibration; pass below -")
    assert "after 6560 joints of this machine" in source


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 900), defects=st.floats(0, 1), shift=st.floats(-30, 30), awkward=st.floats(0, 1), seed=st.integers(0, 99))
def test_no_machine_makes_passing_easier_or_failing(n: int, defects: float, shift: float, awkward: float, seed: int) -> None:
    """Whatever its scores: nothing passes or fails that the model's own thresholds would not, and the reach is bounded."""
    point = choose_machine_point(board(n, defects, shift, awkward, seed), KNOWN, REFERENCE).point
    assert -2 - 2 <= point.pass_below <= -2
    assert 2.5 <= point.fail_above <= 2.5 + 2 + 4

import json
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.classify.model import load
from inspect_pop.evaluate.promotion import check_fresh, check_promise, check_scores
from tests.classify.test_operating_points import scores
from tests.learn.models import make_model


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_promises_are_kept_whichever_boards_are_drawn(spread: float) -> None:
    values, defective, board = scores(np.random.default_rng(3), 80, 400, spread)
    found = check_scores(values, defective, board.astype(str), max_escape_rate=0.03, max_false_call_ppm=5000, draws=40, seed=1)
    assert (found.draws, found.refused) == (40, 0)
    assert found.held_escapes >= 35
    assert found.held_false_calls >= 35
    assert 0.015 < found.escape_rate < 0.03
    assert 2500 < found.false_call_ppm < 5000
    assert "kept in" in str(found)


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_promises_are_kept_on_boards_that_had_no_part_in_them(spread: float) -> None:
    values, defective, board = scores(np.random.default_rng(3), 160, 400, spread)
    found = check_fresh(values, defective, board.astype(str), max_escape_rate=0.03, max_false_call_ppm=5000, draws=40, seed=1)
    assert (found.draws, found.refused) == (40, 0)
    assert found.held_escapes >= 35
    assert found.held_false_calls >= 35


def test_fresh_boards_are_judged_by_other_boards_alone() -> None:
    """Of two boards one promises; the other is a board on which every defect passes: kept only where that one promised."""
    good, bad = np.linspace(-6, -4, 400), np.linspace(4, 6, 400)
    values, defective = np.concatenate([good, bad, good, -bad - 9]), np.tile(np.repeat([False, True], 400), 2)
    board = np.repeat(["A", "B"], 800)
    found = check_fresh(values, defective, board, max_escape_rate=0.05, draws=40)
    assert found.draws == 40
    assert 10 < found.held_escapes < 30
    assert found.escape_rate == pytest.approx(1 - found.held_escapes / 40)


def test_boards_that_do_not_tell_of_each_other_are_found_out() -> None:
    """Eight boards that differ so much that a draw knows little of all: many are refused, or the promise breaks."""
    values, defective, board = scores(np.random.default_rng(3), 8, 400, 6.0)
    found = check_scores(values, defective, board.astype(str), max_escape_rate=0.02, draws=40)
    assert found.refused + (found.draws - found.held_escapes) > 10


def test_a_model_that_can_carry_nothing_says_so(tmp_path: Path) -> None:
    found = check_promise(load(make_model(tmp_path / "m")), max_escape_rate=0.001)
    assert (found.draws, found.refused) == (0, 20)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["escape_rate"] is None


def test_a_model_is_checked_on_its_own_calibration(tmp_path: Path) -> None:
    found = check_promise(load(make_model(tmp_path / "m")), max_escape_rate=0.2)
    assert found.draws == 20
    assert found.held_false_calls == 0
    assert "false calls" not in str(found)

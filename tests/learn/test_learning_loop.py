"""The whole loop in small form: an unknown machine, decisions, training from the store, gates, promotion, the way back."""

import argparse
from pathlib import Path

import pytest

pytest.importorskip("torch")
from tests.tools import load_script

TOP = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.training, pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
CONFIG = """
name = "small"
shares = [0.0, 1.0]
golden_share = 0.25
folds = 2
[fit]
epochs = 2
samples_per_epoch = 600
batch = 64
mixed_precision = false
"""


def test_the_loop_ends_with_an_answer_and_going_back_gives_the_old_verdicts(tmp_path: Path) -> None:
    """With ten boards and a short training the answer may be either; nothing fails, and what is offered can be taken back."""
    study = load_script("studies/measure_learning.py")
    (tmp_path / "small.toml").write_text(CONFIG)
    options = argparse.Namespace(
        model=TOP / "models" / "pop-joints-5", product="tst4", boards=6, sample=60, config=tmp_path / "small.toml"
    )
    result = study.run_loop(study.ODD, tmp_path / "loop", options)
    assert result.state.state in ("offered", "not better", "refused"), "\n".join(result.lines)
    assert result.state.state != "refused" or ":" in result.state.reason
    assert result.verdicts_came_again is (True if result.state.state == "offered" else None)


def test_a_person_who_errs_teaches_nothing_that_is_offered(tmp_path: Path) -> None:
    """Every second defect is called good on the boards that teach; the golden ones know better."""
    study = load_script("studies/measure_learning.py")
    (tmp_path / "small.toml").write_text(CONFIG)
    options = argparse.Namespace(
        model=TOP / "models" / "pop-joints-5", product="tst4", boards=6, sample=60, config=tmp_path / "small.toml"
    )
    assert study.run_loop(study.ODD, tmp_path / "loop", options, is_wrong=True).state.state in ("not better", "refused")

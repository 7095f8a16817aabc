from pathlib import Path

import numpy as np
import pytest

from inspect_pop.classify.model import load
from inspect_pop.classify.operating_points import promise_of, read_calibration
from inspect_pop.core.errors import ModelFault, PromiseRefused
from tests.learn.models import make_model


def test_the_joints_of_a_model_are_read(tmp_path: Path) -> None:
    joints = read_calibration(load(make_model(tmp_path / "m")))
    assert joints.logits.shape == (400, 5)
    assert np.bincount(joints.label).tolist() == [320, 20, 20, 20, 20]
    assert set(joints.serial) == {"C0", "C1", "C2", "C3"}
    assert (joints.logits.argmax(axis=1) == joints.label).mean() > 0.95


def test_a_promise_rests_on_the_calibrated_scores(tmp_path: Path) -> None:
    """Twice the temperature halves the log-odds, and thresholds with them."""
    plain = promise_of(load(make_model(tmp_path / "a")), max_escape_rate=0.1)
    warm = promise_of(load(make_model(tmp_path / "b", calibration={"temperature": 2.0, "bias": [0.0] * 5})), max_escape_rate=0.1)
    assert plain.escape_bound == warm.escape_bound <= 0.1
    assert 0 < warm.point.pass_below < plain.point.pass_below
    assert "defects pass" in plain.point.source
    shifted = {"temperature": 1.0, "bias": [0.0, 1.0, 1.0, 1.0, 1.0]}
    moved = promise_of(load(make_model(tmp_path / "c", calibration=shifted)), max_escape_rate=0.1)
    assert moved.point.pass_below == pytest.approx(plain.point.pass_below + 1, abs=1e-5)


def test_what_the_model_cannot_carry_is_refused(tmp_path: Path) -> None:
    model = load(make_model(tmp_path / "m"))
    with pytest.raises(PromiseRefused, match="at least 2995 defective joints"):
        promise_of(model, max_escape_rate=0.001)
    with pytest.raises(PromiseRefused, match="neither"):
        promise_of(model)


def test_a_model_without_calibration_joints_promises_nothing(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    (folder / "calibration.parquet").unlink()
    files = {k: v for k, v in load(make_model(tmp_path / "n")).card.files.items() if k == "model.onnx"}
    with pytest.raises(ModelFault, match=r"expected calibration\.parquet"):
        read_calibration(load(make_model(folder, files=files)))


def test_damaged_joints_are_refused(tmp_path: Path) -> None:
    model = load(make_model(tmp_path / "m"))
    (model.folder / "calibration.parquet").write_bytes(b"PAR1")
    with pytest.raises(ModelFault, match="Take the model again"):
        read_calibration(model)

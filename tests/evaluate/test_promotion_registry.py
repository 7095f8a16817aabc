import json
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.classify.model import POINTER, load, read_pointer, resolve
from inspect_pop.classify.session import Classifier
from inspect_pop.core.errors import ModelFault
from inspect_pop.evaluate.promotion import compare, entries, promote, rollback
from tests.learn.models import make_model
from tests.learn.sets import make_samples

NOW = {"at": "2026-11-22T08:00:00+00:00", "reason": "better"}


def test_the_stand_in_network_tells_the_stand_in_joints_apart(tmp_path: Path) -> None:
    samples = make_samples(2, 20)
    inputs = JointInputs(samples.images.astype(np.float32), samples.scalars)
    scores = Classifier(load(make_model(tmp_path / "m"))).classify(inputs)
    assert (scores.probabilities.argmax(axis=1) == samples.label).all()


def test_the_way_forward_and_back(tmp_path: Path) -> None:
    for name in "abc":
        make_model(tmp_path / name)
        promote(tmp_path, name, **NOW)
    assert resolve(tmp_path) == tmp_path / "c"
    assert rollback(tmp_path, **NOW).current == "b"
    assert rollback(tmp_path, **NOW).current == "a"
    with pytest.raises(ModelFault, match="in use before"):
        rollback(tmp_path, **NOW)
    promote(tmp_path, "c", **NOW)
    assert rollback(tmp_path, **NOW).current == "a"
    pointer = read_pointer(tmp_path)
    assert pointer is not None
    assert [c.action for c in pointer.history] == ["promote"] * 3 + ["rollback"] * 2 + ["promote", "rollback"]
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [POINTER]


def test_listing_shows_which_is_in_use_and_what_is_damaged(tmp_path: Path) -> None:
    make_model(tmp_path / "a")
    promote(tmp_path, "a", **NOW)
    (make_model(tmp_path / "b") / "model.onnx").write_bytes(b"cut")
    (tmp_path / "notes").mkdir()
    a, b = entries(tmp_path)
    assert (a.name, a.current, a.fault) == ("a", True, "")
    assert (b.name, b.current, b.card) == ("b", False, None)
    assert "changed or cut" in b.fault
    assert [e.to_dict()["name"] for e in (a, b)] == ["a", "b"]


def test_a_damaged_model_is_not_taken_into_use(tmp_path: Path) -> None:
    make_model(tmp_path / "a")
    promote(tmp_path, "a", **NOW)
    (make_model(tmp_path / "b") / "calibration.parquet").unlink()
    with pytest.raises(ModelFault):
        promote(tmp_path, "b", **NOW)
    assert resolve(tmp_path).name == "a"


@pytest.mark.parametrize("name", ["../a", "", "none", "a/b"])
def test_only_names_of_models_are_promoted(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFault):
        promote(tmp_path, name, **NOW)


def test_comparison_names_the_better(tmp_path: Path) -> None:
    make_model(tmp_path / "old", metrics={"boards": 4, "escape_rate": 0.02, "recall": {"open": {"rate": 0.9}}})
    make_model(tmp_path / "new", metrics={"boards": 4, "escape_rate": 0.01, "recall": {"open": {"rate": 0.8}}})
    rows = {row["figure"]: row for row in compare(tmp_path, "old", "new")}
    assert rows["escape_rate"]["better"] == "new"
    assert rows["recall.open.rate"]["better"] == "old"
    assert rows["false_call_ppm"] == {"figure": "false_call_ppm", "first": None, "second": None, "better": ""}


def test_a_model_folder_is_its_own_model(tmp_path: Path) -> None:
    assert resolve(make_model(tmp_path / "a")) == tmp_path / "a"


@pytest.mark.parametrize(
    "text",
    ["{}", "not json", '{"current": "../elsewhere"}', '{"current": "a", "history": [{}]}', '{"current": "a", "schema": "x"}'],
)
def test_a_pointer_that_cannot_be_meant_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / POINTER).write_text(text)
    with pytest.raises(ModelFault, match=POINTER):
        resolve(tmp_path)


def test_nothing_to_resolve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFault, match="found neither"):
        resolve(tmp_path)
    (tmp_path / POINTER).write_text(json.dumps({"current": "gone"}))
    with pytest.raises(ModelFault, match="rollback"):
        resolve(tmp_path)

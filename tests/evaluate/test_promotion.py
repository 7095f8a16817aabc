import json
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.classify.model import POINTER, load, read_pointer, resolve
from inspect_pop.classify.session import Classifier
from inspect_pop.core.classes import CLASSES, DEFECTS
from inspect_pop.core.errors import LimitsFault, ModelFault
from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.evaluate.evaluation import judge
from inspect_pop.evaluate.promotion import Gates, check_gates, compare, list_models, load_gates, promote, rollback
from tests.evaluate.test_outcomes import make_outcomes
from tests.learn.models import make_model
from tests.learn.sets import make_samples

GATES = Path(__file__).resolve().parents[2] / "training" / "gates.toml"


def evaluation(escapes: int = 0, false_calls: int = 0, missed_label: int = 0, joints: int = 400, sure: float = 1.0) -> dict:
    """Four boards, one joint in ten a starved one, so many of them let through, or called open, and so many good ones failed."""
    outcomes = make_outcomes(boards=4, joints=joints)
    truth = np.where(np.arange(len(outcomes)) % 10 == 0, 3, 0).astype(np.int8)
    label, bad, good = truth.copy(), np.flatnonzero(truth), np.flatnonzero(truth == 0)
    label[bad[:escapes]] = 0
    label[bad[escapes : escapes + missed_label]] = 2
    label[good[:false_calls]] = 3
    p = np.full((len(truth), len(CLASSES)), (1 - sure) / len(DEFECTS), np.float32)
    p[np.arange(len(truth)), label] = sure
    verdict = np.where(label == 0, "pass", "fail").astype(object)
    fields = outcomes.__dict__ | {"truth": truth, "label": label, "verdict": verdict, "probabilities": p}
    fields.pop("board", None)
    return judge(type(outcomes)(**fields))


def refused(new: dict, old: dict | None = None, gates: Gates | None = None) -> list[str]:
    return [g.name for g in check_gates(gates or Gates(), new, old) if not g.passed]


def test_a_model_as_good_as_the_old_one_passes() -> None:
    assert refused(evaluation(escapes=2, false_calls=3), evaluation(escapes=1, false_calls=2)) == []


def test_a_first_model_has_only_the_limits_to_keep() -> None:
    assert refused(evaluation()) == []
    assert refused(evaluation(escapes=30)) == ["escapes in all"]


@pytest.mark.parametrize(
    ("new", "old", "against"),
    [
        ({"escapes": 12}, {"escapes": 1}, ["recall of starved", "escapes against the old model"]),
        ({"false_calls": 20}, {"false_calls": 1}, ["recall of good", "false calls against the old model"]),
        ({"missed_label": 15}, {}, ["recall of starved"]),
        ({"sure": 0.9}, {}, ["calibration"]),
        ({"sure": 0.9}, {"sure": 0.85}, []),
        ({"false_calls": 40}, {"false_calls": 40}, ["false calls in all"]),
        ({"joints": 40}, {"joints": 40}, ["golden good joints"]),
    ],
)
def test_what_speaks_against_a_model(new: dict, old: dict, against: list[str]) -> None:
    assert refused(evaluation(**new), evaluation(**old)) == against


def test_more_review_than_the_limit_is_let_through_only_where_there_was_as_much_before() -> None:
    def seen(count: int) -> dict:
        share = count / 1600
        low, high = clopper_pearson(count, 1600)
        return evaluation() | {"review_share": share, "review": {"rate": share, "low": low, "high": high}}

    assert refused(seen(240), seen(240)) == []
    assert refused(seen(320), seen(240)) == ["review in all"]
    assert refused(seen(240), seen(80)) == ["review in all"]
    assert refused(seen(165), seen(155)) == ["review in all"]  # within its interval, but the old model kept the limit
    assert refused(seen(240)) == ["review in all"]


def test_answers_are_in_words() -> None:
    said = {g.name: g.explanation for g in check_gates(Gates(), evaluation(escapes=12), evaluation(escapes=1))}
    assert said["escapes against the old model"] == "7.50 %, before 0.62 % (at most 3.43 %)"
    assert said["golden defects"] == "160, at least 8 required"


def test_a_set_without_defects_cannot_promote() -> None:
    outcomes = make_outcomes()
    figures = judge(outcomes.take(outcomes.truth == 0))
    assert "escapes in all" in refused(figures)
    assert "golden defects" in refused(figures)


def test_the_committed_gates_can_be_read() -> None:
    assert load_gates(GATES) == Gates()


@pytest.mark.parametrize("text", ["least_boards = 0", "largest_escape = 0.1", "not toml", "largest_review_share = 'much'"])
def test_gates_that_cannot_be_meant_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "gates.toml").write_text(text)
    with pytest.raises(LimitsFault):
        load_gates(tmp_path / "gates.toml")


def test_absent_gates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitsFault):
        load_gates(tmp_path / "none.toml")


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
    with pytest.raises(ModelFault, match="an earlier current model"):
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
    a, b = list_models(tmp_path)
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


def test_no_model_is_named_better_by_figures_of_different_boards(tmp_path: Path) -> None:
    for name, boards, rate in (("old", 64, 0.0105), ("new", 75, 0.0001)):
        make_model(tmp_path / name, metrics={"boards": boards, "escape_rate": rate})
    assert {row["better"] for row in compare(tmp_path, "old", "new")} == {""}


@pytest.mark.parametrize(("escapes", "better"), [(1, ""), (30, "old")])
def test_a_difference_that_chance_explains_names_no_better_model(tmp_path: Path, escapes: int, better: str) -> None:
    make_model(tmp_path / "old", metrics=evaluation())
    make_model(tmp_path / "new", metrics=evaluation(escapes=escapes))
    rows = {row["figure"]: row for row in compare(tmp_path, "old", "new")}
    assert rows["escape_rate"]["better"] == better


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

"""Where the model and people disagree, and the numbers."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.evaluate.comparison import DisagreementReport, Forecast, find_disagreements, forecast_training
from inspect_pop.evaluate.decision_labels import DecisionLabels, collect_decision_labels
from inspect_pop.store import Decision, open_store
from tests.factories import make_inspection

NO_FORECAST = Forecast(0, None, None, "not asked")


def report_on(folder: Path) -> DisagreementReport:
    """Two boards: a false call, a confirmed call, another class, a cleared review, an escape in the sample, a good one in it."""
    with open_store(folder / "records.db", verify_sample=1) as store:
        for number in (1, 2):
            board = make_inspection(
                f"B{number}",
                defects={"U1.lower.A1": "bridged", "U1.lower.A2": "open"},
                reviews={"U1.lower.B1": "doubt"},
                record=f"r{number}",
            )
            store.write(board)
            (drawn,) = store.sample(f"r{number}")
            decide = [("A1", "DefectRejected", None), ("A2", "DefectConfirmed", None if number == 1 else "starved")]
            for ball, state, label in [*decide, ("B1", "DefectRejected", None)]:
                store.add_decision(make_decision(number, ("U1", "lower", ball), state, label))
            state, label = ("DefectMissed", "head_in_pillow") if number == 1 else ("PassConfirmed", None)
            store.add_decision(make_decision(number, drawn, state, label))
        return find_disagreements(store, collect_decision_labels(store), NO_FORECAST)


def make_decision(number: int, joint: tuple[str, ...], state: str, label: str | None) -> Decision:
    refdes, interface, ball = joint
    return Decision(f"r{number}", refdes, interface, ball, state, "Ada", "2026-03-02T12:00:00+01:00", label)


def test_the_numbers_are_those_that_were_decided(tmp_path: Path) -> None:
    report = report_on(tmp_path)
    assert (report.judged, report.confirmed, report.false_calls, report.cleared) == (8, 2, 2, 2)
    assert (report.sampled, report.escapes, report.sampled_boards, report.escape_boards) == (2, 1, 2, 1)
    assert (report.escape_low, report.escape_high) == clopper_pearson(1, 2)


def test_the_most_surprising_comes_first(tmp_path: Path) -> None:
    report = report_on(tmp_path)
    p = [item.p for item in report.disagreements]
    assert None not in p and p == sorted(p), "also of the escape, whose probabilities are in the joints' file"
    assert sorted(item.kind for item in report.disagreements) == ["class", "escape", "false call", "false call"]
    assert report.to_dict(1)["n_disagreements"] == 4 and len(report.to_dict(1)["disagreements"]) == 1
    assert sum(line.startswith("  B") for line in report.lines(2)) == 2
    json.dumps(report.to_dict())


def make_labels(serials: list[str]) -> DecisionLabels:
    return DecisionLabels(tuple(SimpleNamespace(serial=s) for s in serials), ())  # type: ignore[arg-type, misc]


def write_curve(folder: Path, slope: float | None) -> Path:
    curve: dict[str, Any] = {"points": [{"boards": 4}], "slope": slope, "summary": "No errors."}
    (folder / "report.json").write_text(json.dumps({"curve": curve}))
    return folder


@pytest.mark.parametrize(
    ("slope", "boards", "decisions"),
    [
        (1.0, 2, 4),  # 4 more boards halve the errors that 4 left; 2 of them are judged, 2 joints each
        (0.5, 10, 20),
        (0.0, None, None),
        (None, None, None),
    ],
)
def test_the_learning_curve_says_when_a_training_pays(
    tmp_path: Path, slope: float | None, boards: int | None, decisions: int | None
) -> None:
    card = SimpleNamespace(data={"training boards": ["old"]})
    found = make_labels(["new 1", "new 1", "new 2", "new 2", "old", "old"])
    forecast = forecast_training(found, card, write_curve(tmp_path, slope))  # type: ignore[arg-type]
    assert (forecast.new_boards, forecast.boards, forecast.decisions) == (2, boards, decisions)
    assert ("not known" in forecast.ground) == (boards is None)


def test_without_a_curve_the_rule_of_four_boards_is_named(tmp_path: Path) -> None:
    card = SimpleNamespace(data={})
    forecast = forecast_training(make_labels(["a"]), card, tmp_path)  # type: ignore[arg-type]
    assert forecast.boards == 3 and "docs/lab/training.md" in forecast.ground
    assert forecast_training(make_labels(list("abcd")), card, tmp_path).boards == 0  # type: ignore[arg-type]

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from inspect_pop.classify.model import OperatingPoint, load
from inspect_pop.classify.operating_points import MachinePoint
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import LabelsFault, ModelFault
from inspect_pop.evaluate.collect import collect
from inspect_pop.evaluate.evaluation import evaluate, list_learnt_boards, outcomes_of, summary
from tests.learn.conftest import make_batch
from tests.learn.models import make_model


def test_figures_of_every_labelled_joint(batch: Path, stand_in: Path, tmp_path: Path) -> None:
    report = evaluate([batch], stand_in, json_file=tmp_path / "sub" / "figures.json")
    assert (report["joints"], report["boards"], report["defects"]) == (440, 5, 40)
    assert sum(sum(row.values()) for row in report["confusion"].values()) == 440
    assert report["model"]["name"] == "stand-in"
    assert set(report["by"]["machine"]) == {"A/AXI-2"}
    assert json.loads((tmp_path / "sub" / "figures.json").read_text())["confusion"] == report["confusion"]
    text = "\n".join(summary(report))
    assert "5 boards, 440 joints" in text
    assert "95 %" in text and "ppm" in text


def test_the_outcome_is_that_of_a_run(batch: Path, stand_in: Path, tmp_path: Path) -> None:
    from inspect_pop.batch import BatchSettings, local_executor, run_batch
    from inspect_pop.core.limits import Limits

    board = batch / "boards" / "PB-1"
    run_batch([board], BatchSettings(tmp_path, f"sqlite:///{tmp_path}/r.db", stand_in, Limits()), executor=local_executor(1))
    table = pq.read_table(tmp_path / "joints.parquet").to_pylist()
    said = {(row["interface"], row["ball"]): (row["verdict"], row["label"]) for row in table}
    outcomes, aside = outcomes_of([board], load(stand_in))
    assert aside == []
    names = np.array([*CLASSES, None], object)
    for k in range(len(outcomes)):
        key = (outcomes.interface[k], outcomes.ball[k])
        assert (outcomes.verdict[k], names[outcomes.label[k]]) == said[key]


def test_boards_in_quarantine_count_as_undecided(tmp_path: Path, stand_in: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1", "PB-2", "PB-3"])
    (batch / "boards" / "PB-2" / "xray" / "U1_lower.tif").write_bytes(b"II*\0cut")
    manifest = batch / "boards" / "PB-3" / "export.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"recipe": "../../nowhere.json"}))
    report = evaluate([batch], stand_in)
    assert report["joints"] == 3 * 88
    assert report["undecided"] >= 2 * 88
    assert report["by"]["serial"]["PB-2"]["review_share"] == 1
    assert report["by"]["serial"]["PB-3"]["undecided"] == 88
    assert [Path(item["path"]).name for item in report["quarantine"]] == ["PB-2", "PB-3"]


def test_only_the_boards_that_are_asked_for(batch: Path, stand_in: Path) -> None:
    outcomes, _ = outcomes_of([batch], load(stand_in), only=["PB-0", "PB-4"])
    assert set(outcomes.serial) == {"PB-0", "PB-4"}


def test_thresholds_can_follow_the_machines(batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each machine is asked once, with the scores of all its joints, and its answer decides."""
    asked: list[int] = []

    def nothing_fails(scores, known, reference):
        asked.append(len(scores))
        return MachinePoint(OperatingPoint(pass_below=99.0, fail_above=99.0, source="machine"), 1.0, 0.0, len(scores))

    monkeypatch.setattr("inspect_pop.evaluate.evaluation.choose_machine_point", nothing_fails)
    model = make_model(tmp_path / "m")
    assert evaluate([batch], model)["false_calls"] > 0
    assert evaluate([batch], model, follow_machines=True)["false_calls"] == 0
    assert asked == [440]


@pytest.mark.parametrize("field", ["labelled boards learnt from", "training boards", "calibration boards"])
def test_the_first_line_says_how_many_boards_taught_the_model(field: str) -> None:
    card = SimpleNamespace(data={field: ["B1", "B2"], "golden boards": ["B3"]})
    assert list_learnt_boards(card) == {"B1", "B2"}  # type: ignore[arg-type]
    rate = {"rate": 0.0, "count": 0, "of": 3, "low": 0.0, "high": 0.7, "board_low": None, "board_high": None}
    report = {"boards": 3, "joints": 75, "calibration": {"expected_error": None}, "recall": {}}
    report |= dict.fromkeys(("escape", "false_call", "review", "exact_label_of_defects"), rate)
    assert "learnt from 2 of 3 boards" in summary(report | {"learnt_from": ["B1", "B2"]})[0]
    assert "learnt from 0 of 3 boards: all are new to it" in summary(report | {"learnt_from": []})[0]
    assert "not known: its card does not say" in summary(report | {"learnt_from": None})[0]


def test_a_joint_counts_for_those_that_it_was_drawn_from(tmp_path: Path, stand_in: Path) -> None:
    """All good joints of a board that nobody drew, and one that stands for 1,000."""
    batch = make_batch(tmp_path / "batch", ["PB-1"])
    head, *rows = (batch / "labels.csv").read_text().splitlines()
    drawn = next(k for k, row in enumerate(rows) if ",good" in row)
    lines = [f"{head},stands_for", *(f"{row},{1000 if k == drawn else ''}" for k, row in enumerate(rows))]
    (batch / "labels.csv").write_text("\n".join(lines) + "\n")
    outcomes, _ = outcomes_of([batch], load(stand_in))
    assert sorted(outcomes.weight.tolist()) == [1.0] * 87 + [1000.0]
    report = evaluate([batch], stand_in)
    assert report["stands_for"] == 1087
    assert "together they stand for 1087 joints" in "\n".join(summary(report))
    assert sorted(collect([batch], tmp_path / "samples").samples.weight.tolist()) == [1.0] * 87 + [1000.0]


def test_labels_of_other_boards_alone_are_refused(tmp_path: Path, stand_in: Path) -> None:
    batch = make_batch(tmp_path / "batch", ["PB-1"])
    (batch / "labels.csv").write_text("serial,refdes,interface,ball,label\nPB-9,U1,lower,A1,good\n")
    with pytest.raises(LabelsFault, match="labels of PB-9"):
        evaluate([batch], stand_in)
    (batch / "labels.csv").unlink()
    with pytest.raises(LabelsFault, match="Label boards first"):
        evaluate([batch], stand_in)


def test_a_model_that_is_none_is_refused(batch: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFault):
        evaluate([batch], tmp_path)

"""`inspect-pop labels`: what people decided, and labels of other tools; `train --store`, which uses the same labels."""

import json
from pathlib import Path
from typing import Any

import pytest

from inspect_pop import cli
from inspect_pop.ingest.pop_export import read_labels
from inspect_pop.store import Decision, open_store
from tests.factories import make_inspection

Captured = pytest.CaptureFixture[str]
BOARD = make_inspection("B1", defects={"U1.lower.A1": "bridged"}, reviews={"U1.upper.B2": "between two classes"})


@pytest.fixture
def records(tmp_path: Path) -> str:
    with open_store(tmp_path / "records.db") as store:
        store.write(BOARD)
    return str(tmp_path / "records.db")


def decide(records: str, joint: str, state: str) -> None:
    with open_store(records) as store:
        store.add_decision(Decision(BOARD.board.record, *joint.split("."), state, "Ada", "2026-03-02T12:00:00+01:00"))


def test_decisions_become_a_labels_file_and_what_is_no_class_is_named(records: str, tmp_path: Path, capsys: Captured) -> None:
    decide(records, "U1.lower.A1", "DefectConfirmed")
    decide(records, "U1.upper.B2", "DefectConfirmed")
    assert cli.main(["labels", "export", "--store", records, "--out", str(tmp_path / "labels.csv")]) == 0
    out, err = capsys.readouterr()
    assert "1 label on 1 inspected board" in out
    assert "1 decided joint without a class, left out: B1 U1.upper.B2: DefectConfirmed" in err
    assert {k: j.label for k, j in read_labels(tmp_path / "labels.csv").items()} == {("B1", "U1", "lower", "A1"): "bridged"}


def test_a_store_without_decisions_gives_a_file_without_labels(records: str, tmp_path: Path, capsys: Captured) -> None:
    assert cli.main(["labels", "export", "--store", records, "--out", str(tmp_path / "labels.csv")]) == 0
    assert "0 labels on 0 inspected boards" in capsys.readouterr().out
    assert len(read_labels(tmp_path / "labels.csv")) == 0


@pytest.mark.training
def test_train_learns_from_the_decisions_of_a_store(
    records: str, small_batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    pytest.importorskip("torch")
    given: dict[str, Any] = {}

    def train(paths: list[Path], out: Path, **_: object) -> None:
        given.update(paths=paths, out=out)

    monkeypatch.setattr("inspect_pop.learn.train.train", train)
    command = ["train", str(small_batch), "--store", records, "--out", str(tmp_path / "models" / "new")]
    assert cli.main(command) == 2
    assert "--store: expected decisions that say what a joint is, found none" in capsys.readouterr().err
    decide(records, "U1.lower.A1", "DefectRejected")
    assert cli.main(command) == 0
    err = capsys.readouterr().err
    assert "export is gone: B1" in err and "people looked at 1 suspect" in err
    folder = tmp_path / "models" / "new.labels"
    assert given["paths"] == [small_batch, folder]
    assert [j.label for j in read_labels(folder / "labels.csv").values()] == ["good"]


@pytest.mark.training
def test_train_from_the_store_alone_says_what_is_missing(records: str, tmp_path: Path, capsys: Captured) -> None:
    pytest.importorskip("torch")
    out = ["--out", str(tmp_path / "new")]
    assert cli.main(["train", *out]) == 2
    assert "LABELLED boards, or --store with decisions" in capsys.readouterr().err
    decide(records, "U1.lower.A1", "DefectRejected")
    assert cli.main(["train", "--store", records, *out]) == 2
    err = capsys.readouterr().err
    assert "exports of the boards that people judged, found none of 1: B1" in err and "train BOARDS --store URL" in err


# Labels of another tool, the list of what was not mapped, and the exit status


def write(folder: Path, boxes: list[list[float]]) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "PB2411-010204_U1_lower.png", "width": 441, "height": 441}],
        "categories": [{"id": 1, "name": "short"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes],
    }
    (folder / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "coco.json"


def test_status_says_whether_all_was_mapped(small_batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = [100.0, 100.0, 240.0, 240.0]
    out = tmp_path / "labels.csv"
    call = ["labels", "import", "--format", "coco", "--batch", str(small_batch), "--out", str(out)]
    assert cli.main([*call, str(write(tmp_path, [whole]))]) == 0
    assert len(read_labels(out)) > 20, "a bridge's box covers many joints"
    assert "short: bridged, 1 box" in capsys.readouterr().out
    assert cli.main([*call, str(write(tmp_path, [whole, [0.0, 0.0, 4.0, 4.0]]))]) == 1
    assert "half the pitch" in capsys.readouterr().out
    assert "half the pitch" in (tmp_path / "labels.unmapped.csv").read_text(encoding="utf-8")
    assert cli.main([*call, str(tmp_path / "none.json")]) == 2

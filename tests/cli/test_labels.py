"""`inspect-pop labels import`: labels of another tool, its list of what was not mapped, and its exit status."""

import json
from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.ingest.labels import read_labels


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

"""`inspect-pop check`: all faults at once, and the right exit status."""

import json
from pathlib import Path

import pytest

from inspect_pop import cli

Captured = pytest.CaptureFixture[str]


def test_a_clean_batch_is_status_0(small_batch: Path, capsys: Captured) -> None:
    assert cli.main(["check", str(small_batch)]) == 0
    assert capsys.readouterr().out == "1 boards, 0 faults\n"


def test_all_faults_at_once_and_status_1(small_batch: Path, small_board: Path, capsys: Captured) -> None:
    (small_board / "xray" / "U1_lower.tif").write_bytes(b"no TIFF")
    (small_board / "height" / "U1_pre_stack.tif").unlink()
    with (small_batch / "labels.csv").open("a") as labels:
        labels.write("PB2411-010204,U1,lower,A2,splendid,,,,\n")
    assert cli.main(["check", "--json", str(small_batch)]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["boards"] == 1
    assert {Path(f["thing"].partition(":")[0]).name for f in said["faults"]} == {"U1_lower.tif", "U1_pre_stack.tif", "labels.csv"}
    assert all(f["path"] and f["expected"] and f["found"] for f in said["faults"])


def test_nothing_to_check_is_status_2(tmp_path: Path, capsys: Captured) -> None:
    assert cli.main(["check", str(tmp_path)]) == 2
    assert "expected boards" in capsys.readouterr().err

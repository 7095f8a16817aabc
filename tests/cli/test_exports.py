"""`inspect-pop check`: all faults at once. `inspect-pop simulate`: a batch without faults, the same for the same seed."""

import json
from pathlib import Path

import pytest

from inspect_pop import cli

Captured = pytest.CaptureFixture[str]


def test_a_clean_batch_is_status_0(small_batch: Path, capsys: Captured) -> None:
    assert cli.main(["check", str(small_batch)]) == 0
    assert capsys.readouterr().out == "1 board, 0 faults\n"


def test_all_faults_at_once_and_status_1(small_batch: Path, small_board: Path, capsys: Captured) -> None:
    (small_board / "xray" / "U1_lower.tif").write_bytes(b"no TIFF")
    (small_board / "height" / "U1_pre_stack.tif").unlink()
    with (small_batch / "labels.csv").open("a") as labels:
        labels.write("PB2411-010204,U1,lower,A2,splendid,,,,\n")
    assert cli.main(["check", "--json", str(small_batch)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["boards"] == 1
    assert {Path(f["thing"].partition(":")[0]).name for f in report["faults"]} == {
        "U1_lower.tif",
        "U1_pre_stack.tif",
        "labels.csv",
    }
    assert all(f["path"] and f["expected"] and f["found"] for f in report["faults"])


def test_nothing_to_check_is_status_2(tmp_path: Path, capsys: Captured) -> None:
    assert cli.main(["check", str(tmp_path)]) == 2
    assert "expected boards" in capsys.readouterr().err


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_clean_labelled_batch_and_the_same_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert cli.main(["simulate", "--out", str(tmp_path / name), "--boards", "1", "--seed", "7", "--jobs", "1"]) == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert cli.main(["check", str(tmp_path / "one")]) == 0


def test_an_unknown_name_and_a_folder_in_use_are_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = str(tmp_path / "batch")
    assert cli.main(["simulate", "--out", batch, "--boards", "1", "--machine", "toaster", "--jobs", "1"]) == 2
    assert "toaster" in capsys.readouterr().err
    (tmp_path / "batch" / "boards").mkdir(parents=True)
    assert cli.main(["simulate", "--out", batch, "--boards", "1", "--jobs", "1"]) == 2

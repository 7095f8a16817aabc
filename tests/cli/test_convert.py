"""`inspect-pop convert`: what is printed, the quarantine list, and the exit status."""

import csv
from pathlib import Path

import pytest

from inspect_pop import cli
from tests.convert.boards import PIXEL_UM, draw_slices, slices, write_map, write_pictures
from tests.ingest import boards

KNOWN = (f"pixel_um = {PIXEL_UM}", f"z_um = {boards.Z_UM['lower']}", 'method = "laminography"')


def test_a_board_that_cannot_be_converted_is_listed_until_it_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pictures(tmp_path / "scans/S1_20260102030405/s", draw_slices())
    (tmp_path / "scans/S2_20260102030406/s").mkdir(parents=True)
    command = ["convert", str(tmp_path / "scans"), "--map", str(write_map(tmp_path, slices("s/*.png", *KNOWN)))]
    command += ["--out", str(tmp_path / "batch"), "--jobs", "1"]
    assert cli.main(command) == 1
    shown = capsys.readouterr()
    assert "1 board converted" in shown.out and "U1/lower polarity: solder_bright" in shown.out
    assert "S2_20260102030406: " in shown.err
    with (tmp_path / "batch/quarantine.csv").open(newline="") as file:
        ((path, reason),) = [(row["path"], row["reason"]) for row in csv.DictReader(file)]
    assert path.endswith("S2_20260102030406") and "found none" in reason
    write_pictures(tmp_path / "scans/S2_20260102030406/s", draw_slices())
    assert cli.main(command) == 0
    assert "1 board converted" in (out := capsys.readouterr().out) and "1 there already" in out
    assert not (tmp_path / "batch/quarantine.csv").exists()


def test_faulty_arguments_and_maps_are_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_map(tmp_path, slices("s/*.png", *KNOWN))
    (tmp_path / "scans").mkdir()
    assert cli.main(["convert", str(tmp_path / "scans"), "--map", str(path)]) == 2
    assert "--map FILE and --out BATCH" in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path / "scans"), "--map", str(path), "--out", str(tmp_path / "batch")]) == 2
    path.write_text(path.read_text() + "polarityy = 1\n")
    assert cli.main(["convert", str(tmp_path / "scans"), "--map", str(path), "--out", str(tmp_path / "batch")]) == 2
    assert "polarity" in capsys.readouterr().err
    assert not (tmp_path / "batch" / "boards").exists()

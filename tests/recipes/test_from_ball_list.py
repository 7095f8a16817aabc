"""Ball lists as CSV and XLSX."""

import zipfile
from pathlib import Path

import openpyxl
import pytest

from inspect_pop.core.errors import RecipeFault
from inspect_pop.recipes.from_lists import read_ball_list
from tests.recipes.samples import shared

ROWS = [("signal", "ball"), ("VDD", "A1"), ("DQ0", "A2"), ("DQ1", "A4"), ("GND", "J1"), ("CK", "K4")]


def test_names_and_pitch_give_places(tmp_path: Path) -> None:
    for separator in (",", ";", "\t"):
        path = tmp_path / "balls.csv"
        path.write_text("\n".join(separator.join(row) for row in ROWS), encoding="utf-8")
        draft = read_ball_list(path, 500.0, 650.0)
        assert draft.ball == ("A1", "A2", "A4", "J1", "K4")
        assert draft.x_um.tolist() == [-750.0, -250.0, 750.0, -750.0, 750.0]
        assert draft.y_um.tolist() == [2925.0, 2925.0, 2925.0, -2275.0, -2925.0], "no row I"
        assert draft.pitch_um == 500.0


def test_a_workbook(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append(row)
    book.save(tmp_path / "balls.xlsx")
    assert read_ball_list(tmp_path / "balls.xlsx", 500.0).ball == ("A1", "A2", "A4", "J1", "K4")
    (tmp_path / "cut.xlsx").write_bytes((tmp_path / "balls.xlsx").read_bytes()[:400])
    with pytest.raises(RecipeFault, match="damaged"):
        read_ball_list(tmp_path / "cut.xlsx", 500.0)


def test_a_workbook_that_unpacks_to_too_much(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet,
    ):
        for _ in range(260):
            sheet.write(bytes(1 << 20))
    with pytest.raises(RecipeFault, match="unpacked"):
        read_ball_list(tmp_path / "bomb.xlsx", 500.0)


def test_what_is_odd_is_said_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "part-bga16_pins.csv"
    path.write_text("ball\n" + "\n".join(f"{r}{c}" for r in "ABCD" for c in (1, 2, 4)), encoding="utf-8")
    assert any("says 16: --complete adds" in note for note in read_ball_list(path, 800.0).notes)
    whole = read_ball_list(path, 800.0, complete=True)
    assert len(whole.ball) == 16
    assert "4 balls that the list does not name were added" in whole.notes[0]
    path.write_text("ball\nA1\nA2\nA1\n", encoding="utf-8")
    with pytest.raises(RecipeFault, match="each ball once"):
        read_ball_list(path, 800.0)
    path.write_text("signal\nVDD\nGND\n", encoding="utf-8")
    with pytest.raises(RecipeFault, match="a column of ball names"):
        read_ball_list(path, 800.0)


def test_real_lists() -> None:
    draft = read_ball_list(shared("formats/cad/ballmap/xc7a35tcsg324-1_package_pins.csv"), 800.0)
    assert len(draft.ball) == 212
    assert "212 balls, where the name" in draft.notes[0]
    path = shared("formats/cad/ballmap/xc7a35tcsg324-1_package_pins.csv")
    assert len(read_ball_list(path, 800.0, complete=True).ball) == 324

"""Pages as files: names that no serial can break, whole or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_pop.core.errors import StoreFault
from inspect_pop.report.write import board_file_name, write_board_report, write_page, write_run_report
from tests.factories import make_inspection
from tests.report.recipes import recipe_of


@given(st.text(min_size=1, max_size=128))
def test_a_file_name_is_plain_whatever_the_serial(serial: str) -> None:
    name = board_file_name(serial, "r1")
    assert Path(name).name == name and name.endswith(".html")
    assert len(name) <= 80 and name.isascii() and not name.startswith((".", "-"))


@pytest.mark.parametrize("pair", [("a/b", "a_b"), ("A", "a"), ("板1", "板2"), ("..", "."), ("x\x00y", "x_y")])
def test_serials_that_look_alike_get_different_names(pair: tuple[str, str]) -> None:
    first, second = (board_file_name(s, "r1").lower() for s in pair)
    assert first != second


def test_a_reinspection_gets_its_own_page() -> None:
    assert board_file_name("PB-1", "r1") != board_file_name("PB-1", "r2")


def test_the_run_links_to_the_pages_that_were_written(tmp_path: Path) -> None:
    first, second = make_inspection("../../etc/passwd", defects={"U1.lower.A1": "open"}), make_inspection("PB-2")
    path = write_board_report(tmp_path, first, recipe_of(first))
    assert path.parent == tmp_path / "boards"
    index = write_run_report(tmp_path, [first.board, second.board], [("x", "y")])
    text = index.read_text(encoding="utf-8")
    assert f'href="boards/{path.name}"' in text
    assert text.count('href="boards/') == 1  # the second has no page, and so no dead link
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted([path.name, "index.html"])


def test_writing_again_replaces_the_page(tmp_path: Path) -> None:
    inspection = make_inspection()
    first = write_board_report(tmp_path, inspection, recipe_of(inspection))
    before = first.read_bytes()
    assert write_board_report(tmp_path, inspection, recipe_of(inspection)) == first
    assert first.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_a_declared_fault(tmp_path: Path) -> None:
    (tmp_path / "boards").write_text("a file where the folder should be")
    with pytest.raises(StoreFault, match="expected a page written there"):
        write_page(tmp_path / "boards" / "x.html", "text")

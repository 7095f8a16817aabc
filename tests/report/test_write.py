"""Pages as files: names that no serial can break, whole or not at all; the run's page with its totals."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_pop.core.errors import StoreFault
from inspect_pop.report.board_page import count_joints
from inspect_pop.report.write import (
    CountedBoard,
    count_totals,
    name_board_file,
    render_run_page,
    write_board_report,
    write_page,
    write_run_report,
)
from tests.factories import make_inspection
from tests.report.recipes import recipe_of


@given(st.text(min_size=1, max_size=128))
def test_a_file_name_is_plain_whatever_the_serial(serial: str) -> None:
    name = name_board_file(serial, "r1")
    assert Path(name).name == name and name.endswith(".html")
    assert len(name) <= 80 and name.isascii() and not name.startswith((".", "-"))


@pytest.mark.parametrize("pair", [("a/b", "a_b"), ("A", "a"), ("板1", "板2"), ("..", "."), ("x\x00y", "x_y")])
def test_serials_that_look_alike_get_different_names(pair: tuple[str, str]) -> None:
    first, second = (name_board_file(s, "r1").lower() for s in pair)
    assert first != second


def test_a_reinspection_gets_its_own_page() -> None:
    assert name_board_file("PB-1", "r1") != name_board_file("PB-1", "r2")


def test_the_run_links_to_the_pages_that_were_written(tmp_path: Path) -> None:
    first, second = make_inspection("../../etc/passwd", defects={"U1.lower.A1": "open"}), make_inspection("PB-2")
    path = write_board_report(tmp_path, first, recipe_of(first))
    assert path.parent == tmp_path / "boards"
    index = write_run_report(tmp_path, [(i.board, count_joints(i.joints)) for i in (first, second)], [("x", "y")])
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


def test_matplotlib_is_imported_for_yield_pages_alone() -> None:
    program = "import sys, inspect_pop.report.write; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def counted(*args: Any, **kwargs: Any) -> CountedBoard:
    inspection = make_inspection(*args, **kwargs)
    return inspection.board, count_joints(inspection.joints)


def test_totals_count_each_joint_once() -> None:
    doubt = {"U1.lower.A1": "near", "U1.lower.A2": "near"}  # A2 looks open: it is for review, and no failure
    boards = [
        counted("A"),
        counted("B", defects={"U1.lower.A1": "open", "U1.upper.A1": "open"}),
        counted("C", reviews=doubt, defects={"U1.lower.A2": "open"}, undecided=["U1.upper.A1"]),
    ]
    found = count_totals(boards, quarantined=2)
    assert {v: s.count for v, s in found.verdicts.items()} == {"pass": 1, "fail": 1, "review": 1}
    assert (found.verdicts["pass"].low, found.verdicts["pass"].high) == pytest.approx((0.0084, 0.9057), abs=1e-4)  # 1 of 3
    assert (found.joints, found.failed["open"].count, found.review.count, found.quarantined) == (75, 2, 3, 2)


def test_the_page_lists_boards_with_links_and_quarantine_with_reasons() -> None:
    boards = [counted("PB-1"), counted("PB-2", defects={"U1.lower.A1": "open"}, cause="warpage")]
    page = render_run_page(boards, [("boards/PB-3", "<cut short>")], {boards[0][0].record: "boards/PB-1.html"})
    assert '<a href="boards/PB-1.html">PB-1</a>' in page
    assert ">PB-2<" in page and "PB-2</a>" not in page
    assert "&lt;cut short&gt;" in page and "1 in quarantine" in page


def test_a_run_in_which_everything_went_to_quarantine_still_has_its_page() -> None:
    page = render_run_page([], [("boards/PB-3", "cut short")], {})
    assert "No board was inspected." in page and "cut short" in page


def test_thousands_of_boards_stay_light() -> None:
    boards = [counted("PB-1", defects={"U1.lower.A1": "open"})] * 5000
    assert len(render_run_page(boards, [], {}).encode()) < 4_000_000

"""The run's page: totals with intervals, quarantine, every board."""

import pytest

from inspect_pop.report.run_page import run_page, totals
from tests.factories import make_inspection


def test_totals_count_boards_joints_and_labels() -> None:
    boards = [
        make_inspection("A").board,
        make_inspection("B", defects={"U1.lower.A1": "open", "U1.upper.A1": "open"}).board,
        make_inspection("C", reviews={"U1.lower.A1": "near"}, undecided=["U1.upper.A1"]).board,
    ]
    found = totals(boards, quarantined=2)
    assert {v: s.count for v, s in found.verdicts.items()} == {"pass": 1, "fail": 1, "review": 1}
    assert (found.verdicts["pass"].low, found.verdicts["pass"].high) == pytest.approx((0.0084, 0.9057), abs=1e-4)  # 1 of 3
    assert (found.joints, found.labels["open"].count, found.undecided, found.review, found.quarantined) == (75, 2, 1, 2, 2)


def test_the_page_lists_boards_with_links_and_quarantine_with_reasons() -> None:
    boards = [make_inspection("PB-1").board, make_inspection("PB-2", defects={"U1.lower.A1": "open"}, cause="warpage").board]
    page = run_page(boards, [("boards/PB-3", "<cut short>")], {boards[0].record: "boards/PB-1.html"})
    assert '<a href="boards/PB-1.html">PB-1</a>' in page
    assert ">PB-2<" in page and "PB-2</a>" not in page
    assert "&lt;cut short&gt;" in page and "1 in quarantine" in page


def test_a_run_in_which_everything_went_to_quarantine_still_has_its_page() -> None:
    page = run_page([], [("boards/PB-3", "cut short")], {})
    assert "No board was inspected." in page and "cut short" in page


def test_thousands_of_boards_stay_light() -> None:
    boards = [make_inspection("PB-1", defects={"U1.lower.A1": "open"}).board] * 5000
    assert len(run_page(boards, [], {}).encode()) < 4_000_000

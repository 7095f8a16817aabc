"""Labels belong to an inspection; labels and boards that do not meet are named."""

from dataclasses import replace
from pathlib import Path

import pytest

from inspect_pop.evaluate.label_book import LabelBook, describe_unmatched, find_changed_serials, match_inspections
from inspect_pop.ingest import BoardExport, open_export
from inspect_pop.ingest.pop_export import LabelledJoint
from tests.ingest.boards import SERIAL, write_board

FIRST, SECOND = "2026-11-22T08:00:00+01:00", "2026-11-22T09:00:00+00:00"
A1 = ("U1", "lower", "A1")


@pytest.fixture
def exports(tmp_path: Path) -> list[BoardExport]:
    """A board that was inspected, repaired and inspected again, later one first."""
    export = open_export(write_board(tmp_path / "batch"))
    second = replace(export, path=tmp_path / "second", inspected_at=SECOND, digest="2" * 64)
    return [second, replace(export, path=tmp_path / "first", inspected_at=FIRST, digest="1" * 64)]


def make_book(labelled_at: str = "", inspected_at: str = "") -> LabelBook:
    return LabelBook({(SERIAL, *A1): LabelledJoint("open", "", "", labelled_at, "", 2, inspected_at)}, ())


@pytest.mark.parametrize(
    ("labelled_at", "inspected_at", "owner"),
    [
        ("2026-11-22T07:30:00Z", "", "first"),  # between the two
        ("2026-11-22T12:00:00Z", "", None),  # of either
        ("2026-11-22T06:00:00Z", "", None),  # before both
        ("2026-11-22T08:30:00", "", None),  # without an offset
        ("", "", None),
        ("2026-11-22T12:00:00Z", "2026-11-22T07:00:00Z", "first"),
        ("2026-11-22T07:30:00Z", "2026-11-22T09:00:00+00:00", "second"),
        ("2026-11-22T07:30:00Z", "2026-11-23T09:00:00+00:00", None),
    ],
)
def test_a_label_belongs_to_one_inspection_or_is_not_used(
    exports: list[BoardExport], labelled_at: str, inspected_at: str, owner: str | None
) -> None:
    matched = match_inspections(make_book(labelled_at, inspected_at), exports)
    assert {path.name: labels for path, labels in matched.by_path.items() if labels} == ({owner: {A1: "open"}} if owner else {})
    assert len(matched.unclear) == (owner is None)
    assert all(f"{SERIAL} was inspected again" in line for line in matched.unclear)


def test_a_board_with_one_inspection_has_all_its_labels(exports: list[BoardExport]) -> None:
    for book in (make_book(), make_book("2020-01-01T00:00:00Z")):
        assert match_inspections(book, exports[:1]).by_path == {exports[0].path: {A1: "open"}}
    assert match_inspections(make_book(inspected_at=FIRST), exports[:1]).by_path == {exports[0].path: {}}


def test_neither_a_copy_nor_an_export_without_slices_takes_labels(exports: list[BoardExport]) -> None:
    aoi = replace(exports[1], path=Path("aoi"), digest="3" * 64, images=exports[0].height_maps)
    matched = match_inspections(make_book(), [aoi, replace(exports[0], path=Path("copy")), exports[0]])
    assert [len(labels) for labels in matched.by_path.values()] == [1]
    assert matched.unclear == ()


@pytest.mark.parametrize(
    ("label", "board"),
    [("123", "000123"), ("2.41E+08", "2411E5"), ("1.23457E+11", "123456789012"), ("pb-7 ", "PB-7"), ("7.0", "007")],
)
def test_a_serial_that_a_spreadsheet_changed_is_recognised(label: str, board: str) -> None:
    assert find_changed_serials([label], ["B1", board]) == [(label, board)]
    assert any(repr(label) in line and repr(board) in line for line in describe_unmatched([board], [label])[2:])


@pytest.mark.parametrize(("label", "board"), [("124", "000123"), ("B1", "B2"), ("nan", "0012")])
def test_other_serials_are_no_pair(label: str, board: str) -> None:
    assert find_changed_serials([label], [board]) == []


def test_boards_and_labels_that_do_not_meet_are_named() -> None:
    assert describe_unmatched(["B1", "B2"], ["B2", "B3"]) == [
        "boards without labels (1): 'B1'",
        "labelled serials without a board (1): 'B3'",
    ]
    assert describe_unmatched(["B1"], ["B1"]) == []

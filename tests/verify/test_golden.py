"""The golden board of a product: chosen by an engineer, else the latest that passed and can be cut again."""

from pathlib import Path

import pytest

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Store, open_store
from inspect_pop.verify.board import choose_golden, find_golden, forget_golden, read_golden_window
from inspect_pop.verify.windows import ExportPlace, cut_windows
from inspect_pop.verify.windows_file import keep_windows
from tests.verify.boards import make_seen_board


def add(store: Store, serial: str, export: Path | None, **options: object) -> str:
    board, recipe = make_seen_board(serial, **options)  # type: ignore[arg-type]
    place = None if export is None else ExportPlace(str(export), str(export.parent), "d")
    keep_windows(store, cut_windows(board, recipe, place))
    store.write(board)
    return board.board.record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "records.db")


def test_the_latest_board_that_passed_and_is_still_there(store: Store, tmp_path: Path) -> None:
    assert find_golden(store, "APX-17") is None
    early = add(store, "A", tmp_path, inspected_at="2026-03-01T07:00:00+01:00")
    add(store, "B", tmp_path / "gone", inspected_at="2026-03-02T07:00:00+01:00")
    add(store, "C", None, inspected_at="2026-03-03T07:00:00+01:00")
    add(store, "D", tmp_path, inspected_at="2026-03-04T07:00:00+01:00", defects={"U1.lower.A1": "open"})
    add(store, "E", tmp_path, inspected_at="2026-03-05T07:00:00+01:00", product="OTHER")
    found = find_golden(store, "APX-17")
    assert found is not None and (found.record, found.serial, found.chosen_by) == (early, "A", None)


def test_a_chosen_board_is_kept_whole_until_the_choice_is_withdrawn(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = add(store, "A", tmp_path)
    board, recipe = make_seen_board("A", defects={"U1.lower.D4": "open"})
    whole = cut_windows(board, recipe, None)
    monkeypatch.setattr("inspect_pop.verify.board.cut_all", lambda _: whole)
    chosen = choose_golden(store, "APX-17", record, by="eva")
    assert (chosen.record, chosen.serial, chosen.chosen_by) == (record, "A", "eva")
    add(store, "B", tmp_path, inspected_at="2027-03-02T07:00:00+01:00")
    assert find_golden(store, "APX-17") == chosen
    window = read_golden_window(store, record, "U1.lower.D4")
    assert window is not None and (window.codes == whole.windows[0].codes).all() == (window.joint == whole.windows[0].joint)
    assert read_golden_window(store, record, "U1.lower.ZZ") is None
    forget_golden(store, "APX-17", by="max")
    assert read_golden_window(store, record, "U1.lower.D4") is None
    found = find_golden(store, "APX-17")
    assert found is not None and (found.serial, found.chosen_by) == ("B", None)
    forget_golden(store, "APX-17", by="max")  # there is none any more
    trail = [(e.who, e.action, e.subject, e.before, e.after) for e in store.list_audit()]
    assert trail == [
        ("eva", "golden board chosen", "APX-17", None, {"record": record}),
        ("max", "golden board withdrawn", "APX-17", {"record": record}, None),
    ]


def test_what_cannot_be_a_golden_board_is_refused(store: Store, tmp_path: Path) -> None:
    failed = add(store, "F", tmp_path, defects={"U1.lower.A1": "open"})
    other = add(store, "O", tmp_path, product="OTHER")
    bare, _ = make_seen_board("N")
    store.write(bare)
    for record, found in ((failed, "verdict fail"), (other, "one of OTHER"), ("none", "none"), (bare.board.record, "found none")):
        with pytest.raises(UsageFault, match=found):
            choose_golden(store, "APX-17", record, by="eva")


def test_a_damaged_note_is_said(store: Store, tmp_path: Path) -> None:
    add(store, "A", tmp_path)
    for note in ("{", '{"product": 1}'):
        store.require_files().write_note("golden-APX-17.json", note, is_new=False)
        with pytest.raises(StoreFault, match="the note of a golden board"):
            find_golden(store, "APX-17")

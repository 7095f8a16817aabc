"""The file of a record's windows: read as written, small, and never in a record's way."""

from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.store import Store, open_store
from inspect_pop.verify.windows import ExportPlace, JointWindow, WindowSet, cut_windows
from inspect_pop.verify.windows_file import keep_windows, pack_windows, read_stored, read_window, read_windows
from tests.verify.boards import make_seen_board

PLACE = ExportPlace("/exports/B", "/exports", "d" * 64)


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Store, WindowSet]:
    board, recipe = make_seen_board("S", defects={"U1.lower.B2": "open"}, reviews={"U1.upper.A1": "near"}, lot="L/1")
    store = open_store(tmp_path / "records.db")
    windows = cut_windows(board, recipe, PLACE)
    keep_windows(store, windows)
    store.write(board)
    return store, windows


def assert_same(found: JointWindow | None, wanted: JointWindow) -> None:
    assert found is not None
    np.testing.assert_array_equal(found.codes, wanted.codes)
    assert found.heights is not None and wanted.heights is not None
    np.testing.assert_array_equal(found.heights.codes, wanted.heights.codes)
    for a, b in ((found, wanted), (found.heights, wanted.heights)):
        assert {k: v for k, v in vars(a).items() if k not in {"codes", "heights"}} == {
            k: v for k, v in vars(b).items() if k not in {"codes", "heights"}
        }


def test_windows_are_read_as_they_were_cut(kept: tuple[Store, WindowSet]) -> None:
    store, windows = kept
    found = read_windows(store, windows.record)
    assert found is not None
    assert (found.export, found.references, found.placements) == (PLACE, windows.references, windows.placements)
    assert found.roles == {w.joint: w.role for w in windows.windows}
    for window in windows.windows:
        assert_same(read_window(store.require_files(), found.path, window.joint), window)
    assert read_window(store.require_files(), found.path, "U1.lower.D4") is None


def test_a_record_without_windows_has_none(kept: tuple[Store, WindowSet]) -> None:
    store, _ = kept
    board, _ = make_seen_board("T")
    store.write(board)
    assert read_windows(store, board.board.record) is None
    assert read_windows(store, "no record") is None
    assert read_window(store.require_files(), "windows/day=2026-01-01/lot=L/none.parquet", "U1.lower.A1") is None


def test_a_damaged_file_is_said(kept: tuple[Store, WindowSet]) -> None:
    store, windows = kept
    found = read_windows(store, windows.record)
    assert found is not None
    files = store.require_files()
    for content in (b"no parquet", pack_windows(windows)[:-100]):
        files.save(found.path, content)
        with pytest.raises(StoreFault, match="expected a Parquet file of windows"):
            read_stored(files, found.path)
        with pytest.raises(StoreFault, match="expected a Parquet file of windows"):
            read_window(files, found.path, "U1.lower.B2")


def test_a_folder_that_cannot_be_written_is_said(kept: tuple[Store, WindowSet]) -> None:
    store, windows = kept
    found = read_windows(store, windows.record)
    assert found is not None
    folder = Path(store.require_files().address(found.path)).parent
    (folder / f"{windows.record}.parquet").unlink()
    folder.rmdir()
    folder.write_text("in the way")
    with pytest.raises(StoreFault, match="expected a file that can be written"):
        keep_windows(store, windows)


def test_an_uploaded_board_has_no_export(tmp_path: Path) -> None:
    board, recipe = make_seen_board("S", defects={"U1.lower.B2": "open"})
    with open_store(tmp_path / "records.db") as store:
        keep_windows(store, cut_windows(board, recipe, None))
        store.write(board)
        found = read_windows(store, board.board.record)
    assert found is not None and found.export is None and "U1.lower.B2" in found.roles

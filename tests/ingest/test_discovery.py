"""Boards and labels in folders."""

import os
from pathlib import Path

import pytest

from inspect_pop.core.errors import FileFault, PathFault, UsageFault
from inspect_pop.ingest import BoardPlace, find_exports, find_labels, find_passed_over, open_export
from inspect_pop.ingest import contract as find
from tests.ingest.boards import write_board


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Three boards at different depths."""
    for name in ("B2", "B10", "deep/er/B1"):
        write_board(tmp_path / "batch", name)
    return tmp_path / "batch"


def test_all_boards_sorted_with_the_batch_as_their_root(batch: Path) -> None:
    boards = batch / "boards"
    assert find_exports([batch]) == [(boards / "B10", batch), (boards / "B2", batch), (boards / "deep/er/B1", batch)]
    assert all(open_export(board, root).path == board for board, root in find_exports([str(batch)]))


def test_a_board_itself_has_the_folder_two_levels_above_it_as_its_root(batch: Path) -> None:
    board = batch / "boards/B2"
    assert find_exports([board]) == [(board, batch)]
    assert find_exports([board / "export.json"]) == [(board, batch)]


def test_a_board_is_found_once(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(batch)
    (batch / "again").symlink_to(batch / "boards/B2")
    found = find_exports([batch, "boards", batch / "boards/../boards/B2", batch / "again", "."])
    assert [board.name for board, _ in found] == ["B10", "B2", "B1"]


def test_links_into_the_batch_and_to_other_files_are_not_followed(batch: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (batch / "linked").symlink_to(tmp_path / "recipes")
    (batch / "nowhere").symlink_to(tmp_path / "nowhere")
    (batch / "circle").symlink_to(batch)
    assert len(find_exports([batch])) == 3


@pytest.mark.parametrize("link", ["boards/B9", "linked", "boards/line"])
def test_a_linked_board_outside_is_named_and_refused(batch: Path, tmp_path: Path, link: str) -> None:
    """The link leads to a board, to a batch, or to a folder of boards."""
    outside = write_board(tmp_path / "other", "B9")
    (batch / link).symlink_to({"boards/B9": outside, "linked": tmp_path / "other"}.get(link, outside.parent))
    found = find_exports([batch])
    assert len(found) == 4
    (linked,) = [board for board, _ in found if "B9" in board.name]
    with pytest.raises(PathFault, match=f"expected a board inside {batch}, found {outside}"):
        open_export(linked, batch)
    assert len(find_exports([batch, tmp_path / "other"])) == 4


@pytest.mark.parametrize(
    "name",
    [
        "#recycle",
        ".snapshot/hourly.0",
        "$RECYCLE.BIN/S-1-5-21",
        "@Recycle",
        "lost+found",
        "~snapshot",
        ".Trash-1000",
        "files_trashbin/files",
        "files_versions",
        ".stversions",
    ],
)
def test_boards_in_hidden_and_system_folders_are_passed_over_and_named(batch: Path, name: str) -> None:
    folder = batch / "boards" / name
    write_board(folder, "OLD")
    (folder / "labels.csv").write_text("serial\n")
    assert [board.name for board, _ in find_exports([batch])] == ["B10", "B2", "B1"]
    assert find_labels([batch]) == []
    assert find_passed_over([batch]) == [batch / "boards" / name.split("/", maxsplit=1)[0]]
    assert len(find_exports([folder])) == 1  # given itself, it is searched
    assert find_passed_over([folder]) == []


def test_a_batch_whose_boards_are_all_passed_over_says_where_they_are(tmp_path: Path) -> None:
    write_board(tmp_path / "b/#recycle", "OLD")
    with pytest.raises(UsageFault, match=r"Boards lie in .*#recycle: give that folder itself"):
        find_exports([tmp_path / "b"])


@pytest.mark.parametrize("name", ["EXPORT.JSON", "Export.json"])
def test_a_manifest_of_other_case_is_named(batch: Path, name: str) -> None:
    (batch / "boards/B2/export.json").rename(batch / "boards/B2" / name)
    assert len(find_exports([batch])) == 3
    with pytest.raises(FileFault, match=f"found {name}. Rename it to export.json"):
        open_export(batch / "boards/B2", batch)


def test_labels_of_other_case_are_labels(batch: Path) -> None:
    (batch / "Labels.CSV").write_text("serial\n")
    assert find_labels([batch]) == [batch / "Labels.CSV"]


def test_nothing_below_a_board_is_a_board(batch: Path) -> None:
    (batch / "boards/B2/xray/export.json").write_text("{}")
    assert len(find_exports([batch])) == 3


@pytest.mark.parametrize("name", ["#12", "$4711", "@B1", "条码 7", "recipes", "labels.csv"])
def test_names_of_folders_do_not_matter(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "export.json").write_text("{}")
    assert [board for board, _ in find_exports([tmp_path])] == [tmp_path / name]


def test_paths_without_boards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageFault, match=r"found none.*inspect-pop convert"):
        find_exports([tmp_path])
    with pytest.raises(UsageFault, match="no path given"):
        find_exports([])


@pytest.mark.parametrize("name", ["nowhere", "a\0b", "x" * 400])
def test_paths_that_are_not_there_are_refused(batch: Path, name: str) -> None:
    with pytest.raises(UsageFault, match="nothing there"):
        find_exports([batch, batch / name])


def test_a_folder_that_cannot_be_listed_is_not_passed_over(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = batch / "boards/deep"
    walk = os.walk

    def with_locked(top, onerror=None, followlinks=False):  # type: ignore[no-untyped-def]
        for folder, folders, files in walk(top, followlinks=followlinks):
            if "deep" in folders:
                folders.remove("deep")
                onerror(PermissionError(13, "Permission denied", str(locked)))
            yield folder, folders, files

    monkeypatch.setattr(find.os, "walk", with_locked)
    assert [board.name for board, _ in find_exports([batch])] == ["B10", "B2", "deep"]
    with pytest.raises(FileFault, match="deep"):
        open_export(locked, batch)


def test_labels_anywhere_in_a_batch(batch: Path) -> None:
    assert find_labels([batch]) == []
    for folder in (batch, batch / "boards/deep"):
        (folder / "labels.csv").write_text("serial\n")
    assert find_labels([batch, batch]) == [batch / "boards/deep/labels.csv", batch / "labels.csv"]


def test_labels_given_themselves_or_by_a_board(batch: Path) -> None:
    (batch / "labels.csv").write_text("serial\n")
    (batch / "monday.csv").write_text("serial\n")
    assert find_labels([batch / "monday.csv"]) == [batch / "monday.csv"]
    assert find_labels([batch / "boards/B2"]) == [batch / "labels.csv"]
    assert find_labels([batch / "boards/B2/export.json"]) == [batch / "labels.csv"]
    with pytest.raises(UsageFault):
        find_labels([batch / "nowhere"])


def test_a_board_with_its_root_keeps_it_and_leaves_the_labels_of_its_batch(batch: Path) -> None:
    (batch / "labels.csv").write_text("serial\n")
    place = BoardPlace(batch / "boards" / "B2", batch.parent)
    assert find_exports([place]) == [(batch / "boards" / "B2", batch.parent)]
    assert find_labels([place]) == []
    assert find_labels([place, batch]) == [batch / "labels.csv"]
    assert find_passed_over([place]) == []
    assert str(place) == str(batch / "boards" / "B2")


def test_a_label_file_is_no_board(batch: Path) -> None:
    (batch / "labels.csv").write_text("serial\n")
    assert len(find_exports([batch / "labels.csv", batch])) == 3

"""Every board once, in a fixed order, with the right root."""

from pathlib import Path

import pytest

from inspect_pop.batch.find import find_jobs
from inspect_pop.errors import UsageFault


def is_board(path: Path) -> bool:
    return (path / "export.json").is_file()


def make(batch: Path, *names: str) -> Path:
    for name in names:
        (batch / name).mkdir(parents=True)
        (batch / name / "export.json").write_text("{}")
    return batch


def test_order_and_root(tmp_path: Path) -> None:
    batch = make(tmp_path / "batch", "boards/b2", "boards/b10", "deep/er/b1")
    jobs = find_jobs([batch], is_board)
    assert [j.path.relative_to(batch).as_posix() for j in jobs] == ["boards/b10", "boards/b2", "deep/er/b1"]
    assert [j.order for j in jobs] == [0, 1, 2]
    assert {j.root for j in jobs} == {batch}


def test_a_board_given_itself_has_the_root_two_above(tmp_path: Path) -> None:
    batch = make(tmp_path / "batch", "boards/b1")
    (job,) = find_jobs([batch / "boards" / "b1"], is_board)
    assert job.root == batch


def test_a_named_root_is_taken(tmp_path: Path) -> None:
    batch = make(tmp_path / "batch", "boards/b1")
    (job,) = find_jobs([batch / "boards"], is_board, root=tmp_path)
    assert job.root == tmp_path


def test_a_board_reached_twice_is_one(tmp_path: Path) -> None:
    batch = make(tmp_path / "batch", "boards/b1", "boards/b2")
    assert len(find_jobs([batch, batch / "boards" / "b2", batch], is_board)) == 2


def test_a_board_inside_a_board_is_not_looked_for(tmp_path: Path) -> None:
    batch = make(tmp_path / "batch", "b1", "b1/copy")
    assert len(find_jobs([batch], is_board)) == 1


def test_hidden_folders_and_links_are_passed_by(tmp_path: Path) -> None:
    batch = make(tmp_path / "batch", "b1", ".work/b2")
    outside = make(tmp_path / "outside", "b3")
    (batch / "link").symlink_to(outside, target_is_directory=True)
    (batch / "loop").symlink_to(batch, target_is_directory=True)
    assert [j.path.name for j in find_jobs([batch], is_board)] == ["b1"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="nothing there"):
        find_jobs([tmp_path / "absent"], is_board)


def test_no_board_there(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="expected boards"):
        find_jobs([tmp_path], is_board)

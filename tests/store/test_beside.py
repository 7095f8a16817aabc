"""A record's file on its way: there when it was placed, gone when it was not."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from inspect_pop.store.beside import Beside
from inspect_pop.store.joint_files import LocalFiles, Waiting
from tests.factories import make_inspection

BOARD = make_inspection("S")


def files_below(folder: Path) -> list[str]:
    return [path.suffix for path in folder.rglob("*") if path.is_file()]


def test_a_file_that_was_placed_stays(tmp_path: Path) -> None:
    with Beside(LocalFiles(tmp_path), BOARD) as file:
        file.wait()
        file.place()
    assert files_below(tmp_path) == [".parquet"]


def test_a_file_that_was_not_placed_is_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Beside(LocalFiles(tmp_path), BOARD) as file:
        file.wait()
        assert files_below(tmp_path) == [""]
        raise KeyError
    assert files_below(tmp_path) == []


def test_a_disk_that_fails_late_is_told_before_the_file_counts(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Failing(LocalFiles):
        def secure(self, waiting: Waiting) -> None:
            raise OSError(5, "Input/output error")

    with Beside(Failing(tmp_path), BOARD) as file, pytest.raises(OSError, match="Input/output"):
        file.wait()
    assert files_below(tmp_path) == []


def test_without_files_there_is_nothing_to_wait_for() -> None:
    with Beside(None, BOARD) as file:
        file.wait()
        file.place()

"""A record's file on its way: there when it was placed, gone when it was not."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from inspect_pop.store import open_store
from inspect_pop.store.joint_files import Beside, LocalFiles, Waiting
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


@dataclass(frozen=True)
class Watched(LocalFiles):
    """Tells, when a file goes to the disk, whether somebody else could write into the database at that moment."""

    database: Path = Path()
    near: bool = True

    @property
    def is_near(self) -> bool:
        return self.near

    def place(self, waiting: Waiting) -> None:
        self._note("place")
        super().place(waiting)

    def secure(self, waiting: Waiting) -> None:
        super().secure(waiting)
        self._note("secure")

    def _note(self, what: str) -> None:
        with closing(sqlite3.connect(self.database, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                free = True
            except sqlite3.OperationalError:
                free = False
        with (self.base / "noted").open("a") as notes:
            notes.write(f"{what} {free}\n")


def test_nobody_waits_for_an_upload_but_whoever_uploads(tmp_path: Path) -> None:
    """An upload is over before the transaction begins; the file gets its name within it."""
    with open_store(tmp_path / "r.db") as store:
        store._files = Watched(tmp_path, tmp_path / "r.db", near=False)
        store.write(BOARD)
    assert (tmp_path / "noted").read_text() == "secure True\nplace False\n"


def test_a_near_file_gets_its_name_within_the_transaction(tmp_path: Path) -> None:
    with open_store(tmp_path / "r.db") as store:
        store._files = Watched(tmp_path, tmp_path / "r.db")
        store.write(BOARD)
    assert (tmp_path / "noted").read_text().splitlines()[-1] == "place False"

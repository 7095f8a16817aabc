"""Files of joints: where they are, which ones count, how they are merged, and what a crash leaves."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.store import Store, open_store
from inspect_pop.store.joint_files import BackgroundJointWriter, LocalFiles, PendingFile, joint_file_path, partition_path
from inspect_pop.store.ownership import MARKER
from tests.factories import make_inspection

DAYS = ("2026-03-02T08:00:00+01:00", "2026-03-03T08:00:00+01:00")


@pytest.fixture
def filled(store: Store) -> Store:
    """Two days of two lots, three boards each."""
    for day in DAYS:
        for lot in ("L1", None):
            for k in range(3):
                store.write(make_inspection(f"{day[:10]}/{lot}/{k}", inspected_at=day, lot=lot))
    return store


def files_of(tmp_path: Path) -> set[str]:
    found = {p.relative_to(tmp_path / "files").as_posix() for p in (tmp_path / "files").rglob("*") if p.is_file()}
    return found - {MARKER}


def test_a_partition_is_a_folder_whatever_the_lot_is_called() -> None:
    assert partition_path("2026-03-02", "L-1") == "joints/day=2026-03-02/lot=L-1"
    assert partition_path("2026-03-02", "../a b%") == "joints/day=2026-03-02/lot=..%2Fa%20b%25"
    assert partition_path("2026-03-02", None) == "joints/day=2026-03-02/lot=__HIVE_DEFAULT_PARTITION__"
    long = [partition_path("2026-03-02", "日" * 128 + end).rpartition("/")[2] for end in "ab"]
    assert all(len(name) < 200 for name in long)
    assert long[0] != long[1]
    assert "/" not in joint_file_path("2026-03-02", "L", "../../x").removeprefix("joints/day=2026-03-02/lot=L/")


def test_a_day_or_a_lot_is_read_alone(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    whole = LocalFiles.read
    monkeypatch.setattr(LocalFiles, "read", lambda self, path, records=None: read.append(path) or whole(self, path, records))
    table = filled.joints(day="2026-03-02", lot="L1")
    assert table.num_rows == 75
    assert {p.rpartition("/")[0] for p in read} == {"joints/day=2026-03-02/lot=L1"}
    assert filled.joints(lot="L1").num_rows == 150
    assert filled.joints(day="2026-03-03").num_rows == 150
    assert filled.joints().num_rows == 300


def test_merging_changes_no_answer(filled: Store, tmp_path: Path) -> None:
    before, first = filled.joints(), filled.board("2026-03-02/None/1")[0].board.record
    one = filled.inspection(first)
    done = filled.compact()
    assert (done.merged, done.into) == (12, 4)
    assert len(files_of(tmp_path)) == 4
    assert filled.joints().equals(before)
    again = filled.inspection(first)
    assert again.board == one.board
    for name in one.joints.names:
        np.testing.assert_array_equal(again.joints[name], one.joints[name])


def test_merging_goes_on_from_where_it_was(filled: Store, tmp_path: Path) -> None:
    assert filled.compact(before="2026-03-03").merged == 6
    assert filled.compact(before="2026-03-03").merged == 0
    filled.write(make_inspection("late", inspected_at=DAYS[0], lot="L1"))
    assert filled.compact(before="2026-03-03").merged == 0  # a single file is not worth it
    filled.write(make_inspection("later", inspected_at=DAYS[0], lot="L1"))
    assert filled.compact(largest=2).merged == 6  # both late ones, and two of each three of the other day
    assert filled.joints().num_rows == 350


def test_a_merged_file_without_its_commit_is_ignored(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = filled.joints()

    def die(self: LocalFiles, waiting: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "place", die)
        with pytest.raises(StoreFault, match="killed"):
            filled.compact()
    assert filled.joints().equals(before)
    assert filled.compact().merged == 12


def test_small_files_that_a_crash_left_after_the_merge_are_removed(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled.joints()
    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "remove", lambda self, path: None)
        filled.compact()
    assert len(files_of(tmp_path)) == 16
    assert filled.joints().equals(before)
    assert len(filled.repair(older_than_s=0)) == 12
    assert len(files_of(tmp_path)) == 4
    assert filled.joints().equals(before)


def test_a_reader_whose_file_was_merged_away_finds_the_new_one(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, merged = LocalFiles.read, []

    def read(self: LocalFiles, path: str, records: object = None) -> object:
        if not merged:
            merged.append(True)
            filled.compact()
        return whole(self, path, records)

    monkeypatch.setattr(LocalFiles, "read", read)
    assert filled.joints(day="2026-03-02", lot="L1").num_rows == 75


def test_a_file_without_its_record_is_not_there(filled: Store, tmp_path: Path) -> None:
    orphan = make_inspection("orphan", lot="L1", inspected_at=DAYS[0], record="orphan")
    with BackgroundJointWriter(LocalFiles(tmp_path / "files"), orphan) as file:
        file.place()
    assert filled.joints(day="2026-03-02", lot="L1").num_rows == 75
    assert filled.repair() == []  # too young to be sure
    assert filled.repair(older_than_s=0) == ["joints/day=2026-03-02/lot=L1/orphan.parquet"]
    assert len(files_of(tmp_path)) == 12


def test_what_a_killed_writer_was_writing_is_removed_when_it_is_old(filled: Store, tmp_path: Path) -> None:
    left = tmp_path / "files" / partition_path("2026-03-02", "L1") / ".writing-1-x"
    left.write_bytes(b"half")
    assert filled.repair() == []
    os.utime(left, (0, 0))
    assert filled.repair() == [left.relative_to(tmp_path / "files").as_posix()]


def test_an_orphan_is_replaced_when_its_board_is_written_again(store: Store, tmp_path: Path) -> None:
    one = make_inspection("S", record="r")
    path = tmp_path / "files" / joint_file_path("2026-03-02", "L-2411", "r")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"what a crash left")
    store.write(one)
    assert store.joints(record="r").num_rows == 25


def test_a_damaged_file_is_a_store_fault_that_names_it(filled: Store, tmp_path: Path) -> None:
    victim = next((tmp_path / "files").rglob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(StoreFault, match=victim.name.removesuffix(".parquet")):
        filled.joints()


def test_a_missing_file_is_a_store_fault(filled: Store, tmp_path: Path) -> None:
    next((tmp_path / "files").rglob("*.parquet")).unlink()
    with pytest.raises(StoreFault, match=r"\.parquet"):
        filled.joints()


def test_a_file_of_an_older_version_lacks_columns_and_is_read(filled: Store, tmp_path: Path) -> None:
    path = next((tmp_path / "files").rglob("*.parquet"))
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["dome_um", "recipe"]), path)
    table = filled.joints()
    assert table.num_rows == 300
    assert table["dome_um"].null_count >= 25
    assert "recipe" not in filled.inspection(path.name.removesuffix(".parquet")).joints


def test_files_may_lie_below_any_fsspec_address(new_url: str, open_here: Callable[[], Store]) -> None:
    pytest.importorskip("fsspec")
    with open_store(new_url, files=f"memory://{new_url[-12:]}") as store:
        records = [make_inspection(f"S{k}") for k in range(3)]
        for one in records:
            store.write(one)
        before = store.joints()
        assert before.num_rows == 75
        assert store.compact().merged == 3
        assert store.joints().equals(before)
        assert store.inspection(records[1].board.record).board == records[1].board
        assert store.joint_files()[0].startswith("memory://")
        assert store.repair(older_than_s=0) == []


def test_an_address_that_nothing_opens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="fsspec"):
        open_store(tmp_path / "records.db", files="nothing-knows-this://x")


BOARD = make_inspection("S")


def suffixes_below(folder: Path) -> list[str]:
    return [path.suffix for path in folder.rglob("*") if path.is_file()]


def test_a_file_that_was_placed_stays(tmp_path: Path) -> None:
    with BackgroundJointWriter(LocalFiles(tmp_path), BOARD) as file:
        file.wait()
        file.place()
    assert suffixes_below(tmp_path) == [".parquet"]


def test_a_file_that_was_not_placed_is_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), BackgroundJointWriter(LocalFiles(tmp_path), BOARD) as file:
        file.wait()
        assert suffixes_below(tmp_path) == [""]
        raise KeyError
    assert suffixes_below(tmp_path) == []


def test_a_disk_that_fails_late_is_reported_before_the_file_counts(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Failing(LocalFiles):
        def secure(self, pending: PendingFile) -> None:
            raise OSError(5, "Input/output error")

    with BackgroundJointWriter(Failing(tmp_path), BOARD) as file, pytest.raises(OSError, match="Input/output"):
        file.wait()
    assert suffixes_below(tmp_path) == []


def test_without_files_there_is_nothing_to_wait_for() -> None:
    with BackgroundJointWriter(None, BOARD) as file:
        file.wait()
        file.place()


@dataclass(frozen=True)
class Watched(LocalFiles):
    """Notes, when a file goes to the disk, whether another process could write into the database at that moment."""

    database: Path = Path()
    near: bool = True

    @property
    def is_near(self) -> bool:
        return self.near

    def place(self, pending: PendingFile) -> None:
        self._note("place")
        super().place(pending)

    def secure(self, pending: PendingFile) -> None:
        super().secure(pending)
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


def test_only_the_writer_itself_waits_for_its_upload(tmp_path: Path) -> None:
    """An upload is over before the transaction begins; the file gets its name within it."""
    with open_store(tmp_path / "r.db") as store:
        store._files = Watched(tmp_path, database=tmp_path / "r.db", near=False)
        store.write(BOARD)
    assert (tmp_path / "noted").read_text() == "secure True\nplace False\n"


def test_a_near_file_gets_its_name_within_the_transaction(tmp_path: Path) -> None:
    with open_store(tmp_path / "r.db") as store:
        store._files = Watched(tmp_path, database=tmp_path / "r.db")
        store.write(BOARD)
    assert (tmp_path / "noted").read_text().splitlines()[-1] == "place False"

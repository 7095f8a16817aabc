"""Stores know their own joint files, and touch no others."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Store, open_store, ownership
from inspect_pop.store import joint_files as module
from inspect_pop.store.engine import _WatchedFile
from inspect_pop.yields import compute_yield
from tests.factories import make_inspection


def write(url: str | Path, serial: str) -> str:
    with open_store(url) as store:
        return store.write(make_inspection(serial, record=serial.lower() * 8)).record


def upkeep(url: str | Path) -> None:
    """What `inspect-pop compact` does, an hour later."""
    with open_store(url) as store:
        store.compact()
        store.repair(older_than_s=0)


def count_joints(url: str | Path, record: str) -> int:
    with open_store(url) as store:
        return store.joints(record=record).num_rows


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("line.1", "line.2"),
        ("records.db", "records.sqlite"),
        ("records.db", "records"),
        ("sqlite:///{}/a.db?files={}/joints", "sqlite:///{}/b.db?files={}/joints"),
        ("sqlite:///{}/a.db?files={}/joints", "sqlite:///{}/b.db?files={}/x/../joints"),
    ],
)
def test_upkeep_of_one_store_leaves_the_files_of_another(tmp_path: Path, one: str, two: str) -> None:
    urls = [u.replace("{}", str(tmp_path)) if "://" in u else str(tmp_path / u) for u in (one, two)]
    records = [write(urls[0], "A"), write(urls[1], "B"), write(urls[1], "C")]
    for url in (*urls, *urls):
        upkeep(url)
    assert count_joints(urls[0], records[0]) == count_joints(urls[1], records[1]) == 25


def test_a_copy_of_a_database_reads_and_does_not_write_among_the_files_of_the_original(tmp_path: Path) -> None:
    url, copy = (f"sqlite:///{tmp_path}/{n}.db?files={tmp_path}/joints" for n in ("a", "b"))
    record = write(url, "A")
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    later = write(url, "B")
    assert count_joints(copy, record) == 25
    with open_store(copy) as store:
        for change in (store.compact, lambda: store.repair(older_than_s=0), lambda: store.write(make_inspection("C"))):
            with pytest.raises(StoreFault, match="a copy of it"):
                change()
    assert count_joints(url, later) == 25
    with open_store(f"{copy}2") as store, pytest.raises(StoreFault, match="accept-lost-files"):
        store.write(make_inspection("C"))  # a place of its own, but without the files of before


def test_a_store_is_moved_or_copied_with_its_folder(tmp_path: Path) -> None:
    record = write(tmp_path / "one/records.db", "A")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    (tmp_path / "one").rename(tmp_path / "moved")
    for name in ("copy", "moved", "copy"):
        assert count_joints(tmp_path / name / "records.db", record) == 25
        write(tmp_path / name / "records.db", "B")
        upkeep(tmp_path / name / "records.db")


def test_a_share_that_is_not_mounted_gets_no_files(tmp_path: Path) -> None:
    share = tmp_path / "share"
    with open_store(tmp_path / "records.db", files=share) as store:
        record = store.write(make_inspection("A")).record
        share.rename(tmp_path / "away")
        share.mkdir()  # the empty mount point
        with pytest.raises(StoreFault, match="Mount the share"):
            store.write(make_inspection("B"))
        with pytest.raises(StoreFault, match="Mount the share"):
            store.check_writable()
        assert store.board("B") == []
        assert list(share.iterdir()) == []
        share.rmdir()
        (tmp_path / "away").rename(share)
        assert store.write(make_inspection("B")).new
        assert store.joints(record=record).num_rows == 25


def test_two_writers_of_a_new_store_begin_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second looks for the marker just before the first one writes it: the files are not lost."""
    with open_store(tmp_path / "records.db") as first, open_store(tmp_path / "records.db") as second:
        read_marker = ownership.read_marker

        def be_overtaken(files: ownership.JointFiles) -> ownership.Marker | None:
            monkeypatch.setattr(ownership, "read_marker", read_marker)
            found = read_marker(files)
            first.write(make_inspection("A", record="a" * 8))
            return found

        monkeypatch.setattr(ownership, "read_marker", be_overtaken)
        assert second.write(make_inspection("B", record="b" * 8)).new
        assert second.joints().num_rows == 50


def test_files_that_are_lost_for_good_are_accepted_as_lost(tmp_path: Path) -> None:
    write(tmp_path / "records.db", "A")
    shutil.rmtree(tmp_path / "records-files")
    with open_store(tmp_path / "records.db") as store:
        with pytest.raises(StoreFault):
            store.compact()
        store.accept_lost_files()
        assert store.write(make_inspection("B")).new


def test_a_database_that_was_deleted_and_made_anew_is_not_taken_for_the_store(tmp_path: Path) -> None:
    write(tmp_path / "records.db", "A")
    (tmp_path / "records.db").unlink()
    with pytest.raises(StoreFault, match="Restore that database"):
        open_store(tmp_path / "records.db")


def remove(database: Path) -> None:
    for path in (database, database.with_name("records.db-wal"), database.with_name("records.db-shm")):
        path.unlink(missing_ok=True)


def replace_by_backup(database: Path) -> None:
    (database.parent / "backup.db").replace(database)


def write_over_by_another_store(database: Path) -> None:
    write(database.parent / "other.db", "C")
    shutil.copyfile(database.parent / "other.db", database)


def write_over_by_an_older_copy(database: Path) -> None:
    shutil.copyfile(database.parent / "backup.db", database)


def read_marker_of(folder: Path) -> str:
    return str(json.loads((folder / "records-files" / "store.json").read_text())["store"])


def truncate(database: Path) -> None:
    os.truncate(database, 0)


def write_over_by_noise(database: Path) -> None:
    database.write_bytes(os.urandom(database.stat().st_size))


def delete_the_identity(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DELETE FROM identity")
        connection.commit()


@pytest.mark.parametrize(
    "change",
    [
        remove,
        replace_by_backup,
        write_over_by_another_store,
        write_over_by_an_older_copy,
        truncate,
        write_over_by_noise,
        delete_the_identity,
    ],
)
def test_a_database_that_is_deleted_replaced_or_written_over_while_it_is_open_is_a_fault(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    database = tmp_path / "records.db"
    with open_store(database) as store:
        store.write(make_inspection("A0"))
        store.checkpoint()
        shutil.copy(database, tmp_path / "backup.db")
        store.write(make_inspection("A"))
        store.checkpoint()
        assert store.check_writable() == 0
        change(database)
        for use in (lambda: store.write(make_inspection("B")), store.check_writable, lambda: store.board("A")):
            with pytest.raises(StoreFault, match="the database that was opened"):
                use()
    assert change is not remove or not database.exists()


def test_a_file_that_is_shorter_than_its_header_says_is_being_written_and_no_other(tmp_path: Path) -> None:
    """So it is for a moment while another process moves its log into the file, page by page."""
    database = tmp_path / "records.db"
    write(database, "A")
    watched = _WatchedFile(database)
    with open_store(database) as store:
        store.check_writable()
    os.truncate(database, database.stat().st_size - 8192)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        number = connection.execute("PRAGMA application_id").fetchone()[0]
    assert number != 0
    watched.check(read_marker_of(tmp_path))


def test_threads_that_read_and_write_at_once_see_one_store(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as store, ThreadPoolExecutor(4) as pool:

        def use(number: int) -> int:
            if number % 3 == 0:
                store.checkpoint()
            return store.check_writable() if number % 2 else len(store.board("A"))

        assert list(pool.map(use, range(200))) == [0] * 200


def test_a_store_of_an_earlier_version_gets_its_number_by_the_first_write(tmp_path: Path) -> None:
    database = tmp_path / "records.db"
    write(database, "A")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA application_id=0")
        connection.execute("PRAGMA user_version=0")
    with open_store(database) as store:
        assert [b.board.serial for b in store.board("A")] == ["A"]
        store.write(make_inspection("B"))
        store.checkpoint()
        store.write(make_inspection("C"))
        store.checkpoint()
        write_over_by_another_store(database)
        with pytest.raises(StoreFault, match="another database in the same file"):
            store.write(make_inspection("D"))


def test_files_of_an_earlier_version_are_kept_though_no_record_of_this_store_knows_them(tmp_path: Path) -> None:
    """Two stores of an earlier version, whose folders coincide and have no marker."""
    for name in ("line.1", "line.2"):
        write(tmp_path / name, name[-1])
        (tmp_path / f"{name}-files").rename(tmp_path / f"old{name[-1]}")
    shutil.copytree(tmp_path / "old1", tmp_path / "line-files")
    shutil.copytree(tmp_path / "old2/joints", tmp_path / "line-files/joints", dirs_exist_ok=True)
    (tmp_path / "line-files/store.json").unlink()
    for name in ("line.1", "line.2"):
        with sqlite3.connect(tmp_path / name) as database:
            database.execute("UPDATE identity SET has_marker = 0")
    for path in (tmp_path / "line-files").rglob("*.parquet"):
        os.utime(path, (time.time() - 7200,) * 2)
    upkeep(tmp_path / "line.1")
    assert json.loads((tmp_path / "line-files/store.json").read_text())["began_empty"] is False
    assert len(list((tmp_path / "line-files").rglob("*.parquet"))) == 2


def test_a_missing_or_damaged_file_does_not_stop_the_upkeep_of_the_others(store: Store, tmp_path: Path) -> None:
    for day in (2, 3):
        for hour in (8, 9, 10):
            at = f"2026-03-0{day}T{hour:02d}:00:00+01:00"
            store.write(make_inspection("S", inspected_at=at, record=f"r{day}{hour}"))
    first, second, *_ = sorted((tmp_path / "files").rglob("r2*.parquet"))
    first.unlink()
    second.write_bytes(b"PAR1")
    done = store.compact()
    assert sorted(done.unreadable) == sorted([first.stem, second.stem])
    assert (done.merged, done.into) == (3, 1)
    assert store.joints(record="r38").num_rows == 25


def test_a_share_that_cannot_sync_folders_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        sync(handle)

    monkeypatch.setattr(module.os, "fsync", refuse)
    assert write(tmp_path / "records.db", "A")


def read_as_nobody(database: Path) -> subprocess.CompletedProcess[str]:
    """Count the boards as a user who may write neither the database nor its folder."""
    code = """
import os, sys
from inspect_pop.store import open_store

def count(path):
    with open_store(path, must_exist=True) as store:
        return len(store.board("A")), len(store.board("B"))

count(sys.argv[1])  # imports whatever is needed: the interpreter's files may be out of the user's reach
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(*count(sys.argv[2]))
"""
    scratch = database.with_name("scratch.db")
    open_store(scratch).close()
    command = [sys.executable, "-c", code, str(scratch), str(database)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may read; pytest's are closed."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "while the station writes"])
def test_a_store_is_read_by_a_user_who_cannot_write_it(open_folder: Path, is_open: bool) -> None:
    database = open_folder / "records.db"
    write(database, "A")
    with open_store(database) as store:
        store.write(make_inspection("B"))
        if not is_open:
            store.close()
        found = read_as_nobody(database)
    assert (found.stdout, found.returncode) == ("1 1\n", 0), found.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_store_that_a_user_cannot_look_at_is_a_store_fault(open_folder: Path) -> None:
    write(open_folder / "records.db", "A")
    open_folder.chmod(0o700)
    found = read_as_nobody(open_folder / "records.db")
    assert "StoreFault" in found.stderr.splitlines()[-1]


def test_a_store_that_was_closed_is_whole_in_one_file_though_another_one_of_the_process_stays_open(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as left_open:
        left_open.write(make_inspection("A"))
        write(tmp_path / "records.db", "B")
        shutil.copy(tmp_path / "records.db", tmp_path / "copy.db")
        assert (tmp_path / "records.db-wal").stat().st_size == 0
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM boards").fetchone() == (2,)


def test_days_are_those_of_the_plant(tmp_path: Path) -> None:
    """A machine that writes UTC, and one that writes the local time: the same instant is one day."""
    with open_store(tmp_path / "records.db", time_zone="Europe/Berlin") as store:
        store.write(make_inspection("N", inspected_at="2026-10-24T23:30:00Z"))
    with open_store(tmp_path / "records.db") as store:  # the store keeps the zone
        store.write(make_inspection("L", inspected_at="2026-10-25T01:30:00+02:00"))
        assert [(g.keys["day"], g.boards) for g in compute_yield(store, ("day",))] == [("2026-10-25", 2)]
        assert store.joints(day="2026-10-25").num_rows == 50
    with pytest.raises(UsageFault, match="a zone such as Europe/Berlin"):
        open_store(tmp_path / "records.db", time_zone="Berlin Mean Time")

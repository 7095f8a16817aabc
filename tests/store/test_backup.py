"""A backup holds everything, is made while the store is written, and is refused where a file of it is not as it was."""

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Decision, Store, open_store
from inspect_pop.store.backup import MANIFEST, _call_postgresql, back_up_store, check_store, restore_store
from tests.factories import again, make_inspection
from tests.store.conftest import KINDS, empty_database

AT = "2026-03-02T12:00:00+00:00"
BOARDS = [make_inspection(f"B{k}", defects={"U1.lower.A1": "open"}, lot="L1") for k in range(3)]


@pytest.fixture
def store(new_url: str, tmp_path: Path) -> Iterator[Store]:
    with open_store(new_url, files=tmp_path / "files") as opened:
        for board in BOARDS:
            opened.write(board)
        opened.add_decision(Decision(BOARDS[0].board.record, "U1", "lower", "A1", "DefectConfirmed", "Ada", AT))
        yield opened


@pytest.fixture(params=KINDS)
def other_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "other machine"
    folder.mkdir()
    with empty_database(request, folder) as url:
        yield url


def test_a_restored_store_is_the_one_that_was_backed_up(store: Store, new_url: str, other_url: str, tmp_path: Path) -> None:
    if new_url.startswith("postgresql") != other_url.startswith("postgresql"):
        back_up_store(new_url, tmp_path / "backup", made_at=AT, files=tmp_path / "files")
        with pytest.raises(UsageFault, match="as the backup's"):
            restore_store(tmp_path / "backup", other_url)
        return
    store.compact()
    made = back_up_store(new_url, tmp_path / "backup", made_at=AT, files=tmp_path / "files")
    assert (made.records, made.files, made.missing) == (3, 1, ())
    restored = restore_store(tmp_path / "backup", other_url, files=tmp_path / "restored")
    assert (restored.records, restored.files) == (3, 1)
    with open_store(other_url, files=tmp_path / "restored") as copy:
        assert copy.board("B0") == store.board("B0")
        for board in BOARDS:
            assert copy.joints(record=board.board.record) == store.joints(record=board.board.record)
        copy.write(make_inspection("B9"))  # it goes on as a store of its own
        copy.compact()
        assert copy.repair(older_than_s=0) == []
    assert check_store(other_url, files=tmp_path / "restored").faults == []
    assert store.has(BOARDS[0].board.record)
    store.write(make_inspection("B8"))  # and so does the old one


def test_a_store_that_is_written_meanwhile_is_backed_up_whole(store: Store, new_url: str, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        for k in range(200):
            if stop.is_set():
                return
            store.write(make_inspection(f"C{k}", lot="L1"))
            if k % 5 == 4:
                store.compact()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        reports = [back_up_store(new_url, tmp_path / f"b{k}", made_at=AT, files=tmp_path / "files") for k in range(3)]
    finally:
        stop.set()
        writer.join()
    for k, report in enumerate(reports):
        manifest = json.loads((tmp_path / f"b{k}" / MANIFEST).read_text())
        assert report.missing == ()
        assert report.files == len([e for e in manifest["contents"] if e["path"].startswith("files/")])
        if new_url.startswith("postgresql"):
            continue  # restored in the test above; a database for each would be needed here
        restore_store(tmp_path / f"b{k}", tmp_path / f"r{k}.db")
        assert check_store(tmp_path / f"r{k}.db").faults == []


def test_a_folder_that_exists_is_not_written_to(store: Store, new_url: str, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    with pytest.raises(UsageFault, match="a new folder"):
        back_up_store(new_url, tmp_path / "backup", made_at=AT, files=tmp_path / "files")


# From here on SQLite alone: what is checked does not depend on the database.


@pytest.fixture
def small(tmp_path: Path) -> Path:
    with open_store(tmp_path / "records.db") as opened:
        opened.write(BOARDS[0])
        opened.write(again(BOARDS[0]))
    return tmp_path / "records.db"


def test_a_backup_with_another_byte_is_refused_and_nothing_is_made(small: Path, tmp_path: Path) -> None:
    back_up_store(small, tmp_path / "backup", made_at=AT)
    path = next((tmp_path / "backup" / "files").rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreFault, match="expected sha256"):
        restore_store(tmp_path / "backup", tmp_path / "new.db")
    path.unlink()
    with pytest.raises(StoreFault, match="a file of the backup, found none"):
        restore_store(tmp_path / "backup", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def test_a_manifest_that_leads_elsewhere_is_refused(small: Path, tmp_path: Path) -> None:
    back_up_store(small, tmp_path / "backup", made_at=AT)
    manifest = json.loads((tmp_path / "backup" / MANIFEST).read_text())
    manifest["contents"][1]["path"] = "files/../../records.db"
    (tmp_path / "backup" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreFault, match="a path outside it"):
        restore_store(tmp_path / "backup", tmp_path / "new.db")


@pytest.mark.parametrize(("text", "fault"), [("{", "the manifest of a backup"), ('{"schema": "x/1"}', "inspect-pop-backup/1")])
def test_what_is_no_backup_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(StoreFault, match=fault):
        restore_store(tmp_path, tmp_path / "new.db")


def test_a_store_that_exists_is_not_overwritten(small: Path, tmp_path: Path) -> None:
    back_up_store(small, tmp_path / "backup", made_at=AT)
    with pytest.raises(UsageFault, match="a file that does not exist yet"):
        restore_store(tmp_path / "backup", small)


def test_a_missing_and_a_shortened_joint_file_are_named(small: Path, tmp_path: Path) -> None:
    assert check_store(small).faults == []
    one, two = sorted((tmp_path / "records-files").rglob("*.parquet"))
    two.write_bytes(two.read_bytes()[:-100])
    one.unlink()
    check = check_store(small)
    assert (check.records, check.files) == (2, 2)
    assert sorted(": missing, with" in fault for fault in check.faults) == [False, True]
    assert any(str(two) in fault and "cannot be read" in fault for fault in check.faults)
    report = back_up_store(small, tmp_path / "backup", made_at=AT)
    assert report.missing == (str(one),)


def test_joints_that_are_fewer_than_the_record_says_are_a_fault(small: Path, tmp_path: Path) -> None:
    one, two = sorted((tmp_path / "records-files").rglob("*.parquet"))
    one.write_bytes(two.read_bytes())  # whole, but of another record
    assert [f"has 0 joints, expected {BOARDS[0].board.n_joints}" in fault for fault in check_store(small).faults] == [True]


def test_only_its_owner_can_read_a_backup(small: Path, tmp_path: Path) -> None:
    """It holds the digests of passwords and sessions."""
    back_up_store(small, tmp_path / "backup", made_at=AT)
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


def test_a_backup_that_fails_leaves_nothing(small: Path, tmp_path: Path) -> None:
    def fail(_: Store) -> list[str]:
        raise StoreFault("the pictures", expected="a list", found="none")

    with pytest.raises(StoreFault, match="the pictures"):
        back_up_store(small, tmp_path / "folder" / "backup", made_at=AT, list_others=fail)
    assert list((tmp_path / "folder").iterdir()) == []


def test_an_empty_database_is_no_store_to_back_up_or_to_check(new_url: str, tmp_path: Path) -> None:
    """A database that was made a moment ago, or the wrong one: no tables are made in it."""
    if not new_url.startswith("postgresql"):
        Path(make_url(new_url).database if "://" in new_url else new_url).touch()  # type: ignore[arg-type]
    for work in (lambda: check_store(new_url), lambda: back_up_store(new_url, tmp_path / "backup", made_at=AT)):
        with pytest.raises(StoreFault, match="an empty database"):
            work()
    with open_store(new_url) as store:
        assert store.board("S") == []


def test_the_programs_get_the_password_by_the_environment_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `***` in the address, or any password, they would not look into the environment."""
    calls = []

    def run(command: list[str], env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append((command, env["PGPASSWORD"]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    _call_postgresql("pg_dump", make_url("postgresql+psycopg://pop:s%40cret@host:5433/db?sslmode=require"), "--format=custom")
    expected = ["/usr/bin/pg_dump", "--dbname=postgresql://pop@host:5433/db?sslmode=require", "--format=custom"]
    assert calls == [(expected, "s@cret")]


def test_postgresql_without_its_programs_is_told(new_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not new_url.startswith("postgresql"):
        pytest.skip("about PostgreSQL")
    open_store(new_url).close()
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(StoreFault, match="the program pg_dump, found none"):
        back_up_store(new_url, tmp_path / "backup", made_at=AT)
    assert not (tmp_path / "backup").exists()

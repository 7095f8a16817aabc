"""Files of joints on an object store: a real S3 server over HTTP, and what becomes of a run when it fails."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.store import Store, open_store
from inspect_pop.store.joint_files import joint_file_path
from inspect_pop.store.remote_files import RemoteFiles, open_remote_files
from tests.factories import make_inspection
from tests.store.object_store import Gate, ObjectStore

ADDRESS = "s3://bucket/below"
ONE, TWO = (make_inspection(f"S{k}", lot="../a b%") for k in range(2))


@pytest.fixture
def base(object_store_gate: Gate, request: pytest.FixtureRequest) -> str:
    return f"s3://bucket/{abs(hash(request.node.name))}"


@pytest.fixture
def there(new_url: str, base: str) -> Iterator[Store]:
    with open_store(new_url, files=base) as opened:
        yield opened


def remote(store: Store) -> RemoteFiles:
    assert isinstance(store._files, RemoteFiles)
    return store._files


def names(store: Store) -> set[str]:
    return {path for path, _ in remote(store).list_files()}


def test_joints_come_back_from_the_server(there: Store, new_url: str, base: str, tmp_path: Path) -> None:
    with open_store(tmp_path / "local.db") as local:
        for one in (ONE, TWO):
            there.write(one)
            local.write(one)
        assert there.joints().equals(local.joints())
        assert there.inspection(TWO.board.record).board == TWO.board
        assert there.compact().merged == 2
        assert there.joints().equals(local.joints())
        assert there.joints(record=ONE.board.record).equals(local.joints(record=ONE.board.record))
    assert len(names(there)) == 1
    assert there.joint_files()[0].startswith(f"{base}/joints/day=2026-03-02/lot=..%2Fa%20b%25/merged-")


def test_what_another_process_did_is_seen(there: Store, new_url: str, base: str) -> None:
    import s3fs

    assert names(there) == set()
    assert remote(there).read_mtime("joints/none") is None
    s3fs.S3FileSystem.clear_instance_cache()  # as another process has its own
    with open_store(new_url, files=base) as other:
        assert remote(other).filesystem is not remote(there).filesystem
        other.write(ONE)
        assert len(names(there)) == 1
        assert there.joints().num_rows == 25
        remote(other).remove(*names(there))
    assert names(there) == set()
    with pytest.raises(StoreFault, match=r"no such object.*Restore the joints' files"):
        there.joints()


def test_repair_removes_an_orphan_and_nothing_of_others(there: Store) -> None:
    files = remote(there)
    there.write(ONE)
    files.filesystem.pipe_file(f"{files.base}/joints/readme.txt", b"somebody's")
    files.filesystem.pipe_file(f"{files.base}/joints/day=x/lot=y/z/deep.txt", b"somebody's")
    orphan = joint_file_path("2026-03-02", "L", "orphan")
    files.filesystem.pipe_file(f"{files.base}/{orphan}", b"left")
    assert abs(time.time() - dict(files.list_files())[orphan]) < 60
    assert there.repair() == []
    assert there.repair(older_than_s=-60) == [orphan]
    assert there.joints().num_rows == 25
    assert len(files.filesystem.find(files.base)) == 4  # the record's, somebody's two, and the marker


def test_repair_leaves_what_was_uploaded_again_meanwhile(there: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An orphan's board may be written again between the listing and the removal."""
    files, orphan = remote(there), joint_file_path("2026-03-02", "L", "orphan")
    files.filesystem.pipe_file(f"{files.base}/{orphan}", b"new")
    monkeypatch.setattr(RemoteFiles, "list_files", lambda self: iter([(orphan, 0.0)]))
    assert there.repair(older_than_s=60) == []
    assert files.read_mtime(orphan) is not None


def test_a_record_that_is_there_is_not_uploaded_again(there: Store, object_store_gate: Gate) -> None:
    assert there.write(ONE).new
    asked = object_store_gate.served
    assert not there.write(ONE).new
    assert object_store_gate.served == asked
    object_store_gate.shut()
    assert not there.write(ONE).new


def test_a_bucket_that_is_not_there_is_reported_and_not_made(
    new_url: str, object_store_gate: Gate, object_store: ObjectStore
) -> None:
    with open_store(new_url, files="s3://mistyped/joints") as store:
        with pytest.raises(StoreFault, match=r"s3://mistyped/joints/.*bucket does not exist.*Create the bucket"):
            store.write(ONE)
        assert store.record(ONE.board.record) is None
        with pytest.raises(StoreFault, match="bucket does not exist"):
            store.repair()
    assert not object_store.has("mistyped")


def test_keys_that_are_not_known_are_reported(there: Store, object_store: ObjectStore) -> None:
    object_store.refuse(from_now_on=True)
    try:
        with pytest.raises(StoreFault, match="Check that the credentials are right"):
            there.write(ONE)
    finally:
        object_store.refuse(from_now_on=False)
    assert there.write(ONE).new


def test_missing_keys_are_reported(
    new_url: str, object_store_gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with open_store(new_url, files=ADDRESS) as store, pytest.raises(StoreFault, match="Set AWS_ACCESS_KEY_ID"):
        store.write(ONE)


def shut(gate: Gate) -> None:
    gate.shut()


def silent(gate: Gate) -> None:
    gate.silent = True


def cutting(gate: Gate) -> None:
    gate.cut_after = 2000  # the request's head, and some of its body


@pytest.mark.parametrize("fail", [shut, silent, cutting])
def test_a_server_that_fails_is_reported_soon_and_loses_nothing(
    there: Store, object_store_gate: Gate, fail: Callable[[Gate], None]
) -> None:
    gate = object_store_gate
    there.write(ONE)
    before = there.joints()
    fail(gate)
    started = time.monotonic()
    with pytest.raises(StoreFault, match=r"s3://bucket/.*can be reached \(AWS_ENDPOINT_URL\)"):
        there.write(TWO)
    assert time.monotonic() - started < 30
    assert there.record(TWO.board.record) is None
    if fail is silent:
        with pytest.raises(StoreFault, match="can be reached"):
            there.joints()
    gate.shut()
    with pytest.raises(StoreFault, match="can be reached"):
        there.joints()
    with pytest.raises(StoreFault, match="can be reached"):
        there.repair()
    gate.silent, gate.cut_after = False, None
    gate.open()
    assert there.joints().equals(before)
    assert there.repair(older_than_s=-60) == []  # a cut upload leaves no object
    assert there.write(TWO).new
    assert there.joints().num_rows == 50


def test_a_damaged_object_is_a_store_fault_that_names_it(there: Store) -> None:
    there.write(ONE)
    files = remote(there)
    files.filesystem.pipe_file(
        f"{files.base}/{joint_file_path('2026-03-02', ONE.board.lot, ONE.board.record)}", b"PAR1 not quite"
    )
    with pytest.raises(StoreFault, match=r"s3://bucket/.*a Parquet file of joints.*Restore the object"):
        there.joints()


def test_patience_is_bounded_unless_configured_otherwise(object_store_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 77}})
    filesystem = open_remote_files("s3://bucket/patient").filesystem
    assert filesystem.config_kwargs["read_timeout"] == 77
    assert filesystem.config_kwargs["connect_timeout"] == 5
    assert filesystem.config_kwargs["retries"]["total_max_attempts"] == filesystem.retries == 2


def test_folders_are_made_where_folders_are_real(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db", files=f"local://{tmp_path}/far/away") as store:
        store.write(ONE)
        assert store.joints().num_rows == 25
    assert len(list((tmp_path / "far/away").rglob("*.parquet"))) == 1

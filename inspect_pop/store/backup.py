"""Back up a store while it is in use, restore it, and check that a store is whole.

A backup is a folder: the database (`records.db`, or `records.dump` from PostgreSQL's `pg_dump`), the joint files that its
records name, other files such as joints' pictures, and `backup.json` with the size and sha256 of each. It appears whole or not.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.engine import URL

from inspect_pop import __version__
from inspect_pop.core.errors import StoreFault, UsageFault, describe_error
from inspect_pop.core.system import PART_SUFFIX, write_text
from inspect_pop.store.engine import database_url, hide_password, open_engine, run_outside_transaction, translate_errors
from inspect_pop.store.joint_files import JointFiles
from inspect_pop.store.rows import find_joint_paths
from inspect_pop.store.schema import boards
from inspect_pop.store.store import Store, open_store

__all__ = ["MANIFEST", "BackupReport", "StoreCheck", "back_up_store", "check_store", "restore_store"]

MANIFEST = "backup.json"
_SCHEMA = "inspect-pop-backup/1"
_FILES = "files"
_DATABASES = {"sqlite": "records.db", "postgresql": "records.dump"}
_TRIES = 5  # `compact` may merge files while they are copied: then the newer state is copied


@dataclass(frozen=True)
class BackupReport:
    """What a backup or a restored store holds: `files` are joint files, `others` files that no record depends on.

    `missing` names joint files that records name, and that are not there.
    """

    where: str
    records: int
    files: int
    size_bytes: int
    missing: tuple[str, ...] = ()
    others: int = 0


@dataclass
class StoreCheck:
    """The result of a check: numbers, and every fault in words."""

    records: int = 0
    files: int = 0
    without_joints: int = 0
    faults: list[str] = field(default_factory=list)


def back_up_store(
    url: str | Path,
    out: Path,
    *,
    made_at: str,
    files: str | Path | None = None,
    list_others: Callable[[Store], Iterable[str]] = lambda _: (),
) -> BackupReport:
    """Copy a store to the new folder `out`, which only its owner can read, also while the store is written.

    Parameters
    ----------
    url, files
        The store, as for `open_store`.
    out
        The folder of the backup; it must not exist.
    made_at
        Time of the backup, ISO 8601, for its manifest.
    list_others
        Returns the paths of files that no record depends on and that are copied, too. One that vanishes meanwhile is left out.

    Raises
    ------
    UsageFault
        `out` exists.
    StoreFault
        The store cannot be read, or `pg_dump` is not installed or fails.
    """
    if out.exists():
        raise UsageFault(str(out), expected="a new folder for the backup", found="one that exists")
    part = out.with_name(f".{out.name}{PART_SUFFIX}")
    with translate_errors(str(out)), open_store(url, files=files, must_exist=True) as store:
        try:
            for attempt in range(1, _TRIES + 1):
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(mode=0o700, parents=True)  # it holds the digests of passwords and sessions
                missing = _copy_store(store, _strip_files(database_url(url)), part)
                if not missing or attempt == _TRIES:
                    break
            _copy_files(store, set(list_others(store)), part / _FILES)
            report = _write_manifest(part, store, missing, made_at)
            part.replace(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return replace(report, where=str(out), missing=tuple(missing))


def restore_store(backup: Path, url: str | Path, *, files: str | Path | None = None) -> BackupReport:
    """Make a store from a backup, after every file of the backup was compared with its manifest.

    Parameters
    ----------
    backup
        The folder that `back_up_store` made.
    url, files
        Where the store shall be, as for `open_store`: a SQLite file that does not exist, or an empty PostgreSQL database.

    Raises
    ------
    StoreFault
        A file of the backup is missing or was changed, the database cannot be written, or `pg_restore` fails.
    UsageFault
        The store exists, or the backup is of the other kind of database.
    """
    manifest = _read_manifest(backup)
    target = _strip_files(database_url(url))
    kind = target.drivername.partition("+")[0]
    if kind != manifest["kind"]:
        raise UsageFault("--store", expected=f"a {manifest['kind']} database, as the backup's", found=kind)
    _check_digests(backup, manifest)
    where = hide_password(target)
    with translate_errors(where):
        if kind == "sqlite":
            _restore_sqlite(backup / _DATABASES[kind], Path(str(target.database)))
        else:
            _restore_postgresql(backup / _DATABASES[kind], target)
    with open_store(url, files=files, must_exist=True) as store:
        if copied := [entry["path"] for entry in manifest["contents"] if entry["path"].startswith(f"{_FILES}/")]:
            store.accept_lost_files()  # no marker was copied: these files now belong to the restored database
            with translate_errors(where):
                for path in copied:
                    store.require_files().put(path.partition("/")[2], backup / path)
    return replace(_describe(manifest), where=where, missing=tuple(manifest["missing"]))


def check_store(url: str | Path, *, files: str | Path | None = None) -> StoreCheck:
    """Check a store: the database's integrity, and that the joints of every record are there, all of them.

    Records that were written without joint files, or whose joints were deleted on purpose, are counted in `without_joints`.
    Raises `StoreFault` if the store cannot be opened.
    """
    check = StoreCheck()
    with open_store(url, files=files, must_exist=True) as store, store.reading() as connection:
        if connection.dialect.name == "sqlite":
            answers = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            check.faults += [f"database: {answer}" for answer in answers if answer != "ok"]
        expected = {str(name): int(n) for name, n in connection.execute(select(boards.c.record, boards.c.n_joints))}
        located = find_joint_paths(connection)
        check.records = len(expected)
        paths: dict[str, list[str]] = {}
        for record, path in located:
            paths.setdefault(path, []).append(record)
        check.without_joints = len(paths.pop("", ()))
        check.files = len(paths)
        joint_files = store.require_files() if paths else None
        for path, records in paths.items():
            assert joint_files is not None
            check.faults += _check_joints(joint_files, path, records, expected)
    return check


def _check_joints(joint_files: JointFiles, path: str, records: list[str], expected: dict[str, int]) -> Iterator[str]:
    """Yield what is wrong with one joint file."""
    try:
        table = joint_files.read(path, records)
    except FileNotFoundError:
        yield f"{joint_files.address(path)}: missing, with the joints of {len(records)} records"
        return
    except (StoreFault, OSError, pa.ArrowException) as fault:
        yield f"{joint_files.address(path)}: cannot be read: {fault}"
        return
    found = Counter(table["record"].to_pylist())
    for record in records:
        if found[record] != expected[record]:
            yield f"{joint_files.address(path)}: record {record} has {found[record]} joints, expected {expected[record]}"


def _strip_files(url: URL) -> URL:
    """Return the database's address without the address of the joint files."""
    return url.set(query={k: v for k, v in url.query.items() if k != "files"})


def _copy_store(store: Store, url: URL, out: Path) -> list[str]:
    """Copy the database and the joint files that it names. Return the addresses of those that are not there.

    What `compact` merges away meanwhile is named by an older state of the database than the one that is copied. So the files
    are copied once before the state to copy is fixed, and what is new right after it.
    """
    with store.reading() as connection:
        copied = _copy_files(store, _list_paths(connection), out / _FILES)
    if url.drivername.startswith("sqlite"):
        paths = _copy_sqlite(url, out / _DATABASES["sqlite"])
        copied |= _copy_files(store, paths - copied, out / _FILES)
    else:
        with store.reading() as connection:  # the dump sees the same snapshot
            snapshot = connection.scalar(select(func.pg_export_snapshot()))
            paths = _list_paths(connection)
            copied |= _copy_files(store, paths - copied, out / _FILES)
            target = out / _DATABASES["postgresql"]
            _call_postgresql("pg_dump", url, "--format=custom", "--no-owner", f"--snapshot={snapshot}", f"--file={target}")
    for path in copied - paths:
        (out / _FILES / path).unlink()
    return sorted(store.require_files().address(path) for path in paths - copied)


def _list_paths(connection: Connection) -> set[str]:
    return {path for _, path in find_joint_paths(connection) if path}


def _copy_sqlite(url: URL, target: Path) -> set[str]:
    """Copy the database to one file, without a log beside it; return the joint files that the copy names."""
    address = f"{Path(str(url.database)).absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    engine = open_engine(URL.create("sqlite", database=str(target)))
    try:
        with engine.connect() as connection:
            paths = _list_paths(connection)
        run_outside_transaction(engine, "PRAGMA journal_mode=DELETE")
    finally:
        engine.dispose()
    return paths


def _copy_files(store: Store, paths: set[str], out: Path) -> set[str]:
    """Copy joint files; return the paths of those that were there."""
    copied = set()
    for path in paths:
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with store.require_files().open(path) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except FileNotFoundError:
            target.unlink(missing_ok=True)
        else:
            copied.add(path)
    return copied


def _write_manifest(part: Path, store: Store, missing: list[str], made_at: str) -> BackupReport:
    (database,) = (part / name for name in _DATABASES.values() if (part / name).exists())
    kind = next(kind for kind, name in _DATABASES.items() if name == database.name)
    paths = [database, *sorted(p for p in (part / _FILES).rglob("*") if p.is_file())]
    contents = [{"path": p.relative_to(part).as_posix(), "bytes": p.stat().st_size, "sha256": _compute_digest(p)} for p in paths]
    with store.reading() as connection:
        records = int(connection.scalar(select(func.count()).select_from(boards)) or 0)
    manifest = {"schema": _SCHEMA, "software": __version__, "made_at": made_at, "kind": kind, "records": records}
    manifest |= {"missing": missing, "contents": contents}
    write_text(part / MANIFEST, json.dumps(manifest, indent=1), durable=True)
    return _describe(manifest)


def _describe(manifest: dict[str, Any]) -> BackupReport:
    """Return the numbers of a backup."""
    n_joints = sum(entry["path"].startswith(f"{_FILES}/joints/") for entry in manifest["contents"])
    size, n_others = sum(entry["bytes"] for entry in manifest["contents"]), len(manifest["contents"]) - 1 - n_joints
    return BackupReport("", manifest["records"], n_joints, size, others=n_others)


def _read_manifest(backup: Path) -> dict[str, Any]:
    path = backup / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        remedy = "Name the folder that `inspect-pop store backup` made."
        raise StoreFault(str(path), expected="the manifest of a backup", found=describe_error(error), remedy=remedy) from error
    if manifest.get("schema") != _SCHEMA:
        raise StoreFault(str(path), expected=_SCHEMA, found=repr(manifest.get("schema")))
    return manifest


def _check_digests(backup: Path, manifest: dict[str, Any]) -> None:
    """Raise `StoreFault` for the first file of a backup that is missing, was changed, or lies outside the backup."""
    for entry in manifest["contents"]:
        path = (backup / entry["path"]).resolve()
        if not path.is_relative_to(backup.resolve()):
            raise StoreFault(str(path), expected="a file of the backup", found="a path outside it")
        if not path.is_file():
            raise StoreFault(str(path), expected="a file of the backup", found="none", remedy="Use another backup.")
        if _compute_digest(path) != entry["sha256"]:
            raise StoreFault(str(path), expected=f"sha256 {entry['sha256']}", found="another", remedy="Use another backup.")


def _compute_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _restore_sqlite(source: Path, target: Path) -> None:
    if target.exists():
        raise UsageFault(str(target), expected="a file that does not exist yet", found="a store", remedy="Name another one.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}{PART_SUFFIX}")
    shutil.copyfile(source, part)
    part.replace(target)


def _restore_postgresql(source: Path, target: URL) -> None:
    engine = open_engine(target)
    try:
        names = inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if names:
        remedy = "Make a new database with `createdb`."
        raise UsageFault(hide_password(target), expected="an empty database", found=f"{len(names)} tables", remedy=remedy)
    _call_postgresql(
        "pg_restore", target, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(source)
    )


def _call_postgresql(program: str, url: URL, *arguments: str) -> None:
    """Run a program of PostgreSQL's; the password goes by the environment, which other accounts cannot read."""
    command = shutil.which(program)
    if command is None:
        remedy = "Install PostgreSQL's client programs of the server's version, such as Debian's postgresql-client."
        raise StoreFault(hide_password(url), expected=f"the program {program}", found="none", remedy=remedy)
    address = url._replace(drivername="postgresql", password=None).render_as_string()  # `set` leaves what it is given as None
    environment = os.environ | ({} if url.password is None else {"PGPASSWORD": str(url.password)})
    done = subprocess.run(
        [command, f"--dbname={address}", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StoreFault(hide_password(url), expected=f"{program} to succeed", found=done.stderr.strip() or str(done.returncode))

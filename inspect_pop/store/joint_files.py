"""Files of all joints' measurements: Parquet files beside the database, one per record until they are merged.

Paths are `joints/day=2026-03-02/lot=L-2411/<record>.parquet`. Columns are those of `inspect_pop.core.columns`. NaN is null in
a file, and NaN again when it is read.

A file counts only if its record is in the database. It is written under another name, renamed just before the database
commits, and ignored if that commit never came. A crash therefore leaves at most an orphan, which `repair_files` removes.
"""

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Engine, insert, select, update

from inspect_pop.core.columns import COLUMNS, JointTable
from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.system import PART_SUFFIX, atomic_file, sync_folder, write_bytes, write_text
from inspect_pop.store.engine import hide_password, reading, translate_errors, writing
from inspect_pop.store.schema import boards, contexts, files
from inspect_pop.store.types import parse_local_day

__all__ = [
    "JOINT_SCHEMA",
    "RECORD_SCHEMA",
    "BackgroundJointWriter",
    "CompactionResult",
    "JointFiles",
    "LocalFiles",
    "PendingFile",
    "compact_files",
    "from_arrow",
    "joint_file_path",
    "open_joint_files",
    "parquet_options",
    "partition_path",
    "repair_files",
    "to_arrow",
    "write_tables",
]

_TYPES = {"text": pa.string(), "float32": pa.float32(), "int64": pa.int64()}
JOINT_SCHEMA = pa.schema([pa.field(c.name, _TYPES[c.kind]) for c in COLUMNS])
RECORD_SCHEMA = pa.schema([pa.field("record", pa.string()), *JOINT_SCHEMA])

TEMPORARY_PREFIX = ".writing-"
_LONGEST_NAME = 120  # file systems allow 255 bytes; the rest is for what is put around a name
_NO_LOT = "__HIVE_DEFAULT_PARTITION__"
_RECORD_COMPRESSION = "lz4"  # in two thirds of zstd's time, for a tenth more bytes, until files are merged
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)
_BOARDS_PER_GROUP = 32  # boards in a row group of a merged file: reading one record decodes as many


def to_arrow(joints: JointTable, *, record: str | None = None) -> pa.Table:
    """Convert a joint table to Arrow: all declared columns in declared order.

    A column that the table lacks is null. If `record` is given, a column of that name comes first.
    """
    n = len(joints)
    arrays = []
    for column in COLUMNS:
        if column.name not in joints:
            arrays.append(pa.nulls(n, _TYPES[column.kind]))
            continue
        values = joints[column.name]
        arrays.append(pa.array(values, _TYPES[column.kind], mask=np.isnan(values) if column.kind == "float32" else None))
    if record is None:
        return pa.Table.from_arrays(arrays, schema=JOINT_SCHEMA)
    return pa.Table.from_arrays([pa.array([record] * n, pa.string()), *arrays], schema=RECORD_SCHEMA)


def from_arrow(table: pa.Table) -> JointTable:
    """Convert an Arrow table back to a joint table.

    Columns that are not declared, such as the record, are left out. So is a text column that must not be null but is: an older
    file did not have it.
    """
    columns: dict[str, Any] = {}
    for column in COLUMNS:
        if column.name not in table.column_names:
            continue
        values = table[column.name]
        if column.kind == "float32":
            columns[column.name] = values.to_numpy().astype(np.float32)
        elif column.kind != "text":
            columns[column.name] = values.to_numpy()
        elif column.nullable or not values.null_count:
            columns[column.name] = np.array(values.to_pylist(), dtype=object)
    return JointTable(columns)


def parquet_options(schema: pa.Schema, compression: str = "zstd") -> dict[str, Any]:
    """Return the options that every file is written with.

    Dictionaries for text, split bytes for floats, statistics for the columns that readers filter by.
    """
    filtered = ("record", "serial", "refdes", "interface", "label", "verdict")
    return {
        "compression": compression,
        "use_dictionary": [f.name for f in schema if pa.types.is_string(f.type)],
        "use_byte_stream_split": [f.name for f in schema if pa.types.is_floating(f.type)],
        "write_statistics": [n for n in filtered if n in schema.names],
        "store_schema": False,
    }


def write_tables(sink: Any, tables: Iterable[pa.Table], schema: pa.Schema, compression: str) -> int:
    """Write tables one after the other into an open file. Return the number of rows."""
    n = 0
    with pq.ParquetWriter(sink, schema, **parquet_options(schema, compression)) as writer:
        for table in tables:
            writer.write_table(table)
            n += table.num_rows
    return n


def partition_path(day: str, lot: str | None) -> str:
    """Return the folder of a day and lot, relative to the base. The lot may hold any characters."""
    return f"joints/day={_quote(day)}/lot={_NO_LOT if lot is None else _quote(lot)}"


def joint_file_path(day: str, lot: str | None, record: str) -> str:
    """Return the path of the file that holds only this record, relative to the base."""
    return f"{partition_path(day, lot)}/{_quote(record)}.parquet"


def _quote(text: str) -> str:
    encoded = quote(text, safe="")
    if len(encoded) <= _LONGEST_NAME and encoded.strip("."):
        return encoded
    return f"{encoded[: _LONGEST_NAME - 20]}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


@dataclass(frozen=True)
class PendingFile:
    """A file of joints that is written but not yet in its place. Paths are relative to the base."""

    temporary: str
    path: str


class JointFiles(Protocol):
    """Where the files are: a local folder, or anything that fsspec reaches."""

    @property
    def where(self) -> str:
        """The base."""
        ...

    @property
    def is_near(self) -> bool:
        """Whether writing a file takes no longer than the database's log, so that a transaction may wait for it."""
        ...

    def write(self, path: str, tables: Iterable[pa.Table], compression: str) -> PendingFile:
        """Write tables under a name that readers ignore."""
        ...

    def secure(self, pending: PendingFile) -> None:
        """Return when the file's content survives a power cut. Must be called before `place`."""
        ...

    def place(self, pending: PendingFile) -> None:
        """Give the file its name. Readers see all of it or nothing."""
        ...

    def discard(self, pending: PendingFile) -> None:
        """Remove a file that will not be placed. Does nothing if it does not exist."""
        ...

    def read(self, path: str, records: Iterable[str] | None = None) -> pa.Table:
        """Read a file's rows, only those of `records` if given. Raises FileNotFoundError if there is no such file."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading as it is. Raises FileNotFoundError if there is no such file."""
        ...

    def put(self, path: str, source: Path) -> None:
        """Copy a file of this machine to its place, as from a backup."""
        ...

    def save(self, path: str, content: bytes) -> None:
        """Write a file that no record depends on: whole or not at all, and perhaps lost in a power cut."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file. Does nothing if it does not exist."""
        ...

    def list_windows(self) -> Iterator[tuple[str, float, int]]:
        """Yield every file of windows with the time (seconds since 1970) of its last change and its bytes."""
        ...

    def list_files(self) -> Iterator[tuple[str, float]]:
        """Yield every file below the base with the time (seconds since 1970) of its last change."""
        ...

    def read_mtime(self, path: str) -> float | None:
        """Return the time of the file's last change, not from a cache; None if it does not exist."""
        ...

    def address(self, path: str) -> str:
        """Return the file's address for other tools."""
        ...

    @property
    def folder_number(self) -> int:
        """The folder's number in its file system, which a copy of the folder does not have; 0 where there is none."""
        ...

    def make_base(self) -> None:
        """Make the base, where it must exist before a file does."""
        ...

    def read_note(self, name: str) -> str | None:
        """Return the content of a small text file at the base; None if it does not exist."""
        ...

    def write_note(self, name: str, content: str, *, is_new: bool) -> None:
        """Write a small text file at the base, whole. `is_new` keeps one that is there already."""
        ...

    def read_state(self, name: str) -> tuple[int, ...] | None:
        """Return what changes when a note changes; None if it does not exist."""
        ...


@dataclass(frozen=True)
class LocalFiles:
    """Files in a folder of this machine, or of a share that renames in one step.

    `older` is a folder that files of before are read from.
    """

    base: Path
    older: Path | None = None

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.base)

    @property
    def is_near(self) -> bool:
        """See `JointFiles`."""
        return True

    def write(self, path: str, tables: Iterable[pa.Table], compression: str) -> PendingFile:
        """See `JointFiles`."""
        target = self.base / path
        _make_folder(target.parent)
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex}")
        try:
            with pa.OSFile(str(temporary), "wb") as sink:  # Arrow's own: a Python file is called for each small piece
                write_tables(sink, tables, RECORD_SCHEMA, compression)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return PendingFile(temporary.relative_to(self.base).as_posix(), path)

    def secure(self, pending: PendingFile) -> None:
        """See `JointFiles`."""
        handle = os.open(self.base / pending.temporary, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def place(self, pending: PendingFile) -> None:
        """See `JointFiles`. The folder's entry is on the disk afterwards, too."""
        target = self.base / pending.path
        (self.base / pending.temporary).replace(target)
        _sync_folder(target.parent)

    def discard(self, pending: PendingFile) -> None:
        """See `JointFiles`."""
        (self.base / pending.temporary).unlink(missing_ok=True)

    def read(self, path: str, records: Iterable[str] | None = None) -> pa.Table:
        """See `JointFiles`. Raises `StoreFault` for a damaged file."""
        source = self._find(path)
        filters = None if records is None else [("record", "in", sorted(records))]
        try:
            return pq.read_table(source, schema=RECORD_SCHEMA, filters=filters, partitioning=None)
        except pa.ArrowInvalid as error:
            remedy = "Restore the file from a copy. The database's counts and defects are complete."
            raise StoreFault(str(source), expected="a Parquet file of joints", found=str(error), remedy=remedy) from error

    def open(self, path: str) -> BinaryIO:
        """See `JointFiles`."""
        return self._find(path).open("rb")

    def put(self, path: str, source: Path) -> None:
        """See `JointFiles`."""
        target = self.base / path
        _make_folder(target.parent)
        with atomic_file(target, durable=True) as part:
            shutil.copyfile(source, part)

    def save(self, path: str, content: bytes) -> None:
        """See `JointFiles`."""
        target = self.base / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, content)

    def remove(self, path: str) -> None:
        """See `JointFiles`."""
        (self.base / path).unlink(missing_ok=True)

    def list_windows(self) -> Iterator[tuple[str, float, int]]:
        """See `JointFiles`. A file that vanishes meanwhile is left out."""
        for path in (self.base / "windows").glob("day=*/lot=*/*.parquet"):
            with suppress(FileNotFoundError):
                found = path.stat()
                yield path.relative_to(self.base).as_posix(), found.st_mtime, found.st_size

    def _find(self, path: str) -> Path:
        source = self.base / path
        return self.older / path if self.older is not None and not source.exists() else source

    def list_files(self) -> Iterator[tuple[str, float]]:
        """See `JointFiles`. A file that vanishes meanwhile is left out."""
        for path in (self.base / "joints").glob("day=*/lot=*/*"):
            with suppress(FileNotFoundError):
                yield path.relative_to(self.base).as_posix(), path.stat().st_mtime

    def read_mtime(self, path: str) -> float | None:
        """See `JointFiles`."""
        try:
            return (self.base / path).stat().st_mtime
        except FileNotFoundError:
            return None

    def address(self, path: str) -> str:
        """See `JointFiles`."""
        return str(self.base / path)

    @property
    def folder_number(self) -> int:
        """See `JointFiles`."""
        return self.base.stat().st_ino

    def make_base(self) -> None:
        """See `JointFiles`."""
        _make_folder(self.base)

    def read_note(self, name: str) -> str | None:
        """See `JointFiles`."""
        try:
            return (self.base / name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_note(self, name: str, content: str, *, is_new: bool) -> None:
        """See `JointFiles`."""
        if not is_new:
            write_text(self.base / name, content, durable=True)
            return
        part = self.base / f"{name}.{uuid.uuid4().hex}{PART_SUFFIX}"
        write_text(part, content, durable=True)
        try:
            os.link(part, self.base / name)
        except FileExistsError:
            return
        except OSError:  # a share without hard links
            if not (self.base / name).exists():
                part.replace(self.base / name)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(self.base)

    def read_state(self, name: str) -> tuple[int, ...] | None:
        """See `JointFiles`."""
        try:
            found = (self.base / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns


def open_joint_files(where: str | Path) -> JointFiles:
    """Open files in a folder, or below an fsspec address such as `s3://bucket/records`.

    Raises `StoreFault` if fsspec or its driver for the address is not installed.
    """
    if isinstance(where, str) and "://" in where and not where.startswith("file://"):
        from inspect_pop.store.remote_files import open_remote_files

        return open_remote_files(where)
    return LocalFiles(Path(str(where).removeprefix("file://")).resolve())


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that all new entries are on the disk afterwards."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Sync a folder's entries to the disk. Unlike `core.system.sync_folder` it raises OSError: the file must not count then.

    Some shares cannot sync a folder and say so (fsync(2): EINVAL). They keep their entries themselves.
    """
    if os.name != "nt":  # a folder cannot be opened there; NTFS keeps its own journal
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise
        finally:
            os.close(handle)


class BackgroundJointWriter:
    """Write a record's file of joints in a thread, while its rows are made and inserted.

    Use it as a context manager: `wait` until the file is on the disk, then `place` it. A file that was not placed is removed
    when the block ends. Arrow encodes without Python's lock, so that the thread runs in parallel. Without `joint_files` there
    is no file, and nothing happens. Errors of the disk are raised unchanged.
    """

    def __init__(self, joint_files: JointFiles | None, inspection: Inspection, time_zone: str | None = None) -> None:
        self._joint_files, self._inspection, self._time_zone = joint_files, inspection, time_zone
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="joints")
        self._pending: Future[PendingFile] | None = None
        self._is_placed = False

    def __enter__(self) -> Self:
        if self._joint_files is not None:
            board = self._inspection.board
            path = joint_file_path(parse_local_day(board.inspected_at, self._time_zone), board.lot, board.record)
            table = to_arrow(self._inspection.joints, record=board.record)
            self._pending = self._thread.submit(_write_securely, self._joint_files, path, table)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if self._joint_files is None or self._pending is None or self._is_placed or self._pending.exception() is not None:
            return
        self._joint_files.discard(self._pending.result())

    def wait(self) -> None:
        """Wait until the file is on the disk."""
        if self._pending is not None:
            self._pending.result()

    def place(self) -> None:
        """Wait until the file is on the disk, then give it its name."""
        if self._joint_files is not None and self._pending is not None:
            self._joint_files.place(self._pending.result())
            self._is_placed = True


def _write_securely(joint_files: JointFiles, path: str, table: pa.Table) -> PendingFile:
    pending = joint_files.write(path, [table], _RECORD_COMPRESSION)
    try:
        joint_files.secure(pending)
    except OSError:
        joint_files.discard(pending)
        raise
    return pending


@dataclass(frozen=True)
class CompactionResult:
    """How many small files were merged (`merged`), into how many (`into`), and the records whose file cannot be read."""

    merged: int
    into: int
    unreadable: tuple[str, ...] = ()


def compact_files(engine: Engine, joint_files: JointFiles, before: str | None, largest: int) -> CompactionResult:
    """Merge the small files of each day and lot. See `Store.compact`."""
    partitions = select(contexts.c.day, contexts.c.lot).distinct().order_by(contexts.c.day, contexts.c.lot)
    partitions = partitions if before is None else partitions.where(contexts.c.day < before)
    with reading(engine) as connection:
        found = connection.execute(partitions).all()
    merged = into = 0
    unreadable: list[str] = []
    for day, lot in found:
        with reading(engine) as connection:
            records = _find_unmerged(connection, day, lot)
        for start in range(0, len(records), largest):
            part = _Partition(day, lot, records[start : start + largest])
            n, missing = _merge_files(engine, joint_files, part) if len(part.records) > 1 else (0, [])
            merged, into = merged + n, into + (n > 0)
            unreadable += missing
    return CompactionResult(merged, into, tuple(unreadable))


def _find_unmerged(connection: Connection, day: str, lot: str | None) -> list[str]:
    """Return a partition's records that are in no merged file, in the order in which they are read."""
    query = select(boards.c.record).join_from(boards, contexts, contexts.c.id == boards.c.context_id)
    query = query.where(contexts.c.day == day, contexts.c.lot.is_not_distinct_from(lot), boards.c.has_record_file == 1)
    return list(connection.scalars(query.order_by(boards.c.inspected_us, boards.c.record)))


@dataclass(frozen=True)
class _Partition:
    """Some records of one day and lot."""

    day: str
    lot: str | None
    records: list[str]

    def read_groups(self, joint_files: JointFiles, merged: list[str], unreadable: list[str]) -> Iterator[pa.Table]:
        """Yield the joints of many records at a time, and tell which records they are of and whose files cannot be read."""
        names = sorted(self.records)  # so that row groups' statistics find a single record
        for start in range(0, len(names), _BOARDS_PER_GROUP):
            tables = []
            for record in names[start : start + _BOARDS_PER_GROUP]:
                try:
                    tables.append(joint_files.read(joint_file_path(self.day, self.lot, record)))
                except (FileNotFoundError, StoreFault) as error:
                    if not joint_files.is_near and isinstance(error, StoreFault):
                        raise  # the object store is away: every file would be
                    unreadable.append(record)
                else:
                    merged.append(record)
            if tables:
                yield pa.concat_tables(tables)


def _merge_files(engine: Engine, joint_files: JointFiles, part: _Partition) -> tuple[int, list[str]]:
    """Write a merged file, make the records refer to it in one transaction, then remove the small files.

    Returns the number of merged records, and those whose file cannot be read: they stay as they are.
    """
    day, lot = part.day, part.lot
    records: list[str] = []
    unreadable: list[str] = []
    digest = hashlib.sha256("|".join(part.records).encode()).hexdigest()[:32]
    path = f"{partition_path(day, lot)}/merged-{digest}.parquet"
    with translate_errors(hide_password(engine.url)):
        pending = joint_files.write(path, part.read_groups(joint_files, records, unreadable), "zstd")
    try:
        if len(records) < 2:
            return 0, unreadable
        with translate_errors(hide_password(engine.url)):
            joint_files.secure(pending)
        with writing(engine, alone=True) as connection:
            if not set(_find_unmerged(connection, day, lot)).issuperset(records):
                return 0, []  # another process merged them meanwhile
            row = {"path": path, "day": day, "lot": lot, "n_boards": len(records)}
            file_id = connection.execute(insert(files).returning(files.c.id), row).scalar_one()
            values = {"file_id": file_id, "has_record_file": 0}
            connection.execute(update(boards).where(boards.c.record.in_(records)).values(values))
            joint_files.place(pending)
    finally:
        joint_files.discard(pending)
    with translate_errors(hide_password(engine.url)):
        for record in records:
            joint_files.remove(joint_file_path(day, lot, record))
    return len(records), unreadable


def repair_files(engine: Engine, joint_files: JointFiles, older_than_s: float, since: float | None = None) -> list[str]:
    """Remove joint files and windows that belong to no record and were changed after `since`. See `Store.repair`."""
    latest = time.time() - older_than_s
    by_day: defaultdict[str, list[str]] = defaultdict(list)
    with translate_errors(hide_password(engine.url)):
        for path, mtime in (*joint_files.list_files(), *((p, t) for p, t, _ in joint_files.list_windows())):
            if mtime <= latest and (since is None or mtime > since):
                by_day[path.split("/")[1].removeprefix("day=")].append(path)
    removed = []
    for day, paths in sorted(by_day.items()):
        with writing(engine, alone=True) as connection:  # no writer is between placing its file and its commit
            query = select(boards.c.record, contexts.c.lot, boards.c.has_record_file)
            query = query.join_from(boards, contexts, contexts.c.id == boards.c.context_id).where(contexts.c.day == day)
            known = set(connection.scalars(select(files.c.path).where(files.c.day == day)))
            for record, lot, has_file in connection.execute(query):
                path = joint_file_path(day, lot, record)
                known |= {path.replace("joints/", "windows/", 1)} | ({path} if has_file else set())
            for path in sorted(set(paths) - known):
                if (now := joint_files.read_mtime(path)) is not None and now <= latest:  # no upload has replaced it by now
                    joint_files.remove(path)
                    removed.append(path)
    return removed

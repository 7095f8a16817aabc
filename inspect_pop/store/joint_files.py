"""Joint tables as Arrow and Parquet, from the declared columns. NaN is null in a file, and NaN again when read.

All joints' measurements, as Parquet files beside the database: `joints/day=2026-03-02/lot=L-2411/<record>.parquet`.

A file counts only once its record is in the database. It is written under another name, put in place by one rename just
before the database commits, and left out of every answer where that commit never came. So a crash leaves at most an
orphan, which `repair` removes.

A record's file of joints, on its way to the disk while the record's rows are made and inserted.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.joint_table import COLUMNS, JointTable
from inspect_pop.store import rows
from inspect_pop.store.types import Waiting

__all__ = [
    "JOINT_SCHEMA",
    "RECORD_SCHEMA",
    "Beside",
    "JointFiles",
    "Waiting",
    "file_of",
    "from_arrow",
    "open_files",
    "parquet_options",
    "partition_of",
    "to_arrow",
]

# ---- store/arrow
_TYPES = {"text": pa.string(), "float32": pa.float32(), "int64": pa.int64()}
JOINT_SCHEMA = pa.schema([pa.field(c.name, _TYPES[c.kind]) for c in COLUMNS])
RECORD_SCHEMA = pa.schema([pa.field("record", pa.string()), *JOINT_SCHEMA])


def to_arrow(joints: JointTable, *, record: str | None = None) -> pa.Table:
    """All declared columns, in declared order; a column that the table lacks is null. `record` is put in front."""
    n = len(joints)
    arrays = [_array(joints, c.name, c.kind, n) for c in COLUMNS]
    if record is None:
        return pa.Table.from_arrays(arrays, schema=JOINT_SCHEMA)
    return pa.Table.from_arrays([pa.array([record] * n, pa.string()), *arrays], schema=RECORD_SCHEMA)


def from_arrow(table: pa.Table) -> JointTable:
    """The joint table again, without what is not declared (the record) and without text that an older file did not have."""
    there = [c for c in COLUMNS if c.name in table.column_names]
    there = [c for c in there if c.kind != "text" or c.nullable or not table[c.name].null_count]
    return JointTable({c.name: _values(table[c.name], c.kind) for c in there})


def parquet_options(schema: pa.Schema, compression: str = "zstd") -> dict[str, Any]:
    """How every file is written: compressed, dictionaries for text, split bytes for floats, statistics where one looks up."""
    texts = [f.name for f in schema if pa.types.is_string(f.type)]
    floats = [f.name for f in schema if pa.types.is_floating(f.type)]
    looked_up = [n for n in ("record", "serial", "refdes", "interface", "label", "verdict") if n in schema.names]
    return {
        "compression": compression,
        "use_dictionary": texts,
        "use_byte_stream_split": floats,
        "write_statistics": looked_up,
        "store_schema": False,
    }


def write_tables(sink: Any, tables: Iterable[pa.Table], schema: pa.Schema, compression: str) -> int:
    """Write tables one after the other into an open file; number of rows."""
    n = 0
    with pq.ParquetWriter(sink, schema, **parquet_options(schema, compression)) as writer:
        for table in tables:
            writer.write_table(table)
            n += table.num_rows
    return n


def _array(joints: JointTable, name: str, kind: str, n: int) -> pa.Array:
    if name not in joints:
        return pa.nulls(n, _TYPES[kind])
    values = joints[name]
    return pa.array(values, _TYPES[kind], mask=np.isnan(values) if kind == "float32" else None)


def _values(column: pa.ChunkedArray, kind: str) -> Any:
    if kind == "text":
        return np.array(column.to_pylist(), dtype=object)
    if kind == "float32":
        return column.to_numpy().astype(np.float32)
    return column.to_numpy()


# ---- store/joint_files
TEMPORARY = ".writing-"
_LONGEST_NAME = 120  # file systems allow 255 bytes; the rest is for what is put around a name
_NO_LOT = "__HIVE_DEFAULT_PARTITION__"


def partition_of(day: str, lot: str | None) -> str:
    """The folder of a day and lot, relative to the base, whatever characters the lot holds."""
    return f"joints/day={_safe(day)}/lot={_NO_LOT if lot is None else _safe(lot)}"


def file_of(day: str, lot: str | None, record: str) -> str:
    """The path of a record's own file, relative to the base."""
    return f"{partition_of(day, lot)}/{_safe(record)}.parquet"


def _safe(text: str) -> str:
    encoded = quote(text, safe="")
    if len(encoded) <= _LONGEST_NAME and encoded.strip("."):
        return encoded
    return f"{encoded[: _LONGEST_NAME - 20]}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


class JointFiles(Protocol):
    """Where the files are: a local folder, or anything that fsspec reaches."""

    @property
    def where(self) -> str:
        """The base."""
        ...

    @property
    def is_near(self) -> bool:
        """Whether a file takes no longer than the database's own log, so that a transaction may wait for it."""
        ...

    def write(self, path: str, tables: Iterable[pa.Table], compression: str) -> Waiting:
        """Write tables under a name that nobody reads."""
        ...

    def secure(self, waiting: Waiting) -> None:
        """Return when the file's content outlives a power cut; before that it must not be placed."""
        ...

    def place(self, waiting: Waiting) -> None:
        """Give the file its name; whoever reads sees all of it or none."""
        ...

    def discard(self, waiting: Waiting) -> None:
        """Remove a file that will not be placed; nothing happens where it is gone."""
        ...

    def read(self, path: str, records: Iterable[str] | None = None) -> pa.Table:
        """A file's rows, of these records only where they are named. FileNotFoundError where there is no such file."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens where it is gone."""
        ...

    def listed(self) -> Iterator[tuple[str, float]]:
        """Every file below the base with the time (seconds since 1970) of its last change."""
        ...

    def changed(self, path: str) -> float | None:
        """When the file was changed last, asked now; None where it is gone."""
        ...

    def address(self, path: str) -> str:
        """The file's address for other tools."""
        ...


@dataclass(frozen=True)
class LocalFiles:
    """Files in a folder of this machine, or of a share that renames in one step."""

    base: Path

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.base)

    @property
    def is_near(self) -> bool:
        """See `JointFiles`."""
        return True

    def write(self, path: str, tables: Iterable[pa.Table], compression: str) -> Waiting:
        """See `JointFiles`."""
        target = self.base / path
        _make_folder(target.parent)
        temporary = target.with_name(f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex}")
        try:
            with pa.OSFile(str(temporary), "wb") as sink:  # Arrow's own: a Python file is called for each small piece
                write_tables(sink, tables, RECORD_SCHEMA, compression)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return Waiting(temporary.relative_to(self.base).as_posix(), path)

    def secure(self, waiting: Waiting) -> None:
        """See `JointFiles`."""
        _sync(self.base / waiting.temporary)

    def place(self, waiting: Waiting) -> None:
        """See `JointFiles`; the folder's entry too is on the disk afterwards."""
        target = self.base / waiting.path
        (self.base / waiting.temporary).replace(target)
        _sync_folder(target.parent)

    def discard(self, waiting: Waiting) -> None:
        """See `JointFiles`."""
        (self.base / waiting.temporary).unlink(missing_ok=True)

    def read(self, path: str, records: Iterable[str] | None = None) -> pa.Table:
        """See `JointFiles`."""
        return _read(self.base / path, records)

    def remove(self, path: str) -> None:
        """See `JointFiles`."""
        (self.base / path).unlink(missing_ok=True)

    def listed(self) -> Iterator[tuple[str, float]]:
        """See `JointFiles`; a file that vanishes meanwhile is left out."""
        for path in (self.base / "joints").glob("day=*/lot=*/*"):
            try:
                changed = path.stat().st_mtime
            except FileNotFoundError:
                continue
            yield path.relative_to(self.base).as_posix(), changed

    def changed(self, path: str) -> float | None:
        """See `JointFiles`."""
        try:
            return (self.base / path).stat().st_mtime
        except FileNotFoundError:
            return None

    def address(self, path: str) -> str:
        """See `JointFiles`."""
        return str(self.base / path)


def open_files(where: str | Path) -> JointFiles:
    """Files in a folder, or below an fsspec address such as `s3://bucket/records`."""
    if isinstance(where, str) and "://" in where and not where.startswith("file://"):
        from inspect_pop.store.remote_files import open_remote

        return open_remote(where)
    return LocalFiles(Path(str(where).removeprefix("file://")).absolute())


def _read(source: Path, records: Iterable[str] | None) -> pa.Table:
    filters = None if records is None else [("record", "in", sorted(records))]
    try:
        return pq.read_table(source, schema=RECORD_SCHEMA, filters=filters, partitioning=None)
    except pa.ArrowInvalid as error:
        remedy = "Restore the file from a copy; the database's counts and defects are whole."
        raise StoreFault(str(source), expected="a Parquet file of joints", found=str(error), remedy=remedy) from error


def _make_folder(folder: Path) -> None:
    """Make a folder whose own entry, and those of the folders above that had to be made, are on the disk afterwards."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":  # a folder cannot be opened there; NTFS keeps its own journal
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, how: int = os.O_RDWR) -> None:
    handle = os.open(path, how)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- store/beside
_COMPRESSION = "lz4"  # in two thirds of zstd's time, for a tenth more bytes, until files are merged


class Beside:
    """`wait` until the file is on the disk, then `place` it; one that was not placed is removed at the end.

    Encoding and the disk are left to a thread: Arrow encodes without Python's lock. With `files` None there is no file, and
    all of this does nothing. Whatever the disk says is raised as it is.
    """

    def __init__(self, files: JointFiles | None, inspection: Inspection) -> None:
        self._files, self._inspection = files, inspection
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="joints")
        self._secured: Future[Waiting] | None = None
        self._placed = False

    def __enter__(self) -> Self:
        if self._files is not None:
            board = self._inspection.board
            path = file_of(rows.local_day(board.inspected_at), board.lot, board.record)
            table = to_arrow(self._inspection.joints, record=board.record)
            self._secured = self._thread.submit(_secured, self._files, path, table)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()
        if self._files is not None and self._secured is not None and not self._placed and self._secured.exception() is None:
            self._files.discard(self._secured.result())

    def wait(self) -> None:
        """Until the file is on the disk for good."""
        if self._secured is not None:
            self._secured.result()

    def place(self) -> None:
        """Wait, and give the file its name."""
        if self._files is not None and self._secured is not None:
            self._files.place(self._secured.result())
            self._placed = True


def _secured(files: JointFiles, path: str, table: pa.Table) -> Waiting:
    waiting = files.write(path, [table], _COMPRESSION)
    try:
        files.secure(waiting)
    except OSError:
        files.discard(waiting)
        raise
    return waiting

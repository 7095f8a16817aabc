"""All joints' measurements, as Parquet files beside the database: `joints/day=2026-03-02/lot=L-2411/<record>.parquet`.

A file counts only once its record is in the database. It is written under another name, put in place by one rename just
before the database commits, and left out of every answer where that commit never came. So a crash leaves at most an
orphan, which `repair` removes.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from inspect_pop.errors import StoreFault
from inspect_pop.store.arrow import RECORD_SCHEMA, write_tables
from inspect_pop.store.values import Waiting

__all__ = ["JointFiles", "Waiting", "file_of", "open_files", "partition_of"]

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

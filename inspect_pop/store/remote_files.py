"""Files of joints below an fsspec address. An object appears complete when its upload ends, so no rename is needed."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from inspect_pop.core.errors import StoreFault
from inspect_pop.store.joint_files import RECORD_SCHEMA, PendingFile, write_tables

__all__ = ["RemoteFiles", "open_remote_files"]

# A silent S3 server is given up after two times two requests of ten seconds. The drivers' defaults are ten times that.
_S3 = ("s3", "s3a")
_S3_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 2, "mode": "standard"}}
_S3_ROUNDS = 2

# An upload waits for the server's consent (Expect: 100-continue), which no timeout of the driver covers: it gets its own.
_UPLOAD_S = 30.0
_SLOWEST = 250_000  # bytes per second that a link carries at least

_BLOCK = 2**20  # bytes read ahead: the file of one record at once, its part of a merged file in a few requests

_REMEDIES = (
    (("bucket does not exist", "nosuchbucket"), "Create the bucket, or correct files= in the store's address."),
    (("credentials",), "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."),
    (
        ("permission", "forbidden", "denied", "signature", "access key"),
        "Check that the credentials are right and allow to list, read, write and delete there.",
    ),
    (
        ("connect", "time", "endpoint", "closed"),
        "Check that the object store runs and can be reached (AWS_ENDPOINT_URL); then repeat: nothing that was written is lost.",
    ),
)


@dataclass(frozen=True)
class RemoteFiles:
    """Files of an fsspec file system below `base`. Uploading a file also places it: an object store shows no partial object.

    `takes_timeout` tells whether the driver's upload takes a timeout.
    """

    filesystem: Any
    base: str
    where: str
    takes_timeout: bool = False

    @property
    def is_near(self) -> bool:
        """See `JointFiles`. An upload takes long, so that no transaction waits for one."""
        return False

    def write(self, path: str, tables: Iterable[pa.Table], compression: str) -> PendingFile:
        """See `JointFiles`. The object has its final name at once; it counts when its record is in the database."""
        sink = pa.BufferOutputStream()
        write_tables(sink, tables, RECORD_SCHEMA, compression)
        content = sink.getvalue().to_pybytes()
        timeout = {"timeout": _UPLOAD_S + len(content) / _SLOWEST} if self.takes_timeout else {}
        full = f"{self.base}/{path}"
        with _translate_driver_errors(self.address(path)):
            try:
                self.filesystem.pipe_file(full, content, **timeout)
            except FileNotFoundError:
                # Where folders are real they must be made. A missing bucket is not made: its name may be a mistake.
                self._make_folder(full.rpartition("/")[0])
                self.filesystem.pipe_file(full, content, **timeout)
        return PendingFile(path, path)

    def _make_folder(self, folder: str) -> None:
        above = folder.rpartition("/")[0]
        if above and not self.filesystem.exists(folder):
            self._make_folder(above)
            self.filesystem.mkdir(folder, create_parents=False)

    def secure(self, pending: PendingFile) -> None:
        """See `JointFiles`. Nothing to do: an uploaded object is secure."""

    def place(self, pending: PendingFile) -> None:
        """See `JointFiles`. Nothing to do: an uploaded object is in its place."""

    def discard(self, pending: PendingFile) -> None:
        """See `JointFiles`. Nothing to do: the object may be another writer's by now, and `repair_files` removes orphans."""

    def read(self, path: str, records: Iterable[str] | None = None) -> pa.Table:
        """See `JointFiles`. Raises `StoreFault` if the object store or the file is damaged or cannot be reached."""
        filters = None if records is None else [("record", "in", sorted(records))]
        try:
            with (
                _translate_driver_errors(self.address(path), keep_missing=True),
                self.filesystem.open(f"{self.base}/{path}", block_size=_BLOCK) as source,
            ):
                return pq.read_table(source, schema=RECORD_SCHEMA, filters=filters)
        except FileNotFoundError as error:
            reason = "no such object" if error.__cause__ is None else str(error)  # the store's words, such as: no bucket
            raise FileNotFoundError(errno.ENOENT, reason, self.address(path)) from error

    def open(self, path: str) -> BinaryIO:
        """See `JointFiles`."""
        with _translate_driver_errors(self.address(path), keep_missing=True):
            content: bytes = self.filesystem.cat_file(f"{self.base}/{path}")
        return BytesIO(content)

    def put(self, path: str, source: Path) -> None:
        """See `JointFiles`."""
        with _translate_driver_errors(self.address(path)):
            self._make_folder(f"{self.base}/{path}".rpartition("/")[0])
            self.filesystem.put_file(str(source), f"{self.base}/{path}")

    def save(self, path: str, content: bytes) -> None:
        """See `JointFiles`."""
        with _translate_driver_errors(self.address(path)):
            self._make_folder(f"{self.base}/{path}".rpartition("/")[0])
            self.filesystem.pipe_file(f"{self.base}/{path}", content)

    def remove(self, path: str) -> None:
        """See `JointFiles`."""
        try:
            with _translate_driver_errors(self.address(path), keep_missing=True):
                self.filesystem.rm_file(f"{self.base}/{path}")
        except FileNotFoundError:
            return

    def list_files(self) -> Iterator[tuple[str, float]]:
        """See `JointFiles`. Other objects below the base are ignored. No earlier listing is reused."""
        with _translate_driver_errors(self.where):
            self.filesystem.invalidate_cache()
            found = self.filesystem.find(f"{self.base}/joints", detail=True)
        for name, about in found.items():
            path = name.removeprefix(self.base).lstrip("/")
            if path.count("/") == 3 and fnmatch(path, "joints/day=*/lot=*/?*"):
                yield path, _parse_mtime(about)

    def list_windows(self) -> Iterator[tuple[str, float, int]]:
        """See `JointFiles`."""
        with _translate_driver_errors(self.where):
            self.filesystem.invalidate_cache()
            found = self.filesystem.find(f"{self.base}/windows", detail=True)
        for name, about in found.items():
            path = name.removeprefix(self.base).lstrip("/")
            if path.count("/") == 3 and fnmatch(path, "windows/day=*/lot=*/?*.parquet"):
                yield path, _parse_mtime(about), int(about.get("size") or 0)

    def read_mtime(self, path: str) -> float | None:
        """See `JointFiles`."""
        try:
            with _translate_driver_errors(self.address(path), keep_missing=True):
                self.filesystem.invalidate_cache()
                return _parse_mtime(self.filesystem.info(f"{self.base}/{path}"))
        except FileNotFoundError:
            return None

    def address(self, path: str) -> str:
        """See `JointFiles`."""
        return f"{self.where.rstrip('/')}/{path}"

    @property
    def folder_number(self) -> int:
        """See `JointFiles`. Folders have no number there."""
        return 0

    def make_base(self) -> None:
        """See `JointFiles`. Nothing to do: writing an object makes what it needs."""

    def read_note(self, name: str) -> str | None:
        """See `JointFiles`."""
        with _translate_driver_errors(self.address(name)):
            self.filesystem.invalidate_cache()
            try:
                content: bytes = self.filesystem.cat_file(f"{self.base}/{name}")
            except FileNotFoundError as error:
                if error.__cause__ is not None and "bucket" in str(error).lower():  # the store's words: nothing can be there
                    raise
                return None
        return content.decode("utf-8", "replace")

    def write_note(self, name: str, content: str, *, is_new: bool) -> None:
        """See `JointFiles`."""
        if is_new and self.read_note(name) is not None:
            return
        full = f"{self.base}/{name}"
        with _translate_driver_errors(self.address(name)):
            try:
                self.filesystem.pipe_file(full, content.encode())
            except FileNotFoundError:
                self._make_folder(full.rpartition("/")[0])
                self.filesystem.pipe_file(full, content.encode())

    def read_state(self, name: str) -> tuple[int, ...] | None:
        """See `JointFiles`. An object store is not unmounted: what was read once is not read again."""
        return (len(name),)


def open_remote_files(address: str) -> RemoteFiles:
    """Open the files below an fsspec address. The address is not contacted yet.

    The driver's configuration (FSSPEC_S3, ~/.config/fsspec) takes precedence over the timeouts set here. Raises `StoreFault`
    if fsspec or its driver is not installed.
    """
    protocol = address.partition("://")[0]
    try:
        from fsspec.config import conf
        from fsspec.core import url_to_fs

        options: dict[str, Any] = {}
        if protocol in _S3:
            configured = conf.get(protocol, {}).get("config_kwargs", {})
            options = {"use_listings_cache": False, "config_kwargs": _S3_TIMEOUTS | configured}
        filesystem, base = url_to_fs(address, **options)
    except (ImportError, ValueError) as error:
        remedy = "Install inspect_pop[object-store]." if protocol in _S3 else f"Install fsspec's driver for {protocol}://."
        raise StoreFault(address, expected="an address that fsspec can open", found=str(error), remedy=remedy) from error
    if protocol in _S3:
        filesystem.retries = _S3_ROUNDS
    return RemoteFiles(filesystem, base.rstrip("/"), address, takes_timeout=protocol in _S3)


@contextmanager
def _translate_driver_errors(address: str, *, keep_missing: bool = False) -> Iterator[None]:
    """Turn a driver's errors into a `StoreFault` that names the address.

    `keep_missing` lets FileNotFoundError pass unchanged.
    """
    try:
        yield
    except StoreFault:
        raise
    except pa.ArrowInvalid as error:
        remedy = "Restore the object from a copy. The database's counts and defects are complete."
        raise StoreFault(address, expected="a Parquet file of joints", found=str(error), remedy=remedy) from error
    except Exception as error:  # each driver has errors of its own, none of which may pass for a fault of the board
        if keep_missing and isinstance(error, FileNotFoundError):
            raise
        found = (str(error).strip() or type(error).__name__).splitlines()[0]
        text = f"{type(error).__name__} {found}".lower()
        remedy = next((remedy for signs, remedy in _REMEDIES if any(sign in text for sign in signs)), "")
        raise StoreFault(address, expected="an answer", found=found, remedy=remedy) from error


def _parse_mtime(about: dict[str, Any]) -> float:
    """Return the time of an object's last change from fsspec's details; now if they do not tell it."""
    moment = about.get("LastModified") or about.get("mtime") or about.get("created")
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(moment) if moment is not None else datetime.now(UTC).timestamp()

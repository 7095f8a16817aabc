"""Joints' files below an fsspec address: an object appears whole when its upload ends, so no rename is needed."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from inspect_pop.core.errors import StoreFault
from inspect_pop.store.joint_files import RECORD_SCHEMA, write_tables
from inspect_pop.store.types import Waiting

__all__ = ["RemoteFiles", "open_remote"]

# A silent S3 server is given up after two times two requests of ten seconds; the drivers' own patience is ten times that.
_S3 = ("s3", "s3a")
_S3_PATIENCE = {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 2, "mode": "standard"}}
_S3_ROUNDS = 2

# An upload waits for the server's leave (Expect: 100-continue), and no timeout of the driver counts that: it gets its own.
_UPLOAD_S = 30.0
_SLOWEST = 250_000  # bytes a second that a link carries at least

_BLOCK = 2**20  # read ahead: a record's own file at once, its part of a merged file in a few requests


@dataclass(frozen=True)
class RemoteFiles:
    """Files of an fsspec file system below `base`. The upload is the placing: an object store shows no half object."""

    filesystem: Any
    base: str
    where: str
    takes_timeout: bool = False

    @property
    def is_near(self) -> bool:
        """See `JointFiles`; an upload takes its time, and nobody's transaction waits for another one's."""
        return False

    def write(self, path: str, tables: Iterable[pa.Table], compression: str) -> Waiting:
        """See `JointFiles`. The object has its last name at once; it counts when its record is in the database."""
        sink = pa.BufferOutputStream()
        write_tables(sink, tables, RECORD_SCHEMA, compression)
        with _told(self.address(path)):
            self._upload(f"{self.base}/{path}", sink.getvalue().to_pybytes())
        return Waiting(path, path)

    def secure(self, waiting: Waiting) -> None:
        """See `JointFiles`; what was uploaded is there."""

    def place(self, waiting: Waiting) -> None:
        """See `JointFiles`; nothing is left to do."""

    def discard(self, waiting: Waiting) -> None:
        """See `JointFiles`. The object may be another writer's by now: `repair` removes it when it is nobody's."""

    def read(self, path: str, records: Iterable[str] | None = None) -> pa.Table:
        """See `JointFiles`."""
        filters = None if records is None else [("record", "in", sorted(records))]
        try:
            with (
                _told(self.address(path), missing=True),
                self.filesystem.open(f"{self.base}/{path}", block_size=_BLOCK) as source,
            ):
                return pq.read_table(source, schema=RECORD_SCHEMA, filters=filters)
        except FileNotFoundError as error:
            said = "no such object" if error.__cause__ is None else str(error)  # a store's own words, such as: no bucket
            raise FileNotFoundError(errno.ENOENT, said, self.address(path)) from error

    def remove(self, path: str) -> None:
        """See `JointFiles`."""
        try:
            with _told(self.address(path), missing=True):
                self.filesystem.rm_file(f"{self.base}/{path}")
        except FileNotFoundError:
            return

    def listed(self) -> Iterator[tuple[str, float]]:
        """See `JointFiles`; whatever else lies below the base is nobody's here. Nothing is taken from an earlier listing."""
        with _told(self.where):
            self.filesystem.invalidate_cache()
            found = self.filesystem.find(f"{self.base}/joints", detail=True)
        for name, about in found.items():
            path = name.removeprefix(self.base).lstrip("/")
            if path.count("/") == 3 and fnmatch(path, "joints/day=*/lot=*/?*"):
                yield path, _changed(about)

    def changed(self, path: str) -> float | None:
        """See `JointFiles`."""
        try:
            with _told(self.address(path), missing=True):
                self.filesystem.invalidate_cache()
                return _changed(self.filesystem.info(f"{self.base}/{path}"))
        except FileNotFoundError:
            return None

    def address(self, path: str) -> str:
        """See `JointFiles`."""
        return f"{self.where.rstrip('/')}/{path}"

    def _upload(self, full: str, content: bytes) -> None:
        limit = {"timeout": _UPLOAD_S + len(content) / _SLOWEST} if self.takes_timeout else {}
        try:
            self.filesystem.pipe_file(full, content, **limit)
        except FileNotFoundError:
            # Where folders are real they want to be made. A bucket is not ours to make: its name may be a mistake.
            self._make_folder(full.rpartition("/")[0])
            self.filesystem.pipe_file(full, content, **limit)

    def _make_folder(self, folder: str) -> None:
        above = folder.rpartition("/")[0]
        if above and not self.filesystem.exists(folder):
            self._make_folder(above)
            self.filesystem.mkdir(folder, create_parents=False)


def open_remote(address: str) -> RemoteFiles:
    """The files below an fsspec address; `StoreFault` where fsspec or its driver is not installed. Nothing is asked there yet."""
    protocol = address.partition("://")[0]
    try:
        from fsspec.core import url_to_fs

        filesystem, base = url_to_fs(address, **_options(protocol))
    except (ImportError, ValueError) as error:
        remedy = "Install inspect_pop[object-store]." if protocol in _S3 else f"Install fsspec's driver for {protocol}://."
        raise StoreFault(address, expected="an address that fsspec can open", found=str(error), remedy=remedy) from error
    if protocol in _S3:
        filesystem.retries = _S3_ROUNDS
    return RemoteFiles(filesystem, base.rstrip("/"), address, takes_timeout=protocol in _S3)


def _options(protocol: str) -> dict[str, Any]:
    """What is told to the driver beyond its own configuration (FSSPEC_S3, ~/.config/fsspec), which goes first."""
    if protocol not in _S3:
        return {}
    from fsspec.config import conf

    told = conf.get(protocol, {}).get("config_kwargs", {})
    return {"use_listings_cache": False, "config_kwargs": _S3_PATIENCE | told}


@contextmanager
def _told(address: str, *, missing: bool = False) -> Iterator[None]:
    """Turn what a driver says into a `StoreFault` that names the address; with `missing`, FileNotFoundError stays itself."""
    try:
        yield
    except StoreFault:
        raise
    except pa.ArrowInvalid as error:
        remedy = "Restore the object from a copy; the database's counts and defects are whole."
        raise StoreFault(address, expected="a Parquet file of joints", found=str(error), remedy=remedy) from error
    except Exception as error:  # each driver has errors of its own, and none of them may pass for a fault of the board
        if missing and isinstance(error, FileNotFoundError):
            raise
        found = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StoreFault(address, expected="an answer", found=found, remedy=_remedy(error, found)) from error


def _remedy(error: Exception, found: str) -> str:
    text = f"{type(error).__name__} {found}".lower()
    return next((remedy for signs, remedy in _REMEDIES if any(sign in text for sign in signs)), "")


_REMEDIES = (
    (("bucket does not exist", "nosuchbucket"), "Make the bucket, or correct files= in the store's address."),
    (("credentials",), "Give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."),
    (
        ("permission", "forbidden", "denied", "signature", "access key"),
        "See that the credentials are right and may list, read, write and delete there.",
    ),
    (
        ("connect", "time", "endpoint", "closed"),
        "See that the object store runs and can be reached (AWS_ENDPOINT_URL); then repeat: nothing that was written is lost.",
    ),
)


def _changed(about: dict[str, Any]) -> float:
    moment = about.get("LastModified") or about.get("mtime") or about.get("created")
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(moment) if moment is not None else datetime.now(UTC).timestamp()

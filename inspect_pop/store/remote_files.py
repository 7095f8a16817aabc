"""Joints' files below an fsspec address: an object appears whole when its upload ends, so no rename is needed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from inspect_pop.errors import StoreFault
from inspect_pop.store.arrow import RECORD_SCHEMA, write_tables
from inspect_pop.store.values import Waiting

__all__ = ["RemoteFiles", "open_remote"]


@dataclass(frozen=True)
class RemoteFiles:
    """Files of an fsspec file system below `base`. The upload is the placing: an object store shows no half object."""

    filesystem: Any
    base: str
    where: str

    @property
    def is_near(self) -> bool:
        """See `JointFiles`; an upload takes its time, and nobody's transaction waits for another one's."""
        return False

    def write(self, path: str, tables: Iterable[pa.Table], compression: str) -> Waiting:
        """See `JointFiles`. The object has its last name at once; it counts when its record is in the database."""
        full = f"{self.base}/{path}"
        self.filesystem.makedirs(full.rpartition("/")[0], exist_ok=True)
        sink = pa.BufferOutputStream()
        write_tables(sink, tables, RECORD_SCHEMA, compression)
        self.filesystem.pipe_file(full, sink.getvalue().to_pybytes())
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
        with self.filesystem.open(f"{self.base}/{path}", "rb") as source:
            try:
                return pq.read_table(source, schema=RECORD_SCHEMA, filters=filters)
            except pa.ArrowInvalid as error:
                raise StoreFault(self.address(path), expected="a Parquet file of joints", found=str(error)) from error

    def remove(self, path: str) -> None:
        """See `JointFiles`."""
        if self.filesystem.exists(f"{self.base}/{path}"):
            self.filesystem.rm_file(f"{self.base}/{path}")

    def listed(self) -> Iterator[tuple[str, float]]:
        """See `JointFiles`."""
        found = self.filesystem.find(f"{self.base}/joints", detail=True)
        for name, about in found.items():
            yield name.removeprefix(self.base).lstrip("/"), _changed(about)

    def address(self, path: str) -> str:
        """See `JointFiles`."""
        return f"{self.where.rstrip('/')}/{path}"


def open_remote(address: str) -> RemoteFiles:
    """The files below an fsspec address; `StoreFault` where fsspec or its driver is not installed."""
    try:
        from fsspec.core import url_to_fs

        filesystem, base = url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise StoreFault(
            address, expected="an address that fsspec can open", found=str(error), remedy="Install its driver."
        ) from error
    return RemoteFiles(filesystem, base.rstrip("/"), address)


def _changed(about: dict[str, Any]) -> float:
    moment = about.get("LastModified") or about.get("mtime") or about.get("created")
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(moment) if moment is not None else datetime.now(UTC).timestamp()

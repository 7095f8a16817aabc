"""Finished boards, one file each, until the run is whole: what a run that was stopped goes on from.

A fragment is an Arrow file of the board's joints (a fifth of the time that Parquet takes to write and read, half as large
again) with the board and package records as JSON in its metadata, and a digest of all that at its end. It is written beside
its place and moved there, so a fragment is whole or absent; one that a crash of the machine left damaged counts as absent.
It is named for its record, whose identity holds all that the result depends on: a fragment of another model, recipe, limit
or software is never taken for this one.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.core.joint_table import JointTable
from inspect_pop.store.joint_files import from_arrow, to_arrow

__all__ = ["fragment_path", "read_fragment", "write_fragment"]

_META = b"inspection"
_DIGEST_BYTES = hashlib.sha256().digest_size
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


def fragment_path(work_dir: Path, record: str) -> Path:
    """Where the fragment of this record lies, whether it is there or not."""
    return work_dir / record[:2] / f"{record}.arrow"


def write_fragment(path: Path, inspection: Inspection) -> None:
    """Leave the inspection at `path`, whole or not at all. Raises `StoreFault` where it cannot be written."""
    meta = json.dumps(_to_json(inspection)).encode()
    table = to_arrow(inspection.joints).replace_schema_metadata({_META: meta})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(body + hashlib.sha256(body).digest())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        remedy = "Make room or choose another --out; the same command then goes on where it stopped."
        raise StoreFault(str(path.parent), expected="a folder to write to", found=str(error), remedy=remedy) from error


def read_fragment(path: Path) -> Inspection | None:
    """The inspection that was left at `path`, without its pictures; None where there is none, or not as it was left."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return None
    table = pa.ipc.open_file(body).read_all()
    return _from_json(json.loads(table.schema.metadata[_META]), from_arrow(table))


def _to_json(inspection: Inspection) -> dict[str, Any]:
    return {
        "board": _plain(asdict(inspection.board)),
        "packages": [_plain(asdict(p)) for p in inspection.packages],
        "timings_ms": inspection.timings_ms,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as null: JSON has no other word for it."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def _from_json(meta: dict[str, Any], joints: JointTable) -> Inspection:
    board = _restore(BoardRecord, meta["board"]) | {"missing": tuple(meta["board"]["missing"])}
    packages = tuple(PackageRecord(**_restore(PackageRecord, p)) for p in meta["packages"])
    return Inspection(BoardRecord(**board), packages, joints, timings_ms=meta["timings_ms"])


def _restore(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    floats = {f.name for f in fields(kind) if f.type in {"float", float}}
    return {k: math.nan if v is None and k in floats else v for k, v in values.items()}

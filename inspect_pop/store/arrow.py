"""Joint tables as Arrow and Parquet, from the declared columns. NaN is null in a file, and NaN again when read."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inspect_pop.joints import COLUMNS, JointTable

__all__ = ["JOINT_SCHEMA", "RECORD_SCHEMA", "from_arrow", "parquet_options", "to_arrow"]

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

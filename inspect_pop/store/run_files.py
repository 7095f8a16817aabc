"""Write the files of a run's folder: joints.parquet, boards.parquet, packages.parquet and quarantine.csv.

The columns follow from `inspect_pop.core.columns` and the records in `inspect_pop.core.inspection`. The same inspections, added
in the same order, give the same content. No file appears under its name before all are written.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.core.system import write_text
from inspect_pop.core.text import format_csv
from inspect_pop.store.engine import translate_errors
from inspect_pop.store.joint_files import RECORD_SCHEMA, parquet_options, to_arrow
from inspect_pop.store.rows import count_key
from inspect_pop.store.schema import COUNT_COLUMNS, LABEL_COUNTS
from inspect_pop.store.types import InspectionSequence, escape_text

__all__ = ["BOARD_SCHEMA", "PACKAGE_SCHEMA", "RunFiles", "flatten_counts"]

INTERFACES = ("lower", "upper")
_ROWS_PER_GROUP = 65_536
_MOST_TABLES = 512  # tables in memory: one of a single board's row takes some kilobytes
_BY_TYPE: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    str | None: pa.string(),
    int | None: pa.int64(),
}


def _make_schema(record: type, *added: tuple[str, pa.DataType], without: Sequence[str] = ()) -> pa.Schema:
    columns = [(f.name, _BY_TYPE.get(f.type, pa.string())) for f in fields(record) if f.name not in without]
    return pa.schema([*columns, *added])


BOARD_SCHEMA = _make_schema(BoardRecord, ("inspection_no", pa.int64()), ("first_record", pa.string()))
_INTERFACE_COUNTS = [(f"n_{i}_{n.removeprefix('n_')}", pa.int64()) for i in INTERFACES for n in ("n_joints", *COUNT_COLUMNS)]
PACKAGE_SCHEMA = _make_schema(PackageRecord, ("record", pa.string()), *_INTERFACE_COUNTS, without=("counts",))


def flatten_counts(package: PackageRecord) -> dict[str, int | None]:
    """Return a package's counts as columns: `n_lower_joints`, `n_lower_good` … `n_upper_review`.

    The counts of an interface that the package does not have are None.
    """
    flat: dict[str, int | None] = dict.fromkeys(name for name, _ in _INTERFACE_COUNTS)
    for interface, counts in package.counts.items():
        total = sum(counts[count_key(n)] for n in LABEL_COUNTS)
        by_name = {"joints": total} | {n.removeprefix("n_"): counts[count_key(n)] for n in COUNT_COLUMNS}
        flat |= {f"n_{interface}_{n}": v for n, v in by_name.items()}
    return flat


class RunFiles:
    """Writes a run's files board by board; they appear at `close`.

    Use it as a context manager: the end of the block closes the files, an error in the block discards them.

    Parameters
    ----------
    out
        The run's folder; created if missing.
    find_sequences
        Returns each record's place among its serial's inspections (`Store.find_sequences`); called at the end. Without it,
        `inspection_no` and `first_record` are null, and `fpy` is that of the record.

    Raises
    ------
    StoreFault
        A file or the folder cannot be written. All methods raise it.
    """

    def __init__(
        self, out: Path, find_sequences: Callable[[Sequence[str]], Mapping[str, InspectionSequence]] | None = None
    ) -> None:
        self._out, self._find_sequences = out, find_sequences
        with translate_errors(str(out)):
            out.mkdir(parents=True, exist_ok=True)
        self._joints = _GrowingFile(out / "joints.parquet", RECORD_SCHEMA)
        self._boards = _GrowingFile(out / "boards.parquet", BOARD_SCHEMA)
        self._packages = _GrowingFile(out / "packages.parquet", PACKAGE_SCHEMA)
        self._quarantined: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def add(self, inspection: Inspection) -> None:
        """Add a board. The files keep the order in which boards are added."""
        board = inspection.board
        row = asdict(board) | {"missing": "; ".join(board.missing), "inspection_no": None, "first_record": None}
        packages = [
            {k: v for k, v in asdict(p).items() if k != "counts"} | {"record": board.record} | flatten_counts(p)
            for p in inspection.packages
        ]
        with translate_errors(str(self._out)):
            self._joints.add(to_arrow(inspection.joints, record=board.record))
            self._boards.add(_make_table([row], BOARD_SCHEMA))
            self._packages.add(_make_table(packages, PACKAGE_SCHEMA))

    def add_quarantine(self, path: str, reason: str) -> None:
        """Add an export that could not be inspected."""
        self._quarantined.append((escape_text(path), escape_text(reason)))

    def close(self) -> None:
        """Finish all files and give them their names."""
        with translate_errors(str(self._out)):
            for growing in (self._joints, self._boards, self._packages):
                growing.finish()
            if self._find_sequences is not None:
                self._boards.rewrite(self._add_sequences)
            write_text(self._out / "quarantine.csv", format_csv(("path", "reason"), self._quarantined))
            for growing in (self._packages, self._joints, self._boards):
                growing.place()

    def _add_sequences(self, boards: pa.Table) -> pa.Table:
        rows = boards.to_pylist()
        known = self._find_sequences([row["record"] for row in rows]) if self._find_sequences is not None else {}
        for row in rows:
            if row["record"] in known:
                row.update(asdict(known[row["record"]]))
        return _make_table(rows, BOARD_SCHEMA)

    def discard(self) -> None:
        """Remove the unfinished files."""
        with translate_errors(str(self._out)):
            for growing in (self._joints, self._boards, self._packages):
                growing.discard()


class _GrowingFile:
    """A Parquet file under a temporary name, written in row groups of a useful size for as long as the run lasts."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._temporary = path.with_name(f".{path.name}.writing-{os.getpid()}")
        with translate_errors(str(path.parent)):
            self._writer = pq.ParquetWriter(self._temporary, schema, **parquet_options(schema))
        self._tables: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        self._tables.append(table)
        if len(self._tables) >= _MOST_TABLES or sum(t.num_rows for t in self._tables) >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._tables:
            self._writer.write_table(pa.concat_tables(self._tables), row_group_size=2 * _ROWS_PER_GROUP)
        self._tables = []

    def finish(self) -> None:
        self._flush()
        self._writer.close()

    def rewrite(self, change: Callable[[pa.Table], pa.Table]) -> None:
        """Write the finished file again, each row group changed."""
        changed = self._temporary.with_name(self._temporary.name + "-changed")
        with (
            pq.ParquetFile(self._temporary) as source,
            pq.ParquetWriter(changed, self._schema, **parquet_options(self._schema)) as writer,
        ):
            for group in range(source.num_row_groups):
                writer.write_table(change(source.read_row_group(group)))
        changed.replace(self._temporary)

    def place(self) -> None:
        with self._temporary.open("rb") as written:
            os.fsync(written.fileno())
        self._temporary.replace(self._path)

    def discard(self) -> None:
        self._writer.close()
        self._temporary.unlink(missing_ok=True)


def _make_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Make a table of the schema from rows, NaN as null."""
    arrays = [pa.array([row[f.name] for row in rows], f.type, from_pandas=True) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)

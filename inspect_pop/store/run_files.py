"""What a run leaves in its folder: joints.parquet, boards.parquet, packages.parquet and quarantine.csv.

The columns are those of RECORDS version 1, and more. The same inspections, added in the same order, give the same
content. Nothing appears under its name before all is written.
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.store.engine import faults
from inspect_pop.store.joint_files import RECORD_SCHEMA, parquet_options, to_arrow
from inspect_pop.store.rows import count_key
from inspect_pop.store.schema import COUNTS
from inspect_pop.store.types import Standing, printable

__all__ = ["BOARD_SCHEMA", "PACKAGE_SCHEMA", "RunFiles", "package_counts"]

INTERFACES = ("lower", "upper")
_ROWS_A_GROUP = 65_536
_TABLES_HELD = 512  # a table of one board's row takes some kilobytes
_BY_TYPE: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    str | None: pa.string(),
    int | None: pa.int64(),
}


def _schema(record: type, *more: tuple[str, pa.DataType], without: Sequence[str] = ()) -> pa.Schema:
    own = [(f.name, _BY_TYPE.get(f.type, pa.string())) for f in fields(record) if f.name not in without]
    return pa.schema([*own, *more])


BOARD_SCHEMA = _schema(BoardRecord, ("inspection_no", pa.int64()), ("first_record", pa.string()))
_COUNTED = [(f"n_{i}_{n.removeprefix('n_')}", pa.int64()) for i in INTERFACES for n in ("n_joints", *COUNTS)]
PACKAGE_SCHEMA = _schema(PackageRecord, ("record", pa.string()), *_COUNTED, without=("counts",))


def package_counts(package: PackageRecord) -> dict[str, int | None]:
    """`n_lower_joints`, `n_lower_good` … `n_upper_review`; null for an interface that the package does not have."""
    flat: dict[str, int | None] = dict.fromkeys(name for name, _ in _COUNTED)
    for interface, counts in package.counts.items():
        own = {n.removeprefix("n_"): counts[count_key(n)] for n in COUNTS}
        total = sum(v for n, v in own.items() if n != "review")  # a joint in review has a label, or is undecided, too
        flat |= {f"n_{interface}_{n}": v for n, v in {"joints": total, **own}.items()}
    return flat


class RunFiles:
    """Writes a run's files board by board; they appear at `close`. Leaving a `with` block by an error leaves nothing.

    Parameters
    ----------
    out
        The run's folder; made where it is missing.
    standing
        Tells each record's place among its serial's inspections (`Store.standing`), asked at the end. Without it,
        `inspection_no` and `first_record` are null, and `fpy` is as the record has it.
    """

    def __init__(self, out: Path, standing: Callable[[Sequence[str]], Mapping[str, Standing]] | None = None) -> None:
        self._out, self._standing = out, standing
        with faults(str(out)):
            out.mkdir(parents=True, exist_ok=True)
        self._joints = _Growing(out / "joints.parquet", RECORD_SCHEMA)
        self._boards = _Growing(out / "boards.parquet", BOARD_SCHEMA)
        self._packages = _Growing(out / "packages.parquet", PACKAGE_SCHEMA)
        self._quarantined: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def add(self, inspection: Inspection) -> None:
        """One more board, in the order that the files shall have. Raises `StoreFault`."""
        board = inspection.board
        row = asdict(board) | {"missing": "; ".join(board.missing), "inspection_no": None, "first_record": None}
        packages = [
            {k: v for k, v in asdict(p).items() if k != "counts"} | {"record": board.record} | package_counts(p)
            for p in inspection.packages
        ]
        with faults(str(self._out)):
            self._joints.add(to_arrow(inspection.joints, record=board.record))
            self._boards.add(_table([row], BOARD_SCHEMA))
            self._packages.add(_table(packages, PACKAGE_SCHEMA))

    def add_quarantine(self, path: str, reason: str) -> None:
        """One more export that could not be inspected."""
        self._quarantined.append((printable(path), printable(reason)))

    def close(self) -> None:
        """Finish all files and give them their names. Raises `StoreFault`."""
        with faults(str(self._out)):
            for growing in (self._joints, self._boards, self._packages):
                growing.finish()
            if self._standing is not None:
                self._boards.change(partial(_placed, self._standing))
            listed = _temporary(self._out / "quarantine.csv")
            with listed.open("w", encoding="utf-8", newline="") as sink:
                csv.writer(sink, lineterminator="\n").writerows([("path", "reason"), *self._quarantined])
            listed.replace(self._out / "quarantine.csv")
            for growing in (self._packages, self._joints, self._boards):
                growing.place()

    def discard(self) -> None:
        """Remove what was begun."""
        with faults(str(self._out)):
            for growing in (self._joints, self._boards, self._packages):
                growing.discard()


class _Growing:
    """A Parquet file under another name, written in row groups of a useful size."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._temporary = _temporary(path)
        with faults(str(path.parent)):
            self._writer = pq.ParquetWriter(self._temporary, schema, **parquet_options(schema))
        self._held: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        self._held.append(table)
        if len(self._held) >= _TABLES_HELD or sum(t.num_rows for t in self._held) >= _ROWS_A_GROUP:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._writer.close()

    def change(self, how: Callable[[pa.Table], pa.Table]) -> None:
        """Write the finished file again, each row group changed."""
        changed = self._temporary.with_name(self._temporary.name + "-changed")
        with (
            pq.ParquetFile(self._temporary) as source,
            pq.ParquetWriter(changed, self._schema, **parquet_options(self._schema)) as writer,
        ):
            for group in range(source.num_row_groups):
                writer.write_table(how(source.read_row_group(group)))
        changed.replace(self._temporary)

    def place(self) -> None:
        with self._temporary.open("rb") as written:
            os.fsync(written.fileno())
        self._temporary.replace(self._path)

    def discard(self) -> None:
        self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held), row_group_size=2 * _ROWS_A_GROUP)
        self._held = []


def _placed(standing: Callable[[Sequence[str]], Mapping[str, Standing]], boards: pa.Table) -> pa.Table:
    rows = boards.to_pylist()
    known = standing([row["record"] for row in rows])
    for row in rows:
        if row["record"] in known:
            row.update(asdict(known[row["record"]]))
    return _table(rows, BOARD_SCHEMA)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.writing-{os.getpid()}")


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of the schema, NaN as null."""
    arrays = [pa.array([row[f.name] for row in rows], f.type, from_pandas=True) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)

"""The joint table: its declared columns, from which Parquet, SQL, CSV and documentation follow.

One row per *expected* joint, always: a joint that is missing or could not be measured is a flagged row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.classes import CLASSES, VERDICTS
from inspect_pop.core.columns import COLUMNS, KEY, Column

__all__ = ["CLASSES", "COLUMNS", "KEY", "VERDICTS", "Column", "JointTable", "concat"]

_KIND = {column.name: column for column in COLUMNS}


class JointTable:
    """Parallel columns, one entry per expected joint, checked once against `COLUMNS`.

    Text columns are object arrays (None for null), `float32` and `int64` as named. Columns are read by name
    (`table["x_um"]`) and are not to be written to; `replace` gives a new table.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
        unknown = sorted(set(columns) - set(_KIND))
        if unknown:
            raise ValueError(f"undeclared columns {unknown}; declare them in columns.COLUMNS")
        self._columns = {c.name: _as_array(c, columns[c.name]) for c in COLUMNS if c.name in columns}
        lengths = {name: len(values) for name, values in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of unequal length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are there, in declared order."""
        return tuple(self._columns)

    def replace(self, **columns: Sequence[Any] | NDArray[Any]) -> "JointTable":
        """A new table with these columns added or exchanged."""
        return JointTable({**self._columns, **columns})

    def take(self, index: NDArray[Any]) -> "JointTable":
        """The rows named by a boolean mask or integer index."""
        return JointTable({name: values[index] for name, values in self._columns.items()})

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """All columns, by name, in declared order."""
        return dict(self._columns)

    def probabilities(self) -> NDArray[np.float32]:
        """(n, 5) float32, in the order of `CLASSES`."""
        return np.stack([self._columns[f"p_{c}"] for c in CLASSES], axis=1).astype(np.float32)


def concat(tables: Sequence[JointTable]) -> JointTable:
    """All rows of tables that have the same columns, in order."""
    if not tables:
        return JointTable({})
    return JointTable({name: np.concatenate([t[name] for t in tables]) for name in tables[0].names})


def _as_array(column: Column, values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    if column.kind == "text":
        array = np.asarray(values, dtype=object)
        if not column.nullable and None in array.tolist():
            raise ValueError(f"column {column.name} must not hold null")
        return array
    return np.asarray(values, dtype=column.kind)

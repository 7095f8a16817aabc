"""The joint table: one row per expected joint, in the columns that `core.columns` declares.

A joint that is missing or could not be measured keeps its row, with flags that say why.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.classes import CLASSES, VERDICTS
from inspect_pop.core.columns import COLUMNS, KEY, Column
from inspect_pop.core.errors import UsageFault

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]

__all__ = ["CLASSES", "COLUMNS", "KEY", "VERDICTS", "Column", "JointTable", "concat", "make_frame"]

_BY_NAME = {column.name: column for column in COLUMNS}
_HTML_ROWS, _HTML_COLUMNS = 10, (*KEY, "label", "verdict", "reason", "p_good", "diameter_um", "volume_ratio", "void_fraction")


class JointTable:
    """Parallel columns, one entry per expected joint, checked once against `core.columns.COLUMNS`.

    Text columns are object arrays (None for null); the others are `float32` and `int64` arrays. The arrays are not to be
    written to; `replace` returns a new table.

    Index by column name for an array, by anything else that NumPy understands for rows:

        joints["void_fraction"]                   # (n,) float32
        joints[joints["verdict"] != "pass"]       # a table: boolean mask
        joints[[3, 1]], joints[:10]               # a table: integers, slice
        joints[0]                                 # a dict: one row

    Args:
        columns: Values by column name. Any subset of the declared columns, all of one length.

    Raises:
        ValueError: A column is not declared, lengths differ, or null stands where it is not allowed.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
        unknown = sorted(set(columns) - set(_BY_NAME))
        if unknown:
            raise ValueError(f"undeclared columns {unknown}; declare them in core.columns.COLUMNS")
        self._columns: dict[str, NDArray[Any]] = {}
        for column in COLUMNS:
            if column.name not in columns:
                continue
            is_text = column.kind == "text"
            values = np.asarray(columns[column.name], dtype=object if is_text else column.kind)
            if is_text and not column.nullable and None in values.tolist():
                raise ValueError(f"column {column.name} must not hold null")
            self._columns[column.name] = values
        lengths = {name: len(values) for name, values in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of unequal length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: int | np.integer) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | Sequence[bool] | NDArray[Any]) -> "JointTable": ...
    def __getitem__(self, key: Any) -> Any:
        """Return a column by name, one row as a dict by number, or a table of the rows that a mask, array or slice names."""
        if isinstance(key, str):
            return self._columns[key]
        if isinstance(key, int | np.integer):
            return {name: values[key] for name, values in self._columns.items()}
        if isinstance(key, slice):
            return JointTable({name: values[key] for name, values in self._columns.items()})
        rows = np.asarray(key)
        return self.take(rows if rows.size else rows.astype(np.intp))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[k] for k in range(len(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __repr__(self) -> str:
        counts = ""
        if "verdict" in self:
            verdicts = self["verdict"].tolist()
            counts = ": " + ", ".join(f"{verdicts.count(v)} {v}" for v in VERDICTS)
        return f"<JointTable of {len(self)} joints, {len(self._columns)} columns{counts}>"

    def _repr_html_(self) -> str:
        names = [name for name in _HTML_COLUMNS if name in self] or list(self.names)
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        rows = []
        for row in self[:_HTML_ROWS]:
            values = (f"{row[n]:.3g}" if isinstance(row[n], np.floating) else str(row[n]) for n in names)
            rows.append("".join(f"<td>{escape(value)}</td>" for value in values))
        body = "".join(f"<tr>{cells}</tr>" for cells in rows)
        return f"<p>{escape(repr(self)[1:-1])}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns in this table, in declared order."""
        return tuple(self._columns)

    def replace(self, **columns: Sequence[Any] | NDArray[Any]) -> "JointTable":
        """Return a new table with these columns added or exchanged."""
        return JointTable({**self._columns, **columns})

    def take(self, index: NDArray[Any]) -> "JointTable":
        """Return the rows that a boolean mask or an integer array names, as a new table."""
        return JointTable({name: values[index] for name, values in self._columns.items()})

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return all columns by name, in declared order."""
        return dict(self._columns)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the table as a `pandas.DataFrame`, one per joint column. Null text becomes a missing value.

        Raises:
            UsageFault: pandas is not installed.
        """
        return make_frame(self._columns)

    def probabilities(self) -> NDArray[np.float32]:
        """Return the probabilities (n, classes) float32, in the order of `CLASSES`."""
        return np.stack([self._columns[f"p_{c}"] for c in CLASSES], axis=1).astype(np.float32)


def concat(tables: Sequence[JointTable]) -> JointTable:
    """Join the rows of tables that have the same columns, in order."""
    if not tables:
        return JointTable({})
    return JointTable({name: np.concatenate([t[name] for t in tables]) for name in tables[0].names})


def make_frame(columns: Mapping[str, NDArray[Any]]) -> "pandas.DataFrame":
    """Make a `pandas.DataFrame` of parallel columns. Raises `UsageFault` where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        remedy = "Install it: pip install pandas."
        raise UsageFault("to_pandas", expected="pandas", found="no such package", remedy=remedy) from error
    return pandas.DataFrame(dict(columns))

"""The joint table: its declared columns, from which Parquet, SQL, CSV and documentation follow.

One row per *expected* joint, always: a joint that is missing or could not be measured is a flagged row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "COLUMNS", "KEY", "VERDICTS", "Column", "JointTable", "concat"]

CLASSES = ("good", "bridged", "open", "starved", "head_in_pillow")
VERDICTS = ("pass", "fail", "review")
KEY = ("serial", "refdes", "interface", "ball")


@dataclass(frozen=True)
class Column:
    """One column: its name, `text` / `float32` / `int64`, unit, meaning, and whether null is allowed (text only)."""

    name: str
    kind: str
    unit: str
    meaning: str
    nullable: bool = False


COLUMNS = (
    Column("serial", "text", "", "the board's serial"),
    Column("refdes", "text", "", "the package's reference designator"),
    Column("interface", "text", "", "lower: package to board; upper: memory to package"),
    Column("ball", "text", "", "ball name, as the recipe gives it"),
    Column("label", "text", "", "one of the five classes; null where nothing could be decided", nullable=True),
    *(Column(f"p_{c}", "float32", "1", f"calibrated probability of {c}; NaN where undecided") for c in CLASSES),
    Column("verdict", "text", "", "pass, fail or review"),
    Column("reason", "text", "", "why review, or why nothing could be decided; empty otherwise"),
    Column("x_um", "float32", "um", "where the joint was found, package frame"),
    Column("y_um", "float32", "um", "where the joint was found, package frame"),
    Column("dx_um", "float32", "um", "found minus designed, the package's own offset and rotation taken out"),
    Column("dy_um", "float32", "um", "found minus designed, the package's own offset and rotation taken out"),
    Column("shear_x_um", "float32", "um", "middle of the ball in the highest slice minus that in the lowest, along x"),
    Column("shear_y_um", "float32", "um", "middle of the ball in the highest slice minus that in the lowest, along y"),
    Column("diameter_um", "float32", "um", "equal-area circle in the slice nearest to mid height"),
    Column("diameter_low_um", "float32", "um", "equal-area circle in the slice nearest to the lower pad"),
    Column("diameter_high_um", "float32", "um", "equal-area circle in the slice nearest to the upper pad"),
    Column("waist", "float32", "1", "narrowest over widest diameter of the inner slices; low where a dome sits on a dome"),
    Column("roundness", "float32", "1", "4 pi area / perimeter^2 in the mid slice; 1 for a circle"),
    Column("grey", "float32", "1", "mean normalised grey of the ball in the mid slice; 1 is the interface's typical joint"),
    Column("volume_ratio", "float32", "1", "estimated solder volume over the interface's nominal"),
    Column("void_fraction", "float32", "1", "projected void area over projected ball area (IPC-7095's way)"),
    Column("standoff_um", "float32", "um", "local distance between the pads, from the height map; NaN without one"),
    Column("clearance_um", "float32", "um", "narrowest solder-free space to a neighbour, in any slice"),
    Column("dome_um", "float32", "um", "height of the dome in the pre-stack map against its neighbours; NaN where not seen"),
    Column("z_low", "float32", "1", "robust z of diameter_low_um against the neighbours of the same pad class"),
    Column("z_mid", "float32", "1", "robust z of diameter_um against the neighbours of the same pad class"),
    Column("z_high", "float32", "1", "robust z of diameter_high_um against the neighbours of the same pad class"),
    Column("flags", "int64", "", "bits of flags.FLAGS"),
    Column("model", "text", "", "digest of the model that was used"),
    Column("recipe", "text", "", "digest of the recipe that was used"),
)
_KIND = {column.name: column for column in COLUMNS}


class JointTable:
    """Parallel columns, one entry per expected joint, checked once against `COLUMNS`.

    Text columns are object arrays (None for null), `float32` and `int64` as named. Columns are read by name
    (`table["x_um"]`) and are not to be written to; `replace` gives a new table.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> None:
        unknown = sorted(set(columns) - set(_KIND))
        if unknown:
            raise ValueError(f"undeclared columns {unknown}; declare them in joints.COLUMNS")
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

"""The table of joint columns, and the joint table that has them.

Parquet, SQL, pages, charts, messages, studies and the reference page follow from it. To add a measured column, add one row
here and the code that computes it in `inspect_pop.measure`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.classes import CLASSES, VERDICTS
from inspect_pop.core.errors import UsageFault

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]

__all__ = [
    "AGGREGATES",
    "CLASSES",
    "COLUMNS",
    "KEY",
    "VERDICTS",
    "Aggregate",
    "Column",
    "Display",
    "JointTable",
    "column",
    "concat",
    "list_measured_columns",
    "list_stored_columns",
    "make_frame",
]

KEY = ("serial", "refdes", "interface", "ball")


@dataclass(frozen=True)
class Display:
    """How pages name a column: words, short words, unit, decimals.

    `signed` marks a column whose middle is 0. `strip` puts the column on a joint's card, among its neighbours'.
    """

    words: str
    short: str
    unit: str
    decimals: int
    signed: bool = False
    strip: bool = False


@dataclass(frozen=True)
class Column:
    """One column of the joint table.

    Attributes:
        name: The name, with its unit where it has one.
        kind: `text`, `float32` or `int64`.
        unit: `um`, `1` for a ratio, empty for text and flags.
        meaning: One line for the reference page.
        nullable: Whether null is allowed (text only; `float32` columns use NaN).
        measured: Measured from X-ray slices; NaN for a joint that is out of view.
        stored: Kept in the store's table of defects.
        aggregates: What the store keeps of it per interface, of `mean`, `min` and `max`.
        display: How pages name it; None for a column that no page shows.
        cfx: The name of its measurement in CFX messages; empty where none is sent.
        truth: The column of a simulated board's truth that it estimates; empty if there is none.
        repeated: Whether gage R&R studies include it.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    nullable: bool = False
    measured: bool = False
    stored: bool = False
    aggregates: tuple[str, ...] = ()
    display: Display | None = None
    cfx: str = ""
    truth: str = ""
    repeated: bool = False


def _z(name: str, of: str, display: Display) -> Column:
    return Column(
        name, "float32", "1", f"robust z of {of} against the neighbours of the same pad class", measured=True, display=display
    )


COLUMNS = (
    Column("serial", "text", "", "the board's serial"),
    Column("refdes", "text", "", "the package's reference designator"),
    Column("interface", "text", "", "lower: package to board; upper: memory to package"),
    Column("ball", "text", "", "ball name, as the recipe gives it"),
    Column("label", "text", "", "one of the classes; null where undecided", nullable=True),
    *(
        Column(
            f"p_{c}",
            "float32",
            "1",
            f"calibrated probability of {c}; NaN where undecided",
            stored=True,
            display=Display("probability of good", "p good", "", 3) if c == CLASSES[0] else None,
        )
        for c in CLASSES
    ),
    Column("verdict", "text", "", "pass, fail or review"),
    Column(
        "reason",
        "text",
        "",
        "why the joint is in review, why it fails by a criterion, or why nothing could be decided; empty otherwise",
    ),
    Column("criteria", "text", "", "names of the acceptance criteria and evidence checks that it violates, `;` between them"),
    Column("x_um", "float32", "um", "where the joint was found, package frame", measured=True, stored=True),
    Column("y_um", "float32", "um", "where the joint was found, package frame", measured=True, stored=True),
    Column(
        "dx_um",
        "float32",
        "um",
        "found minus designed place, without the package's offset and rotation",
        measured=True,
        stored=True,
        display=Display("offset x", "offset x", "µm", 0, signed=True),
        cfx="OffsetX",
        truth="dx_um",
        repeated=True,
    ),
    Column(
        "dy_um",
        "float32",
        "um",
        "found minus designed place, without the package's offset and rotation",
        measured=True,
        stored=True,
        display=Display("offset y", "offset y", "µm", 0, signed=True),
        cfx="OffsetY",
        truth="dy_um",
        repeated=True,
    ),
    Column(
        "shear_x_um",
        "float32",
        "um",
        "centre of the ball in the highest slice minus that in the lowest, along x",
        measured=True,
        repeated=True,
    ),
    Column(
        "shear_y_um",
        "float32",
        "um",
        "centre of the ball in the highest slice minus that in the lowest, along y",
        measured=True,
        repeated=True,
    ),
    Column(
        "diameter_um",
        "float32",
        "um",
        "equal-area circle in the slice nearest to mid height",
        measured=True,
        stored=True,
        aggregates=("mean",),
        display=Display("diameter, middle slice", "Ø middle", "µm", 0, strip=True),
        cfx="Diameter",
        truth="diameter_mid_um",
        repeated=True,
    ),
    Column(
        "diameter_low_um",
        "float32",
        "um",
        "equal-area circle in the slice nearest to the lower pad",
        measured=True,
        display=Display("diameter, lower pad", "Ø lower pad", "µm", 0, strip=True),
        repeated=True,
    ),
    Column(
        "diameter_high_um",
        "float32",
        "um",
        "equal-area circle in the slice nearest to the upper pad",
        measured=True,
        display=Display("diameter, upper pad", "Ø upper pad", "µm", 0, strip=True),
        repeated=True,
    ),
    Column(
        "waist",
        "float32",
        "1",
        "narrowest over widest diameter of the inner slices; low where a dome sits on a dome",
        measured=True,
        display=Display("waist (narrowest / widest)", "waist", "", 2, strip=True),
        repeated=True,
    ),
    Column(
        "roundness",
        "float32",
        "1",
        "4 pi area / perimeter^2 in the mid slice; 1 for a circle",
        measured=True,
        display=Display("roundness", "roundness", "", 2),
        repeated=True,
    ),
    Column(
        "grey",
        "float32",
        "1",
        "mean normalised grey of the ball in the mid slice; 1 is the interface's typical joint",
        measured=True,
        display=Display("grey / typical", "grey", "", 2),
        repeated=True,
    ),
    Column(
        "volume_ratio",
        "float32",
        "1",
        "estimated solder volume over the interface's nominal",
        measured=True,
        stored=True,
        aggregates=("mean", "min"),
        display=Display("volume / nominal", "volume", "", 2, strip=True),
        cfx="VolumeRatio",
        truth="volume_ratio",
        repeated=True,
    ),
    Column(
        "void_fraction",
        "float32",
        "1",
        "projected void area over projected ball area, as in IPC-7095",
        measured=True,
        stored=True,
        aggregates=("mean", "max"),
        display=Display("void area / ball area", "voids", "", 3, strip=True),
        cfx="VoidFraction",
        truth="void_area_fraction",
        repeated=True,
    ),
    Column(
        "standoff_um",
        "float32",
        "um",
        "local distance between the pads, from the height maps, checked against the slices; NaN where they do not tell it",
        stored=True,
        aggregates=("mean",),
        display=Display("stand-off", "stand-off", "µm", 0, strip=True),
        cfx="Standoff",
        truth="standoff_um",
        repeated=True,
    ),
    Column(
        "clearance_um",
        "float32",
        "um",
        "narrowest solder-free space to a neighbour, in any slice",
        measured=True,
        stored=True,
        aggregates=("min",),
        display=Display("clearance to neighbour", "clearance", "µm", 0, strip=True),
        cfx="Clearance",
        repeated=True,
    ),
    Column(
        "stray_um",
        "float32",
        "um",
        "equal-area diameter of the largest stray solder that cuts the joint's clearance; 0 where there is none",
        display=Display("stray solder beside it", "stray", "µm", 0),
    ),
    Column(
        "dome_um",
        "float32",
        "um",
        "height of the dome in the pre-stack map against its neighbours; NaN where it does not show",
        display=Display("dome against neighbours", "dome", "µm", 0, signed=True),
        repeated=True,
    ),
    _z("z_low", "diameter_low_um", Display("robust z, lower pad", "z lower", "σ", 1, signed=True)),
    _z("z_mid", "diameter_um", Display("robust z, middle", "z middle", "σ", 1, signed=True)),
    _z("z_high", "diameter_high_um", Display("robust z, upper pad", "z upper", "σ", 1, signed=True)),
    Column("flags", "int64", "", "bits of flags.FLAGS"),
    Column("model", "text", "", "digest of the model"),
    Column("recipe", "text", "", "digest of the recipe"),
)
_BY_NAME = {c.name: c for c in COLUMNS}


def column(name: str) -> Column:
    """Look up a column by name. Raises `KeyError` for a name that is not in the table."""
    return _BY_NAME[name]


def list_measured_columns() -> tuple[str, ...]:
    """Return the names of the columns that are measured from X-ray slices."""
    return tuple(c.name for c in COLUMNS if c.measured)


def list_stored_columns() -> tuple[str, ...]:
    """Return the names of the columns that the store keeps of each defect."""
    return tuple(c.name for c in COLUMNS if c.stored)


@dataclass(frozen=True)
class Aggregate:
    """One figure that the store keeps per interface: its name, its joint column, and how it is computed."""

    name: str
    column: str
    how: str


# The mean has the column's name: `diameter_um`, `volume_ratio_min`.
AGGREGATES = tuple(
    Aggregate(c.name if how == "mean" else f"{c.name}_{how}", c.name, how) for c in COLUMNS for how in c.aggregates
)


# The joint table: one row per expected joint, in the columns that `core.columns` declares.
#
# A joint that is missing or could not be measured keeps its row, with flags that say why.


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

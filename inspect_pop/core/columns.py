"""The table of joint columns.

Parquet, SQL, pages, charts, messages, studies and the reference page follow from it. To add a measured column, add one row
here and the code that computes it in `inspect_pop.measure`.
"""

from dataclasses import dataclass

from inspect_pop.core.classes import CLASSES

__all__ = [
    "AGGREGATES",
    "COLUMNS",
    "KEY",
    "Aggregate",
    "Column",
    "Display",
    "column",
    "list_measured_columns",
    "list_stored_columns",
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

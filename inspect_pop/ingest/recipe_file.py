"""Read recipe files, version 1, with their tables of joints, and refuse those that describe the impossible."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator
from scipy.spatial import cKDTree

from inspect_pop.core.errors import InputFault, RecipeFault
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.ingest.document import (
    FieldFault,
    PathText,
    StrictModel,
    Text,
    expectation,
    parse_json,
    parse_number,
    read_rows,
    to_fault,
    to_faults,
    validate,
)
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes, resolve_inside

__all__ = ["explain_mirror", "find_recipe_faults", "guess_unit", "read_recipe"]

_UNITS_UM = {"nanometres": 0.001, "mils": 25.4, "millimetres": 1000.0, "inches": 25400.0, "metres": 1e6}
_UNIT_TOLERANCE = 0.2  # of the ratio of the pitch to the distance found; a unit is off by 25 times and more
_LINEAR = 0.9  # share of the variance of rows, or of columns, that a straight axis explains
_CORNERS = {(-1, 1): "upper_left", (1, 1): "upper_right", (-1, -1): "lower_left", (1, -1): "lower_right"}
_JEDEC_NAME = re.compile(r"([A-Z]+)(\d+)", re.IGNORECASE)


def guess_unit(x_um: NDArray[np.float64], y_um: NDArray[np.float64], pitch_um: float) -> str | None:
    """Guess the unit of coordinates that are not micrometres from the distance of neighbours; None where they may be."""
    if len(x_um) < 2:
        return None
    places = np.column_stack([x_um, y_um])
    typical = float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))
    for name, unit_um in _UNITS_UM.items():
        if abs(typical * unit_um / pitch_um - 1) <= _UNIT_TOLERANCE:
            return name
    return None


def explain_mirror(ball: tuple[str, ...], x_um: NDArray[np.float64], y_um: NDArray[np.float64], a1_corner: str) -> str | None:
    """Return the likely cause where names and places are mirrored, seen from the top; None where they are not, or cannot tell.

    Seen from the top, columns (1, 2, …) and rows (A, B, …) of JEDEC names turn clockwise from one into the other, however the
    package is turned; mirrored, they turn the other way.
    """
    names = [_JEDEC_NAME.fullmatch(name) for name in ball]
    if any(name is None for name in names):
        return None
    letters = [name[1].upper() for name in names if name is not None]
    order = {row: k for k, row in enumerate(sorted(set(letters), key=lambda row: (len(row), row)))}
    row = _find_direction(np.array([order[r] for r in letters], float), x_um, y_um)
    column = _find_direction(np.array([int(name[2]) for name in names if name is not None], float), x_um, y_um)
    if row is None or column is None or column[0] * row[1] - column[1] * row[0] < _LINEAR:
        return None
    towards_a1 = -(row + column)
    corner = (1 if towards_a1[0] > 0 else -1, 1 if towards_a1[1] > 0 else -1)
    if _CORNERS[corner[0], -corner[1]] == a1_corner:
        return "its y axis points down, so that row A lies opposite to the a1_corner"
    if _CORNERS[-corner[0], corner[1]] == a1_corner:
        return "it is seen from below, or its x axis points left"
    return "one of its axes points the wrong way, or it is seen from below"


def _find_direction(
    number: NDArray[np.float64], x_um: NDArray[np.float64], y_um: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the unit vector along which the numbers rise; None where they do not rise along one straight axis."""
    number = number - number.mean()
    places = np.column_stack([x_um - x_um.mean(), y_um - y_um.mean()])
    if np.linalg.matrix_rank(places) < 2 or not number.any():
        return None
    slope = np.linalg.lstsq(places, number, rcond=None)[0]
    left = number - places @ slope
    if left @ left > (1 - _LINEAR) * (number @ number):
        return None
    direction: NDArray[np.float64] = slope / np.linalg.norm(slope)
    return direction


# Read recipe files, version 1, with their tables of joints, and refuse those that describe the impossible.
#
# A recipe is read again for every board and seldom changes: once checked, it is cached by its content.


Length = Annotated[float, Field(gt=0, le=500_000)]  # half a metre: no package is larger
Height = Annotated[float, Field(ge=-10_000, le=100_000)]


LEAST_PITCH_UM = 50.0  # solder joints of packages start at 300 um; 1 mm is 39 mils


class _InterfaceEntry(StrictModel):
    name: Literal["lower", "upper"]
    joints: PathText
    pitch_um: Length
    ball_diameter_um: Length
    pad_diameter_um: Length
    pad_definition: Literal["nsmd", "smd"]
    pads_z_um: Annotated[list[Height], Field(min_length=2, max_length=2)]
    solder: Text

    @field_validator("pitch_um")
    @classmethod
    def _check_unit(cls, pitch_um: float) -> float:
        if pitch_um < LEAST_PITCH_UM:
            raise expectation(f"a pitch of at least {LEAST_PITCH_UM:g} um: lengths are micrometres, not millimetres or mils")
        return pitch_um

    @field_validator("ball_diameter_um", "pad_diameter_um")
    @classmethod
    def _check_pitch(cls, value: float, info: ValidationInfo) -> float:
        pitch_um = info.data.get("pitch_um")
        if pitch_um is not None and value >= pitch_um:
            raise expectation(f"less than the pitch of {pitch_um:g} um")
        return value

    @field_validator("pads_z_um")
    @classmethod
    def _check_rising(cls, pads_z_um: list[float]) -> list[float]:
        if pads_z_um[0] >= pads_z_um[1]:
            raise expectation("the lower pad's height, then the upper pad's, which is greater")
        return pads_z_um


class _PackageEntry(StrictModel):
    refdes: Text
    part: Text
    construction: Literal["standard", "tmv", "exposed_die_tmv", "psfccsp", "bga"]
    body_um: Annotated[list[Length], Field(min_length=2, max_length=2)]
    stack_height_um: Length
    warpage_limit_um: Length
    interfaces: Annotated[list[_InterfaceEntry], Field(min_length=1, max_length=2)]
    a1_corner: Literal["upper_left", "upper_right", "lower_left", "lower_right"] = "upper_left"
    underfill: bool = False

    @field_validator("interfaces")
    @classmethod
    def _check_stack(cls, interfaces: list[_InterfaceEntry], info: ValidationInfo) -> list[_InterfaceEntry]:
        by_name = {i.name: i for i in interfaces}
        if len(by_name) < len(interfaces):
            raise expectation("each interface once")
        if len(by_name) == 2 and by_name["lower"].pads_z_um[1] > by_name["upper"].pads_z_um[0]:
            raise expectation("the pads of the upper interface above those of the lower")
        if info.data.get("construction") == "bga" and set(by_name) != {"lower"}:
            raise expectation("the lower interface alone: a bga is one package")
        stack_height_um = info.data.get("stack_height_um")
        if stack_height_um is not None and max(i.pads_z_um[1] for i in interfaces) > stack_height_um:
            raise expectation(f"pads no higher than the stack of {stack_height_um:g} um")
        return interfaces


class _RecipeEntry(StrictModel):
    schema_: Literal["pop-recipe/1"] = Field(alias="schema")
    name: Text
    revision: Annotated[int, Field(ge=0, lt=2**31)]
    product: Text
    packages: Annotated[list[_PackageEntry], Field(min_length=1, max_length=64)]

    @field_validator("packages")
    @classmethod
    def _check_names(cls, packages: list[_PackageEntry]) -> list[_PackageEntry]:
        if len({p.refdes for p in packages}) < len(packages):
            raise expectation("each refdes once")
        return packages


def read_recipe(path: Path, root: Path) -> Recipe:
    """Read the recipe at `path` with its tables, all of which lie inside `root`. Raises `RecipeFault` and `PathFault`."""
    data = read_bytes(path, BOUNDS.recipe_bytes, RecipeFault)
    entry, problems = _parse_recipe(path, data)
    if entry is None:
        raise to_fault(path, problems, RecipeFault)
    tables = [_read_table(path, root, interface) for package in entry.packages for interface in package.interfaces]
    return _build_recipe(path, data, tuple(tables))


def find_recipe_faults(path: Path, root: Path) -> list[InputFault]:
    """Return every fault of a recipe and its tables; empty for one that `read_recipe` accepts."""
    try:
        entry, problems = _parse_recipe(path, read_bytes(path, BOUNDS.recipe_bytes, RecipeFault))
    except InputFault as fault:
        return [fault]
    if entry is None:
        return to_faults(path, problems, RecipeFault)
    faults: list[InputFault] = []
    for package in entry.packages:
        for interface in package.interfaces:
            try:
                _build_interface(package, interface, *_read_table(path, root, interface))
            except InputFault as fault:
                faults.append(fault)
    return faults


@lru_cache(maxsize=32)
def _parse_recipe(path: Path, data: bytes) -> tuple[_RecipeEntry | None, tuple[FieldFault, ...]]:
    entry, problems = validate(_RecipeEntry, parse_json(path, data, RecipeFault))
    return entry, tuple(problems)


def _read_table(path: Path, root: Path, interface: _InterfaceEntry) -> tuple[Path, bytes]:
    table = resolve_inside(interface.joints, path.parent, root, f"{path}: joints of the {interface.name} interface")
    return table, read_bytes(table, BOUNDS.table_bytes, RecipeFault)


@lru_cache(maxsize=32)
def _build_recipe(path: Path, data: bytes, tables: tuple[tuple[Path, bytes], ...]) -> Recipe:
    entry, problems = _parse_recipe(path, data)
    if entry is None:
        raise to_fault(path, problems, RecipeFault)
    left = iter(tables)
    packages = tuple(
        Package(
            refdes=package.refdes,
            part=package.part,
            construction=package.construction,
            body_um=(package.body_um[0], package.body_um[1]),
            stack_height_um=package.stack_height_um,
            warpage_limit_um=package.warpage_limit_um,
            interfaces=tuple(_build_interface(package, interface, *next(left)) for interface in package.interfaces),
            a1_corner=package.a1_corner,
            underfill=package.underfill,
        )
        for package in entry.packages
    )
    digests = [hashlib.sha256(d).digest() for d in (data, *(table for _, table in tables))]
    return Recipe(entry.name, entry.revision, entry.product, packages, hashlib.sha256(b"".join(digests)).hexdigest())


def _build_interface(package: _PackageEntry, entry: _InterfaceEntry, path: Path, data: bytes) -> Interface:
    """Build an interface with the joints of its table, checked against the body and the pitch."""
    ball, x_um, y_um = _parse_joints(path, decode_text(path, data, RecipeFault))

    def name_joint(k: int) -> str:
        return f"{ball[k]} at ({x_um[k]:g}, {y_um[k]:g})"

    half_width_um, half_height_um = package.body_um[0] / 2, package.body_um[1] / 2
    outside = np.flatnonzero((np.abs(x_um) > half_width_um) | (np.abs(y_um) > half_height_um))
    if outside.size:
        expect = f"joints inside the body of {package.body_um[0]:g} x {package.body_um[1]:g} um"
        found = f"{outside.size} outside, first {name_joint(outside[0])}"
        raise RecipeFault(str(path), expected=expect, found=found, remedy="Check that coordinates are in micrometres.")
    unit = guess_unit(x_um, y_um, entry.pitch_um)
    if unit is not None:
        expect = f"coordinates in micrometres, as the pitch of {entry.pitch_um:g} um has it"
        found = f"neighbours at a distance that fits {unit}, such as {name_joint(0)}"
        raise RecipeFault(str(path), expected=expect, found=found, remedy="Convert x_um and y_um to micrometres.")
    close = _find_close_pair(x_um, y_um, entry.pitch_um / 2)
    if close is not None:
        found = " and ".join(map(name_joint, close))
        raise RecipeFault(str(path), expected=f"joints at least half the pitch of {entry.pitch_um:g} um apart", found=found)
    mirror = explain_mirror(ball, x_um, y_um, package.a1_corner)
    if mirror is not None:
        expect = f"joints seen from the top, x to the right and y up, A1 towards the {package.a1_corner.replace('_', ' ')} corner"
        found = f"a mirrored array: {mirror}"
        raise RecipeFault(str(path), expected=expect, found=found, remedy="Change the sign of that axis in the table.")
    x_um.flags.writeable = y_um.flags.writeable = False  # one recipe serves many boards
    return Interface(
        name=entry.name,
        ball=ball,
        x_um=x_um,
        y_um=y_um,
        pitch_um=entry.pitch_um,
        ball_diameter_um=entry.ball_diameter_um,
        pad_diameter_um=entry.pad_diameter_um,
        pad_definition=entry.pad_definition,
        pads_z_um=(entry.pads_z_um[0], entry.pads_z_um[1]),
        solder=entry.solder,
    )


def _parse_joints(path: Path, text: str) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Return the ball names, x and y in um of a table `ball,x_um,y_um`: at least one row, each name once."""
    places: dict[str, tuple[float, float]] = {}
    for line, (ball, x, y) in read_rows(path, text, ("ball", "x_um", "y_um"), (), RecipeFault):
        if not ball.strip() or not ball.isprintable() or len(ball) > 32:
            raise RecipeFault(
                f"{path}: line {line}: ball", expected="a ball name of at most 32 characters", found=repr(ball[:40])
            )
        if ball in places:
            raise RecipeFault(f"{path}: line {line}: ball", expected="each ball once", found=f"{ball} again")
        if len(places) == BOUNDS.table_joints:
            raise RecipeFault(str(path), expected=f"at most {BOUNDS.table_joints:,} joints", found="more")
        places[ball] = (parse_number(path, line, "x_um", x, RecipeFault), parse_number(path, line, "y_um", y, RecipeFault))
    if not places:
        raise RecipeFault(
            str(path), expected="joints", found="a table without rows", remedy="Give each interface at least one joint."
        )
    x_um, y_um = np.array(list(places.values()), dtype=np.float64).T.copy()
    return tuple(places), x_um, y_um


def _find_close_pair(x_um: NDArray[np.float64], y_um: NDArray[np.float64], least_um: float) -> tuple[int, int] | None:
    """Return the indices of two points closer than `least_um`, or None.

    Points are sorted by x, and each is compared with those that follow it nearby.
    """
    order = np.lexsort((y_um, x_um))
    x, y = x_um[order], y_um[order]
    for step in range(1, len(x)):
        dx = x[step:] - x[:-step]
        if dx.min() >= least_um:
            return None
        hits = np.flatnonzero(dx * dx + (y[step:] - y[:-step]) ** 2 < least_um**2)
        if hits.size:
            return int(order[hits[0]]), int(order[hits[0] + step])
    return None

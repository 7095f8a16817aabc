"""Recipe files, version 1, with their tables of joints: read, and refused where they describe the impossible.

A recipe is read again for every board, and seldom changes: what has been checked once is remembered by its content.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from inspect_pop.core.errors import InputFault, RecipeFault
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.ingest.document import Problem, Strict, as_faults, as_one, expected, parse_json, validated
from inspect_pop.ingest.files import BOUNDS, inside, read_bytes, text_of
from inspect_pop.ingest.manifest import PathText, Text
from inspect_pop.ingest.table import number, rows

__all__ = ["read_recipe", "recipe_faults"]

Length = Annotated[float, Field(gt=0, le=500_000)]  # half a metre: no package is larger
Height = Annotated[float, Field(ge=-10_000, le=100_000)]


class _InterfaceEntry(Strict):
    name: Literal["lower", "upper"]
    joints: PathText
    pitch_um: Length
    ball_diameter_um: Length
    pad_diameter_um: Length
    pad_definition: Literal["nsmd", "smd"]
    pads_z_um: Annotated[list[Height], Field(min_length=2, max_length=2)]
    solder: Text

    @field_validator("ball_diameter_um", "pad_diameter_um")
    @classmethod
    def _fits_pitch(cls, value: float, info: ValidationInfo) -> float:
        pitch_um = info.data.get("pitch_um")
        if pitch_um is not None and value >= pitch_um:
            raise expected(f"less than the pitch of {pitch_um:g} um")
        return value

    @field_validator("pads_z_um")
    @classmethod
    def _rising(cls, pads_z_um: list[float]) -> list[float]:
        if pads_z_um[0] >= pads_z_um[1]:
            raise expected("the lower pad's height, then the upper pad's, which is greater")
        return pads_z_um


class _PackageEntry(Strict):
    refdes: Text
    part: Text
    construction: Literal["standard", "tmv", "exposed_die_tmv", "psfccsp"]
    body_um: Annotated[list[Length], Field(min_length=2, max_length=2)]
    stack_height_um: Length
    warpage_limit_um: Length
    interfaces: Annotated[list[_InterfaceEntry], Field(min_length=1, max_length=2)]
    a1_corner: Literal["upper_left", "upper_right", "lower_left", "lower_right"] = "upper_left"
    underfill: bool = False

    @field_validator("interfaces")
    @classmethod
    def _stacked(cls, interfaces: list[_InterfaceEntry], info: ValidationInfo) -> list[_InterfaceEntry]:
        by_name = {i.name: i for i in interfaces}
        if len(by_name) < len(interfaces):
            raise expected("each interface once")
        if len(by_name) == 2 and by_name["lower"].pads_z_um[1] > by_name["upper"].pads_z_um[0]:
            raise expected("the pads of the upper interface above those of the lower")
        stack_height_um = info.data.get("stack_height_um")
        if stack_height_um is not None and max(i.pads_z_um[1] for i in interfaces) > stack_height_um:
            raise expected(f"pads no higher than the stack of {stack_height_um:g} um")
        return interfaces


class _RecipeEntry(Strict):
    schema_: Literal["pop-recipe/1"] = Field(alias="schema")
    name: Text
    revision: Annotated[int, Field(ge=0, lt=2**31)]
    product: Text
    packages: Annotated[list[_PackageEntry], Field(min_length=1, max_length=64)]

    @field_validator("packages")
    @classmethod
    def _named_once(cls, packages: list[_PackageEntry]) -> list[_PackageEntry]:
        if len({p.refdes for p in packages}) < len(packages):
            raise expected("each refdes once")
        return packages


def read_recipe(path: Path, root: Path) -> Recipe:
    """The recipe at `path` with its tables, all of which lie inside `root`. Raises `RecipeFault` and `PathFault`."""
    data = read_bytes(path, BOUNDS.recipe_bytes, RecipeFault)
    entry, problems = _parsed(path, data)
    if entry is None:
        raise as_one(path, problems, RecipeFault)
    tables = [_table(path, root, interface) for package in entry.packages for interface in package.interfaces]
    return _recipe(path, data, tuple(tables))


def recipe_faults(path: Path, root: Path) -> list[InputFault]:
    """Everything that is wrong with a recipe and its tables; empty where `read_recipe` would give it."""
    try:
        entry, problems = _parsed(path, read_bytes(path, BOUNDS.recipe_bytes, RecipeFault))
    except InputFault as fault:
        return [fault]
    if entry is None:
        return as_faults(path, problems, RecipeFault)
    faults: list[InputFault] = []
    for package in entry.packages:
        for interface in package.interfaces:
            try:
                _interface(package, interface, *_table(path, root, interface))
            except InputFault as fault:
                faults.append(fault)
    return faults


@lru_cache(maxsize=32)
def _parsed(path: Path, data: bytes) -> tuple[_RecipeEntry | None, tuple[Problem, ...]]:
    entry, problems = validated(_RecipeEntry, parse_json(path, data, RecipeFault))
    return entry, tuple(problems)


def _table(path: Path, root: Path, interface: _InterfaceEntry) -> tuple[Path, bytes]:
    table = inside(interface.joints, path.parent, root, f"{path}: joints of the {interface.name} interface")
    return table, read_bytes(table, BOUNDS.table_bytes, RecipeFault)


@lru_cache(maxsize=32)
def _recipe(path: Path, data: bytes, tables: tuple[tuple[Path, bytes], ...]) -> Recipe:
    entry, problems = _parsed(path, data)
    if entry is None:
        raise as_one(path, problems, RecipeFault)
    left = iter(tables)
    packages = tuple(_package(p, [_interface(p, i, *next(left)) for i in p.interfaces]) for p in entry.packages)
    digests = [hashlib.sha256(d).digest() for d in (data, *(table for _, table in tables))]
    return Recipe(entry.name, entry.revision, entry.product, packages, hashlib.sha256(b"".join(digests)).hexdigest())


def _package(entry: _PackageEntry, interfaces: Sequence[Interface]) -> Package:
    return Package(
        refdes=entry.refdes,
        part=entry.part,
        construction=entry.construction,
        body_um=(entry.body_um[0], entry.body_um[1]),
        stack_height_um=entry.stack_height_um,
        warpage_limit_um=entry.warpage_limit_um,
        interfaces=tuple(interfaces),
        a1_corner=entry.a1_corner,
        underfill=entry.underfill,
    )


def _interface(package: _PackageEntry, entry: _InterfaceEntry, path: Path, data: bytes) -> Interface:
    """The interface with its table's joints, checked against the body and the pitch."""
    ball, x_um, y_um = _joints(path, text_of(path, data, RecipeFault))
    half_width_um, half_height_um = package.body_um[0] / 2, package.body_um[1] / 2
    outside = np.flatnonzero((np.abs(x_um) > half_width_um) | (np.abs(y_um) > half_height_um))
    if outside.size:
        expect, found = (
            f"joints inside the body of {package.body_um[0]:g} x {package.body_um[1]:g} um",
            _at(ball, x_um, y_um, outside[0]),
        )
        raise RecipeFault(
            str(path), expected=expect, found=f"{outside.size} outside, first {found}", remedy="Are these micrometres?"
        )
    close = _closer_than(x_um, y_um, entry.pitch_um / 2)
    if close is not None:
        found = " and ".join(_at(ball, x_um, y_um, k) for k in close)
        raise RecipeFault(str(path), expected=f"joints at least half the pitch of {entry.pitch_um:g} um apart", found=found)
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


def _joints(path: Path, text: str) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Ball names, x and y in um of a table `ball,x_um,y_um`; at least one row, each name once."""
    places: dict[str, tuple[float, float]] = {}
    for line, (ball, x, y) in rows(path, text, ("ball", "x_um", "y_um"), (), RecipeFault):
        if not ball.strip() or not ball.isprintable() or len(ball) > 32:
            raise RecipeFault(
                f"{path}: line {line}: ball", expected="a ball's name of at most 32 characters", found=repr(ball[:40])
            )
        if ball in places:
            raise RecipeFault(f"{path}: line {line}: ball", expected="each ball once", found=f"{ball} again")
        if len(places) == BOUNDS.table_joints:
            raise RecipeFault(str(path), expected=f"at most {BOUNDS.table_joints:,} joints", found="more")
        places[ball] = (number(path, line, "x_um", x, RecipeFault), number(path, line, "y_um", y, RecipeFault))
    if not places:
        raise RecipeFault(str(path), expected="joints", found="a table without rows", remedy="Every interface has joints.")
    x_um, y_um = np.array(list(places.values()), dtype=np.float64).T.copy()
    return tuple(places), x_um, y_um


def _closer_than(x_um: NDArray[np.float64], y_um: NDArray[np.float64], least_um: float) -> tuple[int, int] | None:
    """Indices of two points closer than this, or None: sorted by x, each is compared with those that follow it nearby."""
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


def _at(ball: Sequence[str], x_um: NDArray[np.float64], y_um: NDArray[np.float64], k: int) -> str:
    return f"{ball[k]} at ({x_um[k]:g}, {y_um[k]:g})"

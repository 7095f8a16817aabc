"""Make arrays of balls from a list of their names, and join parts by a placement file."""

import csv
import io
import math
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes
from inspect_pop.recipes.cad_part import read_sizes
from inspect_pop.recipes.draft import CORNERS, ArrayDraft, Package, load_packages, name_ball, parse_ball

__all__ = ["Place", "join_placement", "read_ball_list", "read_placement"]

_SHEET_BYTES = 256 << 20  # a workbook's sheets, unpacked
_LEAST_SHARE = 0.9  # of a column's entries that are ball names
_ENDS = "xlsx", "xlsm"


def read_ball_list(
    path: Path, pitch_um: float, pitch_y_um: float | None = None, refdes: str = "U1", *, complete: bool = False
) -> ArrayDraft:
    """Return the array of the names in the column that holds the most of them.

    Parameters
    ----------
    path
        A CSV with any of the separators comma, semicolon and tab, or the first sheet of a workbook.
    pitch_um, pitch_y_um
        Distance of columns, and of rows where it is another.
    complete
        Also make the places between that the list does not name: for lists of signals without power balls.

    Raises
    ------
    FileFault, RecipeFault
        The file cannot be read, holds no ball names, or one twice.
    UsageFault
        openpyxl is not installed.
    """
    if path.suffix.lower().lstrip(".") in _ENDS:
        rows = _read_sheet(path)
    else:
        text = decode_text(path, read_bytes(path, BOUNDS.table_bytes, RecipeFault), RecipeFault)
        separator = max(",;\t", key=text.partition("\n")[0].count)
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
        except csv.Error as error:
            raise RecipeFault(str(path), expected="comma-separated values", found=str(error)) from error
    if len(rows) > BOUNDS.table_joints + 100 or max((len(row) for row in rows), default=0) > 1000:
        raise RecipeFault(str(path), expected=f"at most {BOUNDS.table_joints:,} rows and 1,000 columns", found="more")
    if not rows:
        raise RecipeFault(str(path), expected="ball names", found="no rows")
    names, notes = _choose_column(path, rows)
    if complete:
        places = np.array([parse_ball(name) for name in names])
        grid = np.mgrid[: places[:, 0].max() + 1, : places[:, 1].max() + 1].reshape(2, -1).T
        more = [name for row, column in grid if (name := name_ball(int(row), int(column))) not in set(names)]
        notes.append(f"{len(more)} balls that the list does not name were added: every place of the grid")
        names += more
    row, column = np.array([parse_ball(name) for name in names], dtype=float).T
    x_um, y_um = column * pitch_um, -row * (pitch_y_um or pitch_um)
    x_um, y_um = (axis - (axis.max() + axis.min()) / 2 for axis in (x_um, y_um))
    sizes = read_sizes(path.stem)
    n_grid = int((row.max() + 1) * (column.max() + 1))
    expected = sizes.balls
    if expected is not None and expected != len(names):
        remedy = ": --complete adds those that are not listed" if expected == n_grid else ""
        notes.append(f"{len(names)} balls, where the name {path.stem} says {expected}{remedy}")
    if row.min() > 0 or column.min() > 0:
        notes.append("no ball in row A or in column 1: names begin further inside, and the middle is that of the listed balls")
    nearest_um = min(pitch_um, pitch_y_um or pitch_um)
    return ArrayDraft(refdes, tuple(names), x_um, y_um, nearest_um, ball_um=sizes.ball_um, notes=tuple(notes))


def _choose_column(path: Path, rows: Iterable[Sequence[Any]]) -> tuple[list[str], list[str]]:
    """Return the ball names of the column that has the most, and what is odd about it."""
    best: tuple[int, list[str]] = (0, [])
    for column in zip_longest(*rows, fillvalue=""):
        texts = [str(value).strip() for value in column if value is not None and str(value).strip()]
        count = sum(parse_ball(text) is not None for text in texts)
        if count > best[0]:
            best = (count, texts)
    count, texts = best
    if count < 2 or count < _LEAST_SHARE * (len(texts) - 1):
        raise RecipeFault(
            str(path), expected="a column of ball names such as A1", found=f"at most {count} of {len(texts)} entries"
        )
    names = [text.upper() for text in texts if parse_ball(text) is not None]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise RecipeFault(f"{path}: {doubled}", expected="each ball once", found=f"{names.count(doubled)} times")
    others = [text for text in texts[1:] if parse_ball(text) is None]
    notes = [f"{len(others)} entries are no JEDEC names and were left out, such as {others[0]!r:.40}"] if others else []
    return names, notes


def _read_sheet(path: Path) -> list[list[Any]]:
    """Read the first sheet of a workbook, its size checked before it is unpacked."""
    data = read_bytes(path, BOUNDS.table_bytes, RecipeFault)
    try:
        import openpyxl
    except ImportError as error:
        remedy = "Install inspect_pop[recipes], or save the list as CSV."
        raise UsageFault(str(path), expected="openpyxl, which reads workbooks", found="none", remedy=remedy) from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _SHEET_BYTES:
            raise RecipeFault(str(path), expected=f"at most {_SHEET_BYTES:,} bytes unpacked", found=f"{size:,}")
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        rows = []
        for row in book.worksheets[0].iter_rows(values_only=True):
            rows.append(list(row))
            if len(rows) > BOUNDS.table_joints + 100:
                break
        book.close()
    except RecipeFault:
        raise
    except Exception as error:
        raise RecipeFault(str(path), expected="a workbook", found=f"a damaged one: {error!s:.80}") from error
    return rows


# Join the recipes of single parts with a placement file: which part sits where on the board, and how it is turned.
#
# A placement file (centroid, XY, pick and place) is a table of reference, x, y, rotation and package or side; its names of
# columns, units and separators differ by CAD program. A part that it does not list is no error: it is named. A recipe's frame is
# the board's direction, so that each array is turned as its part is.


_COLUMNS = {
    "refdes": ("ref", "refdes", "designator", "reference", "refid"),
    "x": ("posx", "x", "midx", "centerx", "x(mm)", "locationx", "refx"),
    "y": ("posy", "y", "midy", "centery", "y(mm)", "locationy", "refy"),
    "rotation": ("rot", "rotation", "angle", "rotate", "orientation"),
    "package": ("package", "footprint", "pattern", "part", "pkg"),
    "side": ("side", "layer", "tb", "boardside"),
}
_UNITS_UM = {"mm": 1000.0, "mil": 25.4, "mils": 25.4, "in": 25_400.0, "inch": 25_400.0, "um": 1.0, "": 1000.0}
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)")
_UNIT_LINE = re.compile(r"unit[s]?\s*[:=]\s*([a-z]+)", re.IGNORECASE)
_ALLEGRO = {"refdes": 0, "x": 1, "y": 2, "rotation": 3}  # columns of Allegro's file, which has no header; `m` is the bottom


@dataclass(frozen=True)
class Place:
    """Where a part sits: x, y in um in the board's frame, rotation counter-clockwise in degrees."""

    refdes: str
    package: str
    x_um: float
    y_um: float
    rotation_deg: float
    is_bottom: bool


def read_placement(path: Path) -> dict[str, Place]:
    """Return the places of a placement file by reference. Raises `FileFault`, and `RecipeFault` for what is none."""
    text = read_bytes(path, BOUNDS.table_bytes).decode("utf-8-sig", errors="replace")
    unit = _UNIT_LINE.search(text)
    unit_um = _UNITS_UM.get(unit[1].lower(), 1000.0) if unit else 1000.0
    columns: dict[str, int] | None = None
    places: dict[str, Place] = {}
    lines = [line.lstrip("# !").strip() for line in text.splitlines()]
    separator = max(",;\t", key=text.count)
    if sum(separator in line for line in lines) * 2 < len(lines):
        rows = [line.split() for line in lines]  # separated by blanks
    else:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)]
    for number, cells in enumerate(rows, start=1):
        heads = [re.sub(r"[\s_.-]", "", cell.lower()) for cell in cells]
        found = {
            k: next(n for n, head in enumerate(heads) if head in known)
            for k, known in _COLUMNS.items()
            if set(heads) & set(known)
        }
        if {"refdes", "x", "y", "rotation"} <= found.keys():
            columns = found
            continue
        used = columns
        if columns is None and unit and len(cells) >= 4 and all(_NUMBER.fullmatch(c) for c in cells[1:4]):
            is_mirrored = cells[4:5] == ["m"]
            used = _ALLEGRO | {"package": 4 + is_mirrored} | ({"side": 4} if is_mirrored else {})
        if used is None:
            continue
        if len(cells) <= max(used[name] for name in ("refdes", "x", "y", "rotation")):
            continue
        values = {name: cells[k] for name, k in used.items() if k < len(cells)}
        numbers: dict[str, float] = {}
        for name in ("x", "y", "rotation"):
            match = _NUMBER.fullmatch(values[name])
            if match is None or (match[2] and match[2].lower() not in _UNITS_UM and name != "rotation"):
                thing = f"{path}: line {number}: {name}"
                raise RecipeFault(thing, expected="a number, with or without its unit", found=repr(values[name][:40]))
            scale = 1.0 if name == "rotation" else _UNITS_UM[match[2].lower()] if match[2] else unit_um
            numbers[name] = float(match[1]) * scale
        is_bottom = values.get("side", "").lower().startswith(("b", "m"))
        refdes, package = values["refdes"], values.get("package", "")
        places[refdes] = Place(refdes, package, numbers["x"], numbers["y"], numbers["rotation"], is_bottom)
    if not places:
        raise RecipeFault(str(path), expected="a table with columns for reference, x, y and rotation", found="none")
    return places


def join_placement(
    places: Mapping[str, Place], recipes: Mapping[str, Path], *, clockwise: bool = False
) -> tuple[list[Package], list[str]]:
    """Return the packages of all places whose reference or package has a recipe, and a line on each recipe without a place.

    Parameters
    ----------
    recipes
        Recipe files of single packages, by reference or by name of package.
    clockwise
        Rotations of the file count clockwise.

    Raises
    ------
    UsageFault
        No place has a recipe.
    RecipeFault
        A recipe cannot be read or has several packages.
    """
    loaded = {}
    for key, path in recipes.items():
        _, packages = load_packages(path)
        if len(packages) != 1:
            raise RecipeFault(str(path), expected="a recipe of one package", found=f"{len(packages)} packages")
        loaded[key] = packages[0]
    joined = []
    used = set()
    for place in places.values():
        key = place.refdes if place.refdes in loaded else place.package
        if key in loaded:
            used.add(key)
            joined.append(_turn_package(loaded[key], place, -place.rotation_deg if clockwise else place.rotation_deg))
    if not joined:
        listed = ", ".join(list(places)[:12])
        raise UsageFault(
            "--part", expected="the reference or package of a place", found=f"{', '.join(recipes)}; places: {listed}"
        )
    return joined, [f"{key} has no place in the placement file" for key in recipes if key not in used]


def _turn_package(package: Package, place: Place, rotation_deg: float) -> Package:
    """Return a package of this reference with its arrays turned counter-clockwise."""
    quarters = round(rotation_deg / 90)
    is_straight = abs(rotation_deg - 90 * quarters) < 1e-6
    angle = math.radians(rotation_deg)
    c, s = (round(v) if is_straight else v for v in (math.cos(angle), math.sin(angle)))
    interfaces: list[Any] = []
    for interface in package["interfaces"]:
        joints = [(ball, c * x - s * y, s * x + c * y) for ball, x, y in interface["joints"]]
        interfaces.append(interface | {"joints": joints})
    notes = list(package.get("notes", ()))
    if place.is_bottom:
        notes.append("the part is on the board's bottom: seen from there; check the sense of its rotation")
    if not is_straight:
        notes.append(f"turned by {rotation_deg:g} degrees: the body's sides are those of the part before it was turned")
    width, height = package["body_um"]
    corner = CORNERS[(CORNERS.index(package.get("a1_corner", CORNERS[0])) - quarters) % 4]
    return package | {
        "refdes": place.refdes,
        "interfaces": interfaces,
        "body_um": [height, width] if is_straight and quarters % 2 else [width, height],
        "a1_corner": corner,
        "place": {"x_um": round(place.x_um, 3), "y_um": round(place.y_um, 3), "rotation_deg": rotation_deg},
        "notes": notes,
    }

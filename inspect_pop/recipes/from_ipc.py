"""Make arrays of balls from IPC-D-356 and IPC-2581.

IPC-D-356, columns (from 1): 1-3 the kind of record (317, 327, 337, 367), 21-26 the part, 28-31 its pin, 39-41 the side on
which it can be reached, 42-49 X, 50-57 Y, 58-62 the pad's width, 63-67 its height. Positions are absolute, after the part was
turned; pads are copper. Units: `CUST 0` 0.0001 inch, `CUST 1` 0.001 mm, `CUST 2` 0.0001 inch with angles in radians.
"""

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.ingest.files import BOUNDS, read_bytes
from inspect_pop.recipes.cad_part import CadPart, choose_parts, draft_part
from inspect_pop.recipes.draft import ArrayDraft

__all__ = ["read_ipc356", "read_ipc2581"]

_IPC356_UNITS_UM = {"CUST": 2.54, "CUST 0": 2.54, "CUST 1": 1.0, "CUST 2": 2.54, "SI": 1.0}
_PLACE = re.compile(r"X([+-]? *\d+)Y([+-]? *\d+)(?:X *(\d+))?(?:Y *(\d+))?")
_ACCESS = re.compile(r"A(\d\d)")  # 00 from both sides, 01 from the top, else the number of the bottom's layer


def read_ipc356(path: Path, refdes: str | None = None) -> list[ArrayDraft]:
    """Return the arrays of a netlist: of the part `refdes`, or of all parts that are arrays of balls.

    Raises
    ------
    FileFault, RecipeFault
        The file cannot be read, or is no netlist of this kind.
    UsageFault
        It has no such part, or no array at all.
    """
    text = read_bytes(path, BOUNDS.cad_bytes).decode("latin-1")  # comments are in the code page of the CAD program's machine
    unit_um = _IPC356_UNITS_UM["CUST 0"]
    pads: dict[str, dict[str, tuple[float, float, float]]] = {}
    bottom: dict[str, int] = {}
    doubled: dict[str, set[str]] = {}
    n_records = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("P") and line[1:].split()[:1] == ["UNITS"]:
            unit = " ".join(line[1:].split()[1:]).upper()
            if unit not in _IPC356_UNITS_UM:
                expect = f"one of {', '.join(_IPC356_UNITS_UM)}"
                raise RecipeFault(f"{path}: line {number}: UNITS", expected=expect, found=repr(unit[:40]))
            unit_um = _IPC356_UNITS_UM[unit]
        if line[:3] not in ("317", "327", "337", "347", "367"):
            continue
        n_records += 1
        refdes_of, pin = line[20:26].strip(), line[27:31].strip()
        place = _PLACE.search(line, 31)
        if not refdes_of or refdes_of == "VIA" or not pin or place is None:
            continue
        x, y = (int(value.replace(" ", "")) * unit_um for value in place.groups()[:2])
        width, height = (int(value) * unit_um if value else 0.0 for value in place.groups()[2:])
        part = pads.setdefault(refdes_of, {})
        if pin in part and part[pin][:2] != (x, y):
            doubled.setdefault(refdes_of, set()).add(pin)
        part.setdefault(pin, (x, y, min(width, height) if width and height else max(width, height)))
        access = _ACCESS.search(line, 31, 42)
        bottom[refdes_of] = bottom.get(refdes_of, 0) + (access is not None and int(access[1]) > 1)
    if not n_records:
        raise RecipeFault(str(path), expected="records of IPC-D-356, such as 327", found="none")
    parts = []
    for name, part in pads.items():
        x_um, y_um, size_um = np.array(list(part.values()), dtype=float).T
        is_bottom = 2 * bottom[name] > len(part)
        widths = size_um[size_um > 0]
        notes = ["the part is on the board's bottom: seen from there"] if is_bottom else []
        if name in doubled:
            pins = doubled[name]
            notes.append(f"{len(pins)} pins are listed at several places, such as {min(pins)}: the first one is taken")
        is_full = any(len(pin) == 4 for pin in part)
        notes += ["names of four characters fill their column: longer ones would be cut"] if is_full else []
        parts.append(
            CadPart(
                refdes=name,
                package="",
                pads=tuple(part),
                x_um=-x_um if is_bottom else x_um,
                y_um=y_um,
                pad_um=round(float(np.median(widths)), 1) if widths.size else None,
                step_um=unit_um,
                notes=tuple(notes),
            )
        )
    return [draft_part(chosen) for chosen in choose_parts(parts, refdes, str(path))]


# Read arrays of balls from a board in IPC-2581 (XML), revisions A to C: packages with their pins, components with their places.
#
# Lengths have the unit that the element around them declares. Pins are in the package's frame, which a component turns
# counter-clockwise. Only packages and components are kept; all else is dropped while it is read. XML with a document type, and
# so with entities, is refused.


_IPC2581_UNITS_UM = {"INCH": 25_400.0, "MILLIMETER": 1000.0, "MICRON": 1.0, "MIL": 25.4}
_MOST_DEEP = 64
_STEP_UM = 2.54  # writers give five or six decimals of an inch


@dataclass
class _Package:
    pins: dict[str, tuple[float, float, str]] = field(default_factory=dict)
    outline: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class _Board:
    """What was read so far: circles by name in um, packages and components in the file's unit."""

    unit_um: float | None = None
    circles: dict[str, float] = field(default_factory=dict)
    packages: dict[str, _Package] = field(default_factory=dict)
    components: list[dict[str, str]] = field(default_factory=list)


def read_ipc2581(path: Path, refdes: str | None = None) -> list[ArrayDraft]:
    """Return the arrays of a board: of the component `refdes`, or of all components that are arrays of balls.

    Raises
    ------
    FileFault, RecipeFault
        The file cannot be read, is no IPC-2581, or holds entities.
    UsageFault
        It has no such component, or no array at all; or defusedxml is not installed.
    """
    board = _Board()
    for element, parents in _iterate(path):
        name = _tag(element)
        if name == "CadHeader":
            board.unit_um = _find_unit(path, element)
        elif name == "EntryStandard" and parents:
            circles = _find_children(element, "Circle")
            if circles and parents[-1].get("units"):
                board.circles[element.get("id", "")] = _read_number(circles[0], "diameter") * _find_unit(path, parents[-1])
        elif name == "Package":
            _read_package(board, element)
        elif name == "Component":
            values = {key: element.get(key, "") for key in ("refDes", "packageRef", "layerRef", "part")}
            for child in element:
                if _tag(child) == "Xform":
                    values |= {"rotation": child.get("rotation", "0"), "mirror": child.get("mirror", "")}
            board.components.append(values)
    if board.unit_um is None:
        raise RecipeFault(str(path), expected="an IPC-2581 board with a CadHeader", found="none")
    parts = [_build_part(path, board, component) for component in board.components]
    return [draft_part(part) for part in choose_parts([p for p in parts if p.pads], refdes, str(path))]


def _iterate(path: Path) -> Iterator[tuple[Element, list[Element]]]:
    """Yield each element when it is complete, with those around it; what is not needed any more is dropped."""
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import iterparse
    except ImportError as error:
        raise UsageFault(
            str(path), expected="defusedxml, which reads XML safely", found="none", remedy="Install inspect_pop[recipes]."
        ) from error
    data = read_bytes(path, BOUNDS.cad_bytes)
    parents: list[Element] = []
    try:
        for event, element in iterparse(io.BytesIO(data), events=("start", "end"), forbid_dtd=True):
            if event == "start":
                parents.append(element)
                if len(parents) == 1 and _tag(element) != "IPC-2581":
                    raise RecipeFault(str(path), expected="an IPC-2581 element", found=_tag(element)[:40])
                if len(parents) > _MOST_DEEP:
                    raise RecipeFault(str(path), expected=f"at most {_MOST_DEEP} elements in one another", found="more")
                continue
            parents.pop()
            yield element, parents
            if not any(_tag(parent) in ("Package", "Component", "EntryStandard") for parent in parents):
                element.clear()
                if parents:
                    parents[-1].remove(element)
    except ParseError as error:
        raise RecipeFault(str(path), expected="XML", found=f"{error}") from error
    except DefusedXmlException as error:
        raise RecipeFault(str(path), expected="XML without a document type", found=type(error).__name__) from error


def _tag(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _find_unit(path: Path, element: Element) -> float:
    unit = element.get("units", "")
    if unit not in _IPC2581_UNITS_UM:
        raise RecipeFault(
            f"{path}: {_tag(element)}: units", expected=f"one of {', '.join(_IPC2581_UNITS_UM)}", found=repr(unit[:40])
        )
    return _IPC2581_UNITS_UM[unit]


def _find_children(element: Element, name: str) -> list[Element]:
    return [child for child in element.iter() if _tag(child) == name]


def _read_package(board: _Board, element: Element) -> None:
    package = _Package()
    for child in element:
        if _tag(child) == "Pin":
            place = _find_children(child, "Location")
            shape = [c for c in child if _tag(c) in ("StandardPrimitiveRef", "UserPrimitiveRef")]
            if place and child.get("number"):
                at = (_read_number(place[0], "x"), _read_number(place[0], "y"), shape[0].get("id", "") if shape else "")
                package.pins.setdefault(child.get("number", ""), at)
        elif _tag(child) == "Outline":
            steps = [c for c in child.iter() if _tag(c) in ("PolyBegin", "PolyStepSegment")]
            package.outline = [(_read_number(step, "x"), _read_number(step, "y")) for step in steps]
    board.packages[element.get("name", "")] = package


def _build_part(path: Path, board: _Board, component: dict[str, str]) -> CadPart:
    """Return a component's pads as its board turns them, seen from its own side."""
    package = board.packages.get(component["packageRef"], _Package())
    assert board.unit_um is not None
    is_bottom = component.get("mirror", "").lower() in ("true", "1") or "BOT" in component["layerRef"].upper()
    try:
        turn = math.radians(float(component.get("rotation") or 0.0))
    except ValueError:
        thing = f"{path}: {component['refDes']}: rotation"
        raise RecipeFault(thing, expected="degrees", found=component["rotation"][:40]) from None
    turn = -turn if is_bottom else turn
    c, s = math.cos(turn), math.sin(turn)
    places = np.array([at[:2] for at in package.pins.values()], dtype=float).reshape(-1, 2) * board.unit_um
    sizes = [board.circles[at[2]] for at in package.pins.values() if at[2] in board.circles]
    outline = np.array(package.outline, dtype=float).reshape(-1, 2) * board.unit_um
    body: Any = None
    if len(outline) > 2:
        body = np.round(np.ptp(outline, axis=0), 0)
        body = tuple(float(v) for v in (body[::-1] if abs(s) > 0.7 else body))
    return CadPart(
        refdes=component["refDes"],
        package=component["packageRef"],
        pads=tuple(package.pins),
        x_um=c * places[:, 0] - s * places[:, 1],
        y_um=s * places[:, 0] + c * places[:, 1],
        origin_um=(0.0, 0.0),
        pad_um=round(float(np.median(sizes)), 1) if sizes else None,
        body_um=body if body and min(body) > 0 else None,
        step_um=_STEP_UM,
        notes=("the part is on the board's bottom: seen from there",) if is_bottom else (),
    )


def _read_number(element: Element, name: str) -> float:
    text = element.get(name, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 1e6:
        raise RecipeFault(f"{_tag(element)}: {name}", expected="a number", found=repr(text[:40]))
    return value

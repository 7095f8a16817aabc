"""Read arrays of balls from a board in IPC-2581 (XML), revisions A to C: packages with their pins, components with their places.

Lengths have the unit that the element around them declares. Pins are in the package's frame, which a component turns
counter-clockwise. Only packages and components are kept; all else is dropped while it is read. XML with a document type, and
so with entities, is refused.
"""

import io
import math
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

__all__ = ["read_ipc2581"]

_UNITS_UM = {"INCH": 25_400.0, "MILLIMETER": 1000.0, "MICRON": 1.0, "MIL": 25.4}
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
    if unit not in _UNITS_UM:
        raise RecipeFault(f"{path}: {_tag(element)}: units", expected=f"one of {', '.join(_UNITS_UM)}", found=repr(unit[:40]))
    return _UNITS_UM[unit]


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

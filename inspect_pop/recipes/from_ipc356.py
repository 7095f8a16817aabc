"""Read arrays of balls from a netlist in IPC-D-356 or 356A: fixed columns, one line a pad.

Columns (from 1): 1-3 the kind of record (317, 327, 337, 367), 21-26 the part, 28-31 its pin, 39-41 the side on which it can
be reached, 42-49 X, 50-57 Y, 58-62 the pad's width, 63-67 its height. Positions are absolute, after the part was turned; pads
are copper. Units: `CUST 0` 0.0001 inch, `CUST 1` 0.001 mm, `CUST 2` 0.0001 inch with angles in radians.
"""

import re
from pathlib import Path

import numpy as np

from inspect_pop.core.errors import RecipeFault
from inspect_pop.ingest.files import BOUNDS, read_bytes
from inspect_pop.recipes.cad_part import CadPart, choose_parts, draft_part
from inspect_pop.recipes.draft import ArrayDraft

__all__ = ["read_ipc356"]

_UNITS_UM = {"CUST": 2.54, "CUST 0": 2.54, "CUST 1": 1.0, "CUST 2": 2.54, "SI": 1.0}
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
    unit_um = _UNITS_UM["CUST 0"]
    pads: dict[str, dict[str, tuple[float, float, float]]] = {}
    bottom: dict[str, int] = {}
    doubled: dict[str, set[str]] = {}
    n_records = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("P") and line[1:].split()[:1] == ["UNITS"]:
            unit = " ".join(line[1:].split()[1:]).upper()
            if unit not in _UNITS_UM:
                expect = f"one of {', '.join(_UNITS_UM)}"
                raise RecipeFault(f"{path}: line {number}: UNITS", expected=expect, found=repr(unit[:40]))
            unit_um = _UNITS_UM[unit]
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

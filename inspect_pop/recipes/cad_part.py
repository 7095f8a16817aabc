"""From a CAD file's pads to a part's array: which part is an array of balls, its frame, its pitch, and what looks odd.

CAD programs write positions on a grid of their own: what was 0.40 mm becomes steps of 399 and 401 um. Where all balls lie on
one lattice within that grid's step, they are put back on it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.recipes.draft import ArrayDraft, find_a1_corner, parse_ball

__all__ = ["CadPart", "choose_parts", "draft_part", "read_sizes"]

LEAST_PADS = 9
JEDEC_SHARE = 0.9  # of a part's pads that have JEDEC names, for it to be taken for an array without being named
_BALL = re.compile(r"ball[ _]?(\d+(?:\.\d+)?)", re.IGNORECASE)
_PITCHES = re.compile(r"(?:pitch|p)(\d*\.?\d+)(?:x(\d*\.?\d+))?mm", re.IGNORECASE)
_BODY = re.compile(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)mm", re.IGNORECASE)
_DEFINITION = re.compile(r"[_-](N?SMD)(?![A-Za-z])", re.IGNORECASE)
_COUNT = re.compile(r"(?:bga|csp|csg|cpg|cbp|ftg|fbg|fgg|flga)[-_]?(\d{2,4})(?![\dxX.])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class CadPart:
    """One part of a CAD file: its pads (n,) in um, x to the right, y up, seen from the side on which the part sits.

    `origin_um` is the part's own origin in the same frame; None where the file does not say. `step_um`: the file's resolution.
    """

    refdes: str
    package: str
    pads: tuple[str, ...]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    origin_um: tuple[float, float] | None = None
    pad_um: float | None = None
    pad_definition: str | None = None
    body_um: tuple[float, float] | None = None
    step_um: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NameSizes:
    """What a package's name says, lengths in um; None for what it does not say."""

    balls: int | None
    pad_definition: str | None
    pitch_um: tuple[float, ...] | None
    ball_um: float | None
    body_um: tuple[float, float] | None


def read_sizes(package: str) -> NameSizes:
    """Read what a package's name says, such as `BGA-81_4.496x4.377mm_Layout9x9_P0.4mm_Ball0.25mm_Pad0.2mm_NSMD`."""
    count, pitch, ball, body = (pattern.search(package) for pattern in (_COUNT, _PITCHES, _BALL, _BODY))
    definition = _DEFINITION.search(package)
    return NameSizes(
        int(count[1]) if count else None,
        definition[1].lower() if definition else None,
        tuple(1000 * float(v) for v in pitch.groups() if v) if pitch else None,
        1000 * float(ball[1]) if ball else None,
        (1000 * float(body[1]), 1000 * float(body[2])) if body else None,
    )


def choose_parts(parts: Sequence[CadPart], refdes: str | None, thing: str) -> list[CadPart]:
    """Return the part of this refdes; without one, all parts that are arrays of balls. Raises `UsageFault` without any."""
    if refdes is not None:
        chosen = [part for part in parts if part.refdes == refdes]
        if chosen:
            return chosen
    arrays = []
    for part in parts:
        places = [place for place in map(parse_ball, part.pads) if place is not None]
        rows, columns = {row for row, _ in places}, {column for _, column in places}
        is_named = len(places) >= JEDEC_SHARE * len(part.pads)
        if len(part.pads) >= LEAST_PADS and is_named and len(rows) >= 3 and len(columns) >= 3:
            arrays.append(part)
    listed = ", ".join(f"{part.refdes} ({len(part.pads)} balls)" for part in arrays[:12]) or "none"
    if refdes is not None:
        raise UsageFault(f"{thing}: {refdes}", expected="a part of the file", found=f"arrays of balls: {listed}")
    if not arrays:
        remedy = "Name the part by --refdes."
        raise UsageFault(
            thing, expected=f"a part of {LEAST_PADS} or more balls with names such as A1", found="none", remedy=remedy
        )
    return arrays


def draft_part(part: CadPart) -> ArrayDraft:
    """Return the array of a part in its package frame: origin at the body's centre, on the lattice where all balls fit one."""
    if len(part.pads) < 2:
        raise RecipeFault(part.refdes, expected="pads", found=str(len(part.pads)))
    doubled = sorted({name for name in part.pads if part.pads.count(name) > 1})
    if doubled:
        found = f"{doubled[0]} {part.pads.count(doubled[0])} times"
        raise RecipeFault(f"{part.refdes} {part.package}", expected="each pad once", found=found)
    notes = list(part.notes)
    sizes = read_sizes(part.package)
    x_um, y_um, pitch_um = snap_to_lattice(part, sizes, notes)
    middle = tuple((axis.max() + axis.min()) / 2 for axis in (x_um, y_um))
    centre = middle
    if part.origin_um is not None:
        off = max(abs(a - b) for a, b in zip(middle, part.origin_um, strict=True))
        centre = part.origin_um if off > max(2 * part.step_um, 5.0) else middle
        if off > max(2 * part.step_um, 5.0):
            notes.append(f"the balls' middle lies {off:.0f} um from the part's origin, which is taken for the body's centre")
    if sizes.balls is not None and sizes.balls != len(part.pads):
        notes.append(f"{len(part.pads)} balls, where the name {part.package} says {sizes.balls}")
    strange = [name for name in part.pads if parse_ball(name) is None]
    if strange:
        notes.append(f"{len(strange)} names are not JEDEC's, such as {strange[0]}")
    x_um, y_um = x_um - centre[0], y_um - centre[1]
    return ArrayDraft(
        refdes=part.refdes,
        ball=part.pads,
        x_um=x_um,
        y_um=y_um,
        pitch_um=pitch_um,
        part=part.package or None,
        body_um=part.body_um or sizes.body_um,
        ball_um=sizes.ball_um,
        pad_um=part.pad_um,
        pad_definition=part.pad_definition or sizes.pad_definition,
        a1_corner=find_a1_corner(part.pads, x_um, y_um),
        notes=tuple(notes),
    )


def snap_to_lattice(part: CadPart, sizes: NameSizes, notes: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return x, y and pitch in um; on lines of equal steps where every ball lies within the file's resolution of one."""
    nearest = cKDTree(np.column_stack([part.x_um, part.y_um])).query(np.column_stack([part.x_um, part.y_um]), k=2)[0][:, 1]
    typical = float(np.median(nearest))
    snapped = [_snap_axis(axis, typical, 1.5 * part.step_um) for axis in (part.x_um, part.y_um)]
    if any(axis is None for axis in snapped):
        notes.append(f"the balls lie on no regular lattice: places as in the file, pitch {typical:.0f} um, the median distance")
        x_um, y_um, pitch_um = part.x_um, part.y_um, round(typical, 1)
    else:
        x_um, y_um = (axis for axis in snapped if axis is not None)
        places = np.column_stack([x_um, y_um])
        pitch_um = round(float(np.median(cKDTree(places).query(places, k=2)[0][:, 1])), 3)
    if sizes.pitch_um is not None and abs(pitch_um / min(sizes.pitch_um) - 1) > 0.02:
        notes.append(f"pitch {pitch_um:g} um, where the name {part.package} says {min(sizes.pitch_um):g} um")
    return x_um, y_um, pitch_um


def _snap_axis(values: NDArray[np.float64], pitch_um: float, tolerance_um: float) -> NDArray[np.float64] | None:
    """Return places on lines of equal steps; None where some lie off them by more than the tolerance.

    The step is the largest of 1, 1/2, 1/4 of the least distance of lines on which all lie; it is rounded to
    10 um, or else to 1 um, where that fits: drawings have such pitches.
    """
    ordered = np.unique(values)
    cuts = np.flatnonzero(np.diff(ordered) > max(4 * tolerance_um, 0.1 * pitch_um)) + 1
    lines = np.array([group.mean() for group in np.split(ordered, cuts)])
    if len(lines) == 1:
        return np.full_like(values, lines[0])
    least = float(np.diff(lines).min())
    for part in (1, 2, 4):
        step = least / part
        for _ in range(3):  # the first step is known from one distance only; the whole extent knows it better
            number = np.rint((values - lines[0]) / step)
            step = float(np.polyfit(number, values, 1)[0])
        for candidate in (10.0 * round(step / 10), float(round(step)), step):
            first = float(np.median(values - candidate * number))
            if candidate > 0 and np.abs(first + candidate * number - values).max() <= tolerance_um:
                snapped: NDArray[np.float64] = first + candidate * number
                return snapped
    return None

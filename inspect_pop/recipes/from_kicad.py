"""Read arrays of balls from KiCad: a footprint (`.kicad_mod`) or a board (`.kicad_pcb`), of version 5 and later.

KiCad's y points down; a footprint's pads are in its own frame, which the board turns counter-clockwise by its angle. A part on
the bottom is stored as seen from the top, through the board: it is mirrored here, since it is inspected from its own side. A
pad is defined by the solder mask (SMD) where its mask opening is smaller than its copper: a negative mask margin.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from inspect_pop.core.errors import RecipeFault
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes
from inspect_pop.recipes.cad_part import CadPart, choose_parts, draft_part
from inspect_pop.recipes.draft import ArrayDraft
from inspect_pop.recipes.s_expression import Node, find_nodes, find_value, parse_expression

__all__ = ["read_kicad"]

_FOOTPRINT = ("footprint", "module")  # `module` before version 6
_OUTLINE = ("fp_line", "fp_rect")


def read_kicad(path: Path, refdes: str | None = None) -> list[ArrayDraft]:
    """Return the array of a footprint, or those of a board: of the part `refdes`, or of all parts that are arrays of balls.

    Raises
    ------
    FileFault, RecipeFault
        The file cannot be read, or is no KiCad footprint or board.
    UsageFault
        The board has no such part, or no array at all.
    """
    tree = parse_expression(path, decode_text(path, read_bytes(path, BOUNDS.cad_bytes), RecipeFault))
    kind = tree[0] if tree else ""
    if kind in _FOOTPRINT:
        part = _read_footprint(path, tree)
        return [draft_part(replace(part, refdes=refdes or "U1"))]
    if kind != "kicad_pcb":
        raise RecipeFault(str(path), expected="a KiCad footprint or board", found=f"a list that begins with {kind!r:.40}")
    parts = [_read_footprint(path, node) for node in find_nodes(tree, *_FOOTPRINT)]
    return [draft_part(part) for part in choose_parts(parts, refdes, str(path))]


def _read_footprint(path: Path, node: Node) -> CadPart:
    """Read one footprint, turned as the board has it."""
    package = str(node[1]).rpartition(":")[2] if len(node) > 1 and isinstance(node[1], str) else ""
    thing = f"{path}: {package}"
    place = _read_numbers(thing, find_value(node, "at") or ["0", "0"])
    turn = math.radians(place[2] if len(place) > 2 else 0.0)
    is_bottom = str((find_value(node, "layer") or [""])[0]).startswith("B.")
    margin = _read_margin(thing, node)
    names, local, sizes, margins = [], [], [], []
    for pad in find_nodes(node, "pad"):
        layers = [str(layer) for layer in find_value(pad, "layers") or ()]
        if len(pad) < 4 or not pad[1] or not any(layer.endswith(".Cu") for layer in layers):
            continue  # an aperture of the paste, or a hole
        names.append(str(pad[1]))
        local.append(_read_numbers(thing, find_value(pad, "at") or [])[:2])
        sizes.append(min(_read_numbers(thing, find_value(pad, "size") or []), default=0.0))
        pad_margin = _read_margin(thing, pad)
        margins.append(margin if pad_margin is None else pad_margin)
    if any(len(at) != 2 for at in local):
        raise RecipeFault(thing, expected="x and y of each pad", found="a pad without")
    points = np.array(local, dtype=float).reshape(-1, 2) * 1000.0
    c, s = math.cos(turn), math.sin(turn)
    x, y = c * points[:, 0] + s * points[:, 1], -(-s * points[:, 0] + c * points[:, 1])
    texts = [text for text in find_nodes(node, "fp_text", "property") if len(text) > 2]
    # Solder wets the copper, or the smaller opening of the mask.
    wetted = [size + 2 * min(m or 0.0, 0.0) for size, m in zip(sizes, margins, strict=True)]
    middle_um = float(np.median(wetted)) * 1000.0 if wetted else 0.0
    stated = [m for m in margins if m]
    corners = []
    for line in find_nodes(node, *_OUTLINE):
        if str((find_value(line, "layer") or [""])[0]).endswith(".Fab"):
            corners += [_read_numbers(thing, find_value(line, end) or [])[:2] for end in ("start", "end")]
    outline = np.array([corner for corner in corners if len(corner) == 2], dtype=float)
    width, height = np.ptp(outline, axis=0) * 1000.0 if len(outline) >= 3 else (0.0, 0.0)
    sides = (float(height), float(width)) if abs(s) > 0.7 else (float(width), float(height))
    return CadPart(
        refdes=next((str(text[2]) for text in texts if str(text[1]).lower() == "reference"), ""),
        package=package,
        pads=tuple(names),
        x_um=-x if is_bottom else x,
        y_um=y,
        origin_um=(0.0, 0.0),
        pad_um=round(middle_um, 1) if middle_um > 0 else None,
        pad_definition=("smd" if float(np.median(stated)) < 0 else "nsmd") if stated else None,
        body_um=sides if width > 0 and height > 0 else None,
        step_um=1.0,
        notes=("the part is on the board's bottom: seen from there",) if is_bottom else (),
    )


def _read_margin(thing: str, node: Node) -> float | None:
    value = find_value(node, "solder_mask_margin")
    return None if value is None else next(iter(_read_numbers(thing, value)), None)


def _read_numbers(thing: str, words: Node) -> list[float]:
    """Return the leading numbers of a list, before words such as `unlocked`. Raises `RecipeFault` for one out of range."""
    numbers = []
    for word in words:
        try:
            numbers.append(float(word))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            break
    if any(not abs(number) < 1e5 for number in numbers):
        raise RecipeFault(thing, expected="lengths in millimetres", found=str(numbers)[:60])
    return numbers

"""Make arrays of balls from KiCad's footprints and boards."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from inspect_pop.core.errors import RecipeFault
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes
from inspect_pop.recipes.cad_part import CadPart, choose_parts, draft_part
from inspect_pop.recipes.draft import ArrayDraft

__all__ = ["Node", "find_nodes", "find_value", "parse_expression", "read_kicad"]

Node = list["Node | str"]

MOST_DEEP = 64  # lists within lists: boards have about ten
_TOKEN = re.compile(r'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|([^\s()"]+))', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse_expression(path: Path, text: str) -> Node:
    """Parse one list; words and quoted texts are strings. Raises `RecipeFault` for what is not one complete list."""
    top: Node = []
    stack = [top]
    at, end = 0, len(text.rstrip())
    while at < end:
        token = _TOKEN.match(text, at)
        if token is None:
            raise RecipeFault(f"{path}: character {at:,}", expected="an S-expression", found="a quotation that does not close")
        at = token.end()
        if token[1]:
            inner: Node = []
            stack[-1].append(inner)
            stack.append(inner)
            if len(stack) > MOST_DEEP:
                raise RecipeFault(f"{path}: character {at:,}", expected=f"at most {MOST_DEEP} lists in one another", found="more")
        elif token[2]:
            stack.pop()
            if not stack:
                break
        else:
            stack[-1].append(_ESCAPED.sub(r"\1", token[3]) if token[3] is not None else token[4])
        if len(stack) == 1 and at < end:
            break
    if len(stack) != 1 or len(top) != 1 or not isinstance(top[0], list) or at < end:
        found = "one that is cut short" if len(stack) > 1 else "something else"
        raise RecipeFault(str(path), expected="one complete S-expression, as KiCad writes it", found=found)
    return top[0]


def find_nodes(node: Node, *names: str) -> list[Node]:
    """Return the lists directly inside a list that begin with one of these words."""
    return [child for child in node if isinstance(child, list) and child and child[0] in names]


def find_value(node: Node, name: str) -> Node | None:
    """Return what follows the word in the first list inside a list that begins with it; None without such a list."""
    found = find_nodes(node, name)
    return found[0][1:] if found else None


# Read arrays of balls from KiCad: a footprint (`.kicad_mod`) or a board (`.kicad_pcb`), of version 5 and later.
#
# KiCad's y points down; a footprint's pads are in its own frame, which the board turns counter-clockwise by its angle. A part on
# the bottom is stored as seen from the top, through the board: it is mirrored here, since it is inspected from its own side. A
# pad is defined by the solder mask (SMD) where its mask opening is smaller than its copper: a negative mask margin.


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

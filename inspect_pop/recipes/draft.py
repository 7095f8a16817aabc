"""Draft a recipe: ball names, usual values by pitch, and the file."""

import json
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.core.recipe import Recipe
from inspect_pop.core.text import format_csv, pluralize
from inspect_pop.ingest.document import parse_json
from inspect_pop.ingest.files import BOUNDS, read_bytes
from inspect_pop.ingest.recipe_file import read_recipe

__all__ = [
    "CORNERS",
    "GAP_BETWEEN_UM",
    "MEMORY_HEIGHT_UM",
    "STACK_HEIGHT_UM",
    "WARPAGE_LIMIT_UM",
    "ArrayDraft",
    "Choices",
    "WrittenRecipe",
    "build_package",
    "compute_standoff",
    "find_a1_corner",
    "guess_ball",
    "guess_pad",
    "join_packages",
    "list_names",
    "load_packages",
    "name_ball",
    "parse_ball",
    "parse_choices",
    "turn_to_a1",
    "write_recipe",
]

LETTERS = "ABCDEFGHJKLMNPRTUVWY"
CORNERS = ("upper_left", "upper_right", "lower_right", "lower_left")  # clockwise: each a quarter turn from the one before
_NAME = re.compile(r"([A-Za-z]{1,3})(\d{1,3})")


def name_ball(row: int, column: int) -> str:
    """Return the name of the ball at a row and a column, both from 0: `A1`, `Y20`, `AA1`."""
    letters = ""
    left = row + 1
    while left:
        left, digit = divmod(left - 1, len(LETTERS))
        letters = LETTERS[digit] + letters
    return f"{letters}{column + 1}"


def parse_ball(name: str) -> tuple[int, int] | None:
    """Return row and column, both from 0, of a JEDEC name; None for any other name, also one with a skipped letter."""
    match = _NAME.fullmatch(name.strip())
    if match is None or int(match[2]) == 0 or any(letter not in LETTERS for letter in match[1].upper()):
        return None
    row = 0
    for letter in match[1].upper():
        row = row * len(LETTERS) + LETTERS.index(letter) + 1
    return row - 1, int(match[2]) - 1


def turn_to_a1(column: NDArray[np.intp], row: NDArray[np.intp], corner: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (row, column) of names, from 0, for places of a picture counted from its upper left corner.

    `column` counts to the right and `row` downwards, both from 0. A package whose A1 lies at another corner is turned, not
    mirrored: rows and columns of its names turn with it.
    """
    turns = CORNERS.index(corner)
    for _ in range(turns):  # take the package back by a quarter turn counter-clockwise: the right edge becomes the upper one
        column, row = row, column.max(initial=0) - column
    return row, column


def list_names(column: NDArray[np.intp], row: NDArray[np.intp], corner: str) -> tuple[str, ...]:
    """Return the JEDEC names of places counted from the picture's upper left corner; `corner` is where A1 lies."""
    named_row, named_column = turn_to_a1(column, row, corner)
    return tuple(name_ball(int(r), int(c)) for r, c in zip(named_row, named_column, strict=True))


def find_a1_corner(ball: Sequence[str], x_um: NDArray[np.float64], y_um: NDArray[np.float64]) -> str | None:
    """Return the corner at which row A and column 1 meet, x to the right and y up; None where the names do not tell.

    None also where names and places are mirrored, so that no turn brings A1 to the upper left with rows going down.
    """
    places = [parse_ball(name) for name in ball]
    if any(place is None for place in places) or len(ball) < 3:
        return None
    number = np.array(places, dtype=float)
    design = np.column_stack([x_um - x_um.mean(), y_um - y_um.mean()])
    if np.linalg.matrix_rank(design) < 2:
        return None
    down, along = np.linalg.lstsq(design, number - number.mean(axis=0), rcond=None)[0].T  # where rows and columns rise
    if along[0] * down[1] - along[1] * down[0] >= 0:
        return None
    a1 = -(down / np.linalg.norm(down) + along / np.linalg.norm(along))
    return f"{'upper' if a1[1] > 0 else 'lower'}_{'left' if a1[0] < 0 else 'right'}"


# Usual values of what neither CAD nor a picture knows, by pitch: ball, pad, stand-off, and what belongs to the package.
#
# Each is marked as assumed in the recipe that uses it (`assumed`): a data sheet knows better.


# Ball and pad in um by pitch. 350 to 650: the usual ones of PoP lower and upper interfaces. 800 and 1000: the most frequent in
# the names of the BGA footprints of KiCad's library (Package_BGA: `P0.8mm_Ball0.5mm_Pad0.4mm`, `P1.0mm_Ball0.5mm_Pad0.4mm`).
_PITCH_UM = (350.0, 400.0, 500.0, 650.0, 800.0, 1000.0)
_BALL_UM = (200.0, 250.0, 300.0, 400.0, 500.0, 500.0)
_PAD_UM = (180.0, 220.0, 260.0, 330.0, 400.0, 400.0)
STACK_HEIGHT_UM = 1400.0  # of a stack of two packages, or of one BGA; only pads above it would be refused
WARPAGE_LIMIT_UM = 80.0  # the rule of thumb for packages during reflow (Ishibashi, Nokia, ECTC 2007, has 66 to 72 for PoP)
MEMORY_HEIGHT_UM = 600.0  # from the uppermost pads to the stack's top: the memory package
GAP_BETWEEN_UM = 350.0  # from the lower interface's upper pads to the upper interface's lower pads: one package's thickness


def guess_ball(pitch_um: float) -> float:
    """Return the usual diameter in um of a ball before reflow at this pitch."""
    return _interpolate(pitch_um, _BALL_UM)


def guess_pad(pitch_um: float, ball_um: float) -> float:
    """Return the usual diameter in um of the wetted pad of a ball at this pitch."""
    return _interpolate(pitch_um, _PAD_UM) * ball_um / guess_ball(pitch_um)


def compute_standoff(ball_um: float, pad_um: float) -> float:
    """Return the distance of two equal pads, in um, between which a ball's volume stands as a truncated sphere.

    pi h (6 a^2 + h^2) / 6 = pi d^3 / 6 (export format, version 1), solved for h by Cardano's formula.
    """
    third, half = 2 * (pad_um / 2) ** 2, ball_um**3 / 2
    root = math.sqrt(half * half + third**3)
    return math.cbrt(half + root) + math.cbrt(half - root)


def _interpolate(pitch_um: float, values: tuple[float, ...]) -> float:
    if pitch_um < _PITCH_UM[0] or pitch_um > _PITCH_UM[-1]:  # beyond the table: in proportion to the pitch
        end = 0 if pitch_um < _PITCH_UM[0] else -1
        return values[end] * pitch_um / _PITCH_UM[end]
    return float(np.interp(pitch_um, _PITCH_UM, values))


# Build a recipe from what a source gave, options, and defaults; write it, read back by the product's own reader first.
#
# A recipe says what was assumed (`assumed`), where it came from (`source`) and what should be checked (`notes`): the reader of
# recipes ignores these fields, people do not.


RECIPE_FILE = "recipe.json"


@dataclass(frozen=True, eq=False)
class ArrayDraft:
    """One array of joints as a source has it, in um, x to the right and y up, seen from the package's top.

    `ball` (n,) names; `x_um`, `y_um` (n,) from the array's or the body's centre. What the source does not know is None.
    `notes`: what a person should check. `doubts`: balls to look at, by name.
    """

    refdes: str
    ball: tuple[str, ...]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    pitch_um: float
    part: str | None = None
    body_um: tuple[float, float] | None = None
    ball_um: float | None = None
    pad_um: float | None = None
    pad_definition: str | None = None
    a1_corner: str | None = None
    notes: tuple[str, ...] = ()
    doubts: Mapping[str, str] = field(default_factory=dict)


Value = float | str | tuple[float, float]
_NUMBERS = ("stack_height_um", "warpage_limit_um", "ball_diameter_um", "pad_diameter_um")
_PAIRS = ("body_um", "pads_z_um")
_TEXTS = ("part", "construction", "pad_definition", "solder")


@dataclass(frozen=True)
class Choices:
    """What the user decides: each value of `fields` replaces what a source says, or the default.

    `fields` has names of the recipe's fields: `part`, `construction`, `body_um`, `stack_height_um`, `warpage_limit_um`,
    `ball_diameter_um`, `pad_diameter_um`, `pad_definition`, `pads_z_um`, `solder`.
    """

    interface: str = "lower"
    fields: Mapping[str, Value] = field(default_factory=dict)


def parse_choices(interface: str, texts: Sequence[str]) -> Choices:
    """Parse choices given as `FIELD=VALUE`, two numbers separated by a comma. Raises `UsageFault`."""
    if interface not in ("lower", "upper"):
        raise UsageFault(f"--interface {interface}", expected="lower or upper")
    fields: dict[str, Value] = {}
    for text in texts:
        name, is_set, value = text.partition("=")
        if not is_set or name not in (*_NUMBERS, *_PAIRS, *_TEXTS):
            expect = f"FIELD=VALUE with one of {', '.join((*_TEXTS, *_PAIRS, *_NUMBERS))}"
            raise UsageFault(f"--set {text}", expected=expect)
        if name in _TEXTS:
            fields[name] = value
            continue
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != (2 if name in _PAIRS else 1):
            expect = "two numbers and a comma between, such as 0,170" if name in _PAIRS else "a number"
            raise UsageFault(f"--set {text}", expected=expect)
        fields[name] = (numbers[0], numbers[1]) if name in _PAIRS else numbers[0]
    return Choices(interface, fields)


@dataclass(frozen=True)
class WrittenRecipe:
    """A recipe that was written: where, as it reads back, what was assumed, and what should be checked."""

    path: Path
    recipe: Recipe
    assumed: tuple[str, ...]
    notes: tuple[str, ...]


Package = dict[str, Any]


def build_package(draft: ArrayDraft, choices: Choices) -> Package:
    """Return a package of one interface as a recipe file has it; its `joints` hold the table's rows, not yet a file name.

    `assumed` lists the fields whose values neither the source nor the user gave.
    """
    assumed: list[str] = []

    def choose(name: str, known: Any, default: Any) -> Any:
        if name in choices.fields:
            return choices.fields[name]
        if known is None:
            assumed.append(name)
        return default if known is None else known

    pitch_um = draft.pitch_um
    ball_um = choose("ball_diameter_um", draft.ball_um, _round5(guess_ball(pitch_um)))
    pad_um = choose("pad_diameter_um", draft.pad_um, _round5(guess_pad(pitch_um, ball_um)))
    standoff_um = max(_round5(compute_standoff(ball_um, pad_um)), 5.0)
    base_um = 0.0 if choices.interface == "lower" else standoff_um + GAP_BETWEEN_UM
    pads_z_um = choose("pads_z_um", None, (base_um, base_um + standoff_um))
    extent_um = (float(np.ptp(axis)) + 2 * pitch_um for axis in (draft.x_um, draft.y_um))
    body_um = choose("body_um", draft.body_um, tuple(100 * np.ceil(v / 100) for v in extent_um))
    interface = {
        "name": choices.interface,
        "joints": list(zip(draft.ball, draft.x_um.tolist(), draft.y_um.tolist(), strict=True)),
        "pitch_um": _clean(pitch_um),
        "ball_diameter_um": _clean(ball_um),
        "pad_diameter_um": _clean(pad_um),
        "pad_definition": choose("pad_definition", draft.pad_definition, "nsmd"),
        "pads_z_um": [_clean(v) for v in pads_z_um],
        "solder": choose("solder", None, "SAC305"),
    }
    corner = draft.a1_corner or find_a1_corner(draft.ball, draft.x_um, draft.y_um)
    stack_height_um = choose("stack_height_um", None, max(STACK_HEIGHT_UM, pads_z_um[1] + MEMORY_HEIGHT_UM))
    return {
        "refdes": draft.refdes,
        "part": choose("part", draft.part, "unknown"),
        "construction": choose("construction", None, "bga" if choices.interface == "lower" else "tmv"),
        "body_um": [_clean(v) for v in body_um],
        "stack_height_um": _clean(stack_height_um),
        "warpage_limit_um": _clean(choose("warpage_limit_um", None, WARPAGE_LIMIT_UM)),
        "a1_corner": choose("a1_corner", corner, "upper_left"),
        "interfaces": [interface],
        "assumed": assumed,
        "notes": list(draft.notes),
        "doubts": dict(draft.doubts),
    }


def load_packages(path: Path) -> tuple[dict[str, Any], list[Package]]:
    """Read a recipe file for changing it: (its other fields, its packages with the rows of their tables).

    Raises `RecipeFault` and `PathFault` as `read_recipe` does.
    """
    recipe = read_recipe(path, path.parent)
    content = parse_json(path, read_bytes(path, BOUNDS.recipe_bytes, RecipeFault), RecipeFault)
    for entry, package in zip(content["packages"], recipe.packages, strict=True):
        for interface, read in zip(entry["interfaces"], package.interfaces, strict=True):
            interface["joints"] = list(zip(read.ball, read.x_um.tolist(), read.y_um.tolist(), strict=True))
    return content, content.pop("packages")


def join_packages(packages: Sequence[Package], more: Sequence[Package]) -> list[Package]:
    """Return packages with others joined: a new interface of a known refdes goes into its package, whose body and part stay.

    Raises `UsageFault` where an interface is there already.
    """
    joined = {package["refdes"]: package for package in packages}
    for package in more:
        known = joined.get(package["refdes"])
        if known is None:
            joined[package["refdes"]] = package
            continue
        names = {interface["name"] for interface in known["interfaces"]}
        doubled = [interface["name"] for interface in package["interfaces"] if interface["name"] in names]
        if doubled:
            thing = f"{package['refdes']} {doubled[0]}"
            raise UsageFault(thing, expected="an interface that the recipe does not have", found="one that it has")
        both = sorted([*known["interfaces"], *package["interfaces"]], key=lambda interface: str(interface["name"]))
        top_um = max(interface["pads_z_um"][1] for interface in both)
        construction = known["construction"] if known["construction"] != "bga" else package["construction"]
        body_um = [max(pair) for pair in zip(known["body_um"], package["body_um"], strict=True)]
        joined[package["refdes"]] = known | {
            "interfaces": both,
            "construction": "tmv" if construction == "bga" else construction,
            "body_um": body_um if "body_um" in known.get("assumed", ()) else known["body_um"],
            "stack_height_um": max(known["stack_height_um"], _clean(top_um + MEMORY_HEIGHT_UM)),
            "assumed": list(dict.fromkeys([*known.get("assumed", ()), *package["assumed"]])),
            "notes": [*known.get("notes", ()), *package["notes"]],
            "doubts": {**known.get("doubts", {}), **package["doubts"]},
        }
    return list(joined.values())


def write_recipe(
    out: Path, packages: Sequence[Package], product: str, source: str, *, add: bool = False, replace_old: bool = False
) -> WrittenRecipe:
    """Write `recipe.json` with its tables below `out`, whole or not at all, after reading it as an inspection does.

    Parameters
    ----------
    out
        The folder; created where it is missing.
    packages
        As `build_package` returns them.
    product, source
        The product's name, and what the recipe was made from.
    add
        Join the packages to the recipe that `out` holds.
    replace_old
        Replace that recipe.

    Raises
    ------
    UsageFault
        `out` holds a recipe, and neither `add` nor `replace_old` is set.
    RecipeFault
        The reader refuses what would be written: the source describes the impossible.
    """
    path = out / RECIPE_FILE
    content: dict[str, Any] = {"schema": "pop-recipe/1", "name": _make_name(product), "revision": 1, "product": product}
    if path.exists():
        if not add and not replace_old:
            remedy = "Name another folder, or give --add to join it, or --replace."
            raise UsageFault(str(out), expected="a folder without a recipe", found=RECIPE_FILE, remedy=remedy)
        content, old = load_packages(path)
        content["revision"] = int(content["revision"]) + 1
        packages = join_packages(old, packages) if add else packages
        source = f"{content.get('source', '')}; {source}" if add else source
    assumed = [f"{p['refdes']}.{name}" for p in packages for name in p.get("assumed", ())]
    notes = [f"{p['refdes']}: {note}" for p in packages for note in (*p.get("notes", ()), *_list_doubts(p))]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".recipe-") as folder:
        part = Path(folder)
        tables, used = [], set[str]()
        entries = []
        for package in packages:
            interfaces = []
            for interface in package["interfaces"]:
                name = f"{_make_name(package['refdes'])}_{interface['name']}"
                name = name if name.lower() not in used else f"{name}_{len(used)}"
                used.add(name.lower())
                rows = [(ball, f"{_clean(x):.10g}", f"{_clean(y):.10g}") for ball, x, y in interface["joints"]]
                text = "ball,x_um,y_um\n" + "".join(f"{','.join(row)}\n" for row in rows)
                if any("," in row[0] or '"' in row[0] for row in rows):
                    text = format_csv(("ball", "x_um", "y_um"), rows)
                tables.append(f"{name}.csv")
                (part / tables[-1]).write_text(text, encoding="utf-8", newline="\n")
                interfaces.append(interface | {"joints": tables[-1]})
            entries.append(package | {"interfaces": interfaces})
        text = json.dumps(content | {"packages": entries, "source": source}, indent=1, ensure_ascii=False)
        (part / RECIPE_FILE).write_text(text + "\n", encoding="utf-8", newline="\n")
        try:
            recipe = read_recipe(part / RECIPE_FILE, part)
        except RecipeFault as fault:
            thing = fault.thing.replace(str(part), str(out))
            raise RecipeFault(thing, expected=fault.expected, found=fault.found, remedy="Nothing was written.") from fault
        for table in tables:
            (part / table).replace(out / table)
        (part / RECIPE_FILE).replace(path)
    return WrittenRecipe(path, recipe, tuple(assumed), tuple(notes))


def _list_doubts(package: Package) -> list[str]:
    """Return a line for each reason to doubt balls, with the first of them."""
    balls: dict[str, list[str]] = {}
    for ball, reason in package.get("doubts", {}).items():
        balls.setdefault(reason, []).append(ball)
    return [
        f"{pluralize(len(names), 'ball')}: {reason}: {', '.join(names[:12])}{' …' if len(names) > 12 else ''}"
        for reason, names in balls.items()
    ]


def _make_name(text: str) -> str:
    """Return a text that is a safe file name everywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:60] or "recipe"


def _round5(value_um: float) -> float:
    return 5.0 * round(value_um / 5)


def _clean(value: float) -> float:
    """Return a length in um to a thousandth, without a decimal where it has none."""
    value = round(float(value), 3)
    return int(value) if value == int(value) else value

"""Build a recipe from what a source gave, options, and defaults; write it, read back by the product's own reader first.

A recipe says what was assumed (`assumed`), where it came from (`source`) and what should be checked (`notes`): the reader of
recipes ignores these fields, people do not.
"""

import json
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
from inspect_pop.recipes.ball_names import find_a1_corner
from inspect_pop.recipes.defaults import (
    GAP_BETWEEN_UM,
    MEMORY_HEIGHT_UM,
    STACK_HEIGHT_UM,
    WARPAGE_LIMIT_UM,
    compute_standoff,
    guess_ball,
    guess_pad,
)

__all__ = [
    "ArrayDraft",
    "Choices",
    "WrittenRecipe",
    "build_package",
    "join_packages",
    "load_packages",
    "parse_choices",
    "write_recipe",
]

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

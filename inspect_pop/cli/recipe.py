"""`inspect-pop recipe`: recipes from a picture of a good board, from CAD, from a list of ball names; and a drawing of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import pluralize, say
from inspect_pop.core.errors import UsageFault

if TYPE_CHECKING:
    from inspect_pop.recipes.draft import ArrayDraft, WrittenRecipe

__all__ = ["recipe"]

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for recipe.json and its tables.", show_default=False)]
Refdes = Annotated[str | None, typer.Option("--refdes", metavar="R", help="Reference of the part, such as U1.")]
Side = Annotated[str, typer.Option("--interface", metavar="I", help="Which interface the array is: lower or upper.")]
Product = Annotated[str | None, typer.Option("--product", metavar="NAME", help="Product [default: the source's name]")]
Fields = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="A field of the recipe, such as ball_diameter_um=300 or pads_z_um=0,170."),
]
Add = Annotated[bool, typer.Option("--add", help="Join the recipe that DIR holds, such as the other interface of a stack.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the recipe that DIR holds.")]
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="TIFF, PNG, BMP or JPEG of one good board.", show_default=False)]
Source = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.", show_default=False)]
Pitch = Annotated[float | None, typer.Option("--pitch-um", metavar="P", min=50, max=5000, help="Distance of neighbouring balls.")]
ListPitch = Annotated[
    float, typer.Option("--pitch-um", metavar="P", min=50, max=5000, help="Distance of columns.", show_default=False)
]
RowPitch = Annotated[
    float | None, typer.Option("--pitch-y-um", metavar="P", min=50, max=5000, help="Distance of rows, where it is another.")
]
Pixel = Annotated[float | None, typer.Option("--pixel-um", metavar="U", min=0.01, max=1000, help="Size of a pixel.")]
A1 = Annotated[
    str | None,
    typer.Option(
        "--a1", metavar="CORNER", help="Where A1 lies in the picture: upper_left, upper_right, lower_right, lower_left."
    ),
]
Polarity = Annotated[str, typer.Option("--polarity", metavar="P", help="solder_bright, solder_dark, or auto.")]
Page = Annotated[int | None, typer.Option("--page", metavar="N", min=1, help="Page of a TIFF [default: the middle one]")]
Complete = Annotated[bool, typer.Option("--complete", help="Add the places of the grid that the list does not name.")]
Parts = Annotated[
    list[str],
    typer.Option("--part", metavar="NAME=RECIPE", help="Recipe of a part, by its reference or package.", show_default=False),
]
Clockwise = Annotated[bool, typer.Option("--clockwise", help="Rotations of the file count clockwise.")]
RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe file.", show_default=False)]
Drawing = Annotated[Path, typer.Option("--out", metavar="FILE", help="Drawing to write: .png or .svg.", show_default=False)]

recipe = typer.Typer(
    help="Make recipes from a good board's picture, CAD files or ball lists.", no_args_is_help=True, rich_markup_mode=None
)


@recipe.command("from-image")
def from_image(
    image: Image,
    out: Out,
    pitch_um: Pitch = None,
    pixel_um: Pixel = None,
    refdes: Refdes = None,
    interface: Side = "lower",
    a1: A1 = None,
    polarity: Polarity = "auto",
    page: Page = None,
    product: Product = None,
    fields: Fields = None,
    add: Add = False,
    replace: Replace = False,
) -> None:
    """Find the balls of an interface in one good board's picture, name them by JEDEC, and write the recipe.

    Needs the pitch or the pixel size. Leaves recipe.json, its joints' table, and recipe.png to check by eye: doubtful balls and
    empty places are marked there, and listed here.
    """
    from inspect_pop.recipes.draft import parse_choices
    from inspect_pop.recipes.draw import draw_array
    from inspect_pop.recipes.from_image import read_array, read_picture

    choices = parse_choices(interface, fields or ())
    picture = read_picture(image, page)
    found = read_array(picture, pitch_um=pitch_um, pixel_um=pixel_um, refdes=refdes or "U1", a1_corner=a1, polarity=polarity)
    written = _write(out, [found.draft], image, product, choices, add, replace)
    draw_array(out / "recipe.png", picture, found)
    say(f"{found.polarity}, {found.pixel_um:.4g} um a pixel, turned by {found.angle_deg:+.2f} degrees")
    _report(written)


@recipe.command("from-kicad")
def from_kicad(
    file: Source,
    out: Out,
    refdes: Refdes = None,
    interface: Side = "lower",
    product: Product = None,
    fields: Fields = None,
    add: Add = False,
    replace: Replace = False,
) -> None:
    """Read the arrays of a KiCad footprint (.kicad_mod) or board (.kicad_pcb)."""
    from inspect_pop.recipes.draft import parse_choices
    from inspect_pop.recipes.from_kicad import read_kicad

    choices = parse_choices(interface, fields or ())
    _finish(_write(out, read_kicad(file, refdes), file, product, choices, add, replace))


@recipe.command("from-ipc356")
def from_ipc356(
    file: Source,
    out: Out,
    refdes: Refdes = None,
    interface: Side = "lower",
    product: Product = None,
    fields: Fields = None,
    add: Add = False,
    replace: Replace = False,
) -> None:
    """Read the arrays of a netlist in IPC-D-356 or 356A."""
    from inspect_pop.recipes.draft import parse_choices
    from inspect_pop.recipes.from_ipc import read_ipc356

    choices = parse_choices(interface, fields or ())
    _finish(_write(out, read_ipc356(file, refdes), file, product, choices, add, replace))


@recipe.command("from-ipc2581")
def from_ipc2581(
    file: Source,
    out: Out,
    refdes: Refdes = None,
    interface: Side = "lower",
    product: Product = None,
    fields: Fields = None,
    add: Add = False,
    replace: Replace = False,
) -> None:
    """Read the arrays of a board in IPC-2581 (XML)."""
    from inspect_pop.recipes.draft import parse_choices
    from inspect_pop.recipes.from_ipc import read_ipc2581

    choices = parse_choices(interface, fields or ())
    _finish(_write(out, read_ipc2581(file, refdes), file, product, choices, add, replace))


@recipe.command("from-ball-list")
def from_ball_list(
    file: Source,
    out: Out,
    pitch_um: ListPitch,
    pitch_y_um: RowPitch = None,
    refdes: Refdes = None,
    interface: Side = "lower",
    complete: Complete = False,
    product: Product = None,
    fields: Fields = None,
    add: Add = False,
    replace: Replace = False,
) -> None:
    """Make an array from a list of ball names (CSV or XLSX) and its pitch."""
    from inspect_pop.recipes.draft import parse_choices
    from inspect_pop.recipes.from_lists import read_ball_list

    choices = parse_choices(interface, fields or ())
    draft = read_ball_list(file, pitch_um, pitch_y_um, refdes or "U1", complete=complete)
    _finish(_write(out, [draft], file, product, choices, add, replace))


@recipe.command("from-placement")
def from_placement(
    file: Source,
    out: Out,
    parts: Parts,
    clockwise: Clockwise = False,
    product: Product = None,
    add: Add = False,
    replace: Replace = False,
) -> None:
    """Join recipes of single parts with a placement file: each part of the board, turned as it is placed."""
    from inspect_pop.recipes.draft import write_recipe
    from inspect_pop.recipes.from_lists import join_placement, read_placement

    recipes = {}
    for text in parts:
        name, is_pair, path = text.partition("=")
        if not is_pair or not name or not path:
            raise UsageFault(f"--part {text}", expected="NAME=RECIPE, such as U3=u3/recipe.json")
        recipes[name] = Path(path)
    packages, missing = join_placement(read_placement(file), recipes, clockwise=clockwise)
    written = write_recipe(out, packages, product or file.stem, f"from-placement {file.name}", add=add, replace_old=replace)
    for line in missing:
        say(f"note: {line}")
    _finish(written)


@recipe.command("show")
def show(path: RecipePath, out: Drawing) -> None:
    """Draw a recipe: every ball with its name, all interfaces side by side, as PNG or SVG."""
    from inspect_pop.ingest.recipe_file import read_recipe
    from inspect_pop.recipes.draw import draw_recipe

    drawn = read_recipe(path, path.parent)
    draw_recipe(out, drawn)
    say(f"{pluralize(drawn.n_joints, 'joint')} in {out}")


def _write(
    out: Path,
    drafts: "Sequence[ArrayDraft]",
    source: Path,
    product: str | None,
    choices: object,
    add: bool,
    replace: bool,
) -> "WrittenRecipe":
    """Write the recipe of these arrays."""
    from inspect_pop.recipes.draft import Choices, build_package, write_recipe

    assert isinstance(choices, Choices)
    packages = [build_package(draft, choices) for draft in drafts]
    return write_recipe(out, packages, product or source.stem, source.name, add=add, replace_old=replace)


def _finish(written: "WrittenRecipe") -> None:
    """Draw a recipe beside itself and print what it holds."""
    from inspect_pop.recipes.draw import draw_recipe

    draw_recipe(written.path.with_suffix(".png"), written.recipe)
    _report(written)


def _report(written: "WrittenRecipe") -> None:
    """Print what a recipe holds, what was assumed and what should be checked."""

    for package in written.recipe.packages:
        for interface in package.interfaces:
            array = f"{pluralize(len(interface.ball), 'ball')}, pitch {interface.pitch_um:g} um"
            say(f"{package.refdes} {interface.name}: {array}, A1 {package.a1_corner}")
    for note in written.notes:
        say(f"note: {note}")
    if written.assumed:
        say(f"assumed, replace by --set: {', '.join(written.assumed)}")
    say(f"{written.path}; check {written.path.with_suffix('.png')} by eye")

"""`inspect-pop models`: which models there are, how they compare, which is in use, and the way back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from inspect_pop.cli.options import AsJson, ModelsDir

__all__ = ["models"]

models = typer.Typer(
    help="List, compare, promote and roll back the models of a folder.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="A model, by its folder's name.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.", show_default=False)]


@models.command("list")
def list_(folder: ModelsDir = Path("models"), as_json: AsJson = False) -> None:
    """All models with their version, and which is in use; one that is damaged says so."""
    import json

    from inspect_pop.evaluate.promotion import entries

    found = entries(folder)
    if as_json:
        typer.echo(json.dumps([entry.to_dict() for entry in found], indent=1))
        return
    for entry in found:
        about = f"{entry.card.version}, made {entry.card.created_at}" if entry.card else entry.fault
        typer.echo(f"{'*' if entry.current else ' '} {entry.name}: {about}")


@models.command()
def compare(first: Name, second: Name, folder: ModelsDir = Path("models"), as_json: AsJson = False) -> None:
    """The figures of two models side by side, and which is better at each."""
    import json

    from inspect_pop.evaluate.promotion import compare as compared

    rows = compared(folder, first, second)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    typer.echo(f"{'figure':<32}{first:>16}{second:>16}  better")
    for row in rows:
        typer.echo(f"{row['figure']:<32}{_figure(row['first']):>16}{_figure(row['second']):>16}  {row['better']}")


@models.command()
def promote(name: Name, reason: Reason, folder: ModelsDir = Path("models")) -> None:
    """Take a model into use; it is loaded first, and refused where it cannot be."""
    from inspect_pop.evaluate.promotion import promote as promoted

    typer.echo(f"in use: {promoted(folder, name, at=_now(), reason=reason).current}")


@models.command()
def rollback(reason: Reason, folder: ModelsDir = Path("models")) -> None:
    """Go back to the model that was in use before."""
    from inspect_pop.evaluate.promotion import rollback as rolled_back

    typer.echo(f"in use: {rolled_back(folder, at=_now(), reason=reason).current}")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

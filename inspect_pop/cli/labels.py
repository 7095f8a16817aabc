"""`inspect-pop labels`: labels from what people decided."""

from pathlib import Path
from typing import Annotated

import typer

from inspect_pop.cli.options import ExistingStore, pluralize

__all__ = ["labels"]

_MAX_NAMED = 20  # decisions that a message names

labels = typer.Typer(help="Make labels to train on.", no_args_is_help=True, rich_markup_mode=None)


@labels.callback()
def _group() -> None:
    """Keep `export` a command of its own while it is the only one."""


@labels.command("export")
def export_labels(
    store: ExistingStore,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The labels.csv to write.", show_default=False)],
) -> None:
    """Write what people decided as labels to train on.

    Only decisions that say what a joint is become labels. Joints that nobody decided are unknown, not good, and are left out.
    """
    from inspect_pop.core.text import escape_controls
    from inspect_pop.evaluate.decision_labels import collect_decision_labels, write_decision_labels
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        found = collect_decision_labels(opened)
    write_decision_labels(found, out)
    boards = len({(joint.serial, joint.inspected_at) for joint in found.labels})
    typer.echo(f"{pluralize(len(found.labels), 'label')} on {pluralize(boards, 'inspected board')}: {out}")
    if found.unclear:
        named = [escape_controls(text) for text in found.unclear[:_MAX_NAMED]]
        named += ["…"] if len(found.unclear) > _MAX_NAMED else []
        typer.echo(f"{pluralize(len(found.unclear), 'decided joint')} without a class, left out: {', '.join(named)}", err=True)

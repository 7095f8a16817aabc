"""`inspect-pop disagreements`: where the model and people disagree."""

import json
from typing import Annotated

import typer

from inspect_pop.cli.options import AsJson, ExistingStore, ModelDir, say

__all__ = ["disagreements"]

Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Most disagreements to list.")]


def disagreements(store: ExistingStore, model: ModelDir = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List where the model and people disagree, the most surprising joint first, and whether a new training may pay.

    Surprising is what the model held for least probable. Escapes are counted among the joints that passed and were drawn for
    people to look at, with an exact 95 % interval over boards.
    """
    from inspect_pop.classify.model import load
    from inspect_pop.evaluate.decision_labels import collect_decision_labels
    from inspect_pop.evaluate.disagreements import find_disagreements, forecast_training
    from inspect_pop.store import open_store

    current = load(model)
    with open_store(store, must_exist=True) as opened:
        found = collect_decision_labels(opened)
        report = find_disagreements(opened, found, forecast_training(found, current.card, current.folder))
    if as_json:
        typer.echo(json.dumps(report.to_dict(limit), indent=1))
        return
    for line in report.lines(limit):
        say(line)

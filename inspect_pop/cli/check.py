"""`inspect-pop check`: every fault of exports and labels at once; inspects nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from inspect_pop.cli.options import AsJson, BatchPaths, RootDir
from inspect_pop.core.errors import InputFault

if TYPE_CHECKING:
    from inspect_pop.core.recipe import Recipe

__all__ = ["check"]


def check(exports: BatchPaths, root: RootDir = None, as_json: AsJson = False) -> None:
    """Tell every fault of exports and their labels at once, inspecting nothing.

    Exit status 0 when all is clean, 1 when there are faults, 2 when there is nothing to check.
    """
    import json

    from inspect_pop.ingest import find_exports

    boards = find_exports(exports)
    faults = list(_faults(boards, exports, root))
    if as_json:
        found = [
            {"path": str(path), "about": f.about, "thing": f.thing, "expected": f.expected, "found": f.found, "remedy": f.remedy}
            for path, f in faults
        ]
        typer.echo(json.dumps({"boards": len(boards), "faults": found}, indent=1, ensure_ascii=False))
    else:
        for path, fault in faults:
            typer.echo(f"{path}: {fault}")
        typer.echo(f"{len(boards)} boards, {len(faults)} faults")
    raise typer.Exit(1 if faults else 0)


def _faults(boards: list[tuple[Path, Path]], exports: list[Path], root: Path | None) -> Iterator[tuple[Path, InputFault]]:
    from inspect_pop.ingest import board_labels, check_export, open_export
    from inspect_pop.ingest.labels import check_against, read_labels

    recipes: dict[str, Recipe] = {}
    for path, batch in boards:
        inside = root or batch
        faults = check_export(path, inside)
        yield from ((path, fault) for fault in faults)
        if not faults:
            export = open_export(path, inside)
            recipes[export.serial] = export.recipe
    for labels in board_labels(exports):
        try:
            check_against(read_labels(labels), recipes)
        except InputFault as fault:
            yield labels, fault

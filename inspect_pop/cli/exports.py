"""`inspect-pop check`: validate exports and labels; `inspect-pop simulate`: make labelled boards with known truth."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import (
    AsJson,
    BatchPaths,
    JobsOption,
    RootDir,
    describe_quarantined,
    pluralize,
    print_passed_over,
    say,
)
from inspect_pop.core.errors import InputFault, LabelsFault

if TYPE_CHECKING:
    from inspect_pop.ingest import BoardExport

__all__ = ["check", "simulate"]

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="New or empty folder for the batch.", show_default=False)]
Boards = Annotated[int, typer.Option("--boards", metavar="N", min=1, help="Number of boards.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="Seed; the same seed makes the same batch, byte for byte.")]
Machine = Annotated[str, typer.Option("--machine", metavar="NAME", help="Machine that takes the pictures, or `random`.")]
Product = Annotated[str, typer.Option("--product", metavar="NAME", help="Product, or `random`.")]
Cause = Annotated[str, typer.Option("--cause", metavar="NAME", help="Process cause, or `random` (mostly none).")]

GrossShare = Annotated[
    float,
    typer.Option("--gross", metavar="SHARE", min=0, max=1, help="Share of joints with defects that anybody would see."),
]


def check(exports: BatchPaths, root: RootDir = None, as_json: AsJson = False) -> None:
    """Report every fault of exports and their labels at once, without inspecting anything.

    Exit status 0 when all is clean, 1 when there are faults, 2 when there is nothing to check.
    """
    import json

    from inspect_pop.ingest import check_export, find_exports, find_labels, open_export

    boards = find_exports(exports)
    faults: list[tuple[Path, InputFault]] = []
    opened: list[BoardExport] = []
    for path, batch in boards:
        board_faults = check_export(path, root or batch)
        faults += [(path, fault) for fault in board_faults]
        if not board_faults:
            opened.append(open_export(path, root or batch))
    # The serial of a board that cannot be opened is by custom the name of its folder.
    refused = [path.name for path, _ in boards if path not in {export.path for export in opened}]
    label_faults, notes = _check_labels(exports, find_labels(exports), opened, refused)
    faults += label_faults
    print_passed_over(exports)
    if as_json:
        rows = [
            {"path": str(path), "about": f.about, "thing": f.thing, "expected": f.expected, "found": f.found, "remedy": f.remedy}
            for path, f in faults
        ]
        typer.echo(json.dumps({"boards": len(boards), "faults": rows, "notes": notes}, indent=1, ensure_ascii=False))
    else:
        for note in notes:
            say(note)
        for path, f in faults:
            say(describe_quarantined(path, str(f)))
        say(f"{pluralize(len(boards), 'board')}, {pluralize(len(faults), 'fault')}")
    raise typer.Exit(1 if faults else 0)


def _check_labels(
    paths: Sequence[Path], files: Sequence[Path], exports: Sequence["BoardExport"], refused: Sequence[str]
) -> tuple[list[tuple[Path, InputFault]], list[str]]:
    """Return the faults of label files, and notes on boards without labels and labels without boards.

    `refused` are the serials of boards that cannot be opened.
    """
    from inspect_pop.evaluate.label_book import read_book
    from inspect_pop.evaluate.label_match import describe_unmatched, match_inspections
    from inspect_pop.ingest.labels import check_labels, read_labels

    recipes = {export.serial: export.recipe for export in exports}
    faults: list[tuple[Path, InputFault]] = []
    for labels in files:
        try:
            check_labels(read_labels(labels), recipes)
        except InputFault as fault:
            faults.append((labels, fault))
    if faults or not files:
        return faults, []
    try:
        book = read_book(paths, recipes)
    except InputFault as fault:
        return [(files[0], fault)], []
    unclear = match_inspections(book, exports).unclear
    faults = [(files[0], LabelsFault("labels", expected="one inspection per label", found=line)) for line in unclear]
    return faults, describe_unmatched([*(export.serial for export in exports), *refused], book.serials)


def simulate(
    out: Out,
    boards: Boards,
    seed: Seed = 0,
    machine: Machine = "line_a",
    product: Product = "tst4",
    cause: Cause = "random",
    gross: GrossShare = 0.0,
    jobs: JobsOption = 0,
) -> None:
    """Simulate labelled boards in the export format.

    Leaves recipes/, boards/ and labels.csv, and the truth in truth.csv and truth_boards.csv. An unknown machine, product or
    cause is refused with a list of those that exist.
    """
    from inspect_pop.batch.run import count_cores
    from inspect_pop.simulate.write_batch import simulate_batch

    with _show_progress() as progress:
        simulate_batch(
            out,
            boards,
            seed,
            machine=machine,
            product=product,
            cause=cause,
            gross_share=gross,
            jobs=jobs or count_cores(),
            progress=progress,
        )
    say(f"{pluralize(boards, 'board')} in {out}")


@contextmanager
def _show_progress() -> Iterator[Callable[[int, int], None] | None]:
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task("boards", total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)

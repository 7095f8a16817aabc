"""`inspect-pop check`, `simulate`, `convert` and `labels`: batches of boards, and their labels."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import (
    AsJson,
    BatchPaths,
    ExistingStore,
    JobsOption,
    RootDir,
    describe_quarantined,
    pluralize,
    print_passed_over,
    say,
)
from inspect_pop.core.errors import InputFault, LabelsFault, UsageFault

if TYPE_CHECKING:
    from inspect_pop.convert.batch import Outcome
    from inspect_pop.ingest import BoardExport

__all__ = ["check", "convert", "labels", "simulate"]

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
    from inspect_pop.evaluate.label_book import describe_unmatched, match_inspections, read_book
    from inspect_pop.ingest.pop_export import check_labels, read_labels

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
    from inspect_pop.simulate.board import simulate_batch

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


# `inspect-pop convert`: boards in the export format from a machine's own files.


Sources = Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Folders of a machine's boards.", show_default=False)]
MapFile = Annotated[Path | None, typer.Option("--map", metavar="FILE", help="TOML file that says where things are.")]
BatchOut = Annotated[Path | None, typer.Option("--out", metavar="BATCH", help="Folder of the batch (created if missing).")]
Probe = Annotated[bool, typer.Option("--probe", help="Look at SOURCE and print a first map to complete; write nothing.")]


def convert(sources: Sources, map_file: MapFile = None, out: BatchOut = None, probe: Probe = False, jobs: JobsOption = 1) -> None:
    """Make boards in the export format from a machine's own files.

    A map (TOML) says where pictures, volumes and height maps lie; what it leaves out is found from the balls and listed under
    `assumed` in export.json and in the record. Boards that cannot be converted are listed in BATCH/quarantine.csv.

    Exit status 0 when all boards are converted, 1 when some are not, 2 for unusable arguments or nothing found.
    """
    if probe:
        from inspect_pop.convert.batch import probe_source

        for source in sources:
            for line in probe_source(source).split("\n"):
                say(line)
        return
    if map_file is None or out is None:
        raise UsageFault("convert", expected="--map FILE and --out BATCH, or --probe", remedy="--probe writes a first map.")
    from inspect_pop.convert.batch import convert_batch
    from inspect_pop.core.system import write_text
    from inspect_pop.core.text import escape_controls, format_csv

    if jobs == 0:
        from inspect_pop.batch.run import count_cores

        jobs = count_cores()
    outcomes = convert_batch(sources, map_file, out, jobs=jobs, progress=_report)
    failed = [outcome for outcome in outcomes if outcome.folder is None]
    if failed:
        rows = [(escape_controls(str(outcome.path)), escape_controls(outcome.reason)) for outcome in failed]
        write_text(out / "quarantine.csv", format_csv(("path", "reason"), rows))
    else:
        (out / "quarantine.csv").unlink(missing_ok=True)
    skipped = sum(outcome.skipped for outcome in outcomes)
    done = len(outcomes) - len(failed) - skipped
    more = [f"{skipped} there already"] if skipped else []
    more += [f"{len(failed)} not (see {out / 'quarantine.csv'})"] if failed else []
    say(f"{pluralize(done, 'board')} converted into {out}{''.join(', ' + text for text in more)}")
    raise typer.Exit(1 if failed else 0)


def _report(outcome: "Outcome") -> None:
    """Print what became of a board, with what was assumed of it."""
    if outcome.folder is None:
        say(describe_quarantined(outcome.path, outcome.reason), err=True)
        return
    if not outcome.skipped:
        say(describe_quarantined(outcome.folder, "; ".join(("converted", *outcome.assumed))))


# `inspect-pop labels`: labels from what people decided, and from other tools.


_MAX_NAMED = 20  # decisions or boxes that a message names

File = Annotated[Path, typer.Argument(metavar="FILE", help="What the tool exported; a folder for YOLO.", show_default=False)]
Format = Annotated[
    str, typer.Option("--format", metavar="NAME", help="coco, cvat, label-studio, yolo or labelme.", show_default=False)
]
Batch = Annotated[
    list[Path], typer.Option("--batch", metavar="BATCH", help="Exports of the labelled boards.", show_default=False)
]
LabelsOut = Annotated[Path, typer.Option("--out", metavar="FILE", help="labels.csv to write.", show_default=False)]
Classes = Annotated[Path | None, typer.Option("--classes", metavar="FILE", help="Table of class names: columns theirs,ours.")]
Unlabelled = Annotated[
    str,
    typer.Option("--unlabelled", metavar="WHAT", help="What a joint without a box is on a labelled picture: unknown or good."),
]
By = Annotated[str, typer.Option("--labelled-by", metavar="NAME", help="Who labelled.")]

labels = typer.Typer(help="Make labels to train on.", no_args_is_help=True, rich_markup_mode=None)


@labels.command("import")
def import_labels(
    file: File,
    form: Format,
    batch: Batch,
    out: LabelsOut,
    classes: Classes = None,
    unlabelled: Unlabelled = "unknown",
    labelled_by: By = "",
) -> None:
    """Map labelled boxes to joints, and list what could not be mapped.

    A picture's name must hold its board's serial, and lower or upper. Leaves labels.csv and, beside it, FILE.unmapped.csv.

    Exit status 0 when all was mapped, 1 when something was not, 2 when nothing can be used.
    """
    from inspect_pop.core.errors import UsageFault
    from inspect_pop.evaluate.label_import import import_boxes, read_boxes, read_class_table, write_labels
    from inspect_pop.ingest import find_exports, open_export

    pictures = read_boxes(file, form)
    if not pictures:
        raise UsageFault(str(file), expected="labelled pictures", found="none")
    table = None if classes is None else read_class_table(classes)
    exports = [open_export(path, root) for path, root in find_exports(batch)]
    imported = import_boxes(pictures, exports, classes=table, unlabelled=unlabelled)
    left = write_labels(out, imported, form, labelled_by)
    for (theirs, ours), number in sorted(imported.words.items()):
        say(f"{theirs}: {ours}, {pluralize(number, 'box')}")
    for item in imported.unmapped[:_MAX_NAMED]:
        say(f"not mapped: {item.picture}: {item.label} {item.box}: {item.reason}")
    say(f"{pluralize(len(imported.joints), 'label')} in {out}; {len(imported.unmapped)} not mapped, in {left}")
    raise typer.Exit(1 if imported.unmapped else 0)


@labels.command("export")
def export_labels(
    store: ExistingStore,
    out: LabelsOut,
) -> None:
    """Write what people decided as labels to train on.

    Only decisions that say what a joint is become labels. Joints that nobody decided are unknown, not good, and are left out.
    """
    from inspect_pop.evaluate.decision_labels import collect_decision_labels, write_decision_labels
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        found = collect_decision_labels(opened)
    write_decision_labels(found, out)
    boards = len({joint.record for joint in found.labels})
    say(f"{pluralize(len(found.labels), 'label')} on {pluralize(boards, 'inspected board')}: {out}")
    if found.labels:
        say(found.describe_bias(), err=True)
    if found.unclear:
        named = list(found.unclear[:_MAX_NAMED])
        named += ["…"] if len(found.unclear) > _MAX_NAMED else []
        say(f"{pluralize(len(found.unclear), 'decided joint')} without a class, left out: {', '.join(named)}", err=True)

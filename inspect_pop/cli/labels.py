"""`inspect-pop labels`: labels from what people decided, and from other tools."""

from pathlib import Path
from typing import Annotated

import typer

from inspect_pop.cli.options import ExistingStore, pluralize, say

__all__ = ["labels"]

_MAX_NAMED = 20  # decisions or boxes that a message names

File = Annotated[Path, typer.Argument(metavar="FILE", help="What the tool exported; a folder for YOLO.", show_default=False)]
Format = Annotated[
    str, typer.Option("--format", metavar="NAME", help="coco, cvat, label-studio, yolo or labelme.", show_default=False)
]
Batch = Annotated[
    list[Path], typer.Option("--batch", metavar="BATCH", help="Exports of the labelled boards.", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="labels.csv to write.", show_default=False)]
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
    out: Out,
    classes: Classes = None,
    unlabelled: Unlabelled = "unknown",
    labelled_by: By = "",
) -> None:
    """Map labelled boxes to joints, and list what could not be mapped.

    A picture's name must hold its board's serial, and lower or upper. Leaves labels.csv and, beside it, FILE.unmapped.csv.

    Exit status 0 when all was mapped, 1 when something was not, 2 when nothing can be used.
    """
    from inspect_pop.core.errors import UsageFault
    from inspect_pop.evaluate.label_formats import read_boxes
    from inspect_pop.evaluate.label_import import import_boxes, read_class_table, write_labels
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
    out: Out,
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

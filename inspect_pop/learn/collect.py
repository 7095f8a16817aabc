"""From labelled batches to samples: every board prepared as the line prepares it, every labelled joint with its label.

Beside `labels.csv` a simulated batch holds `truth.csv`, which knows more (`variety`, `volume_ratio`, `gap_um`, `web_um`);
what it knows steers training, what it does not is NaN.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.errors import InputFault, LabelsFault
from inspect_pop.ingest import board_labels, find_exports, open_export
from inspect_pop.ingest.contract import BoardExport
from inspect_pop.joints import CLASSES, KEY
from inspect_pop.learn.boards import each_board
from inspect_pop.learn.labels import LabelBook, LabelReport, read_book, report_on
from inspect_pop.learn.samples import Samples, SampleWriter, concat, empty, load
from inspect_pop.limits import Limits
from inspect_pop.prepare import PreparedBoard, prepare_board
from inspect_pop.recipe import Recipe

__all__ = ["Collected", "collect", "recipes_of", "samples_of_board", "truths_of"]

TRUTH = "truth.csv"
_MEASURED = ("volume_ratio", "web_um", "gap_um")
Truth = dict[tuple[str, str, str, str], dict[str, str]]


@dataclass(frozen=True)
class Collected:
    """Labelled joints in `folder`, and what to know about the labels."""

    samples: Samples
    report: LabelReport
    folder: Path


def collect(
    paths: Sequence[Path],
    into: Path,
    *,
    limits: Limits | None = None,
    processes: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Collected:
    """Prepare all labelled boards in and under `paths` and keep their joints in the folder `into`.

    Raises
    ------
    LabelsFault
        No labels, labels that are not as the format says or contradict one another, or none of a joint that can be seen.
    UsageFault
        A path that is not there, or no board.
    """
    recipes, aside = recipes_of(find_exports(paths))
    book, truth = read_book(paths, recipes), truths_of(paths)
    work = _Prepare(limits or Limits())
    seen: dict[str, None] = {}
    count = 0
    with SampleWriter(into) as writer:
        for board in each_board(paths, work, processes=processes, progress=progress, doing="reading board"):
            if board.result is None:
                aside.setdefault(str(board.path), board.fault)
                continue
            labelled = _with_labels(board.result, book, truth)
            seen |= dict.fromkeys(board.result.boards)
            count += len(labelled)
            writer.append(labelled)
    there = dict.fromkeys([*recipes, *seen])
    wanted = sum(len(book.of_board(serial)) for serial in there)
    report = report_on(book, there, put_aside=sorted(aside.items()), not_seen=max(0, wanted - count))
    samples = load(into)
    if len(samples) == 0:
        found = "; ".join(report.lines())
        raise LabelsFault("labelled boards", expected="labelled joints with X-ray slices", found=found)
    return Collected(samples, report, into)


def samples_of_board(prepared: PreparedBoard) -> Samples:
    """Every joint of a prepared board that has slices, without labels (`label` and `variety` -1, measurements NaN)."""
    parts = [
        _unlabelled(prepared.export, package.package.refdes, part.interface.name, part.interface.ball, part.inputs)
        for package in prepared.packages
        for part in package.interfaces
        if part.inputs is not None
    ]
    return concat(parts)


@dataclass(frozen=True)
class _Prepare:
    """The work on one board, importable by other processes."""

    limits: Limits

    def __call__(self, board: Path, root: Path) -> Samples:
        return samples_of_board(prepare_board(open_export(board, root), self.limits))


def _unlabelled(export: BoardExport, refdes: str, interface: str, ball: tuple[str, ...], inputs: JointInputs) -> Samples:
    n = len(ball)
    unknown = np.full(n, np.nan, np.float32)
    return Samples(
        images=inputs.images.astype(np.float16),
        scalars=inputs.scalars,
        label=np.full(n, -1, np.int8),
        variety=np.full(n, -1, np.int16),
        volume_ratio=unknown,
        web_um=unknown,
        gap_um=unknown,
        board=np.zeros(n, np.int32),
        machine=np.full(n, export.machine),
        refdes=np.full(n, refdes),
        interface=np.full(n, interface),
        ball=np.asarray(ball, dtype=np.str_),
        weight=np.ones(n, np.float32),
        boards=(export.serial,),
    )


def _with_labels(samples: Samples, book: LabelBook, truth: Truth) -> Samples:
    """The labelled ones among the joints of one board, with label and truth."""
    if len(samples) == 0:
        return empty()
    serial = samples.boards[0]
    given = book.of_board(serial)
    keys = list(zip(samples.refdes.tolist(), samples.interface.tolist(), samples.ball.tolist(), strict=True))
    label = np.array([CLASSES.index(given[key]) if key in given else -1 for key in keys], np.int8)
    kept = np.flatnonzero(label >= 0)
    known = [truth.get((serial, *keys[k]), {}) for k in kept]
    varieties = tuple(sorted({row["variety"] for row in known if row.get("variety")}))
    where = {name: k for k, name in enumerate(varieties)}
    return samples.take(kept).replace(
        label=label[kept],
        variety=np.array([where.get(row.get("variety", ""), -1) for row in known], np.int16),
        varieties=varieties,
        **{name: _numbers(known, name) for name in _MEASURED},
    )


def _numbers(rows: Sequence[Mapping[str, str]], name: str) -> NDArray[np.float32]:
    return np.array([float(row.get(name) or "nan") for row in rows], np.float32)


def recipes_of(boards: Iterable[tuple[Path, Path]]) -> tuple[dict[str, Recipe], dict[str, str]]:
    """Recipes of boards (path, root) by serial, and why boards cannot be opened by path."""
    recipes: dict[str, Recipe] = {}
    aside: dict[str, str] = {}
    for board, root in boards:
        try:
            export = open_export(board, root)
            recipes[export.serial] = export.recipe
        except InputFault as fault:
            aside[str(board)] = str(fault)
    return recipes, aside


def truths_of(paths: Sequence[Path]) -> Truth:
    """What simulators know of joints, by (serial, refdes, interface, ball). Raises `LabelsFault` where columns are missing."""
    found: Truth = {}
    for labels in board_labels(paths):
        path = labels.with_name(TRUTH)
        if path.is_file():
            found |= _truth(path)
    return found


def _truth(path: Path) -> Truth:
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        missing = sorted({*KEY, *_MEASURED, "variety"} - set(table.fieldnames or ()))
        if missing:
            raise LabelsFault(
                str(path), expected=f"the columns {', '.join((*KEY, 'variety', *_MEASURED))}", found=f"no {missing}"
            )
        return {(row["serial"], row["refdes"], row["interface"], row["ball"]): row for row in table}

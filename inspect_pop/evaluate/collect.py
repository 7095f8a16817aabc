"""Collect samples and pictures' figures from boards.

A simulated batch holds `truth.csv` beside `labels.csv`, which knows more (`variety`, `volume_ratio`, `gap_um`, `web_um`).
What it knows steers training; what it does not know is NaN.

A simulated training set is made without files in between. Its configuration (`datasets/configs/*.toml`) names groups of
boards with machine, product, number, defect rate and seed; the same configuration gives the same set.

`each_board` does the same work on every board of some batches, in one process or several.
"""

import csv
import hashlib
import json
import multiprocessing
import os
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.model import Card, LearntPicture
from inspect_pop.classify.model import load as load_model
from inspect_pop.core import system
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.columns import KEY
from inspect_pop.core.errors import InputFault, LabelsFault, LimitsFault, UsageFault, describe_error
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.label_book import BoardLabels, LabelReport, match_inspections, read_book, report_labels
from inspect_pop.evaluate.samples import Samples, SampleWriter, concat, empty, load
from inspect_pop.ingest import Source, find_exports, find_labels, open_export
from inspect_pop.ingest.contract import BoardExport, HeightMapSource, SliceSource
from inspect_pop.pipeline.board import MeasuredBoard, measure_board
from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.catalog import draw_machine, draw_recipe, find_machine, find_recipe

__all__ = [
    "MARGINS",
    "BoardGroup",
    "BoardResult",
    "CollectedSet",
    "DatasetConfig",
    "collect",
    "each_board",
    "extract_samples",
    "learn_pictures",
    "load_dataset_config",
    "make_dataset",
    "make_simulated_export",
    "measure_pictures",
    "open_exports",
    "read_truth",
    "widen_ranges",
    "write_pictures",
]

TRUTH = "truth.csv"
Truth = dict[tuple[str, str, str, str], dict[str, str]]
Result = TypeVar("Result")
Job = TypeVar("Job")
Progress = Callable[[str], None]
# Numbers that a simulator knows of a joint and a label does not say: the network's regression targets.
_TARGETS = ("volume_ratio", "web_um", "gap_um")
# A machine may hand over no height map, or only one of the two: the share of a set's maps that are left out.
_MISSING_MAP_SHARE = 0.12


@dataclass(frozen=True)
class BoardResult(Generic[Result]):
    """The result of the work on a board, or the fault that put it aside."""

    path: Path
    result: Result | None
    fault: str = ""


@dataclass(frozen=True)
class CollectedSet:
    """Labelled joints in `folder`, and the report on their labels."""

    samples: Samples
    report: LabelReport
    folder: Path


class BoardGroup(BaseModel):
    """Boards that have something in common. `machine` and `product` may be `random`: drawn for each board."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine: str
    product: str
    boards: int = Field(ge=1)
    defect_rate: float = Field(gt=0, lt=1)
    gross_share: float = Field(default=0.0, ge=0, le=1)
    seed: int = Field(ge=0)


class DatasetConfig(BaseModel):
    """A simulated set of samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    groups: tuple[BoardGroup, ...]

    @property
    def digest(self) -> str:
        """The sha256 over all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_dataset_config(path: Path) -> DatasetConfig:
    """Read a set's configuration from TOML. Raises `LimitsFault` for one that cannot be read or has an unknown key."""
    try:
        return DatasetConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="the configuration of a simulated set", found=describe_error(error)) from error


def each_board(
    paths: Sequence[Source],
    work: Callable[[Path, Path], Result],
    *,
    processes: int = 1,
    progress: Progress = lambda _: None,
    doing: str = "board",
    only: Collection[Path] | None = None,
) -> Iterator[BoardResult[Result]]:
    """Yield the results of `work(board, root)` in the order of the boards' paths.

    Parameters
    ----------
    work
        Must be importable if there are several processes. An `InputFault` puts its board aside; any other error ends the
        work.
    processes
        0 for one per core.
    only
        The boards to work on; None for all.

    Raises
    ------
    UsageFault
        There is no board.
    """
    boards = [pair for pair in find_exports(paths) if only is None or pair[0] in only]
    for k, outcome in enumerate(_map_processes(_BoardWork(work), boards, processes)):
        progress(f"{doing} {k + 1} of {len(boards)}: {boards[k][0].name}{' (put aside)' if outcome.fault else ''}")
        yield outcome


def collect(
    paths: Sequence[Source],
    into: Path,
    *,
    limits: Limits | None = None,
    processes: int = 1,
    progress: Progress = lambda _: None,
) -> CollectedSet:
    """Prepare all labelled boards in and under `paths` and write their labelled joints to the folder `into`.

    Raises
    ------
    LabelsFault
        There are no labels, labels do not follow the format or contradict one another, or no labelled joint has slices.
    UsageFault
        A path does not exist, or there is no board.
    """
    exports, faults = open_exports(find_exports(paths))
    recipes = {export.serial: export.recipe for export in exports.values()}
    book, truth = read_book(paths, recipes), read_truth(paths)
    matched = match_inspections(book, exports.values())
    work = _ExtractBoard(limits or Limits())
    read: dict[str, None] = {}
    count = 0
    with SampleWriter(into) as writer:
        for board in each_board(paths, work, processes=processes, progress=progress, doing="reading board"):
            if board.result is None:
                faults.setdefault(str(board.path), board.fault)
                continue
            export = exports.get(board.path)
            given = matched.by_path.get(export.path, {}) if export else book.of_board(board.result.boards[0])
            labelled = _add_labels(board.result, given, truth, matched.weights.get(export.path if export else board.path, {}))
            read |= dict.fromkeys(board.result.boards)
            count += len(labelled)
            writer.append(labelled)
    serials = dict.fromkeys([*recipes, *read])
    wanted = sum(map(len, matched.by_path.values()))
    report = report_labels(
        book, serials, put_aside=sorted(faults.items()), not_visible=max(0, wanted - count), unclear=matched.unclear
    )
    samples = load(into)
    if len(samples) == 0:
        raise LabelsFault("labelled boards", expected="labelled joints with X-ray slices", found="; ".join(report.lines()))
    return CollectedSet(samples, report, into)


def extract_samples(prepared: MeasuredBoard) -> Samples:
    """Return every joint of a prepared board that has slices, without labels (`label`, `variety` -1, measurements NaN)."""
    export = prepared.export
    parts = []
    for package in prepared.packages:
        for part in package.interfaces:
            if part.inputs is None:
                continue
            n = len(part.interface.ball)
            unknown = np.full(n, np.nan, np.float32)
            samples = Samples(
                images=part.inputs.images.astype(np.float16),
                scalars=part.inputs.scalars,
                label=np.full(n, -1, np.int8),
                variety=np.full(n, -1, np.int16),
                volume_ratio=unknown,
                web_um=unknown,
                gap_um=unknown,
                board=np.zeros(n, np.int32),
                machine=np.full(n, export.machine),
                refdes=np.full(n, package.package.refdes),
                interface=np.full(n, part.interface.name),
                ball=np.asarray(part.interface.ball, dtype=np.str_),
                weight=np.ones(n, np.float32),
                boards=(export.serial,),
            )
            parts.append(samples)
    return concat(parts)


def open_exports(boards: Iterable[tuple[Path, Path]]) -> tuple[dict[Path, BoardExport], dict[str, str]]:
    """Open boards (path, root): return them by path, and by path why others cannot be opened."""
    exports: dict[Path, BoardExport] = {}
    faults: dict[str, str] = {}
    for board, root in boards:
        try:
            exports[board] = open_export(board, root)
        except InputFault as fault:
            faults[str(board)] = str(fault)
    return exports, faults


def read_truth(paths: Sequence[Source]) -> Truth:
    """Read what simulators know of joints, by (serial, refdes, interface, ball).

    Raises `LabelsFault` if a `truth.csv` lacks columns.
    """
    truth: Truth = {}
    for labels in find_labels(paths):
        path = labels.with_name(TRUTH)
        if not path.is_file():
            continue
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            missing = sorted({*KEY, *_TARGETS, "variety"} - set(table.fieldnames or ()))
            if missing:
                columns = ", ".join((*KEY, "variety", *_TARGETS))
                raise LabelsFault(str(path), expected=f"the columns {columns}", found=f"no {missing}")
            truth |= {(row["serial"], row["refdes"], row["interface"], row["ball"]): row for row in table}
    return truth


def make_dataset(config: DatasetConfig, into: Path, *, processes: int = 1, progress: Progress = lambda _: None) -> Samples:
    """Simulate and prepare all boards of a configuration; the set in `into` is the same for any number of processes."""
    jobs = [(group, k) for group in config.groups for k in range(group.boards)]
    with SampleWriter(into) as writer:
        for done, samples in enumerate(_map_processes(_simulate_samples, jobs, processes), start=1):
            writer.append(samples)
            progress(f"board {done} of {len(jobs)}")
    return load(into)


def make_simulated_export(board: SimulatedBoard, serial: str) -> BoardExport:
    """Return a simulated board as a reader hands it over, its pictures in memory."""
    slices = [SliceSource(s.refdes, s.interface, Path(), lambda s=s: s) for s in board.stacks]  # type: ignore[misc]
    maps = [HeightMapSource(h.refdes, h.stage, Path(), lambda h=h: h) for h in board.heights]  # type: ignore[misc]
    return BoardExport(
        path=Path(),
        serial=serial,
        panel=None,
        position=None,
        product=board.recipe.product,
        lot=None,
        work_order=None,
        line=board.machine.line,
        station=board.machine.station,
        operator=None,
        inspected_at="2026-01-01T00:00:00+00:00",
        recipe=board.recipe,
        images=(*slices, *maps),
        digest=hashlib.sha256(serial.encode()).hexdigest(),
    )


def _simulate_samples(job: tuple[BoardGroup, int]) -> Samples:
    """Simulate one board of a group and return its samples with the truth; importable by other processes."""
    group, number = job
    random = np.random.default_rng([group.seed, number])
    machine = draw_machine(random) if group.machine == "random" else find_machine(group.machine)
    product = draw_recipe(random) if group.product == "random" else find_recipe(group.product)
    board = simulate_board(random, product, machine, defect_rate=group.defect_rate, gross_share=group.gross_share)
    heights = tuple(h for h in board.heights if random.random() > _MISSING_MAP_SHARE)
    export = make_simulated_export(replace(board, heights=heights), f"SIM-{group.seed}-{number}")
    try:
        samples = extract_samples(measure_board(export, Limits()))
    except InputFault:  # a machine so bad that the package is not found in its pictures teaches nothing
        return empty()
    truth = board.truth
    row = {key: k for k, key in enumerate(zip(truth["refdes"], truth["interface"], truth["ball"], strict=True))}
    index = np.array([row[key] for key in zip(samples.refdes, samples.interface, samples.ball, strict=True)], np.int64)
    names, variety = np.unique(truth["variety"][index].astype(np.str_), return_inverse=True)
    return samples.replace(
        label=np.array([CLASSES.index(name) for name in truth["label"][index]], np.int8),
        variety=variety.astype(np.int16),
        varieties=tuple(str(name) for name in names),
        machine=np.full(len(index), group.machine),
        **{name: truth[name][index].astype(np.float32) for name in _TARGETS},
    )


def _add_labels(samples: Samples, given: BoardLabels, truth: Truth, weights: Mapping[tuple[str, str, str], float]) -> Samples:
    """Return the labelled joints of one board, with label, truth and how many joints each stands for."""
    if len(samples) == 0:
        return empty()
    serial = samples.boards[0]
    keys = list(zip(samples.refdes.tolist(), samples.interface.tolist(), samples.ball.tolist(), strict=True))
    label = np.array([CLASSES.index(given[key]) if key in given else -1 for key in keys], np.int8)
    labelled = np.flatnonzero(label >= 0)
    known = [truth.get((serial, *keys[k]), {}) for k in labelled]
    varieties = tuple(sorted({row["variety"] for row in known if row.get("variety")}))
    number = {name: k for k, name in enumerate(varieties)}
    return samples.take(labelled).replace(
        label=label[labelled],
        variety=np.array([number.get(row.get("variety", ""), -1) for row in known], np.int16),
        varieties=varieties,
        weight=np.array([weights.get(keys[k], 1.0) for k in labelled], np.float32),
        **{name: np.array([float(row.get(name) or "nan") for row in known], np.float32) for name in _TARGETS},
    )


@dataclass(frozen=True)
class _ExtractBoard:
    """`extract_samples` on a board's export, importable by other processes."""

    limits: Limits

    def __call__(self, board: Path, root: Path) -> Samples:
        return extract_samples(measure_board(open_export(board, root), self.limits))


@dataclass(frozen=True)
class _BoardWork(Generic[Result]):
    """The work of `each_board` on one board, importable by other processes."""

    work: Callable[[Path, Path], Result]

    def __call__(self, board: tuple[Path, Path]) -> BoardResult[Result]:
        try:
            return BoardResult(board[0], self.work(*board))
        except InputFault as fault:
            return BoardResult(board[0], None, str(fault))


def _map_processes(work: Callable[[Job], Result], jobs: Sequence[Job], processes: int) -> Iterator[Result]:
    """Yield `work(job)` in order, from this many processes (0: one per core)."""
    processes = min(processes or os.cpu_count() or 1, len(jobs))
    if processes <= 1:
        yield from map(work, jobs)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread per process: more would compete for the same cores
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, jobs)


# Learn what a machine's pictures are like: the range of each figure that counts as known, per machine.
#
# The ranges go into the model's card (`classify.model.LearntPicture`); its networks stay as they are.


# What a range is widened by on either side, as (share of the value, least): what one machine's boards of two makers differ by.
MARGINS: Mapping[str, tuple[float, float]] = {
    "sharpness": (0.12, 0.0),
    "noise": (0.5, 0.0005),
    "grain": (0.25, 0.03),
    "ball_profile": (0.03, 0.01),
    "fringe": (0.0, 0.1),
    "core_spread": (0.3, 0.02),
    "background_spread": (0.3, 0.03),
    "contrast": (0.12, 0.01),
    "levels": (0.3, 0.0),
}
_SPREAD = 0.3  # of the range itself, on either side: few boards do not show all of it
Figures = dict[tuple[str, str], list[dict[str, float]]]


def measure_pictures(batches: Sequence[Path], limits: Limits) -> Figures:
    """Return the figures of all interfaces of the boards, by machine and method. Raises `InputFault` for a faulty board."""
    found: Figures = {}
    for board in find_exports(list(batches)):
        export = open_export(*board)
        parts = [part for package in measure_board(export, limits).packages for part in package.interfaces if part.picture]
        for part in parts:
            found.setdefault((export.machine, part.method), []).append(dict(part.picture))
    return found


def widen_ranges(figures: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the lowest and the highest value of each figure that counts as known, by `MARGINS`."""
    low, high = {}, {}
    for name, (share, least) in MARGINS.items():
        values = np.array([f[name] for f in figures if np.isfinite(f[name])])
        if not len(values):
            continue
        first, last = float(values.min()), float(values.max())
        spread = _SPREAD * (last - first)
        low[name] = float(f"{first - spread - max(share * abs(first), least):.4g}")
        high[name] = float(f"{last + spread + max(share * abs(last), least):.4g}")
    return low, high


def learn_pictures(batches: Sequence[Path], source: str, limits: Limits | None = None) -> list[LearntPicture]:
    """Return what each machine's pictures in these boards are like. `source` names the boards in the card."""
    ranges = {key: widen_ranges(figures) for key, figures in measure_pictures(batches, limits or Limits()).items()}
    return [
        LearntPicture(machine=machine, method=method, source=source, low=low, high=high)
        for (machine, method), (low, high) in ranges.items()
    ]


def write_pictures(folder: Path, learnt: Sequence[LearntPicture]) -> Card:
    """Write what was learnt into the card of a model folder, in place of what it said before; return the new card.

    The model gets another digest, as every change of what decides does. Raises `UsageFault` without pictures.
    """
    if not learnt:
        raise UsageFault("batches", expected="boards with X-ray slices", found="none", remedy="Name batches with such boards.")
    card = load_model(folder).card.model_copy(update={"pictures": tuple(learnt)})
    text = json.dumps(card.model_dump(by_alias=True, mode="json"), indent=1, ensure_ascii=False)
    system.write_text(folder / "card.json", text)
    return card

"""From labelled batches to samples: every board prepared as the line prepares it, every labelled joint with its label.

Beside `labels.csv` a simulated batch holds `truth.csv`, which knows more (`variety`, `volume_ratio`, `gap_um`, `web_um`);
what it knows steers training, what it does not is NaN.

Training sets from the simulator, without files between: boards are drawn, prepared as on the line, and kept as samples.

A set is named by a TOML recipe (`datasets/recipes/*.toml`): groups of boards with machine, product, number, defect rate
and seed. The same recipe gives the same set.
"""

import csv
import hashlib
import multiprocessing
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.core.errors import InputFault, LabelsFault, LimitsFault
from inspect_pop.core.joint_table import CLASSES, KEY
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Recipe
from inspect_pop.evaluate.boards import each_board
from inspect_pop.evaluate.label_book import LabelBook, LabelReport, read_book, report_on
from inspect_pop.evaluate.samples import Samples, SampleWriter, concat, empty, load
from inspect_pop.ingest import board_labels, find_exports, open_export
from inspect_pop.ingest.contract import BoardExport, ImageSource
from inspect_pop.pipeline.board import PreparedBoard, prepare_board
from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.machines import named_machine, random_machine
from inspect_pop.simulate.products import named_recipe, random_recipe

__all__ = [
    "Collected",
    "Group",
    "SetRecipe",
    "collect",
    "load_set_recipe",
    "make_set",
    "recipes_of",
    "samples_of_board",
    "simulated_export",
    "truths_of",
]

# ---- learn/collect
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


# ---- learn/simulated
_KNOWN = ("volume_ratio", "web_um", "gap_um")
# A machine may hand over no height map, or only one of the two: so many boards of a set are without each.
_WITHOUT_MAP = 0.12


class Group(BaseModel):
    """Boards that have something in common. `machine` and `product` may be `random`: drawn anew for each board."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine: str
    product: str
    boards: int = Field(ge=1)
    defect_rate: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)


class SetRecipe(BaseModel):
    """A whole set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    groups: tuple[Group, ...]

    @property
    def digest(self) -> str:
        """sha256 over all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_set_recipe(path: Path) -> SetRecipe:
    """A set's recipe from TOML. Raises `LimitsFault` for one that cannot be read or has an unknown key."""
    try:
        return SetRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="a recipe of a simulated set", found=str(error)) from error


def make_set(recipe: SetRecipe, into: Path, *, processes: int = 1, progress: Callable[[str], None] = lambda _: None) -> Samples:
    """Simulate and prepare all boards of a recipe; what `into` ends up with is the same for any number of processes."""
    work = [(group, k) for group in recipe.groups for k in range(group.boards)]
    with SampleWriter(into) as writer:
        for done, samples in enumerate(_all(work, processes), start=1):
            writer.append(samples)
            progress(f"board {done} of {len(work)}")
    return load(into)


def simulated_export(board: SimulatedBoard, serial: str) -> BoardExport:
    """A simulated board as a reader would hand it over, its pictures in memory."""
    slices = [ImageSource("xray_slices", s.refdes, s.interface, None, Path(), lambda s=s: s) for s in board.stacks]  # type: ignore[misc]
    maps = [ImageSource("height_map", h.refdes, None, h.stage, Path(), lambda h=h: h) for h in board.heights]  # type: ignore[misc]
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


@dataclass(frozen=True)
class _Make:
    """The work on one board, importable by other processes."""

    def __call__(self, job: tuple[Group, int]) -> Samples:
        group, number = job
        random = np.random.default_rng([group.seed, number])
        machine = random_machine(random) if group.machine == "random" else named_machine(group.machine)
        product = random_recipe(random) if group.product == "random" else named_recipe(group.product)
        board = simulate_board(random, product, machine, defect_rate=group.defect_rate)
        kept = tuple(h for h in board.heights if random.random() > _WITHOUT_MAP)
        export = simulated_export(replace(board, heights=kept), f"SIM-{group.seed}-{number}")
        try:
            samples = samples_of_board(prepare_board(export, Limits()))
        except InputFault:  # a machine so bad that the package is not found in its pictures teaches nothing
            return empty()
        return _with_truth(samples, board, group.machine)


def _with_truth(samples: Samples, board: SimulatedBoard, machine: str) -> Samples:
    """The same joints with everything that the simulator knows about them."""
    truth = board.truth
    row = {key: k for k, key in enumerate(zip(truth["refdes"], truth["interface"], truth["ball"], strict=True))}
    index = np.array([row[key] for key in zip(samples.refdes, samples.interface, samples.ball, strict=True)], np.int64)
    names, variety = np.unique(truth["variety"][index].astype(np.str_), return_inverse=True)
    return samples.replace(
        label=np.array([CLASSES.index(name) for name in truth["label"][index]], np.int8),
        variety=variety.astype(np.int16),
        varieties=tuple(str(name) for name in names),
        machine=np.full(len(index), machine),
        **{name: truth[name][index].astype(np.float32) for name in _KNOWN},
    )


def _all(work: list[tuple[Group, int]], processes: int) -> Iterator[Samples]:
    if processes == 1:
        yield from map(_Make(), work)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a process: more would fight over the same cores
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_Make(), work)

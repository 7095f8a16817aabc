"""Training sets from the simulator, without files between: boards are drawn, prepared as on the line, and kept as samples.

A set is named by a TOML recipe (`datasets/recipes/*.toml`): groups of boards with machine, product, number, defect rate
and seed. The same recipe gives the same set.
"""

import hashlib
import multiprocessing
import os
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.errors import InputFault, LimitsFault
from inspect_pop.ingest.contract import BoardExport, ImageSource
from inspect_pop.joints import CLASSES
from inspect_pop.learn.collect import samples_of_board
from inspect_pop.learn.samples import Samples, SampleWriter, empty, load
from inspect_pop.limits import Limits
from inspect_pop.prepare import prepare_board
from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.machines import named_machine, random_machine
from inspect_pop.simulate.packages import named_recipe, random_recipe

__all__ = ["Group", "SetRecipe", "load_set_recipe", "make_set", "simulated_export"]

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

"""How a model is trained, read from `training/recipes/*.toml`: everything that decides the result, besides data and code.

What a training learns from: its boards read once, their labels looked at, every board in one part of the split.
"""

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.model import Model
from inspect_pop.classify.session import Classifier
from inspect_pop.core.errors import FileFault, LimitsFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.collect import Collected, SetRecipe, collect, make_set
from inspect_pop.evaluate.label_book import LabelReport
from inspect_pop.evaluate.label_check import suspects
from inspect_pop.evaluate.samples import Samples, concat, empty, load
from inspect_pop.evaluate.split import Split, place, split_boards
from inspect_pop.ingest import board_labels, find_exports
from inspect_pop.learn.augment import Jitter, augmented
from inspect_pop.learn.calibrate import Targets
from inspect_pop.learn.distributed import ALONE, Ranks
from inspect_pop.learn.fit import FitRecipe
from inspect_pop.learn.package_model import seen_by

__all__ = ["Asked", "Material", "TrainRecipe", "gather", "load_recipe"]


# ---- learn/recipe
class TrainRecipe(BaseModel):
    """One training, from labelled boards to a model folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w.-]+$", description="of the recipe, in the model's record")
    from_released: bool = Field(default=True, description="begin with the weights of the model that is in use")
    copies: int = Field(default=0, ge=0, le=20, description="changed copies of each user's joint, made beforehand")
    shares: tuple[float, ...] = Field(
        default=(1.0,), description="how far to go from the old weights to the new ones: the best on the calibration boards wins"
    )
    golden_share: float = Field(default=0.2, gt=0, lt=1)
    calibrate_share: float = Field(default=0.2, gt=0, lt=1)
    folds: int = Field(default=3, ge=2, description="with fewer than `few_boards`, boards calibrate in turn, in so many parts")
    few_boards: int = Field(default=8, ge=0, description="with fewer boards than this none is spared to calibrate on")
    rehearsal: SetRecipe | None = Field(default=None, description="boards of other machines to simulate and mix in")
    replay_joints: int = Field(default=0, ge=0, description="joints of other machines mixed in")
    replay_weight: float = Field(default=1.0, gt=0, description="how much one of them counts beside a user's joint")
    fit: FitRecipe = FitRecipe.model_validate({})
    jitter: Jitter = Jitter()
    targets: Targets = Targets()

    @property
    def digest(self) -> str:
        """sha256 over all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_recipe(path: Path) -> TrainRecipe:
    """A recipe from a TOML file. Raises `LimitsFault` for a file that cannot be read, an unknown key or an impossible value."""
    try:
        return TrainRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="a training recipe", found=str(error)) from error


# ---- learn/material
_WORK = ".work"
_KEPT = "labels.json"


@dataclass(frozen=True)
class Asked:
    """What a training was asked for; `start` is the model that it begins with and `old` the one it is compared with."""

    paths: tuple[Path, ...]
    out: Path
    recipe: TrainRecipe
    start: Model | None
    old: Model | None
    replay: tuple[Path, ...]
    limits: Limits
    processes: int
    progress: Callable[[str], None]
    device: str = "cpu"
    ranks: Ranks = ALONE

    @property
    def work(self) -> Path:
        """Where an interrupted training of the same boards, labels, recipe and start goes on."""
        parts = [self.recipe.digest, self.start.digest if self.start else "scratch", self.limits.digest]
        for paths in (self.paths, self.replay):
            parts += [_digest(board / "export.json") for board, _ in find_exports(paths)] if paths else []
            parts += [_digest(path) for path in board_labels(paths)]
        return self.out / _WORK / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Material:
    """Joints by what they are for, and what is known of their labels.

    `all` are the user's joints, with `features` (n, k) of the model to begin with (None from scratch). `others` are joints
    of other machines to mix in and `held_elsewhere` those of other boards that are not learnt from.
    """

    all: Samples
    features: NDArray[np.float32] | None
    labels: LabelReport
    split: Split
    others: Samples
    held_elsewhere: Samples

    @property
    def calibrate(self) -> Samples:
        """The joints that are calibrated on: of boards of their own, or, with few boards, of those that teach in turn."""
        return self.all.of_boards(self.split.calibrate or self.split.train)

    def logits_before(self, samples: Samples) -> NDArray[np.float32] | None:
        """(n, 5) logits of some whole boards of `all`, in their order there, by the model to begin with; None from scratch."""
        if self.features is None:
            return None
        return self.features[np.isin(self.all.serials, samples.boards), -len(CLASSES) :]

    def teach(self, recipe: TrainRecipe, without: Sequence[str] = ()) -> Samples:
        """What is learnt from: the boards that teach but those in `without`, changed copies of them, and other machines."""
        mine = self.all.of_boards([b for b in self.split.train if b not in without])
        if recipe.copies:
            mine = augmented(mine, recipe.copies, seed=recipe.fit.seed)
        return concat([mine, self.others])


def gather(asked: Asked) -> Material:
    """Read, look at the labels, split. Raises `LabelsFault`, `UsageFault`."""
    mine = _collected(asked, "samples", asked.paths)
    split = _split(asked, mine.samples)
    features = _features(asked.start, mine.samples)
    labels = mine.report
    if features is not None:
        labels = replace(labels, suspects=tuple(str(s) for s in suspects(mine.samples, features)))
    others, held = _replayed(asked.recipe, _elsewhere(asked))
    return Material(mine.samples, features, labels, split, others, held)


def _elsewhere(asked: Asked) -> Samples:
    """Joints of other machines: of the batches that were given, else of the boards that the recipe simulates."""
    if asked.replay:
        return _collected(asked, "replay", asked.replay).samples
    if asked.recipe.rehearsal is None:
        return empty()
    folder = asked.work / "rehearsal"
    try:
        return load(folder)
    except FileFault:
        asked.progress("simulating boards of other machines")
        return make_set(asked.recipe.rehearsal, folder, processes=asked.processes or os.cpu_count() or 1, progress=asked.progress)


def _collected(asked: Asked, name: str, paths: tuple[Path, ...]) -> Collected:
    """The labelled joints of `paths`, from the work folder where an earlier start has read them."""
    folder = asked.work / name
    kept = folder / _KEPT
    if kept.is_file():
        try:
            return Collected(load(folder), LabelReport.from_dict(json.loads(kept.read_text(encoding="utf-8"))), folder)
        except FileFault:
            kept.unlink()  # it was cut: read the boards again
    found = collect(paths, folder, limits=asked.limits, processes=asked.processes, progress=asked.progress)
    kept.write_text(json.dumps(found.report.to_dict()), encoding="utf-8")
    return found


def _split(asked: Asked, samples: Samples) -> Split:
    known, few = asked.start.card.data if asked.start else {}, len(samples.boards) < asked.recipe.few_boards
    return split_boards(
        samples.boards,
        golden_share=asked.recipe.golden_share,
        calibrate_share=0.0 if few else asked.recipe.calibrate_share,
        kept_golden=known.get("golden boards", ()),
        kept_train=[*known.get("training boards", ()), *known.get("calibration boards", ())],
    )


def _features(start: Model | None, samples: Samples) -> NDArray[np.float32] | None:
    if start is None:
        return None
    logits, embedding = seen_by(Classifier(start).logits, samples)
    return np.concatenate([embedding, logits], axis=1)


def _replayed(recipe: TrainRecipe, samples: Samples) -> tuple[Samples, Samples]:
    """(joints to mix in, joints of boards held out) of the replay set; the boards held out are the same ones every time."""
    held = [serial for serial in samples.boards if place(serial, "golden") < recipe.golden_share]
    rest = samples.take(~np.isin(samples.serials, held)) if held else samples
    count = min(recipe.replay_joints, len(rest))
    some = np.sort(np.random.default_rng(recipe.fit.seed).choice(len(rest), count, replace=False))
    mixed = rest.take(some)
    return mixed.replace(weight=mixed.weight * np.float32(recipe.replay_weight)), samples.of_boards(held)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"  # the board is put aside when it is read

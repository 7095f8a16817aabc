"""What a training learns from: its boards read once, their labels looked at, every board in one part of the split."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Model
from inspect_pop.classify.session import Classifier
from inspect_pop.errors import FileFault
from inspect_pop.ingest import board_labels, find_exports
from inspect_pop.joints import CLASSES
from inspect_pop.learn.augment import augmented
from inspect_pop.learn.build import seen_by
from inspect_pop.learn.collect import Collected, collect
from inspect_pop.learn.labels import LabelReport
from inspect_pop.learn.ranks import ALONE, Ranks
from inspect_pop.learn.recipe import TrainRecipe
from inspect_pop.learn.samples import Samples, concat, empty, load
from inspect_pop.learn.simulated import make_set
from inspect_pop.learn.split import Split, place, split_boards
from inspect_pop.learn.suspects import suspects
from inspect_pop.limits import Limits

__all__ = ["Asked", "Material", "gather"]

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

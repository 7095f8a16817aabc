"""What a training learns from: its configuration, and its boards read once, with their labels checked and split by board."""

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.model import Model
from inspect_pop.classify.session import Classifier
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import FileFault, LimitsFault, describe_error
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.collect import CollectedSet, DatasetConfig, collect, make_dataset
from inspect_pop.evaluate.label_book import LabelReport, find_label_doubts
from inspect_pop.evaluate.samples import Samples, Split, concat, empty, hash_board, load, split_boards
from inspect_pop.ingest import Source, find_exports, find_labels
from inspect_pop.learn.augment import AugmentConfig
from inspect_pop.learn.calibrate import Targets
from inspect_pop.learn.fit import SINGLE_PROCESS, DistributedContext, FitConfig
from inspect_pop.learn.package_model import compute_logits

__all__ = ["Dataset", "TrainingConfig", "TrainingRequest", "gather_dataset", "limit_weights", "load_training_config"]

# In the loss no joint counts more than this, however many it stands for: a batch of 64 would else be that joint alone, and a
# network hardly learns otherwise from larger weights (Byrd and Lipton, ICML 2019). Calibration and figures count in full.
_LARGEST_WEIGHT = 4.0

WORK = ".work"
_LABELS = "labels.json"


class TrainingConfig(BaseModel):
    """A training, from labelled boards to a model folder: everything that decides its result besides data and code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w.-]+$", description="of the configuration, in the model's card")
    from_current: bool = Field(default=True, description="start from the weights of the current model")
    views: int = Field(
        default=1, ge=1, le=21, description="how often a user's joint is drawn, each time changed; together they weigh as one"
    )
    shares: tuple[float, ...] = Field(
        default=(1.0,), description="how far to go from the old weights to the new ones: the best on the calibration boards wins"
    )
    golden_share: float = Field(default=0.2, gt=0, lt=1)
    calibrate_share: float = Field(default=0.2, gt=0, lt=1)
    folds: int = Field(default=3, ge=2, description="with fewer than `few_boards`, boards calibrate in turn, in this many parts")
    few_boards: int = Field(default=8, ge=0, description="with fewer boards than this none is reserved for calibration")
    few_defects: int = Field(
        default=0, ge=0, description="with fewer defects than this on the boards that would be reserved for it, none is either"
    )
    rehearsal: DatasetConfig | None = Field(default=None, description="boards of other machines to simulate and mix in")
    replay_joints: int = Field(default=0, ge=0, description="joints of other machines to mix in")
    replay_weight: float = Field(default=1.0, gt=0, description="weight of such a joint relative to a user's")
    fit: FitConfig = FitConfig.model_validate({})
    augment: AugmentConfig = AugmentConfig()
    targets: Targets = Targets()

    @property
    def digest(self) -> str:
        """The sha256 over all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_training_config(path: Path) -> TrainingConfig:
    """Read a training configuration from a TOML file.

    Raises `LimitsFault` for a file that cannot be read, an unknown key or an impossible value.
    """
    try:
        return TrainingConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="a training configuration", found=describe_error(error)) from error


@dataclass(frozen=True)
class TrainingRequest:
    """The inputs of one training. `start` is the model that it starts from, `old` the one that it is compared with."""

    paths: tuple[Source, ...]
    out: Path
    config: TrainingConfig
    start: Model | None
    old: Model | None
    replay: tuple[Source, ...]
    limits: Limits
    processes: int
    progress: Callable[[str], None]
    device: str = "cpu"
    context: DistributedContext = SINGLE_PROCESS

    @property
    def work(self) -> Path:
        """The folder from which a training of the same boards, labels, configuration and start resumes."""
        parts = [self.config.digest, self.start.digest if self.start else "scratch", self.limits.digest]
        for paths in (self.paths, self.replay):
            parts += [_digest_file(board / "export.json") for board, _ in find_exports(paths)] if paths else []
            parts += [_digest_file(path) for path in find_labels(paths)]
        return self.out / WORK / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """The joints of a training by purpose, and the report on their labels.

    Attributes
    ----------
    all
        The user's joints.
    features
        (n, k) embeddings and logits of `all` by the model that training starts from; None from scratch.
    labels
        What is known of the labels.
    split
        Which boards train, calibrate and judge.
    others
        Joints of other machines to mix in.
    replay_held_out
        Joints of other boards of those machines, which are not trained on.
    """

    all: Samples
    features: NDArray[np.float32] | None
    labels: LabelReport
    split: Split
    others: Samples
    replay_held_out: Samples

    @property
    def calibration(self) -> Samples:
        """The joints to calibrate on: of reserved boards or, with few boards, of all that train, in turn."""
        return self.all.of_boards(self.split.calibrate or self.split.train)

    def start_logits(self, samples: Samples) -> NDArray[np.float32] | None:
        """Return (n, classes) logits of whole boards of `all` by the model that training starts from; None from scratch."""
        if self.features is None:
            return None
        return self.features[np.isin(self.all.serials, samples.boards), -len(CLASSES) :]

    def training_samples(self, config: TrainingConfig, without: Sequence[str] = ()) -> Samples:
        """Return the joints to train on: those of training boards that are not in `without`, and those of other machines."""
        samples = limit_weights(self.all.of_boards([b for b in self.split.train if b not in without]))
        view = samples.replace(weight=samples.weight / np.float32(config.views))
        return concat([*[view] * config.views, self.others])


def limit_weights(samples: Samples) -> Samples:
    """Return the joints with weights for the loss: none counts more than four times, however many joints it stands for."""
    return samples.replace(weight=np.minimum(samples.weight, np.float32(_LARGEST_WEIGHT)))


def gather_dataset(request: TrainingRequest) -> Dataset:
    """Read the boards, check their labels and split them.

    What an interrupted training has read is taken from its work folder. Raises `LabelsFault`, `UsageFault`.
    """
    config, start = request.config, request.start
    collected = _collect_once(request, "samples", request.paths)
    samples, labels = collected.samples, collected.report
    known = start.card.data if start else {}
    split_with = partial(
        split_boards,
        samples.boards,
        golden_share=config.golden_share,
        earlier_golden=known.get("golden boards", ()),
        earlier_train=[*known.get("training boards", ()), *known.get("calibration boards", ())],
    )
    split = split_with(calibrate_share=0.0 if len(samples.boards) < config.few_boards else config.calibrate_share)
    reserved = samples.of_boards(split.calibrate)
    if split.calibrate and np.count_nonzero(reserved.label != CLASSES.index(GOOD)) < config.few_defects:
        split = split_with(calibrate_share=0.0)
    features = None
    if start is not None:
        logits, embedding = compute_logits(Classifier(start).logits, samples)
        features = np.concatenate([embedding, logits], axis=1)
        labels = replace(labels, doubts=tuple(str(doubt) for doubt in find_label_doubts(samples, features)))

    replay = _gather_replay(request)
    held_out = [serial for serial in replay.boards if hash_board(serial, "golden") < config.golden_share]  # the same every time
    rest = replay.take(~np.isin(replay.serials, held_out)) if held_out else replay
    count = min(config.replay_joints, len(rest))
    others = rest.take(np.sort(np.random.default_rng(config.fit.seed).choice(len(rest), count, replace=False)))
    others = others.replace(weight=others.weight * np.float32(config.replay_weight))
    return Dataset(samples, features, labels, split, others, replay.of_boards(held_out))


def _gather_replay(request: TrainingRequest) -> Samples:
    """Return joints of other machines: of the given batches, else of boards that the configuration simulates."""
    if request.replay:
        return _collect_once(request, "replay", request.replay).samples
    if request.config.rehearsal is None:
        return empty()
    folder = request.work / "rehearsal"
    try:
        return load(folder)
    except FileFault:
        request.progress("simulating boards of other machines")
        processes = request.processes or os.cpu_count() or 1
        return make_dataset(request.config.rehearsal, folder, processes=processes, progress=request.progress)


def _collect_once(request: TrainingRequest, name: str, paths: tuple[Source, ...]) -> CollectedSet:
    """Return the labelled joints of `paths`, from the work folder if an earlier start has read them."""
    folder = request.work / name
    labels = folder / _LABELS
    if labels.is_file():
        try:
            return CollectedSet(load(folder), LabelReport.from_dict(json.loads(labels.read_text(encoding="utf-8"))), folder)
        except FileFault:
            labels.unlink()  # a file was cut: read the boards again
    collected = collect(paths, folder, limits=request.limits, processes=request.processes, progress=request.progress)
    labels.write_text(json.dumps(collected.report.to_dict()), encoding="utf-8")
    return collected


def _digest_file(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"  # the board is put aside when it is read

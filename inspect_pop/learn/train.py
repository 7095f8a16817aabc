"""`inspect-pop train`: from labelled boards to a model folder, and the report on how it went.

The steps: read the boards and check their labels; reserve golden boards; train; calibrate on boards that were not trained on;
judge the old model and the new one on the same golden boards; check the gates. A training that starts from a model leaves
that model as it is for all machines but those of the boards. An interrupted training resumes when it is started again with
the same boards and the same configuration, and ends with the same model.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Card, Model, load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import ModelFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.core.system import utc_now
from inspect_pop.core.text import pluralize
from inspect_pop.evaluate.collect import open_exports
from inspect_pop.evaluate.comparison import Comparison, compare_outcomes
from inspect_pop.evaluate.evaluation import LEARNT_EXPORTS, Outcomes, judge, outcomes_of, shorten_digest, summary
from inspect_pop.evaluate.label_book import LabelReport
from inspect_pop.evaluate.promotion import Gate, Gates, check_gates, promote
from inspect_pop.evaluate.samples import Samples, Split, split_folds
from inspect_pop.ingest import Source, find_exports
from inspect_pop.learn.calibrate import NO_CALIBRATION, apply_calibration
from inspect_pop.learn.dataset import WORK, Dataset, TrainingConfig, TrainingRequest, gather_dataset
from inspect_pop.learn.diagnostics import Curve, Fold, choose_share, estimate_curve, predict_four_sided
from inspect_pop.learn.fit import SINGLE_PROCESS, DistributedContext, FitResult, fit
from inspect_pop.learn.network import NETWORK, JointNet, interpolate, load_network
from inspect_pop.learn.package_model import (
    ModelDescription,
    add_machine_model,
    build_model,
    compute_logits,
    machine_folder,
    make_version,
    seal,
)

__all__ = ["REPORT", "TrainReport", "train"]

Progress = Callable[[str], None]
REPORT = "report.json"


@dataclass(frozen=True)
class TrainReport:
    """What a training did and what came of it, for people and for `report.json` in the model's folder.

    Attributes
    ----------
    share
        How far the weights went from the old ones (1: all the way).
    losses
        What each share lost on held-out boards.
    new, old
        Evaluations on the same golden boards; `old` is None without an old model.
    new_elsewhere, old_elsewhere
        Evaluations on boards of the replay set that were not trained on; None without such a set.
    comparison
        The old and the new model on the same golden joints; None without an old model.
    promoted_as
        The model's name in the folder of models; empty if it did not become the current model.
    """

    model: Path
    labels: LabelReport
    split: Split
    share: float
    losses: dict[str, float]
    history: list[dict[str, float]]
    new: dict[str, Any]
    old: dict[str, Any] | None
    new_elsewhere: dict[str, Any] | None
    old_elsewhere: dict[str, Any] | None
    gates: tuple[Gate, ...]
    curve: Curve | None
    seconds: float
    comparison: Comparison | None = None
    promoted_as: str = ""

    @property
    def passed(self) -> bool:
        """Whether the new model passes every gate."""
        return all(gate.passed for gate in self.gates)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        plain = {k: getattr(self, k) for k in ("share", "losses", "history", "new", "old", "seconds", "promoted_as")}
        return {
            "schema": "inspect-pop-training/1",
            "labels": self.labels.to_dict(),
            "split": self.split.to_dict(),
            **plain,
            "elsewhere": {"new": self.new_elsewhere, "old": self.old_elsewhere},
            "gates": [gate.__dict__ for gate in self.gates],
            "passed": self.passed,
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "curve": self.curve.to_dict() if self.curve else None,
        }

    def lines(self) -> list[str]:
        """Return the report as text: labels, boards, old and new model side by side, gates, and what follows."""
        split = self.split
        lines = ["Labels", *(f"  {line}" for line in self.labels.lines()), "Boards"]
        calibrated = f"{len(split.calibrate)} to calibrate" if split.calibrate else "the same to calibrate, in turn"
        lines.append(f"  {len(split.train)} to train, {calibrated}, {len(split.golden)} golden (to judge by, never trained on)")
        if self.losses:
            lines.append(f"  weights moved {self.share:.0%} of the way from the old model to the newly trained one")
        for title, figures in (("Before, on the golden boards", self.old), ("Now, on the same boards", self.new)):
            lines += [title, *summary(figures)] if figures else [f"{title}: no model"]
        for title, figures in (("Before, elsewhere", self.old_elsewhere), ("Now, elsewhere", self.new_elsewhere)):
            lines += [title, *summary(figures)] if figures else []
        lines += ["Compared, on the same boards", *(f"  {line}" for line in self.comparison.lines())] if self.comparison else []
        lines += ["Gates", *(f"  {'pass' if g.passed else 'STOP'}  {g.name}: {g.explanation}" for g in self.gates)]
        if self.curve:
            lines += ["What more boards would bring", f"  {self.curve.summary}"]
        if self.promoted_as:
            end = f"Current model from now on: {self.promoted_as}"
        elif self.passed and self.comparison is not None and not self.comparison.is_better:
            end = f"The new model passes its gates, and is not better than the one you have: keep that. The new one: {self.model}"
        elif self.passed:
            end = f"The new model may be used: {self.model}"
        else:
            end = f"The new model should not be used, for the reasons at STOP: {self.model}"
        return [*lines, f"{end} ({self.seconds:.0f} s)"]


@dataclass(frozen=True)
class _TrainedNetwork:
    """A trained network. `share` and `losses` are as in `TrainReport`, `out_of_fold` as in `build_model`."""

    network: JointNet
    varieties: tuple[str, ...]
    history: list[dict[str, float]]
    share: float
    losses: dict[str, float]
    out_of_fold: NDArray[np.float32] | None


def train(
    paths: Sequence[Source],
    out: Path,
    *,
    config: TrainingConfig,
    start_from: Path | None = None,
    replay: Sequence[Path] = (),
    gates: Gates | None = None,
    models: Path | None = None,
    limits: Limits | None = None,
    processes: int = 1,
    device: str = "cpu",
    context: DistributedContext = SINGLE_PROCESS,
    now: str | None = None,
    progress: Progress = lambda _: None,
) -> TrainReport | None:
    """Train a model from labelled boards and write its folder `out`; return None in a process that is not the leader.

    Parameters
    ----------
    paths
        Labelled boards, or folders of them; a folder may hold labels alone.
    out
        The new model's folder.
    config
        How to train.
    start_from
        The model to start from (`config.from_current`) and to compare with; None for the current one.
    replay
        Labelled (simulated) batches of other machines. They are mixed in, and show whether the model got worse elsewhere.
    gates
        What the new model must pass; None for the defaults.
    models
        A folder of models: if the gates pass, the new model is copied there and becomes the current one. None: never.
    limits
        For inspecting the boards; None for the defaults.
    processes
        That read and inspect boards.
    context
        The processes that train together. Each calls this with the same arguments, and sees the same `paths` and `out`.
    now
        ISO 8601, for the record; None reads the clock.

    Raises
    ------
    LabelsFault, UsageFault
        The boards or labels cannot be trained on.
    ModelFault
        The model to start from cannot be used.
    """
    began, now = time.monotonic(), now or utc_now("seconds")
    old: Model | None = None
    try:
        old = load(start_from)
    except ModelFault:  # from scratch there need not be a model to compare with
        if config.from_current or start_from is not None:
            raise
    start = old if config.from_current else None
    if out.is_file():
        raise UsageFault(str(out), expected="a folder for the new model", found="a file")
    context.check_batch(config.fit.batch)
    if not context.is_leader:
        progress = lambda _: None  # noqa: E731  (the leader alone reports)
    request = TrainingRequest(
        tuple(paths), out, config, start, old, tuple(replay), limits or Limits(), processes, progress, device, context
    )
    with context.leader_first():
        dataset = gather_dataset(request)
    for line in dataset.labels.lines():
        progress(line)
    trained = _train_network(request, dataset)
    if not context.is_leader:
        return None
    card = _write_model(request, dataset, trained, now)
    report = _make_report(request, dataset, trained, gates or Gates())
    report = replace(report, seconds=time.monotonic() - began)
    card = _finish_model(out, card, report)
    if models is not None and report.passed:
        name = f"{card.name}-{card.version}"
        shutil.copytree(out, models / name)
        promote(models, name, at=now, reason="passed every gate of its training")
        report = replace(report, promoted_as=name)
    return report


def _train_network(request: TrainingRequest, dataset: Dataset) -> _TrainedNetwork:
    """Train from the old network's weights, and go as far from them as held-out boards support; or train from scratch."""
    config, split = request.config, dataset.split
    old: JointNet | None = None
    if request.start is not None:
        old, varieties = load_network(request.start.folder / NETWORK)
    else:
        varieties = dataset.training_samples(config).varieties
    fitted = _fit(request, dataset.training_samples(config), old, varieties, "fit")

    # With few boards, further networks each leave out some boards, so that all boards can calibrate.
    folds = [Fold(fitted.network, dataset.calibration)]
    if not split.calibrate:
        parts = split_folds(split.train, config.folds)
        request.progress(f"few boards: {len(parts)} more fits, each without some of them, to calibrate on all")
        folds = []
        for k, part in enumerate(parts):
            samples = dataset.training_samples(config, without=part)
            folds.append(Fold(_fit(request, samples, old, varieties, f"fold-{k}").network, dataset.all.of_boards(part)))

    prior = request.start.card.calibration if request.start else NO_CALIBRATION
    share, losses, network = 1.0, dict[str, float](), fitted.network
    if old is not None:
        share, losses = choose_share(old, folds, config.shares, prior)
        network = interpolate(old, fitted.network, share)
        folds = [Fold(interpolate(old, fold.network, share), fold.held_out) for fold in folds]
    out_of_fold = None
    if not split.calibrate:
        samples = dataset.calibration
        out_of_fold = np.zeros((len(samples), len(CLASSES)), np.float32)
        for fold in folds:
            rows = np.isin(samples.serials, fold.held_out.boards)
            out_of_fold[rows] = predict_four_sided(fold.network, fold.held_out, prior)[0]
    return _TrainedNetwork(network, varieties, fitted.history, share, losses, out_of_fold)


def _fit(request: TrainingRequest, samples: Samples, old: JointNet | None, varieties: tuple[str, ...], name: str) -> FitResult:
    return fit(
        samples.with_varieties(varieties),
        request.config.fit,
        work=request.work / name,
        start=old,
        varieties=max(1, len(varieties)),
        augment=request.config.augment,
        device=request.device,
        context=request.context,
        progress=request.progress,
    )


def _write_model(request: TrainingRequest, dataset: Dataset, trained: _TrainedNetwork, now: str) -> Card:
    """Write the model's folder. If training started from a model, the network decides only for the boards' machines."""
    start, split = request.start, dataset.split
    samples = dataset.all.of_boards(split.train)
    known = start.card.data if start else {}
    exports, _ = open_exports(find_exports(request.paths))
    digests = {shorten_digest(e.digest) for e in exports.values() if e.serial in (*split.train, *split.calibrate)}
    data: dict[str, Any] = {
        "training boards": [*known.get("training boards", ()), *split.train],
        "calibration boards": [*known.get("calibration boards", ()), *split.calibrate],
        "golden boards": list(dict.fromkeys([*known.get("golden boards", ()), *split.golden])),
        "labelled joints learnt from": len(samples),
        "joints of other machines": len(dataset.others),
        "labels": dataset.labels.by_class,
        **({"choice of joints": dataset.labels.bias} if dataset.labels.bias else {}),
        LEARNT_EXPORTS: [*known.get(LEARNT_EXPORTS, ()), *sorted(digests)],
        "digest": _digest_samples(samples),
        "began with": f"{start.card.name} {start.card.version}" if start else "nothing",
    }
    config = request.config.model_dump(mode="json") | {"digest": request.config.digest}
    description = ModelDescription(request.out.name or "model", make_version(now), now, data, config)
    machines = np.unique(dataset.all.machine).tolist()
    (request.out / "card.json").unlink(missing_ok=True)
    card = build_model(
        trained.network,
        trained.varieties,
        dataset.training_samples(request.config),
        dataset.calibration,
        request.out / machine_folder(machines) if start else request.out,
        description,
        targets=request.config.targets,
        prior=start.card if start else None,
        out_of_fold=trained.out_of_fold,
        prior_logits=dataset.start_logits(dataset.calibration),
    )
    return add_machine_model(start, request.out, machines, description) if start else card


def _make_report(request: TrainingRequest, dataset: Dataset, trained: _TrainedNetwork, gates: Gates) -> TrainReport:
    """Judge the old and the new model on the same boards, and check the gates."""
    models = {"new": load(request.out), "old": request.old}
    golden, outcomes = {}, list[Outcomes]()
    for name, model in models.items():
        golden[name] = _judge(request, request.paths, dataset.split.golden, model, outcomes)
    comparison = compare_outcomes(("the old model", "the new model"), outcomes[1], outcomes[0]) if len(outcomes) > 1 else None
    elsewhere = {name: _judge_elsewhere(request, dataset.replay_held_out, model) for name, model in models.items()}
    new = golden["new"] or {}
    curve = None
    if dataset.features is not None:  # from scratch there are no features of a network that has not seen these boards
        rows = np.isin(dataset.all.serials, dataset.split.golden)
        features, label = dataset.features, dataset.all.label
        curve = estimate_curve(features[~rows], dataset.all.take(~rows), features[rows], label[rows])
    return TrainReport(
        model=request.out,
        labels=dataset.labels,
        split=dataset.split,
        share=trained.share,
        losses=trained.losses,
        history=trained.history,
        new=new,
        old=golden["old"],
        new_elsewhere=elsewhere["new"],
        old_elsewhere=elsewhere["old"],
        gates=check_gates(gates, new, golden["old"]),
        comparison=comparison,
        curve=curve,
        seconds=0.0,
    )


def _judge(
    request: TrainingRequest,
    paths: Sequence[Source],
    boards: Sequence[str],
    model: Model | None,
    found: list[Outcomes] | None = None,
) -> dict[str, Any] | None:
    """Inspect boards with a model and return the evaluation; None without a model. `found` takes the outcomes."""
    if model is None:
        return None
    request.progress(f"judging {model.card.name} {model.card.version} on {pluralize(len(boards), 'board')}")
    outcomes, _ = outcomes_of(paths, model, limits=request.limits, processes=request.processes, only=boards)
    if found is not None:
        found.append(outcomes)
    return {"model": _name_model(model), **judge(outcomes)}


def _judge_elsewhere(request: TrainingRequest, samples: Samples, model: Model | None) -> dict[str, Any] | None:
    """Evaluate a model on held-out boards of other machines: by inspection if they are exports, else by the scores alone."""
    if model is None or len(samples) == 0:
        return None
    if request.replay:
        return _judge(request, request.replay, samples.boards, model)
    logits, _ = compute_logits(Classifier(model).logits, samples)
    scores = apply_calibration(model.card.calibration, logits)
    return {"model": _name_model(model), **judge(Outcomes.of_scores(samples, *scores, model.card.operating_point))}


def _name_model(model: Model) -> dict[str, str]:
    return {"name": model.card.name, "version": model.card.version, "digest": model.digest}


def _finish_model(out: Path, card: Card, report: TrainReport) -> Card:
    """Store the report and its figures with the model, and remove the work folder."""
    (out / REPORT).write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
    by = {name: groups for name, groups in report.new["by"].items() if name != "serial"}
    figures = {k: v for k, v in report.new.items() if k != "model"} | {"by": by}
    measured_on = f"{len(report.split.golden)} golden boards, never trained on: {', '.join(report.split.golden[:10])}"
    sealed = seal(out, card.model_copy(update={"metrics": figures, "measured_on": measured_on}))
    shutil.rmtree(out / WORK, ignore_errors=True)
    return sealed


def _digest_samples(samples: Samples) -> str:
    """Return the sha256 over the joints that were trained on: which they are, and their labels."""
    digest = hashlib.sha256()
    for values in (samples.serials, samples.machine, samples.refdes, samples.interface, samples.ball):
        digest.update("\n".join(values.tolist()).encode())
    digest.update(samples.label.tobytes())
    return digest.hexdigest()

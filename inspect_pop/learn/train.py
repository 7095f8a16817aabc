"""What a training did and what came of it, for people and for `report.json` in the model's folder.

`inspect-pop train`: from labelled boards to a model folder, for people who are no ML engineers.

The order of things: read the boards and look at their labels; keep golden boards apart; learn; calibrate on boards that
did not teach; judge the old model and the new one on the same golden boards; ask the gates. A training that begins with a
model leaves that model as it is for all machines but those of the boards. One that was interrupted goes on when it is
started again with the same boards and the same recipe, and ends in the same model.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Calibration, Card, Model, load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.errors import ModelFault, UsageFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.evaluation import outcomes_of, summary
from inspect_pop.evaluate.label_book import LabelReport
from inspect_pop.evaluate.outcomes import Outcomes, judge
from inspect_pop.evaluate.promotion import Gate, Gates, pass_gates
from inspect_pop.evaluate.promotion import promote as promote_in
from inspect_pop.evaluate.samples import Samples
from inspect_pop.evaluate.split import Split, folds
from inspect_pop.learn.calibrate import apply
from inspect_pop.learn.dataset import Asked, Material, TrainRecipe, gather
from inspect_pop.learn.diagnostics import Curve, Fold, choose_share, look, quick_curve
from inspect_pop.learn.distributed import ALONE, Ranks
from inspect_pop.learn.fit import Fitted, fit
from inspect_pop.learn.network import NETWORK, JointNet, between, load_network
from inspect_pop.learn.package_model import About, add_own, build_model, own_folder, seal, seen_by

__all__ = ["REPORT", "TrainReport", "train"]

# ---- learn/train_report
REPORT = "report.json"


@dataclass(frozen=True)
class TrainReport:
    """The whole of a training.

    `new` and `old` are evaluations on the same golden boards; `new_elsewhere` and `old_elsewhere` on boards of the replay
    set that were held out; None where there is no old model or no such set. `share` is how far the weights went from
    the old ones (1: all the way), `losses` what each share lost on boards held out. `promoted_as` is the model's name in
    the folder of models, empty where it was not taken into use.
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
    promoted_as: str = ""

    @property
    def passed(self) -> bool:
        """Whether every gate lets the new model pass."""
        return all(gate.passed for gate in self.gates)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        plain = {k: getattr(self, k) for k in ("share", "losses", "history", "new", "old", "seconds", "promoted_as")}
        return {
            "schema": "inspect-pop-training/1",
            "labels": self.labels.to_dict(),
            "split": self.split.to_dict(),
            **plain,
            "elsewhere": {"new": self.new_elsewhere, "old": self.old_elsewhere},
            "gates": [gate.__dict__ for gate in self.gates],
            "passed": self.passed,
            "curve": self.curve.to_dict() if self.curve else None,
        }

    def lines(self) -> list[str]:
        """For people: the labels, what was learnt from what, old and new side by side, and what follows."""
        split = self.split
        said = ["Labels", *_indented(self.labels.lines()), "Boards"]
        calibrated = f"{len(split.calibrate)} calibrated" if split.calibrate else "the same calibrated in turn"
        said.append(f"  {len(split.train)} taught, {calibrated}, {len(split.golden)} judge (kept apart for ever)")
        if self.losses:
            said.append(f"  weights went {self.share:.0%} of the way from the old model to what the boards teach")
        for title, figures in (("Before, on the golden boards", self.old), ("Now, on the same boards", self.new)):
            said += [title, *summary(figures)] if figures else [f"{title}: no model"]
        for title, figures in (("Before, elsewhere", self.old_elsewhere), ("Now, elsewhere", self.new_elsewhere)):
            said += [title, *summary(figures)] if figures else []
        said += ["Gates", *(f"  {'pass' if g.passed else 'STOP'}  {g.name}: {g.said}" for g in self.gates)]
        if self.curve:
            said += ["What more boards would buy", f"  {self.curve.said}"]
        said.append(self._end())
        return said

    def _end(self) -> str:
        took = f"{self.seconds:.0f} s"
        if self.promoted_as:
            return f"In use from now on: {self.promoted_as} ({took})"
        if self.passed:
            return f"The new model may be used: {self.model} ({took})"
        return f"The new model should not be used: {self.model}, for the reasons at STOP ({took})"


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


# ---- learn/train
Progress = Callable[[str], None]
_IDENTITY = Calibration(temperature=1.0, bias=(0.0, 0.0, 0.0, 0.0, 0.0))


@dataclass(frozen=True)
class _Learnt:
    """A trained network and how it came about; `share` and `losses` as in `TrainReport`, `out_of_fold` as in `build_model`."""

    network: JointNet
    varieties: tuple[str, ...]
    history: list[dict[str, float]]
    share: float
    losses: dict[str, float]
    out_of_fold: NDArray[np.float32] | None


def train(
    paths: Sequence[Path],
    out: Path,
    *,
    recipe: TrainRecipe,
    start_from: Path | None = None,
    replay: Sequence[Path] = (),
    gates: Gates | None = None,
    models: Path | None = None,
    limits: Limits | None = None,
    processes: int = 1,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    now: str | None = None,
    progress: Progress = lambda _: None,
) -> TrainReport | None:
    """Train a model from labelled boards and write its folder `out`; None in a process that only helped (`ranks`).

    Parameters
    ----------
    start_from
        The model to begin with (`recipe.from_released`) and to compare with; None: the released one.
    replay
        Labelled (simulated) batches of other machines: they are mixed in, and show whether harm was done elsewhere.
    models
        A folder of models: where the gates let it pass, the new model is copied there and taken into use. None: never.
    ranks
        The processes that train together: all call this with the same arguments, and see the same `paths` and `out`.
    now
        ISO 8601, for the record; None reads the clock.

    Raises
    ------
    LabelsFault, UsageFault
        Boards or labels that cannot be learnt from.
    ModelFault
        The model to begin with cannot be used.
    """
    began, now = time.monotonic(), now or datetime.now(UTC).isoformat(timespec="seconds")
    old = _old_model(start_from, needed=recipe.from_released)
    start = old if recipe.from_released else None
    if out.is_file():
        raise UsageFault(str(out), expected="a folder for the new model", found="a file")
    ranks.check(recipe.fit.batch)
    if not ranks.leads:
        progress = _silent
    asked = Asked(tuple(paths), out, recipe, start, old, tuple(replay), limits or Limits(), processes, progress, device, ranks)
    with ranks.leader_first():
        material = gather(asked)
    for line in material.labels.lines():
        progress(line)
    learnt = _learn(asked, material)
    if not ranks.leads:
        return None
    card = _build(asked, material, learnt, _about(asked, material, now))
    report = replace(_report(asked, material, learnt, gates or Gates()), seconds=time.monotonic() - began)
    card = _finish(out, card, report)
    if models is not None and report.passed:
        report = replace(report, promoted_as=_promote(out, models, card, now))
    return report


def _silent(_: str) -> None:
    """The leading process speaks for all."""


def _old_model(path: Path | None, *, needed: bool) -> Model | None:
    """The model that training begins with or is compared with; from scratch there need not be one."""
    try:
        return load(path)
    except ModelFault:
        if needed or path is not None:
            raise
        return None


def _learn(asked: Asked, material: Material) -> _Learnt:
    """The network: from the old one's weights, as far as boards held out agree; or from scratch."""
    old: JointNet | None = None
    if asked.start is not None:
        old, names = load_network(asked.start.folder / NETWORK)
    else:
        names = material.teach(asked.recipe).varieties
    fitted = _fit(asked, material.teach(asked.recipe), old, names, "fit")
    parts = _held_out(asked, material, old, names, fitted)
    prior = asked.start.card.calibration if asked.start else _IDENTITY
    share, losses = 1.0, dict[str, float]()
    networks = [fold.network for fold in parts]
    if old is not None:
        share, losses = choose_share(old, parts, asked.recipe.shares, prior)
        networks = [between(old, fold.network, share) for fold in parts]
    network = fitted.network if old is None else between(old, fitted.network, share)
    out_of_fold = None if material.split.calibrate else _out_of_fold(material.calibrate, parts, networks, prior)
    return _Learnt(network, names, fitted.history, share, losses, out_of_fold)


def _build(asked: Asked, material: Material, learnt: _Learnt, about: About) -> Card:
    """Write the model's folder: a network of its own for the machines of the boards where training began with a model."""
    machines = np.unique(material.all.machine).tolist()
    out = asked.out / own_folder(machines) if asked.start else asked.out
    (asked.out / "card.json").unlink(missing_ok=True)
    card = build_model(
        learnt.network,
        learnt.varieties,
        material.teach(asked.recipe),
        material.calibrate,
        out,
        about,
        targets=asked.recipe.targets,
        prior=asked.start.card if asked.start else None,
        out_of_fold=learnt.out_of_fold,
        before=material.logits_before(material.calibrate),
    )
    return add_own(asked.start, asked.out, machines, about) if asked.start else card


def _held_out(asked: Asked, material: Material, old: JointNet | None, names: tuple[str, ...], fitted: Fitted) -> list[Fold]:
    """The network and the boards that it did not see; with few boards, a network for each part of them that it did not see."""
    if material.split.calibrate:
        return [Fold(fitted.network, material.calibrate)]
    parts = folds(material.split.train, asked.recipe.folds)
    asked.progress(f"few boards: {len(parts)} more fits, each without some of them, to calibrate on all")
    return [
        Fold(
            _fit(asked, material.teach(asked.recipe, without=part), old, names, f"fold-{k}").network,
            material.all.of_boards(part),
        )
        for k, part in enumerate(parts)
    ]


def _fit(asked: Asked, teach: Samples, old: JointNet | None, names: tuple[str, ...], where: str) -> Fitted:
    recipe = asked.recipe
    return fit(
        teach.with_varieties(names),
        recipe.fit,
        work=asked.work / where,
        start=old,
        varieties=max(1, len(names)),
        how=recipe.jitter,
        device=asked.device,
        ranks=asked.ranks,
        progress=asked.progress,
    )


def _out_of_fold(
    samples: Samples, parts: Sequence[Fold], networks: Sequence[JointNet], prior: Calibration
) -> NDArray[np.float32]:
    """(n, 5) logits of all joints, each by the network that did not see its board."""
    logits = np.zeros((len(samples), len(CLASSES)), np.float32)
    for fold, network in zip(parts, networks, strict=True):
        logits[np.isin(samples.serials, fold.held_out.boards)] = look(network, fold.held_out, prior)[0]
    return logits


def _about(asked: Asked, material: Material, now: str) -> About:
    """The record of the making: which boards did what, and digests of data and recipe."""
    split, teach = material.split, material.all.of_boards(material.split.train)
    known = asked.start.card.data if asked.start else {}
    data: dict[str, Any] = {
        "training boards": [*known.get("training boards", ()), *split.train],
        "calibration boards": [*known.get("calibration boards", ()), *split.calibrate],
        "golden boards": list(dict.fromkeys([*known.get("golden boards", ()), *split.golden])),
        "labelled joints learnt from": len(teach),
        "joints of other machines": len(material.others),
        "labels": material.labels.by_class,
        "digest": _digest_of(teach),
        "began with": f"{asked.start.card.name} {asked.start.card.version}" if asked.start else "nothing",
    }
    version = "".join(c for c in now[:19] if c.isdigit())
    recipe = asked.recipe.model_dump(mode="json") | {"digest": asked.recipe.digest}
    return About(asked.out.name or "model", version, now, data, recipe)


def _report(asked: Asked, material: Material, learnt: _Learnt, gates: Gates) -> TrainReport:
    """Judge old and new on the same boards, here and elsewhere, and ask the gates."""
    models = {"new": load(asked.out), "old": asked.old}
    here = {name: _judged(asked, asked.paths, material.split.golden, model) for name, model in models.items()}
    there = {name: _judged_elsewhere(asked, material.held_elsewhere, model) for name, model in models.items()}
    new = here["new"] or {}
    return TrainReport(
        model=asked.out,
        labels=material.labels,
        split=material.split,
        share=learnt.share,
        losses=learnt.losses,
        history=learnt.history,
        new=new,
        old=here["old"],
        new_elsewhere=there["new"],
        old_elsewhere=there["old"],
        gates=pass_gates(gates, new, here["old"]),
        curve=_curve(material),
        seconds=0.0,
    )


def _judged(asked: Asked, paths: Sequence[Path], boards: Sequence[str], model: Model | None) -> dict[str, Any] | None:
    if model is None:
        return None
    asked.progress(f"judging {model.card.name} {model.card.version} on {len(boards)} boards")
    outcomes, _ = outcomes_of(paths, model, limits=asked.limits, processes=asked.processes, only=boards)
    return {"model": _named(model), **judge(outcomes)}


def _judged_elsewhere(asked: Asked, held: Samples, model: Model | None) -> dict[str, Any] | None:
    """On boards of other machines that were not learnt from: by the line's code where they are exports, else by the scores."""
    if model is None or len(held) == 0:
        return None
    if asked.replay:
        return _judged(asked, asked.replay, held.boards, model)
    logits, _ = seen_by(Classifier(model).logits, held)
    scores = apply(model.card.calibration, logits)
    return {"model": _named(model), **judge(Outcomes.of_scores(held, *scores, model.card.operating_point))}


def _named(model: Model) -> dict[str, str]:
    return {"name": model.card.name, "version": model.card.version, "digest": model.digest}


def _curve(material: Material) -> Curve | None:
    """From the model to begin with: from scratch there is none that has not seen these boards."""
    if material.features is None:
        return None
    golden = np.isin(material.all.serials, material.split.golden)
    return quick_curve(
        material.features[~golden], material.all.take(~golden), material.features[golden], material.all.label[golden]
    )


def _finish(out: Path, card: Card, report: TrainReport) -> Card:
    """Keep the report and its figures with the model, and drop what an interrupted training would have gone on from."""
    (out / REPORT).write_text(json.dumps(report.to_dict(), indent=1), encoding="utf-8")
    by = {name: groups for name, groups in report.new["by"].items() if name != "serial"}
    figures = {k: v for k, v in report.new.items() if k != "model"} | {"by": by}
    measured_on = f"{len(report.split.golden)} golden boards, kept apart: {', '.join(report.split.golden[:10])}"
    sealed = seal(out, card.model_copy(update={"metrics": figures, "measured_on": measured_on}))
    shutil.rmtree(out / ".work", ignore_errors=True)
    return sealed


def _promote(out: Path, models: Path, card: Card, now: str) -> str:
    name = f"{card.name}-{card.version}"
    shutil.copytree(out, models / name)
    promote_in(models, name, at=now, reason="passed every gate of its training")
    return name


def _digest_of(samples: Samples) -> str:
    """sha256 over the joints that were learnt from: which, and with what labels."""
    said = hashlib.sha256()
    for values in (samples.serials, samples.machine, samples.refdes, samples.interface, samples.ball):
        said.update("\n".join(values.tolist()).encode())
    said.update(samples.label.tobytes())
    return said.hexdigest()

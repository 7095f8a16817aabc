"""From a trained network to a model folder: exported, calibrated, its thresholds and its horizon set on boards held apart.

Writing a model folder: the network, what it was calibrated on, the card last, so that a half-written one cannot be loaded.

A network of its own for the machines that a retraining was taught on, beside the model that it began with.

Every other machine is decided by that model as before, bit for bit: what four boards of one machine teach a network costs it
on others (measured: half of the way to such weights raised the loss on machines drawn at random from 0.021 to 0.031), and
thresholds that suit one send more of another's joints to people.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop import __version__
from inspect_pop.classify.inputs import CONTRACT, JointInputs
from inspect_pop.classify.model import CARD_SCHEMA, Calibration, Card, Familiarity, Model, OperatingPoint, Own, file_digest
from inspect_pop.classify.operating_points import CALIBRATION, write_calibration
from inspect_pop.classify.session import Classifier
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.evaluate.evaluation import summary
from inspect_pop.evaluate.outcomes import table
from inspect_pop.evaluate.samples import Samples
from inspect_pop.learn.calibrate import Before, Targets, apply, calibrate, familiarity, good_quantiles, working_point
from inspect_pop.learn.network import EMBEDDING, NETWORK, JointNet, save_network
from inspect_pop.learn.to_onnx import add_quick_network, export_network, largest_difference

__all__ = ["About", "add_own", "build_model", "own_folder", "seal", "seen_by"]

# ---- learn/build
Answer = Callable[[JointInputs], tuple[NDArray[np.float32], NDArray[np.float32]]]


_ONNX = "model.onnx"
# Both networks are compared on this many joints: every branch of the arithmetic is met by a few.
_COMPARED = 256
_CHUNK = 512
# The embedding of this many joints tells its mean and covariance well enough.
_EMBEDDED = 20_000
_ROUNDS = 2
_IDENTITY = Calibration(temperature=1.0, bias=(0.0, 0.0, 0.0, 0.0, 0.0))


@dataclass(frozen=True)
class About:
    """What a model's card says of its making; `created_at` is ISO 8601, `data` and `recipe` hold digests."""

    name: str
    version: str
    created_at: str
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def build_model(
    network: JointNet,
    varieties: tuple[str, ...],
    learnt: Samples,
    held_out: Samples,
    out: Path,
    about: About,
    *,
    targets: Targets | None = None,
    prior: Card | None = None,
    out_of_fold: NDArray[np.float32] | None = None,
    before: NDArray[np.float32] | None = None,
) -> Card:
    """Write a whole model folder, not judged yet (`metrics` is empty).

    Parameters
    ----------
    network, varieties
        The trained network and the names of its fine labels.
    learnt, held_out
        The joints it learnt from, and those of other boards on which it is calibrated.
    prior
        Card of the model that training began with: few joints leave the calibration near it.
    out_of_fold
        (n, 5) logits of `held_out` where the network has learnt from them too: as networks saw them that had not. None:
        they are calibrated on as this network sees them.
    before
        (n, 5) logits of `held_out` by the model that training began with, of which `prior` is the card: few joints leave as
        many of them to people as it does.

    Raises
    ------
    ModelFault
        The exported network answers differently from the trained one.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "card.json").unlink(missing_ok=True)
    export_network(network, out / _ONNX)
    save_network(network, varieties, out / NETWORK)
    compared = held_out.take(np.arange(min(_COMPARED, len(held_out))))
    agreement = largest_difference(network, out / _ONNX, compared.images, compared.scalars)
    quick = add_quick_network(out, network, learnt, held_out)
    content = (out / _ONNX).read_bytes()
    known = _IDENTITY if prior is None else prior.calibration
    calibration, label = known, held_out.label.astype(np.int64)
    for _ in range(_ROUNDS):  # which joints are doubtful, and looked at from four sides, follows from the calibration
        logits, embedding = seen_by(_provisional(content, about, calibration).logits, held_out)
        logits = logits if out_of_fold is None else out_of_fold
        calibration = calibrate(logits, label, prior=known)
    _, odds = apply(calibration, logits)
    horizon = _horizon(content, about, learnt, embedding)
    write_calibration(out / CALIBRATION, _names(held_out), logits)
    old = None if prior is None or before is None else Before(apply(known, before)[1], prior.operating_point)
    point = working_point(odds, held_out.label, held_out.serials, targets, old)
    values = _values(about, calibration, point, horizon) | {"good_scores": good_quantiles(odds, held_out.label)}
    proofs = {"largest difference of exported and trained probabilities": f"{agreement:.1e}", "quick network": quick}
    values["data"] = {**about.data, **proofs}
    return seal(out, Card.model_validate(values))


def seen_by(answer: Answer, samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, 5) logits and (n, e) embeddings of samples; `answer` is `Classifier.logits`, or does as it does."""
    logits, embeddings = [], []
    for start in range(0, len(samples), _CHUNK):
        images = np.asarray(samples.images[start : start + _CHUNK], np.float32)
        found, embedding = answer(JointInputs(images, samples.scalars[start : start + _CHUNK]))
        logits.append(found)
        embeddings.append(embedding)
    if not logits:
        return np.zeros((0, len(CLASSES)), np.float32), np.zeros((0, EMBEDDING), np.float32)
    return np.concatenate(logits), np.concatenate(embeddings)


def _names(samples: Samples) -> dict[str, list[str]]:
    text = {"serial": samples.serials, "label": np.asarray(CLASSES)[samples.label]}
    text |= {name: getattr(samples, name) for name in ("machine", "refdes", "interface", "ball")}
    return {name: values.tolist() for name, values in text.items()}


def _horizon(content: bytes, about: About, learnt: Samples, held_out: NDArray[np.float32]) -> Familiarity:
    step = max(1, len(learnt) // _EMBEDDED)
    some = learnt.take(np.arange(0, len(learnt), step))
    return familiarity(seen_by(_provisional(content, about, _IDENTITY).logits, some)[1], held_out, some.label.astype(np.int64))


def _provisional(content: bytes, about: About, calibration: Calibration) -> Classifier:
    """A classifier before its card exists."""
    unknown = Familiarity(mean=(0.0,) * EMBEDDING, precision=((0.0,) * EMBEDDING,) * EMBEDDING, limit=1.0)
    even = OperatingPoint(pass_below=0, fail_above=0, source="")
    card = Card.model_validate(_values(about, calibration, even, unknown))
    return Classifier(Model(Path(), card, "", content))


def _values(about: About, calibration: Calibration, point: OperatingPoint, horizon: Familiarity) -> dict[str, Any]:
    return {
        "schema": CARD_SCHEMA,
        "name": about.name,
        "version": about.version,
        "created_at": about.created_at,
        "contract": CONTRACT,
        "classes": CLASSES,
        "files": {},
        "calibration": calibration,
        "operating_point": point,
        "familiarity": horizon,
        "data": dict(about.data),
        "recipe": dict(about.recipe),
        "software": __version__,
    }


# ---- learn/folder
def seal(folder: Path, card: Card) -> Card:
    """Write `README.md`, then `card.json` with the digest of every file of the folder; the card as written.

    Raises `UsageFault` where `model.onnx` is not there.
    """
    if not (folder / "model.onnx").is_file():
        raise UsageFault(str(folder), expected="model.onnx before its card", found="none")
    (folder / "README.md").write_text(_for_people(card), encoding="utf-8")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != "card.json")
    sealed = card.model_copy(update={"files": {p.name: file_digest(p.read_bytes()) for p in files}})
    part = folder / f".card.{os.getpid()}.part"
    part.write_text(json.dumps(sealed.model_dump(mode="json", by_alias=True), indent=1), encoding="utf-8")
    part.replace(folder / "card.json")
    return sealed


def _for_people(card: Card) -> str:
    """The card as a page: what it is for, what it was made of, how good it is, and how sure that is."""
    data, point = card.data, card.operating_point
    judged = "escape" in card.metrics
    lines = [
        f"# {card.name} {card.version}",
        "",
        f"Classifies Package-on-Package solder joints as {', '.join(CLASSES)}.",
        f"Made {card.created_at} by inspect_pop {card.software}.",
        "",
        "## Made of",
        "",
        *(f"- {key}: {_short(value)}" for key, value in data.items()),
        f"- recipe: {card.recipe.get('name', 'not named')}, inputs {card.contract}",
        "",
        "## How good",
        "",
        f"Judged on {card.measured_on or 'boards held apart from training'}:" if judged else "Not judged.",
        "",
        *(["```", *summary({"model": {"name": card.name, "version": card.version}} | card.metrics), "```"] if judged else []),
        *_by_machine(card),
        *(line for heading, text in card.metrics.get("tables", {}).items() for line in ("", f"### {heading}", "", text)),
        "",
        "## Working point",
        "",
        f"Passes below {point.pass_below:.2f}, fails from {point.fail_above:.2f} (log-odds of a defect). {point.source}",
        *(
            f"On boards of {machine}, the network in `{own.folder}` decides with thresholds of its own."
            for machine, own in card.machines.items()
        ),
        "",
    ]
    return "\n".join(lines)


def _by_machine(card: Card) -> list[str]:
    """The table of figures: of the kinds of boards that were judged, else of the machines among them."""
    kinds = card.metrics.get("kinds") or card.metrics.get("by", {}).get("machine", {})
    return ["", "With exact 95 % intervals (Clopper-Pearson):", "", *table(kinds)] if kinds else []


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} ({', '.join(map(str, value[:5]))}{', …' if len(value) > 5 else ''})"
    return ", ".join(f"{v} {k}" for k, v in value.items()) if isinstance(value, dict) else str(value)


# ---- learn/own
# Of the model before: written anew, or about another training.
_NOT_KEPT = ("README.md", "report.json")


def own_folder(machines: Sequence[str]) -> str:
    """The name of the folder for the network of these machines, the same ones every time."""
    names = "\n".join(sorted(set(machines)))
    return f"own-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def add_own(before: Model, out: Path, machines: Sequence[str], about: About) -> Card:
    """Make `out` the model `before` with the network in `out / own_folder(machines)` for these machines; not judged yet.

    Networks of other machines that `before` has stay.
    """
    name, card = own_folder(machines), before.card
    for file in card.files:
        if file not in _NOT_KEPT:
            shutil.copyfile(before.folder / file, out / file)
    kept = {machine: own for machine, own in card.machines.items() if machine not in machines}
    for folder in {own.folder for own in kept.values()}:
        shutil.copytree(before.folder / folder, out / folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    own = Own(folder=name, card=file_digest((out / name / "card.json").read_bytes()))
    new = {
        "name": about.name,
        "version": about.version,
        "created_at": about.created_at,
        "data": {**card.data, **about.data},
        "recipe": dict(about.recipe),
        "machines": kept | dict.fromkeys(sorted(set(machines)), own),
        "metrics": {},
        "measured_on": "",
    }
    return seal(out, card.model_copy(update=new))

"""From a trained network to a model folder: ONNX, calibration, operating point, familiarity, card.

The card is written last, so that a half-written folder cannot be loaded.

A retraining gives the machines of its boards a network of their own, beside the model that it started from. Every other
machine is decided by that model as before, bit for bit: what four boards of one machine teach a network costs it on others
(measured: half of the way to such weights raised the loss on machines drawn at random from 0.021 to 0.031), and thresholds
that suit one machine send more of another's joints to people.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop import __version__
from inspect_pop.classify.inputs import CONTRACT, JointInputs
from inspect_pop.classify.model import (
    CARD_SCHEMA,
    Calibration,
    Card,
    Familiarity,
    MachineModel,
    Model,
    OperatingPoint,
    file_digest,
)
from inspect_pop.classify.model import NETWORK as ONNX
from inspect_pop.classify.operating_points import CALIBRATION, write_calibration
from inspect_pop.classify.session import Classifier
from inspect_pop.core import atomic
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import UsageFault
from inspect_pop.evaluate.evaluation import summary
from inspect_pop.evaluate.outcomes import table
from inspect_pop.evaluate.samples import Samples
from inspect_pop.learn.calibrate import (
    NO_CALIBRATION,
    PreviousModel,
    Targets,
    apply_calibration,
    calibrate,
    fit_familiarity,
    fit_operating_point,
    good_quantiles,
)
from inspect_pop.learn.network import EMBEDDING, NETWORK, JointNet, save_network
from inspect_pop.learn.to_onnx import add_int8_network, check_agreement, to_onnx

__all__ = [
    "ModelDescription",
    "add_machine_model",
    "build_model",
    "compute_logits",
    "machine_folder",
    "make_version",
    "seal",
]

Answer = Callable[[JointInputs], tuple[NDArray[np.float32], NDArray[np.float32]]]

_CARD = "card.json"
# The trained network and the ONNX model are compared on this many joints: a few meet every branch of the arithmetic.
_COMPARED = 256
_CHUNK = 512
# The embedding of this many joints gives its mean and covariance well enough.
_EMBEDDED = 20_000
_ROUNDS = 2
# Files of the earlier model that are written again, or describe another training.
_NOT_COPIED = ("README.md", "report.json")


@dataclass(frozen=True)
class ModelDescription:
    """What a card says of a model's making; `created_at` is ISO 8601, `data` and `recipe` hold digests."""

    name: str
    version: str
    created_at: str
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def make_version(now: str) -> str:
    """Return the version of a model that is made at `now` (ISO 8601): its digits, down to seconds."""
    return "".join(c for c in now[:19] if c.isdigit())


def build_model(
    network: JointNet,
    varieties: tuple[str, ...],
    training: Samples,
    held_out: Samples,
    out: Path,
    description: ModelDescription,
    *,
    targets: Targets | None = None,
    prior: Card | None = None,
    out_of_fold: NDArray[np.float32] | None = None,
    prior_logits: NDArray[np.float32] | None = None,
) -> Card:
    """Write a whole model folder. The model is not judged yet: the card's `metrics` are empty.

    Parameters
    ----------
    network, varieties
        The trained network and the names of its fine labels.
    training, held_out
        The joints that it was trained on, and those of other boards to calibrate on.
    out
        The folder (created if missing).
    prior
        Card of the model that training started from: few joints leave the calibration near it.
    out_of_fold
        (n, classes) logits of `held_out` by networks that were not trained on them, if `network` was. None: calibrate on the
        logits of `network`.
    prior_logits
        (n, classes) logits of `held_out` by the model that training started from, whose card is `prior`: with few joints, as many
        of them go to people as with that model.

    Raises
    ------
    ModelFault
        The ONNX model answers differently from the trained network.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / _CARD).unlink(missing_ok=True)
    to_onnx(network, out / ONNX)
    save_network(network, varieties, out / NETWORK)
    compared = held_out.take(np.arange(min(_COMPARED, len(held_out))))
    agreement = check_agreement(network, out / ONNX, compared.images, compared.scalars)
    int8 = add_int8_network(out, network, training, held_out)
    content = (out / ONNX).read_bytes()

    known = NO_CALIBRATION if prior is None else prior.calibration
    calibration, label = known, held_out.label.astype(np.int64)
    drawn = bool(len(held_out) and np.ptp(held_out.weight))  # people looked at the suspects, and at some of those that passed
    weight = held_out.weight * (held_out.weight.sum() / (held_out.weight**2).sum()) if drawn else None
    for _ in range(_ROUNDS):  # the calibration decides which joints are doubtful, and those are classified from four sides
        logits, embedding = compute_logits(_make_classifier(content, description, calibration).logits, held_out)
        logits = logits if out_of_fold is None else out_of_fold
        calibration = calibrate(logits, label, weight, known)
    _, odds = apply_calibration(calibration, logits)
    some = training.take(np.arange(0, len(training), max(1, len(training) // _EMBEDDED)))
    _, embedded = compute_logits(_make_classifier(content, description, NO_CALIBRATION).logits, some)
    familiarity = fit_familiarity(embedded, embedding, some.label.astype(np.int64))

    names = {"serial": held_out.serials, "label": np.asarray(CLASSES)[held_out.label]}
    names |= {name: getattr(held_out, name) for name in ("machine", "refdes", "interface", "ball")}
    write_calibration(out / CALIBRATION, {name: values.tolist() for name, values in names.items()}, logits)
    previous = None
    if prior is not None and prior_logits is not None:
        previous = PreviousModel(apply_calibration(known, prior_logits)[1], prior.operating_point)
    point = fit_operating_point(odds, held_out.label, held_out.serials, targets, previous, is_drawn=drawn)
    values = _card_values(description, calibration, point, familiarity)
    values["good_scores"] = good_quantiles(odds, held_out.label)
    proofs = {"largest difference of exported and trained probabilities": f"{agreement:.1e}", "quick network": int8}
    values["data"] = {**description.data, **proofs}
    return seal(out, Card.model_validate(values))


def compute_logits(answer: Answer, samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (n, classes) logits and (n, e) embeddings of samples by `answer`, which is or works as `Classifier.logits`."""
    logits, embeddings = [], []
    for start in range(0, len(samples), _CHUNK):
        images = np.asarray(samples.images[start : start + _CHUNK], np.float32)
        part, embedding = answer(JointInputs(images, samples.scalars[start : start + _CHUNK]))
        logits.append(part)
        embeddings.append(embedding)
    if not logits:
        return np.zeros((0, len(CLASSES)), np.float32), np.zeros((0, EMBEDDING), np.float32)
    return np.concatenate(logits), np.concatenate(embeddings)


def seal(folder: Path, card: Card) -> Card:
    """Write `README.md`, then `card.json` with the digest of every file of the folder; return the card as written.

    Raises `UsageFault` if `model.onnx` is missing.
    """
    if not (folder / ONNX).is_file():
        raise UsageFault(str(folder), expected=f"{ONNX} before its card", found="none")
    (folder / "README.md").write_text(_describe(card), encoding="utf-8")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != _CARD)
    sealed = card.model_copy(update={"files": {p.name: file_digest(p.read_bytes()) for p in files}})
    atomic.write_text(folder / _CARD, json.dumps(sealed.model_dump(mode="json", by_alias=True), indent=1))
    return sealed


def machine_folder(machines: Sequence[str]) -> str:
    """Return the name of the folder for the network of these machines, always the same for the same machines."""
    names = "\n".join(sorted(set(machines)))
    return f"machine-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def add_machine_model(start: Model, out: Path, machines: Sequence[str], description: ModelDescription) -> Card:
    """Make `out` the model `start` with the network in `out / machine_folder(machines)` for these machines.

    Networks that `start` has for other machines stay. The model is not judged yet.
    """
    name, card = machine_folder(machines), start.card
    for file in card.files:
        if file not in _NOT_COPIED:
            shutil.copyfile(start.folder / file, out / file)
    others = {machine: model for machine, model in card.machines.items() if machine not in machines}
    for folder in {model.folder for model in others.values()}:
        shutil.copytree(start.folder / folder, out / folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    added = MachineModel(folder=name, card=file_digest((out / name / _CARD).read_bytes()))
    changes = {
        "name": description.name,
        "version": description.version,
        "created_at": description.created_at,
        "data": {**card.data, **description.data},
        "recipe": dict(description.recipe),
        "machines": others | dict.fromkeys(sorted(set(machines)), added),
        "metrics": {},
        "measured_on": "",
    }
    return seal(out, card.model_copy(update=changes))


def _make_classifier(content: bytes, description: ModelDescription, calibration: Calibration) -> Classifier:
    """Make a classifier before the card exists."""
    familiarity = Familiarity(mean=(0.0,) * EMBEDDING, precision=((0.0,) * EMBEDDING,) * EMBEDDING, limit=1.0)
    point = OperatingPoint(pass_below=0, fail_above=0, source="")
    card = Card.model_validate(_card_values(description, calibration, point, familiarity))
    return Classifier(Model(Path(), card, "", content))


def _card_values(
    description: ModelDescription, calibration: Calibration, point: OperatingPoint, familiarity: Familiarity
) -> dict[str, Any]:
    return {
        "schema": CARD_SCHEMA,
        "name": description.name,
        "version": description.version,
        "created_at": description.created_at,
        "contract": CONTRACT,
        "classes": CLASSES,
        "files": {},
        "calibration": calibration,
        "operating_point": point,
        "familiarity": familiarity,
        "data": dict(description.data),
        "recipe": dict(description.recipe),
        "software": __version__,
    }


def _describe(card: Card) -> str:
    """Return the card as a page: what the model is for, what it was made of, how good it is, and how sure that is."""
    data, point, metrics = card.data, card.operating_point, card.metrics
    short = {k: ", ".join(f"{n} {name}" for name, n in v.items()) if isinstance(v, dict) else v for k, v in data.items()}
    for key, value in data.items():
        if isinstance(value, list):
            short[key] = f"{len(value)} ({', '.join(map(str, value[:5]))}{', …' if len(value) > 5 else ''})"
    judged = ["Not judged."]
    if "escape" in metrics:
        figures = summary({"model": {"name": card.name, "version": card.version}} | metrics)
        judged = [f"Judged on {card.measured_on or 'boards that it was not trained on'}:", "", "```", *figures, "```"]
    groups = metrics.get("kinds") or metrics.get("by", {}).get("machine", {})
    if groups:
        judged += ["", "With exact 95 % intervals (Clopper-Pearson):", "", *table(groups)]
    for heading, text in metrics.get("tables", {}).items():
        judged += ["", f"### {heading}", "", text]
    lines = [
        f"# {card.name} {card.version}",
        "",
        f"Classifies Package-on-Package solder joints as {', '.join(CLASSES)}.",
        f"Made {card.created_at} by inspect_pop {card.software}.",
        "",
        "## Made of",
        "",
        *(f"- {key}: {value}" for key, value in short.items()),
        f"- training configuration: {card.recipe.get('name', 'not named')}, inputs {card.contract}",
        "",
        "## How good",
        "",
        *judged,
        "",
        "## Operating point",
        "",
        f"Passes below {point.pass_below:.2f}, fails from {point.fail_above:.2f} (log-odds of a defect). {point.source}",
        *(
            f"On boards of {machine}, the network in `{model.folder}` decides, with its own thresholds."
            for machine, model in card.machines.items()
        ),
        "",
    ]
    return "\n".join(lines)

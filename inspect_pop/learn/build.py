"""From a trained network to a model folder: exported, calibrated, its thresholds and its horizon set on boards held apart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop import __version__
from inspect_pop.classify.calibration import CALIBRATION, write_calibration
from inspect_pop.classify.inputs import CONTRACT, JointInputs
from inspect_pop.classify.model import CARD_SCHEMA, Calibration, Card, Familiarity, Model, OperatingPoint
from inspect_pop.classify.session import Classifier
from inspect_pop.joints import CLASSES
from inspect_pop.learn.calibrate import Before, Targets, apply, calibrate, good_quantiles, working_point
from inspect_pop.learn.eight_bit import add_quick_network
from inspect_pop.learn.export import export_network, largest_difference
from inspect_pop.learn.familiarity import familiarity
from inspect_pop.learn.folder import seal
from inspect_pop.learn.network import EMBEDDING, JointNet
from inspect_pop.learn.samples import Samples
from inspect_pop.learn.weights import NETWORK, save_network

Answer = Callable[[JointInputs], tuple[NDArray[np.float32], NDArray[np.float32]]]

__all__ = ["About", "build_model", "seen_by"]

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

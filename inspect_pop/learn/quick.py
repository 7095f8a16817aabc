"""Judgements that take seconds: how far to go towards new weights, and a learning curve without training it over and over."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.classify.model import Calibration
from inspect_pop.classify.session import four_sided
from inspect_pop.joints import CLASSES
from inspect_pop.learn.build import seen_by
from inspect_pop.learn.calibrate import apply, calibrate
from inspect_pop.learn.curve import Curve, measure_curve
from inspect_pop.learn.fit import predict
from inspect_pop.learn.network import JointNet
from inspect_pop.learn.samples import Samples
from inspect_pop.learn.weights import between

__all__ = ["Fold", "choose_share", "look", "quick_curve"]

_GOOD = CLASSES.index("good")


@dataclass(frozen=True)
class Fold:
    """A network that learnt from some boards, and the joints of the boards that it did not see."""

    network: JointNet
    held_out: Samples


def choose_share(
    old: JointNet, folds: Sequence[Fold], shares: Sequence[float], elsewhere: Samples, prior: Calibration
) -> tuple[float, dict[str, float]]:
    """How far to go from the old weights to the new ones: what best explains the joints held out.

    The joints of all folds count together, after one calibration; `elsewhere` (joints of other machines, may be empty)
    count alike beside them. Returns the share, and the mean loss of each.
    """
    losses: dict[float, float] = {}
    for share in shares:
        networks = [between(old, fold.network, share) for fold in folds]
        logits = [look(n, fold.held_out, prior)[0] for n, fold in zip(networks, folds, strict=True)]
        label = np.concatenate([fold.held_out.label for fold in folds])
        parts = [_loss(np.concatenate(logits), label, prior)]
        if len(elsewhere):
            parts.append(float(np.mean([_loss(look(n, elsewhere, prior)[0], elsewhere.label, prior) for n in networks])))
        losses[share] = float(np.mean(parts))
    best = min(losses, key=lambda share: (losses[share], share))
    return best, {f"{share:g}": loss for share, loss in losses.items()}


def look(network: JointNet, samples: Samples, calibration: Calibration) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, 5) logits and (n, e) embeddings of a network that is not exported yet, as the line would see these joints."""

    def raw(inputs: JointInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, embedding = predict(network, inputs.images.astype(np.float16), inputs.scalars)
        return logits.numpy(), embedding.numpy()

    return seen_by(partial(four_sided, raw, calibration), samples)


def quick_curve(
    features: NDArray[np.floating], samples: Samples, golden: NDArray[np.floating], golden_label: NDArray[np.integer]
) -> Curve:
    """Errors (good for bad, bad for good) on the golden joints of a quick classifier that learnt from more and more boards.

    `features` (n, k) and `golden` (m, k) are what a network that saw none of these boards says of the joints. The whole
    network learns more than a classifier on top of it does; how the errors fall with the boards is alike.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    serial, bad = samples.serials, samples.label != _GOOD

    def errors_after(boards: tuple[str, ...]) -> tuple[int, int]:
        rows = np.isin(serial, boards)
        if len(np.unique(bad[rows])) < 2:
            return 0, 0  # nothing to tell apart on these boards: no point of the curve
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features[rows], bad[rows])
        return int((model.predict(golden) != (golden_label != _GOOD)).sum()), len(golden_label)

    return measure_curve(samples.boards, errors_after)


def _loss(logits: NDArray[np.float32], label: NDArray[np.integer], prior: Calibration) -> float:
    """Mean negative log-likelihood after calibration."""
    known = label.astype(np.int64)
    p, _ = apply(calibrate(logits, known, prior=prior), logits)
    return float(-np.log(np.maximum(p[np.arange(len(known)), known], 1e-12)).mean())

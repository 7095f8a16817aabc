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
    old: JointNet, folds: Sequence[Fold], shares: Sequence[float], prior: Calibration
) -> tuple[float, dict[str, float]]:
    """How far to go from the old weights to the new ones: the farthest that explains the joints held out as well as any.

    The joints of all folds count together, after one calibration. As well as any is: worse than the best share by no more
    than one standard error of the difference, over boards (the rule of one standard error, Breiman et al., 1984). The
    farthest, because networks that learnt without some of the boards understate what all of them bring. Returns the share,
    and the mean loss of each.
    """
    label = np.concatenate([fold.held_out.label for fold in folds]).astype(np.int64)
    boards = np.concatenate([fold.held_out.serials for fold in folds])
    losses: dict[float, NDArray[np.float64]] = {}
    for share in shares:
        networks = [between(old, fold.network, share) for fold in folds]
        logits = [look(n, fold.held_out, prior)[0] for n, fold in zip(networks, folds, strict=True)]
        losses[share] = _losses(np.concatenate(logits), label, prior)
    best = min(losses, key=lambda share: (losses[share].mean(), share))
    as_well = [share for share, loss in losses.items() if _as_well(loss - losses[best], boards)]
    return max(as_well), {f"{share:g}": float(loss.mean()) for share, loss in losses.items()}


def _as_well(worse: NDArray[np.float64], boards: NDArray[np.generic]) -> bool:
    """Whether the mean of `worse` (n,) is within one standard error of nothing, boards drawn anew."""
    _, which = np.unique(boards, return_inverse=True)
    totals = np.bincount(which, weights=worse)
    spread = np.sqrt(len(totals)) * totals.std(ddof=1) if len(totals) > 1 else 0.0
    return bool(totals.sum() <= spread)


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


def _losses(logits: NDArray[np.float32], label: NDArray[np.int64], prior: Calibration) -> NDArray[np.float64]:
    """(n,) negative log-likelihood after calibration."""
    p, _ = apply(calibrate(logits, label, prior=prior), logits)
    return -np.log(np.maximum(p[np.arange(len(label)), label].astype(np.float64), 1e-12))

"""Judgements that take seconds: how far to go towards new weights, and a learning curve without training it over and over."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Calibration
from inspect_pop.joints import CLASSES
from inspect_pop.learn.calibrate import apply, calibrate
from inspect_pop.learn.curve import Curve, measure_curve
from inspect_pop.learn.fit import predict
from inspect_pop.learn.network import JointNet
from inspect_pop.learn.samples import Samples
from inspect_pop.learn.weights import between

__all__ = ["choose_share", "quick_curve"]

_GOOD = CLASSES.index("good")


def choose_share(
    old: JointNet, new: JointNet, shares: Sequence[float], held_out: Sequence[Samples], prior: Calibration
) -> tuple[JointNet, float, dict[str, float]]:
    """The network on the way from the old to the new weights that best explains the boards held out.

    `held_out` are sets that count alike (the user's boards, and those of other machines where there is a replay set).
    Returns the network, its share, and the mean loss of each share, each after its own calibration.
    """
    losses: dict[float, float] = {}
    for share in shares:
        network = between(old, new, share)
        losses[share] = float(np.mean([_loss(network, s, prior) for s in held_out if len(s)]))
    best = min(losses, key=lambda share: (losses[share], share))
    return between(old, new, best), best, {f"{share:g}": loss for share, loss in losses.items()}


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


def _loss(network: JointNet, samples: Samples, prior: Calibration) -> float:
    """Mean negative log-likelihood after calibration."""
    logits = predict(network, samples.images, samples.scalars)[0].numpy()
    label = samples.label.astype(np.int64)
    p, _ = apply(calibrate(logits, label, prior=prior), logits)
    return float(-np.log(np.maximum(p[np.arange(len(label)), label], 1e-12)).mean())

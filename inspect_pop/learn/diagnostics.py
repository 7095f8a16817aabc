"""Judgements that take seconds: how far to go towards new weights, and what more labelled boards would bring.

A learning curve is a power law through the error rates over nested sets of boards: an error rate falls as a power of the
number of boards over the range that can be labelled (Hestness et al., 2017; in experience: halved with each doubling from
10 to 60 boards, no plateau). The law is fitted to counts, and its interval comes from redrawn counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.classify.model import Calibration
from inspect_pop.classify.session import classify_four_views
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.evaluate.samples import Samples, hash_board
from inspect_pop.learn.calibrate import apply_calibration, calibrate
from inspect_pop.learn.fit import predict
from inspect_pop.learn.network import JointNet, interpolate
from inspect_pop.learn.package_model import compute_logits

__all__ = [
    "Curve",
    "CurvePoint",
    "Fold",
    "Forecast",
    "choose_share",
    "curve_sizes",
    "estimate_curve",
    "fit_curve",
    "measure_curve",
    "nest_boards",
    "predict_four_sided",
]

_GOOD = CLASSES.index(GOOD)
_DRAWS = 400
# Slopes that a learning curve can have: more boards never harm, and never help faster than this.
_SLOPES = np.linspace(0, 2, 81)


@dataclass(frozen=True)
class CurvePoint:
    """A model trained on `boards` boards made `errors` errors on `joints` held-out joints."""

    boards: int
    errors: int
    joints: int


@dataclass(frozen=True)
class Forecast:
    """The error rate to expect from `boards` boards, with its 90 % interval."""

    boards: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """rate = scale * boards^-slope, fitted to `points`; `forecasts` extrapolate it, `summary` says it in words.

    `scale` and `slope` are None if the points allow no fit; `summary` then says why.
    """

    points: tuple[CurvePoint, ...]
    scale: float | None
    slope: float | None
    forecasts: tuple[Forecast, ...]
    summary: str

    def to_dict(self) -> dict[str, object]:
        """Return the curve for JSON."""
        return asdict(self)


def curve_sizes(boards: int) -> list[int]:
    """Return the set sizes to train on: all boards, and halves of them down to one board; four at most."""
    sizes = [boards]
    while sizes[-1] > 1 and len(sizes) < 4:
        sizes.append(sizes[-1] // 2)
    return sorted(set(sizes))


def nest_boards(serials: Sequence[str]) -> list[tuple[str, ...]]:
    """Return one set of boards per size of `curve_sizes`, each holding the smaller ones, always the same."""
    order = sorted(set(serials), key=lambda s: hash_board(s, "curve"))
    return [tuple(order[:n]) for n in curve_sizes(len(order))]


def measure_curve(serials: Sequence[str], errors_after: Callable[[tuple[str, ...]], tuple[int, int]]) -> Curve:
    """Return the curve of a way of training: `errors_after(boards)` trains on those and returns (errors, held-out joints)."""
    return fit_curve([CurvePoint(len(boards), *errors_after(boards)) for boards in nest_boards(serials)])


def fit_curve(points: Sequence[CurvePoint], ahead: Sequence[int] | None = None, *, seed: int = 0) -> Curve:
    """Fit a power law by likelihood and extrapolate it to `ahead` boards (default: two, four and eight times as many)."""
    known = tuple(sorted((p for p in points if p.joints > 0), key=lambda p: p.boards))
    if len({p.boards for p in known}) < 2:
        return Curve(known, None, None, (), "Too few boards for a learning curve: it takes two sets of different size.")
    if sum(p.errors for p in known) == 0:
        return Curve(known, None, None, (), "No errors on the held-out boards: they are too few to show what more would bring.")
    ahead = tuple(ahead) if ahead is not None else tuple(known[-1].boards * k for k in (2, 4, 8))
    n, of = np.array([p.boards for p in known]), np.array([p.joints for p in known])
    errors = np.array([p.errors for p in known])
    scale, slope = _fit(n, errors, of)
    expected = np.clip(scale * n**-slope, 0, 1)
    redrawn = np.random.default_rng(seed).binomial(of, expected, size=(_DRAWS, len(n)))
    fits = [_fit(n, row, of) for row in redrawn if row.sum()]
    forecasts = []
    for m in ahead:
        low, high = np.quantile([a * m**-b for a, b in fits], [0.05, 0.95])
        forecasts.append(Forecast(m, min(1.0, scale * m**-slope), float(low), min(1.0, float(high))))
    last = known[-1]
    summary = f"{last.boards} boards leave {last.errors} errors in {last.joints} held-out joints."
    if slope == 0:
        summary += " More boards of this kind would bring nothing that shows on these boards."
    else:
        rates = "; ".join(f"{f.boards} boards: {100 * f.rate:.2f} % ({100 * f.low:.2f} to {100 * f.high:.2f})" for f in forecasts)
        summary += f" Each doubling leaves {2**-slope:.0%} of the errors. To expect: {rates}."
    return Curve(known, scale, slope, tuple(forecasts), summary)


def _fit(n: NDArray[np.int64], errors: NDArray[np.int64], of: NDArray[np.int64]) -> tuple[float, float]:
    """Return (scale, slope) of the largest Poisson likelihood; for a given slope, scale is errors over exposure."""
    exposure = of[None] * n[None] ** -_SLOPES[:, None]
    scales = errors.sum() / exposure.sum(axis=1)
    expected = scales[:, None] * exposure
    likelihood = (errors[None] * np.log(expected) - expected).sum(axis=1)
    best = int(likelihood.argmax())
    return float(scales[best]), float(_SLOPES[best])


@dataclass(frozen=True)
class Fold:
    """A network that was trained on some boards, and the joints of the boards that it did not see."""

    network: JointNet
    held_out: Samples


def choose_share(
    old: JointNet, folds: Sequence[Fold], shares: Sequence[float], prior: Calibration
) -> tuple[float, dict[str, float]]:
    """Choose how far to go from the old weights to the new ones: the farthest that explains held-out joints as well as any.

    The joints of all folds count together, after one calibration. A share is as good as the best if its loss is higher by no
    more than one standard error of the difference, over boards (the rule of one standard error, Breiman et al., 1984). The
    farthest is chosen because networks that were trained without some of the boards understate what all of them bring.

    Returns
    -------
    The share, and the mean loss of each share by its text.
    """
    label = np.concatenate([fold.held_out.label for fold in folds]).astype(np.int64)
    _, board = np.unique(np.concatenate([fold.held_out.serials for fold in folds]), return_inverse=True)
    losses: dict[float, NDArray[np.float64]] = {}
    for share in shares:
        networks = [interpolate(old, fold.network, share) for fold in folds]
        logits = np.concatenate([predict_four_sided(n, fold.held_out, prior)[0] for n, fold in zip(networks, folds, strict=True)])
        p, _ = apply_calibration(calibrate(logits, label, prior=prior), logits)
        losses[share] = -np.log(np.maximum(p[np.arange(len(label)), label].astype(np.float64), 1e-12))
    best = min(losses, key=lambda share: (losses[share].mean(), share))
    as_good = []
    for share, loss in losses.items():
        totals = np.bincount(board, weights=loss - losses[best])
        error = np.sqrt(len(totals)) * totals.std(ddof=1) if len(totals) > 1 else 0.0
        if totals.sum() <= error:
            as_good.append(share)
    return max(as_good), {f"{share:g}": float(loss.mean()) for share, loss in losses.items()}


def predict_four_sided(
    network: JointNet, samples: Samples, calibration: Calibration
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (n, classes) logits and (n, e) embeddings of a network that has no ONNX file yet, as the line would compute them."""

    def answer(inputs: JointInputs) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, embedding = predict(network, inputs.images.astype(np.float16), inputs.scalars)
        return logits.numpy(), embedding.numpy()

    return compute_logits(partial(classify_four_views, answer, calibration), samples)


def estimate_curve(
    features: NDArray[np.floating], samples: Samples, golden: NDArray[np.floating], golden_label: NDArray[np.integer]
) -> Curve:
    """Return the learning curve of a logistic regression on a network's features, by its errors on golden joints.

    `features` (n, k) and `golden` (m, k) are the outputs of a network that saw none of these boards. Training the whole
    network achieves more than a classifier on top of it, but the errors fall with the number of boards in the same way.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    serial, bad = samples.serials, samples.label != _GOOD

    def errors_after(boards: tuple[str, ...]) -> tuple[int, int]:
        rows = np.isin(serial, boards)
        if len(np.unique(bad[rows])) < 2:
            return 0, 0  # these boards show one class only: no point of the curve
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features[rows], bad[rows])
        return int((model.predict(golden) != (golden_label != _GOOD)).sum()), len(golden_label)

    return measure_curve(samples.boards, errors_after)

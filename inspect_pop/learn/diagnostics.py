"""What more labelled boards would buy: error rates over nested sets of boards, and a power law through them.

An error rate falls as a power of the number of boards over the range that anybody can label (Hestness et al., 2017;
field notes: halved with each doubling from 10 to 60 boards, no plateau). The law is fitted to counts, and its interval
comes from counts drawn anew.

Judgements that take seconds: how far to go towards new weights, and a learning curve without training it over and over.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.inputs import JointInputs
from inspect_pop.classify.model import Calibration
from inspect_pop.classify.session import four_sided
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.evaluate.samples import Samples
from inspect_pop.evaluate.split import place
from inspect_pop.learn.calibrate import apply, calibrate
from inspect_pop.learn.fit import predict
from inspect_pop.learn.network import JointNet, between
from inspect_pop.learn.package_model import seen_by

__all__ = [
    "Curve",
    "Fold",
    "Forecast",
    "Point",
    "choose_share",
    "fit_curve",
    "look",
    "measure_curve",
    "nested",
    "quick_curve",
    "sizes",
]

# ---- learn/curve
_DRAWS = 400
# Slopes that a learning curve can have: more boards never harm, and never help faster than this.
_SLOPES = np.linspace(0, 2, 81)


@dataclass(frozen=True)
class Point:
    """A model that learnt from `boards` boards erred on `errors` of `joints` held-out ones."""

    boards: int
    errors: int
    joints: int


@dataclass(frozen=True)
class Forecast:
    """The rate to expect from `boards` boards, with its 90 % interval."""

    boards: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """rate = scale * boards^-slope, through `points`; `forecasts` look beyond them. None where nothing can be said, and why."""

    points: tuple[Point, ...]
    scale: float | None
    slope: float | None
    forecasts: tuple[Forecast, ...]
    said: str

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def sizes(boards: int) -> list[int]:
    """Set sizes to train on: the whole, and halves of it down to one board; four at most."""
    found = [boards]
    while found[-1] > 1 and len(found) < 4:
        found.append(found[-1] // 2)
    return sorted(set(found))


def nested(serials: Sequence[str]) -> list[tuple[str, ...]]:
    """One set of boards for each of `sizes`, each holding the smaller ones, the same ones every time."""
    order = sorted(set(serials), key=lambda s: place(s, "curve"))
    return [tuple(order[:n]) for n in sizes(len(order))]


def measure_curve(serials: Sequence[str], errors_after: Callable[[tuple[str, ...]], tuple[int, int]]) -> Curve:
    """The curve of a way of learning: `errors_after(boards)` trains on those boards and gives (errors, joints) held out."""
    points = [Point(len(boards), *errors_after(boards)) for boards in nested(serials)]
    return fit_curve(points)


def fit_curve(points: Sequence[Point], ahead: Sequence[int] | None = None, *, seed: int = 0) -> Curve:
    """A power law through the points by likelihood, and what it says of `ahead` boards (twice, four and eight times as many)."""
    known = tuple(sorted((p for p in points if p.joints > 0), key=lambda p: p.boards))
    if len({p.boards for p in known}) < 2:
        return Curve(known, None, None, (), "Too few boards for a learning curve: it takes two sets of different size.")
    if sum(p.errors for p in known) == 0:
        return Curve(known, None, None, (), "No errors on the boards held out: they are too few to show what more would buy.")
    ahead = tuple(ahead) if ahead is not None else tuple(known[-1].boards * k for k in (2, 4, 8))
    n, of = np.array([p.boards for p in known]), np.array([p.joints for p in known])
    errors = np.array([p.errors for p in known])
    scale, slope = _fit(n, errors, of)
    expected = np.clip(scale * n**-slope, 0, 1)
    drawn = np.random.default_rng(seed).binomial(of, expected, size=(_DRAWS, len(n)))
    fits = [_fit(n, row, of) for row in drawn if row.sum()]
    forecasts = []
    for m in ahead:
        rates = [a * m**-b for a, b in fits]
        low, high = np.quantile(rates, [0.05, 0.95])
        forecasts.append(Forecast(m, min(1.0, scale * m**-slope), float(low), min(1.0, float(high))))
    return Curve(known, scale, slope, tuple(forecasts), _in_words(known[-1], slope, forecasts))


def _fit(n: NDArray[np.int64], errors: NDArray[np.int64], of: NDArray[np.int64]) -> tuple[float, float]:
    """(scale, slope) with the largest Poisson likelihood; for a given slope the scale is errors over exposure."""
    exposure = of[None] * n[None] ** -_SLOPES[:, None]
    scales = errors.sum() / exposure.sum(axis=1)
    expected = scales[:, None] * exposure
    likelihood = (errors[None] * np.log(expected) - expected).sum(axis=1)
    best = int(likelihood.argmax())
    return float(scales[best]), float(_SLOPES[best])


def _in_words(last: Point, slope: float, forecasts: Sequence[Forecast]) -> str:
    now = f"{last.boards} boards leave {last.errors} errors in {last.joints} joints held out."
    if slope == 0:
        return f"{now} More boards of this kind would buy nothing that shows here."
    buys = "; ".join(f"{f.boards} boards: {100 * f.rate:.2f} % ({100 * f.low:.2f} to {100 * f.high:.2f})" for f in forecasts)
    return f"{now} Each doubling leaves {2**-slope:.0%} of the errors. To expect: {buys}."


# ---- learn/quick
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

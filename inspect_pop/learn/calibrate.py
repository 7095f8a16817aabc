"""Calibrated probabilities, an operating point, and how unfamiliar a joint may be, fitted on boards not trained on.

Probabilities are softmax(logits / temperature + bias): one temperature for how sure the network may be, and one bias per
class for how often it occurs (Guo et al., 2017: temperature scaling, and vector scaling without its scales). One number a
class and a temperature need few joints, and cannot change which joint looks worse than another within a class.

Familiarity is a Mahalanobis distance in the embedding: a joint beyond the limit goes to a person.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Calibration, Familiarity, OperatingPoint
from inspect_pop.classify.operating_points import choose_operating_point
from inspect_pop.classify.session import log_odds, softmax
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import PromiseFault

__all__ = [
    "NO_CALIBRATION",
    "PreviousModel",
    "Targets",
    "apply_calibration",
    "calibrate",
    "compute_distances",
    "fit_familiarity",
    "fit_operating_point",
    "good_quantiles",
]

NO_CALIBRATION = Calibration(temperature=1.0, bias=(0.0,) * len(CLASSES))
_GOOD = CLASSES.index(GOOD)

# Share of the variance that is spread evenly, so that directions in which the training set never varies do not make every
# other machine unfamiliar.
_ISOTROPIC_SHARE = 0.05
# The limit is this many times the distance that 999 of 1,000 held-out joints keep: another machine is farther away than
# another board, and review of all its joints would not help.
_LIMIT_FACTOR = 3.0
_LIMIT_QUANTILE = 0.999

# Strength of the pull of the temperature and of each bias to their prior values, in joints: with few joints, or a class with
# a handful, they stay there.
_PULL = np.array([20.0, *[3.0] * len(CLASSES)])
_TEMPERATURES = (0.2, 10.0)
_BIAS_LIMIT = 10.0

# Largest rise of `pass_below` above that of the previous model, in log-odds: its scores are of another scale, and few joints
# must not decide more (in the one case measured, the same share passed 0.6 later once the scores were calibrated there).
_MAX_RISE = 1.0
# Candidates for `fail_above`: at even odds or later.
_FAIL_CANDIDATES = np.arange(0.0, 8.01, 0.1)
# Spread (scale of a logistic distribution) between networks that learnt from other boards of a machine, for the same joint:
# a standard deviation of 0.8 in log-odds, measured on an odd machine. A threshold just beyond the last of 2,000 good joints,
# counted at none, would fail one in a thousand of the next ones.
_NETWORK_SPREAD = 0.5
_NO_PRIOR = OperatingPoint(pass_below=-2.0, fail_above=2.0, source="odds of 7 to 1")


@dataclass(frozen=True)
class Targets:
    """What an operating point aims at: shares of defects that pass and of good joints that fail, confidence, review."""

    escape_rate: float = 0.01
    false_call_ppm: float = 500.0
    confidence: float = 0.95
    review_share: float = 0.02


@dataclass(frozen=True)
class PreviousModel:
    """The model that training started from: its (n,) log-odds of the joints to calibrate on, and its operating point."""

    log_odds: NDArray[np.floating]
    point: OperatingPoint


def fit_familiarity(
    training: NDArray[np.floating], held_out: NDArray[np.floating], label: NDArray[np.integer] | None = None
) -> Familiarity:
    """Return mean, precision and limit of the embedding.

    Parameters
    ----------
    training
        (n, e) embeddings of the joints that were trained on.
    held_out
        (m, e) embeddings of joints of other boards, by which the limit is set; if empty, by those of `training`.
    label
        (n,) class of the joints that were trained on. Each class counts alike, or the rare ones would all be unfamiliar.
    """
    training = np.asarray(training, np.float64)
    weight = np.ones(len(training)) if label is None else 1 / np.bincount(label, minlength=1)[label]
    weight = weight / weight.sum()
    mean = weight @ training
    away = training - mean
    covariance = (away * weight[:, None]).T @ away
    size = len(mean)
    isotropic = (np.trace(covariance) / size + 1e-9) * np.eye(size)
    precision = np.linalg.inv((1 - _ISOTROPIC_SHARE) * covariance + _ISOTROPIC_SHARE * isotropic)
    reference = held_out if len(held_out) else training
    limit = _LIMIT_FACTOR * float(np.quantile(compute_distances(reference, mean, precision), _LIMIT_QUANTILE))
    # Seven digits: the line computes in single precision.
    rows = [tuple(float(f"{value:.7g}") for value in row) for row in (mean, *precision)]
    return Familiarity(mean=rows[0], precision=tuple(rows[1:]), limit=max(limit, 1e-6))


def compute_distances(
    embedding: NDArray[np.floating], mean: NDArray[np.floating], precision: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return (n,) squared Mahalanobis distances of (n, e) embeddings."""
    away = np.asarray(embedding, np.float64) - mean
    return np.asarray(np.einsum("ij,jk,ik->i", away, precision, away, optimize=True), np.float64)


def calibrate(
    logits: NDArray[np.floating],
    label: NDArray[np.integer],
    weight: NDArray[np.floating] | None = None,
    prior: Calibration | None = None,
) -> Calibration:
    """Return the calibration with the least negative log-likelihood over (n, classes) logits and (n,) labels.

    Parameters
    ----------
    weight
        (n,) how much each joint counts. A set with more defects than a line has makes every joint look more suspicious than
        it is.
    prior
        What few joints stay near: the calibration of the model that training started from; None for no calibration. Without
        joints it is returned.
    """
    from scipy.optimize import minimize

    n = len(label)
    prior = prior or NO_CALIBRATION
    if n == 0:
        return prior
    known = np.array([np.log(prior.temperature), *prior.bias])
    counts = np.ones(n) if weight is None else np.asarray(weight, np.float64)
    rows = np.arange(n)

    def loss(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        inverse = np.exp(-free[0])
        scaled = logits * inverse + free[1:]
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        logp = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        slope = np.exp(logp)
        slope[rows, label] -= 1
        slope *= counts[:, None]
        pull = _PULL * (free - known)
        value = -float(np.sum(counts * logp[rows, label])) + float(pull @ (free - known)) / 2
        gradient = np.concatenate([[-np.sum(slope * logits) * inverse], slope.sum(axis=0)]) + pull
        return value / n, gradient / n

    low, high = np.log(_TEMPERATURES)
    limits = [(low, high)] + [(-_BIAS_LIMIT, _BIAS_LIMIT)] * len(CLASSES)
    best = minimize(loss, known, jac=True, method="L-BFGS-B", bounds=limits)
    bias = best.x[1:] - best.x[1:].mean()  # a shift of all biases changes nothing
    return Calibration.model_validate({"temperature": float(np.exp(best.x[0])), "bias": tuple(bias.tolist())})


def apply_calibration(calibration: Calibration, logits: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (n, classes) calibrated probabilities and (n,) log-odds of a defect, computed as on the line."""
    scaled = np.asarray(logits, np.float32) / calibration.temperature + np.asarray(calibration.bias, np.float32)
    return softmax(scaled), log_odds(scaled)


def good_quantiles(odds: NDArray[np.floating], label: NDArray[np.integer]) -> tuple[float, ...]:
    """Return the log-odds of the good joints at 0, 1, ... 100 %, with which another machine's scores are compared."""
    good = odds[label == _GOOD]
    return tuple(float(v) for v in np.quantile(good, np.linspace(0, 1, 101))) if len(good) else ()


def fit_operating_point(
    odds: NDArray[np.floating],
    label: NDArray[np.integer],
    boards: NDArray[np.generic],
    targets: Targets | None = None,
    previous: PreviousModel | None = None,
    *,
    is_drawn: bool = False,
) -> OperatingPoint:
    """Return thresholds for everyday use: the targets as a promise if the joints can carry it, else as they are in the set.

    After a previous model, few joints send as many of them to people as that model did. Otherwise review is limited: if more
    than `targets.review_share` of the good joints would go to a person, `pass_below` rises until that share does, and
    `source` says so. It does not rise above that of the previous model: less review is not worth escapes that the old model
    did not have.

    Parameters
    ----------
    odds, label, boards
        (n,) log-odds of a defect, class and board of each joint.
    targets
        None for the defaults.
    previous
        The model that training started from.
    is_drawn
        Whether the joints are suspects and a sample of those that passed, rather than all of their boards: no promise then.
    """
    targets = targets or Targets()
    try:
        if is_drawn:
            raise PromiseFault("the joints", expected="all of their boards", found="those at which people looked")
        point = choose_operating_point(
            odds,
            label != _GOOD,
            max_escape_rate=targets.escape_rate,
            max_false_call_ppm=targets.false_call_ppm,
            confidence=targets.confidence,
            boards=boards,
        ).point
    except PromiseFault as refused:
        if previous is not None:
            return _match_review(odds, label, targets, previous, str(refused))
        point = _follow_counts(odds, label, targets, str(refused))
    return _limit_review(point, odds[label == _GOOD], targets.review_share, previous.point if previous else None)


def _match_review(
    odds: NDArray[np.floating], label: NDArray[np.integer], targets: Targets, previous: PreviousModel, why: str
) -> OperatingPoint:
    """Return thresholds with the previous model's amount of review and the fewest errors; no promise.

    No more good joints fail than before; for each candidate of `fail_above`, review says where `pass_below` is. Errors are
    those to expect if each joint's score comes out a little differently. An error costs the more, the fewer of its kind the
    targets allow, and more escapes than before cost before all else. If the previous model missed a target on these joints,
    review may rise to `targets.review_share`.
    """
    bad, good, ranked = odds[label != _GOOD], odds[label == _GOOD], np.sort(odds)
    escapes, calls, reviewed = _count_outcomes(previous.log_odds, label, previous.point)
    escape_cost = 1 / max(1.0, targets.escape_rate * len(bad))
    call_cost = 1 / max(1.0, targets.false_call_ppm / 1e6 * len(good))
    max_reviewed = reviewed
    if escapes * escape_cost > 1 or calls * call_cost > 1:
        max_reviewed = max(reviewed, round(targets.review_share * len(odds)))
    candidates: list[float] = []  # at which no more good joints fail than before; beyond all of them in any case
    if len(good):
        last = max(0.0, float(np.nextafter(good.max(), np.inf)))
        candidates = [float(f) for f in _FAIL_CANDIDATES if np.sum(good >= f) <= calls] + [last]
    options = []
    for fail_above in candidates:
        passed = max(0, int(np.sum(odds < fail_above)) - max_reviewed)
        pass_below = min(float(ranked[min(passed, len(odds) - 1)]), fail_above, previous.point.pass_below + _MAX_RISE)
        cost = _expect_beyond(pass_below - bad) * escape_cost + _expect_beyond(good - fail_above) * call_cost
        options.append((max(0, int(np.sum(bad < pass_below)) - escapes), cost, pass_below, fail_above))
    _, _, low, high = min(options, default=(0, 0.0, previous.point.pass_below, previous.point.fail_above))
    point = OperatingPoint(pass_below=low, fail_above=high, source="")
    counts = zip(
        ("escapes", "false calls", "for review"), (escapes, calls, reviewed), _count_outcomes(odds, label, point), strict=True
    )
    changes = ", ".join(f"{new} {what} ({old} before)" for what, old, new in counts)
    source = f"as counted on {len(bad)} defective and {len(good)} good joints: {changes}; without a promise ({why})"
    return point.model_copy(update={"source": source})


def _expect_beyond(beyond: NDArray[np.floating]) -> float:
    """Return how many of the joints that lie (n,) `beyond` a threshold another network would place beyond it."""
    return float(np.sum(1 / (1 + np.exp(-np.clip(beyond / _NETWORK_SPREAD, -50, 50)))))


def _count_outcomes(odds: NDArray[np.floating], label: NDArray[np.integer], point: OperatingPoint) -> tuple[int, int, int]:
    """Return the numbers of escapes, false calls and joints for review."""
    passed, failed = odds < point.pass_below, odds >= point.fail_above
    bad = label != _GOOD
    return int(np.sum(passed & bad)), int(np.sum(failed & ~bad)), int(np.sum(~passed & ~failed))


def _follow_counts(odds: NDArray[np.floating], label: NDArray[np.integer], targets: Targets, why: str) -> OperatingPoint:
    """Return thresholds near the targets' shares of these joints, the nearer the more joints there are; no promise."""
    bad, good = odds[label != _GOOD], odds[label == _GOOD]
    pass_below, fail_above = _NO_PRIOR.pass_below, _NO_PRIOR.fail_above
    if len(bad):
        lowest = float(np.quantile(bad, targets.escape_rate, method="lower"))
        pass_below += len(bad) / (len(bad) + 1 / targets.escape_rate) * (lowest - pass_below)
    if len(good):
        highest = float(np.nextafter(np.quantile(good, 1 - targets.false_call_ppm / 1e6, method="higher"), np.inf))
        fail_above += len(good) / (len(good) + 1e6 / targets.false_call_ppm) * (highest - fail_above)
    low, high = (pass_below, fail_above) if pass_below <= fail_above else ((pass_below + fail_above) / 2,) * 2
    source = f"as counted on {len(bad)} defective and {len(good)} good joints, without a promise ({why})"
    return OperatingPoint(pass_below=low, fail_above=high, source=source)


def _limit_review(
    point: OperatingPoint, good: NDArray[np.floating], share: float, prior: OperatingPoint | None
) -> OperatingPoint:
    """Raise `pass_below` until no more than a share of the good joints (n,) goes to review, at most up to the prior's."""
    if len(good) == 0 or np.mean((good >= point.pass_below) & (good < point.fail_above)) <= share:
        return point
    failing = float(np.mean(good >= point.fail_above))
    pass_below = min(float(np.quantile(good, 1 - failing - share)), point.fail_above)
    if prior is not None:
        pass_below = max(min(pass_below, prior.pass_below), point.pass_below)
    reviewed = float(np.mean((good >= pass_below) & (good < point.fail_above)))
    source = (
        f"{point.source}; pass_below raised from {point.pass_below:.2f} to {pass_below:.2f}: "
        f"review {reviewed:.1%} of good joints, target {share:.1%}"
    )
    return OperatingPoint(pass_below=pass_below, fail_above=point.fail_above, source=source)

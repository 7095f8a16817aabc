"""How far from everything learnt a joint may lie before a person must look: Mahalanobis distance in the embedding.

Honest probabilities and a working point, from boards that training has not seen.

Probabilities are softmax(logits / temperature + bias): one temperature for how sure the network may be, one bias a class
for how often each class occurs (Guo et al., 2017, temperature and, without its scales, vector scaling). Five numbers
beside a temperature need few joints, and cannot change which joint looks worse than another within a class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Calibration, Familiarity, OperatingPoint
from inspect_pop.classify.operating_points import choose
from inspect_pop.classify.session import log_odds, probabilities
from inspect_pop.core.errors import PromiseRefused
from inspect_pop.core.joint_table import CLASSES

__all__ = ["Before", "Targets", "apply", "calibrate", "distances", "familiarity", "good_quantiles", "working_point"]

# ---- learn/familiarity
# A share of the variance is spread evenly, so that directions in which the training set never varies do not make every
# other machine unfamiliar.
_EVEN = 0.05
# The limit lies this far beyond the distance that all but one in a thousand held-out joints keep: another machine is
# farther away than another board, and review of all its joints would help nobody.
_BEYOND = 3.0
_KEPT = 0.999


def familiarity(
    learnt: NDArray[np.floating], held_out: NDArray[np.floating], label: NDArray[np.integer] | None = None
) -> Familiarity:
    """Mean, precision and limit.

    Parameters
    ----------
    learnt
        (n, e) embeddings of the joints of training.
    held_out
        (m, e) embeddings of joints of other boards, by which the limit is set; none: by those of training.
    label
        (n,) class of the joints of training: each class counts alike, or the rare ones would all be unfamiliar.
    """
    learnt = np.asarray(learnt, np.float64)
    weight = np.ones(len(learnt)) if label is None else 1 / np.bincount(label, minlength=1)[label]
    weight = weight / weight.sum()
    mean = weight @ learnt
    away = learnt - mean
    covariance = (away * weight[:, None]).T @ away
    size = len(mean)
    covariance = (1 - _EVEN) * covariance + _EVEN * (np.trace(covariance) / size + 1e-9) * np.eye(size)
    precision = np.linalg.inv(covariance)
    judged = held_out if len(held_out) else learnt
    limit = _BEYOND * float(np.quantile(distances(judged, mean, precision), _KEPT))
    return Familiarity(mean=_written(mean), precision=tuple(_written(row) for row in precision), limit=max(limit, 1e-6))


def distances(
    embedding: NDArray[np.floating], mean: NDArray[np.floating], precision: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(n,) squared Mahalanobis distances."""
    away = np.asarray(embedding, np.float64) - mean
    return np.asarray(np.einsum("ij,jk,ik->i", away, precision, away, optimize=True), np.float64)


def _written(values: NDArray[np.floating]) -> tuple[float, ...]:
    """(e,) as numbers of seven digits: the line reckons in single precision."""
    return tuple(float(f"{value:.7g}") for value in values)


# ---- learn/calibrate
_GOOD = CLASSES.index("good")
# Strength of the pull of each number to where it was, in joints: few joints, or a class with a handful, leave it there.
_PULL = np.array([20.0, 3.0, 3.0, 3.0, 3.0, 3.0])
_TEMPERATURES = (0.2, 10.0)
# By so much in log-odds may passing begin later than in the model before: its scores are of another scale, and few joints
# must not tell more than that (in the one measured case, the same share passed 0.6 later once the scores were calibrated there).
_LATER = 1.0
# Where failing may begin: at even odds or later.
_FAILING = np.arange(0.0, 8.01, 0.1)
# So far apart (scale of a logistic distribution) do networks that learnt from other boards of a machine place a joint: a
# standard deviation of 0.8 in log-odds, measured on an odd one. A threshold just beyond the last of 2,000 good joints,
# counted at none, would fail one in a thousand of the next ones.
_APART = 0.5
_NO_PRIOR = OperatingPoint(pass_below=-2.0, fail_above=2.0, source="odds of 7 to 1")


@dataclass(frozen=True)
class Targets:
    """What a working point aims at: shares of defects that pass and of good joints that fail, and the confidence."""

    escape_rate: float = 0.01
    false_call_ppm: float = 500.0
    confidence: float = 0.95
    review_share: float = 0.02


@dataclass(frozen=True)
class Before:
    """The model that training began with: its (n,) log-odds of the joints to calibrate on, and where its verdicts change."""

    log_odds: NDArray[np.floating]
    point: OperatingPoint


def calibrate(
    logits: NDArray[np.floating],
    label: NDArray[np.integer],
    weight: NDArray[np.floating] | None = None,
    prior: Calibration | None = None,
) -> Calibration:
    """The calibration with the least negative log-likelihood over (n, 5) logits and (n,) labels.

    `weight` (n,) is how much each joint counts: a set with more defects than a line has makes every joint look more
    suspicious than it is. `prior` is where few joints leave it: the calibration of the model that training began with, or
    none at all. Without joints it is kept.
    """
    from scipy.optimize import minimize

    n = len(label)
    prior = prior or Calibration(temperature=1.0, bias=(0.0, 0.0, 0.0, 0.0, 0.0))
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
    limits = [(low, high)] + [(-10.0, 10.0)] * len(CLASSES)
    found = minimize(loss, known, jac=True, method="L-BFGS-B", bounds=limits)
    good, bridged, open_, starved, pillow = (found.x[1:] - found.x[1:].mean()).tolist()  # softmax knows no common shift
    return Calibration(temperature=float(np.exp(found.x[0])), bias=(good, bridged, open_, starved, pillow))


def apply(calibration: Calibration, logits: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n, 5) calibrated probabilities and (n,) log-odds of 'defective', as the line computes them."""
    scaled = np.asarray(logits, np.float32) / calibration.temperature + np.asarray(calibration.bias, np.float32)
    return probabilities(scaled), log_odds(scaled)


def good_quantiles(odds: NDArray[np.floating], label: NDArray[np.integer]) -> tuple[float, ...]:
    """Log-odds of the good joints at 0, 1, … 100 %: what another machine's scores are compared with."""
    good = odds[label == _GOOD]
    return tuple(float(v) for v in np.quantile(good, np.linspace(0, 1, 101))) if len(good) else ()


def working_point(
    odds: NDArray[np.floating],
    label: NDArray[np.integer],
    boards: NDArray[np.generic],
    targets: Targets | None = None,
    before: Before | None = None,
) -> OperatingPoint:
    """Thresholds for everyday use: the targets as a promise where the joints can carry it, else as they stand in the set.

    After `before`, few joints let people see as many of them as they did. Review is bounded else: where more than
    `targets.review_share` of the good joints would go to a person, passing goes up to that share, and the words say so;
    but never above where `before` passes: less review is not worth escapes that the old model did not have.
    """
    targets = targets or Targets()
    try:
        point = choose(
            odds,
            label != _GOOD,
            max_escape_rate=targets.escape_rate,
            max_false_call_ppm=targets.false_call_ppm,
            confidence=targets.confidence,
            boards=boards,
        ).point
    except PromiseRefused as refused:
        if before is not None:
            return _for_the_same_review(odds, label, targets, before, str(refused))
        point = _as_counted(odds, label, targets, str(refused))
    return _less_review(point, odds[label == _GOOD], targets.review_share, before.point if before else None)


def _for_the_same_review(
    odds: NDArray[np.floating], label: NDArray[np.integer], targets: Targets, before: Before, why: str
) -> OperatingPoint:
    """Thresholds that send as many of these joints to people as `before` did, and let the fewest errors through; no promise.

    No more good joints fail than did; for each place where failing may begin, review says where passing ends. Errors are
    those to expect when each joint's score comes out a little otherwise, an error costs the more the fewer of its kind the
    targets allow, and more escapes than before cost before all else. Where `before` missed a target on these joints,
    review may rise to `targets.review_share`.
    """
    bad, good, ranked = odds[label != _GOOD], odds[label == _GOOD], np.sort(odds)
    escapes, calls, reviewed = _counted(before.log_odds, label, before.point)
    an_escape = 1 / max(1.0, targets.escape_rate * len(bad))
    a_call = 1 / max(1.0, targets.false_call_ppm / 1e6 * len(good))
    most = reviewed
    if escapes * an_escape > 1 or calls * a_call > 1:
        most = max(reviewed, round(targets.review_share * len(odds)))
    found = []
    for failing in _may_fail_from(good, calls):
        passed = max(0, int(np.sum(odds < failing)) - most)
        passing = min(float(ranked[min(passed, len(odds) - 1)]), failing, before.point.pass_below + _LATER)
        cost = _expected(passing - bad) * an_escape + _expected(good - failing) * a_call
        found.append((max(0, int(np.sum(bad < passing)) - escapes), cost, passing, failing))
    _, _, low, high = min(found, default=(0, 0.0, before.point.pass_below, before.point.fail_above))
    point = OperatingPoint(pass_below=low, fail_above=high, source="")
    now = zip(("escapes", "false calls", "for review"), (escapes, calls, reviewed), _counted(odds, label, point), strict=True)
    said = ", ".join(f"{new} {what} ({old} before)" for what, old, new in now)
    said = f"as counted on {len(bad)} defective and {len(good)} good joints: {said}; without a promise ({why})"
    return point.model_copy(update={"source": said})


def _may_fail_from(good: NDArray[np.floating], calls: int) -> list[float]:
    """Thresholds at which no more than so many of the good joints fail; beyond all of them in any case."""
    if len(good) == 0:
        return []
    last = max(0.0, float(np.nextafter(good.max(), np.inf)))
    return [float(f) for f in _FAILING if np.sum(good >= f) <= calls] + [last]


def _expected(beyond: NDArray[np.floating]) -> float:
    """How many of joints that lie so far (n,) beyond a threshold will lie beyond it."""
    return float(np.sum(1 / (1 + np.exp(-np.clip(beyond / _APART, -50, 50)))))


def _counted(odds: NDArray[np.floating], label: NDArray[np.integer], point: OperatingPoint) -> tuple[int, int, int]:
    """Escapes, false calls, and joints for review."""
    passed, failed = odds < point.pass_below, odds >= point.fail_above
    bad = label != _GOOD
    return int(np.sum(passed & bad)), int(np.sum(failed & ~bad)), int(np.sum(~passed & ~failed))


def _as_counted(odds: NDArray[np.floating], label: NDArray[np.integer], targets: Targets, why: str) -> OperatingPoint:
    """Thresholds near the targets' shares of the calibration joints themselves, the nearer the more joints; no promise."""
    bad, good = odds[label != _GOOD], odds[label == _GOOD]
    passing, failing = _NO_PRIOR.pass_below, _NO_PRIOR.fail_above
    if len(bad):
        lowest = float(np.quantile(bad, targets.escape_rate, method="lower"))
        passing += len(bad) / (len(bad) + 1 / targets.escape_rate) * (lowest - passing)
    if len(good):
        highest = float(np.nextafter(np.quantile(good, 1 - targets.false_call_ppm / 1e6, method="higher"), np.inf))
        failing += len(good) / (len(good) + 1e6 / targets.false_call_ppm) * (highest - failing)
    low, high = (passing, failing) if passing <= failing else ((passing + failing) / 2,) * 2
    said = f"as counted on {len(bad)} defective and {len(good)} good joints, without a promise ({why})"
    return OperatingPoint(pass_below=low, fail_above=high, source=said)


def _less_review(point: OperatingPoint, good: NDArray[np.floating], share: float, prior: OperatingPoint | None) -> OperatingPoint:
    if len(good) == 0 or np.mean((good >= point.pass_below) & (good < point.fail_above)) <= share:
        return point
    failing = float(np.mean(good >= point.fail_above))
    passing = min(float(np.quantile(good, 1 - failing - share)), point.fail_above)
    if prior is not None:
        passing = max(min(passing, prior.pass_below), point.pass_below)
    reviewed = float(np.mean((good >= passing) & (good < point.fail_above)))
    said = (
        f"{point.source}; passing raised from {point.pass_below:.2f} to {passing:.2f}: "
        f"review {reviewed:.1%} of good joints, {share:.1%} aimed at"
    )
    return OperatingPoint(pass_below=passing, fail_above=point.fail_above, source=said)

"""Operating points from a promise: at most so many defects pass, at most so many good joints fail, with a stated confidence.

Scores are log-odds of 'defective' (`classify.session.log_odds`): a joint passes below one threshold, fails from another
one on, and goes to a person between them.

A threshold read off the calibration scores is itself a matter of chance. With n defects and the threshold at the
(k + 1)-th smallest of their scores, the share of all defects below it follows Beta(k + 1, n - k); it exceeds r with
a probability of P(Binomial(n, r) <= k), so that the Clopper-Pearson bound of k in n holds for the *chosen* threshold too
(Wilks, 1941: tolerance limits by order statistics), when k is fixed beforehand as the largest that the promise admits.

Joints of one board resemble each other, so that n joints say less than n independent ones. How much less is the design
effect of the scores by board, and the bounds use n over it (Korn and Graubard, 1998: intervals for clustered counts).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.errors import PromiseRefused

__all__ = ["Promise", "choose", "design_effect", "interval", "needed", "upper_bound"]

# The design effect is measured where at least this many joints stand out: at a low rate's threshold there are too few to
# see whether they lie on one board.
_EFFECT_AT = 30
_EVEN = OperatingPoint(pass_below=0, fail_above=0, source="even odds")


@dataclass(frozen=True)
class Promise:
    """An operating point and what it keeps.

    `escape_bound` and `false_call_bound` (fractions) are one-sided upper bounds at `confidence`, each by itself, or NaN
    where nothing was promised about it. `defects` and `good` are the calibration joints that carry them, `escapes` and
    `false_calls` how many of them fall on the wrong side. `review_share` is the share of good joints that a person sees.
    """

    point: OperatingPoint
    confidence: float
    escape_bound: float
    false_call_bound: float
    defects: int
    good: int
    escapes: int
    false_calls: int
    review_share: float


def choose(
    log_odds: NDArray[np.floating],
    defective: NDArray[np.bool_],
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    confidence: float = 0.95,
    boards: NDArray[np.generic] | None = None,
    default: OperatingPoint | None = None,
) -> Promise:
    """The operating point that keeps a promise with the fewest joints in review.

    Parameters
    ----------
    log_odds, defective
        (n,) calibration joints, kept apart from training: score and truth.
    max_escape_rate
        Share of defective joints that may pass, 0 to 1; None: nothing is promised, and `default` says where passing ends.
    max_false_call_ppm
        Good joints that may fail, in a million good ones; None: nothing is promised, and `default` says where failing begins.
    confidence
        Of each bound by itself.
    boards
        (n,) which board each joint is from; None takes joints as independent, which flatters.
    default
        For the side without a promise; None: even odds.

    Raises
    ------
    PromiseRefused
        Nothing was asked, a rate or the confidence is impossible, or the calibration joints are too few; it says how many
        it would take.
    """
    _check_asked(max_escape_rate, max_false_call_ppm, confidence)
    bad, good = log_odds[defective], log_odds[~defective]
    passing, escape_bound = math.nan, math.nan
    failing, false_call_bound = math.nan, math.nan
    if max_escape_rate is not None:
        effect = 1.0 if boards is None else _effect(bad, max_escape_rate, boards[defective])
        passing, escape_bound = _limit(bad, max_escape_rate, confidence, effect, "defective")
    if max_false_call_ppm is not None:
        rate = max_false_call_ppm / 1e6
        effect = 1.0 if boards is None else _effect(-good, rate, boards[~defective])
        mirrored, false_call_bound = _limit(-good, rate, confidence, effect, "good")
        # 'At the threshold' fails, and the joint that the threshold was read from must not.
        failing = float(np.nextafter(-mirrored, np.inf))
    pass_below, fail_above = _settle(passing, failing, default or _EVEN)
    return _told(
        Promise(
            point=OperatingPoint(pass_below=pass_below, fail_above=fail_above, source=""),
            confidence=confidence,
            escape_bound=escape_bound,
            false_call_bound=false_call_bound,
            defects=len(bad),
            good=len(good),
            escapes=int(np.sum(bad < pass_below)),
            false_calls=int(np.sum(good >= fail_above)),
            review_share=float(np.mean((good >= pass_below) & (good < fail_above))) if len(good) else math.nan,
        )
    )


def upper_bound(errors: int, n: int, confidence: float = 0.95, effect: float = 1.0) -> float:
    """One-sided Clopper-Pearson upper bound on a rate after `errors` in `n`; 1 without joints.

    `effect` is the design effect: both counts are divided by it.
    """
    if errors >= n:
        return 1.0
    return float(betaincinv(errors / effect + 1, (n - errors) / effect, confidence))


def interval(errors: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact Clopper-Pearson interval of a rate; (0, 1) without joints."""
    if n == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = 0.0 if errors == 0 else float(betaincinv(errors, n - errors + 1, tail))
    high = 1.0 if errors == n else float(betaincinv(errors + 1, n - errors, 1 - tail))
    return low, high


def needed(rate: float, confidence: float = 0.95) -> int:
    """How many joints without any error bound a rate at `rate`: 299 for 1 %, 2,995 for 0.1 % at 95 %."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate))


def design_effect(errors: NDArray[np.bool_], boards: NDArray[np.generic]) -> float:
    """Variance of a rate with joints grouped by board over that with independent joints; at least 1.

    `errors` (n,) and `boards` (n,). The variance between boards is the linearised one of a ratio of totals (Korn and
    Graubard, 1998). With fewer than two boards nothing can be seen, and 1 is returned.
    """
    _, which = np.unique(boards, return_inverse=True)
    m = int(which.max()) + 1 if len(which) else 0
    rate = float(errors.mean()) if len(errors) else 0.0
    if m < 2 or rate in (0.0, 1.0):
        return 1.0
    total, wrong = np.bincount(which, minlength=m), np.bincount(which, weights=errors, minlength=m)
    residual = wrong - rate * total
    clustered = m / (m - 1) * float(np.sum(residual**2)) / len(errors) ** 2
    return max(1.0, clustered / (rate * (1 - rate) / len(errors)))


def _limit(scores: NDArray[np.floating], rate: float, confidence: float, effect: float, kind: str) -> tuple[float, float]:
    """The threshold with at most `rate` of the scores below it, and the bound that the joints carry (at most `rate`)."""
    n = len(scores)
    if upper_bound(0, n, confidence, effect) > rate:
        together = "" if effect < 1.05 else f" (they lie together on few boards: {n} count as {n / effect:.0f})"
        raise PromiseRefused(
            f"at most {_rate(rate)} of {kind} joints wrong, with {confidence:.0%} confidence",
            expected=f"at least {math.ceil(needed(rate, confidence) * effect)} {kind} joints in the calibration set",
            found=f"{n}{together}",
            remedy=f"Promise no less than {_rate(upper_bound(0, n, confidence, effect))}, or label more boards and train again.",
        )
    low, high = 0, n - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if upper_bound(middle, n, confidence, effect) <= rate else (low, middle - 1)
    return float(np.partition(scores, low)[low]), upper_bound(low, n, confidence, effect)


def _settle(passing: float, failing: float, default: OperatingPoint) -> tuple[float, float]:
    """Both thresholds: as little review as the promises admit, and never a joint that both passes and fails."""
    if math.isnan(passing):
        return min(default.pass_below, failing), failing
    if math.isnan(failing):
        return passing, max(default.fail_above, passing)
    if passing >= failing:  # both promises hold with room to spare: one threshold in the middle of it, and no review
        return ((passing + failing) / 2,) * 2
    return passing, failing


def _effect(scores: NDArray[np.floating], rate: float, boards: NDArray[np.generic]) -> float:
    """The largest design effect of the joints with the lowest scores: `rate` of them, twice and four times as many.

    The few boards that make a tail may be missing among those that were calibrated on; farther in there are more of them
    (measured on a released model's joints with boards drawn afresh, 200 times: a promise of 3,000 ppm was kept in 88 % of
    the draws with the effect at the rate itself, and in 96 % so).
    """
    return max(design_effect(_lowest(scores, k * rate), boards) for k in (1, 2, 4))


def _lowest(scores: NDArray[np.floating], rate: float) -> NDArray[np.bool_]:
    """Which joints are the `rate` with the lowest scores, or `_EFFECT_AT` joints, or a tenth of all where there are few."""
    if len(scores) == 0:
        return np.zeros(0, dtype=bool)
    count = min(max(_EFFECT_AT, round(rate * len(scores))), max(1, len(scores) // 10))
    return np.asarray(scores <= np.partition(scores, count - 1)[count - 1])


def _check_asked(max_escape_rate: float | None, max_false_call_ppm: float | None, confidence: float) -> None:
    if max_escape_rate is None and max_false_call_ppm is None:
        raise PromiseRefused("a promise", expected="a largest escape rate or false-call rate", found="neither")
    for name, value in (("escape rate", max_escape_rate), ("false-call ppm / 1e6", _fraction(max_false_call_ppm))):
        if value is not None and not 0 < value < 1:
            raise PromiseRefused(
                f"promise of a largest {name}",
                expected="more than 0 and less than 1",
                found=f"{value:g}",
                remedy="No number of joints can promise that nothing ever happens; choose the rate that you can live with.",
            )
    if not 0.5 <= confidence < 1:
        raise PromiseRefused("confidence of a promise", expected="0.5 to below 1", found=f"{confidence:g}")


def _fraction(ppm: float | None) -> float | None:
    return None if ppm is None else ppm / 1e6


def _told(promise: Promise) -> Promise:
    """The same with its source in words."""
    said = []
    if not math.isnan(promise.escape_bound):
        said.append(f"at most {_rate(promise.escape_bound)} of defects pass ({promise.escapes} of {promise.defects})")
    if not math.isnan(promise.false_call_bound):
        said.append(f"at most {_rate(promise.false_call_bound)} of good joints fail ({promise.false_calls} of {promise.good})")
    source = (
        f"promise, {promise.confidence:.0%} confidence each: {'; '.join(said)}; "
        f"{promise.review_share:.2%} of good joints go to review"
    )
    return Promise(**(promise.__dict__ | {"point": promise.point.model_copy(update={"source": source})}))


def _rate(rate: float) -> str:
    return f"{rate:.2%}" if rate >= 0.001 else f"{rate * 1e6:.0f} ppm"

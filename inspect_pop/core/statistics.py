"""Confidence intervals of shares and rates, over joints and over boards, and the calibration error of probabilities.

Intervals are exact rather than approximate, so that they are wide where little was counted. They are two-sided at 95 %
unless the function says otherwise.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CONFIDENCE",
    "Interval",
    "Rate",
    "bootstrap_boards",
    "calibration_error",
    "clopper_pearson",
    "clopper_pearson_upper",
    "count_effective",
    "estimate_rate",
    "percent",
    "poisson_interval",
    "product_interval",
]

CONFIDENCE = 0.95
Interval = tuple[float, float]
_DRAWS = 2000
_BINS = 15


@dataclass(frozen=True)
class Rate:
    """A rate, `count` of `of`, with its confidence intervals.

    `low` and `high` are the exact (Clopper-Pearson) 95 % interval, which takes joints as independent; `upper95` is the
    one-sided bound. `board_low` and `board_high` are the percentile bootstrap over boards, None with fewer than two
    boards. Quote the wider of the two intervals. `rate` is None without joints. `count` and `of` count joints; where joints
    stand for others, `rate` and the intervals are about those, and the exact interval counts fewer joints (`count_effective`).
    """

    count: int
    of: int
    rate: float | None
    low: float
    high: float
    upper95: float
    board_low: float | None
    board_high: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the fields as a dict, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.rate is None:
            return "none to count"
        low, high = min(self.low, self.board_low or 1), max(self.high, self.board_high or 0)
        return f"{percent(self.rate)} ({self.count} of {self.of}; {percent(low)} to {percent(high)})"


def percent(rate: float) -> str:
    """Format a rate in percent, such as `0.57 %`, with as many digits as it needs."""
    return f"{100 * rate:.{1 if rate >= 0.1 else 2 if rate >= 0.001 else 4}f} %"


def estimate_rate(
    hit: NDArray[np.bool_],
    among: NDArray[np.bool_],
    board: NDArray[np.integer],
    *,
    weight: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> Rate:
    """Estimate the share of the joints in `among` that are in `hit`.

    Parameters
    ----------
    hit, among
        (n,) bool.
    board
        (n,) number of each joint's board.
    weight
        (n,) how many joints each one stands for, where some were drawn from many; None: each for itself. The exact interval is
        then that of Korn and Graubard (Survey Methodology 24, 1998, 193-201): Clopper-Pearson at the effective number of joints.
    """
    count, of = int(np.sum(hit & among)), int(np.sum(among))
    rate, exposure = (count / of if of else None), float(of)
    if weight is not None and of and np.ptp(weight[among]):
        rate, exposure = float(weight[hit & among].sum() / weight[among].sum()), count_effective(weight[among])
    events = (rate or 0.0) * exposure if exposure != of else count
    low, high = clopper_pearson(events, exposure)
    spread = bootstrap_boards(hit & among, among, board, weight=weight, seed=seed)
    return Rate(
        count=count,
        of=of,
        rate=rate,
        low=low,
        high=high,
        upper95=clopper_pearson_upper(events, exposure),
        board_low=spread[0] if spread else None,
        board_high=spread[1] if spread else None,
    )


def count_effective(weight: NDArray[np.floating]) -> float:
    """Return how many joints that count alike say as much as joints of these weights (n,) (Kish, Survey Sampling, 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def bootstrap_boards(
    hit: NDArray[np.bool_],
    among: NDArray[np.bool_],
    board: NDArray[np.integer],
    *,
    weight: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of a rate under resampling of boards; None with fewer than two boards.

    Arguments as in `estimate_rate`. Where no joint is hit, the bootstrap can only give zero; read the exact interval then.
    """
    _, which = np.unique(board[among], return_inverse=True)
    m = int(which.max()) + 1 if len(which) else 0
    if m < 2:
        return None
    counts = np.ones(len(which)) if weight is None else weight[among]
    hits, all_ = np.bincount(which, weights=hit[among] * counts, minlength=m), np.bincount(which, weights=counts, minlength=m)
    draws = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=_DRAWS)
    low, high = np.quantile(draws @ hits / (draws @ all_), [0.025, 0.975])
    return float(low), float(high)


def calibration_error(
    probabilities: NDArray[np.floating], label: NDArray[np.integer], weight: NDArray[np.floating] | None = None
) -> float:
    """Return the expected calibration error (Guo et al., 2017); NaN without joints.

    This is the mean distance of confidence and accuracy over 15 equal bins of the largest probability. `probabilities` is
    (n, classes); `label` (n,) is an index in `CLASSES`; `weight` (n,) is how many joints each one stands for, None for one.
    """
    if len(label) == 0:
        return float("nan")
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == label
    which = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    counts = np.ones(len(label)) if weight is None else weight
    gap = np.bincount(which, weights=(confidence - right) * counts, minlength=_BINS)
    return float(np.abs(gap).sum() / counts.sum())


def clopper_pearson(k: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact two-sided interval of a share, k of n (Biometrika 26, 1934, 404-413); (0, 1) where n is 0.

    It keeps its confidence for every true share and number; Wilson's interval does so only on average.
    """
    from scipy.special import betaincinv  # a third of a second, which the start of every command would pay

    tail = (1 - confidence) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


def clopper_pearson_upper(k: float, n: float, confidence: float = CONFIDENCE, effect: float = 1.0) -> float:
    """Return the exact one-sided upper bound of a share, k of n; 1 where k is n.

    `effect` is the design effect, by which both counts are divided.
    """
    from scipy.special import betaincinv

    if k >= n:
        return 1.0
    return float(betaincinv(k / effect + 1, (n - k) / effect, confidence))


def poisson_interval(k: int, exposure: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Return Garwood's interval of a Poisson rate (Biometrika 28, 1936, 437-442).

    `k` is the number of events over `exposure`. None where the exposure is 0.
    """
    from scipy.special import gammaincinv

    if exposure <= 0:
        return None
    tail = (1 - confidence) / 2
    low = float(gammaincinv(k, tail)) if k > 0 else 0.0
    return low / exposure, float(gammaincinv(k + 1, 1 - tail)) / exposure


def product_interval(parts: list[tuple[int, int]], confidence: float = CONFIDENCE) -> Interval:
    """Return an interval of the product of shares, each k of n.

    Each share gets its interval at 1 - (1 - confidence) / parts (Bonferroni); their ends are multiplied.
    """
    low = high = 1.0
    for k, n in parts:
        share = clopper_pearson(k, n, 1 - (1 - confidence) / len(parts))
        low, high = low * share[0], high * share[1]
    return low, high

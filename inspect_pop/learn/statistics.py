"""How sure a figure is: exact intervals for counts, intervals over boards, and how well probabilities are calibrated."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.promise import interval, upper_bound

__all__ = ["Rate", "calibration_error", "over_boards", "percent", "rate_of"]

_DRAWS = 2000
_BINS = 15


@dataclass(frozen=True)
class Rate:
    """`count` of `of`, and how sure the rate is.

    `low` and `high` are the exact (Clopper-Pearson) 95 % interval that takes joints as independent, `upper95` the
    one-sided bound. `board_low` and `board_high` come from drawing boards anew (percentile bootstrap): the wider of both
    is the honest one; None with fewer than two boards. `rate` is None without joints.
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
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.rate is None:
            return "none to count"
        low, high = min(self.low, self.board_low or 1), max(self.high, self.board_high or 0)
        return f"{percent(self.rate)} ({self.count} of {self.of}; {percent(low)} to {percent(high)})"


def percent(rate: float) -> str:
    """`0.57 %`, with as many digits as the rate needs."""
    return f"{100 * rate:.{1 if rate >= 0.1 else 2 if rate >= 0.001 else 4}f} %"


def rate_of(hit: NDArray[np.bool_], among: NDArray[np.bool_], board: NDArray[np.integer], *, seed: int = 0) -> Rate:
    """How many of the joints in `among` are in `hit`; both (n,) bool, `board` (n,) a board's number."""
    count, of = int(np.sum(hit & among)), int(np.sum(among))
    low, high = interval(count, of)
    spread = over_boards(hit & among, among, board, seed=seed)
    return Rate(
        count=count,
        of=of,
        rate=count / of if of else None,
        low=low,
        high=high,
        upper95=upper_bound(count, of),
        board_low=spread[0] if spread else None,
        board_high=spread[1] if spread else None,
    )


def over_boards(
    hit: NDArray[np.bool_], among: NDArray[np.bool_], board: NDArray[np.integer], *, seed: int = 0
) -> tuple[float, float] | None:
    """95 % percentile interval of the rate when boards are drawn anew with replacement; None with fewer than two boards.

    Where no joint is hit, the bootstrap can only say zero; the exact interval is the one to read then.
    """
    _, which = np.unique(board[among], return_inverse=True)
    m = int(which.max()) + 1 if len(which) else 0
    if m < 2:
        return None
    hits, all_ = np.bincount(which, weights=hit[among], minlength=m), np.bincount(which, minlength=m)
    drawn = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=_DRAWS)
    low, high = np.quantile(drawn @ hits / (drawn @ all_), [0.025, 0.975])
    return float(low), float(high)


def calibration_error(probabilities: NDArray[np.floating], label: NDArray[np.integer]) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over 15 equal bins of the largest probability.

    `probabilities` (n, 5), `label` (n,) index in `CLASSES` (Guo et al., 2017). NaN without joints.
    """
    if len(label) == 0:
        return float("nan")
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == label
    which = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gap = np.bincount(which, weights=confidence - right, minlength=_BINS)
    return float(np.abs(gap).sum() / len(label))

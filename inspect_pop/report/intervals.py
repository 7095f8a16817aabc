"""A share with its interval, as the pages print it."""

from dataclasses import dataclass

from scipy.special import betaincinv

__all__ = ["Share", "share"]


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with the two-sided 95 % Clopper-Pearson interval of the share; (0, 1) where nothing was counted."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; NaN where nothing was counted."""
        return self.count / self.total if self.total else float("nan")


def share(count: int, total: int, confidence: float = 0.95) -> Share:
    """Clopper-Pearson (Biometrika 26, 1934): quantiles of the beta distribution."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - tail))
    return Share(count, total, low, high)

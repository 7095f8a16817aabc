"""Intervals for shares and rates, exact rather than approximate: they are wide where little was seen.

All are two-sided at 95 %.
"""

from scipy.special import betaincinv, gammaincinv

__all__ = ["CONFIDENCE", "Interval", "product", "rate", "share"]

CONFIDENCE = 0.95
Interval = tuple[float, float]


def share(k: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Clopper-Pearson interval of a share, k of n (Biometrika 26, 1934, 404-413); (0, 1) where n is 0.

    It holds its confidence for every true share and number, which Wilson's does only on average.
    """
    tail = (1 - confidence) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


def rate(k: int, exposure: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Garwood's interval of a Poisson rate, k events over an exposure (Biometrika 28, 1936, 437-442); None without one."""
    if exposure <= 0:
        return None
    tail = (1 - confidence) / 2
    low = float(gammaincinv(k, tail)) if k > 0 else 0.0
    return low / exposure, float(gammaincinv(k + 1, 1 - tail)) / exposure


def product(parts: list[tuple[int, int]], confidence: float = CONFIDENCE) -> Interval:
    """Interval of a product of shares, each k of n: every part at 1 - (1 - confidence) / parts (Bonferroni), then multiplied."""
    low = high = 1.0
    for k, n in parts:
        own = share(k, n, 1 - (1 - confidence) / len(parts))
        low, high = low * own[0], high * own[1]
    return low, high

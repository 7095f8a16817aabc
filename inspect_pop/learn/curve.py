"""What more labelled boards would buy: error rates over nested sets of boards, and a power law through them.

An error rate falls as a power of the number of boards over the range that anybody can label (Hestness et al., 2017;
field notes: halved with each doubling from 10 to 60 boards, no plateau). The law is fitted to counts, and its interval
comes from counts drawn anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.learn.split import place

__all__ = ["Curve", "Forecast", "Point", "fit_curve", "measure_curve", "nested", "sizes"]

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

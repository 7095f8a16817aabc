"""Two models on the same labelled boards: what changes, with intervals, and whether the second is better than the first.

Both models inspect the same joints, so each joint tells by itself in which direction an error moved. The difference of two shares
gets its interval from resampled boards (percentile bootstrap over pairs; Efron and Tibshirani, 1993, chapter 13), since joints of
a board resemble one another. The exact test of McNemar (Psychometrika 12, 1947, 153-157) is on the joints whose errors differ.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from inspect_pop.classify.model import Model
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import LabelsFault
from inspect_pop.core.limits import Limits
from inspect_pop.core.text import pluralize
from inspect_pop.evaluate.evaluation import find_learnt_boards, outcomes_of
from inspect_pop.evaluate.outcomes import Outcomes
from inspect_pop.ingest import Source

__all__ = ["ChangedRate", "Comparison", "compare_models", "compare_outcomes"]

_GOOD = CLASSES.index(GOOD)
_DRAWS = 2000
NOT_BETTER = "not better than what you have"


@dataclass(frozen=True)
class ChangedRate:
    """One kind of error of both models on the same joints.

    `first` and `second` count errors among `of` joints; `fixed` and `new` those that only the first or only the second makes.
    `difference` is second minus first as a share of the joints, each with what it stands for; `low` and `high` bound it over
    boards, None with one board. `p` is that of McNemar's exact test, two-sided.
    """

    what: str
    of: int
    first: int
    second: int
    fixed: int
    new: int
    difference: float
    low: float | None
    high: float | None
    p: float

    @property
    def is_better(self) -> bool:
        """Whether the second model has fewer of these errors, and chance alone does not explain it."""
        return self.difference < 0 and self.high is not None and self.high < 0 and self.p < 0.05

    @property
    def is_worse(self) -> bool:
        """Whether the second model has more of these errors, and chance alone does not explain it."""
        return self.difference > 0 and self.low is not None and self.low > 0 and self.p < 0.05


@dataclass(frozen=True)
class Comparison:
    """The comparison of two models; `learnt` is, for each, how many of the boards it has learnt from, None: not known."""

    names: tuple[str, str]
    boards: int
    joints: int
    learnt: tuple[int | None, int | None]
    rates: tuple[ChangedRate, ...]

    @property
    def is_better(self) -> bool:
        """Whether the second model has fewer errors of a kind and more of none, and chance alone does not explain it."""
        return any(rate.is_better for rate in self.rates) and not any(rate.is_worse for rate in self.rates)

    @property
    def verdict(self) -> str:
        """Whether the second model is better, worse, or neither, in words."""
        better = [rate.what for rate in self.rates if rate.is_better]
        worse = [rate.what for rate in self.rates if rate.is_worse]
        if worse and not better:
            return f"{self.names[1]} is worse: more {', '.join(worse)}"
        if worse:
            return f"{self.names[1]} has fewer {', '.join(better)} and more {', '.join(worse)}: {NOT_BETTER}"
        if better:
            return f"{self.names[1]} is better: fewer {', '.join(better)}"
        return f"{self.names[1]} is {NOT_BETTER}: chance explains every difference on these boards"

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        rates = [asdict(rate) | {"is_better": rate.is_better, "is_worse": rate.is_worse} for rate in self.rates]
        about = {"first": self.names[0], "second": self.names[1], "boards": self.boards, "joints": self.joints}
        return about | {"learnt_from": list(self.learnt), "rates": rates, "is_better": self.is_better, "verdict": self.verdict}

    def lines(self) -> list[str]:
        """Return the comparison as text."""
        words = ["not known" if n is None else str(n) for n in self.learnt]
        boards = pluralize(self.boards, "board")
        lines = [f"the same {boards}, {pluralize(self.joints, 'joint')}; learnt from: {words[0]} and {words[1]} of them"]
        if any(self.learnt):
            lines.append("figures on boards that taught a model flatter it: the comparison is not fair")
        lines.append(f"{'':<22}{self.names[0][:16]:>16}{self.names[1][:16]:>16}  difference (95 %), fixed and new errors")
        for rate in self.rates:
            bounds = "no interval" if rate.low is None else f"{100 * rate.low:+.2f} to {100 * (rate.high or 0):+.2f}"
            change = f"{100 * rate.difference:+.2f} % ({bounds}), {rate.fixed} and {rate.new}, p {rate.p:.2g}"
            lines.append(f"{rate.what:<22}{rate.first:>16}{rate.second:>16}  {change}")
        return [*lines, self.verdict]


def compare_models(
    paths: Sequence[Source],
    models: Mapping[str, Model],
    *,
    limits: Limits | None = None,
    processes: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Inspect the same labelled boards with two models, by name, and compare them. Raises `LabelsFault` as `outcomes_of`."""
    found, learnt = [], []
    for name, model in models.items():
        progress(f"inspecting with {name}")
        outcomes, _ = outcomes_of(paths, model, limits=limits, processes=processes, progress=progress)
        found.append(outcomes)
        known = find_learnt_boards(paths, model.card, set(outcomes.serial.tolist()))
        learnt.append(None if known is None else len(known))
    first, second = models
    return compare_outcomes((first, second), found[0], found[1], (learnt[0], learnt[1]))


def compare_outcomes(
    names: tuple[str, str], first: Outcomes, second: Outcomes, learnt: tuple[int | None, int | None] = (None, None)
) -> Comparison:
    """Compare two models' outcomes on the same joints. Raises `LabelsFault` if the joints differ."""
    keys = [list(zip(o.serial, o.refdes, o.interface, o.ball, o.truth.tolist(), strict=True)) for o in (first, second)]
    if keys[0] != keys[1]:
        raise LabelsFault("models", expected="outcomes of the same joints", found="different ones")
    good = first.truth == _GOOD
    kinds: tuple[tuple[str, NDArray[np.bool_], Callable[[Outcomes], NDArray[np.bool_]]], ...] = (
        ("escapes", ~good, lambda o: o.escaped),
        ("false calls", good, lambda o: o.false_call),
        ("joints in review", good | ~good, lambda o: np.asarray(o.verdict == "review")),
    )
    rates = tuple(_compare_rate(what, among, of(first), of(second), first) for what, among, of in kinds)
    return Comparison(names, len(set(first.serial)), len(first), learnt, rates)


def _compare_rate(
    what: str, among: NDArray[np.bool_], first: NDArray[np.bool_], second: NDArray[np.bool_], outcomes: Outcomes
) -> ChangedRate:
    """Compare one kind of error; `among`, `first` and `second` are (n,)."""
    a, b, weight = first[among], second[among], outcomes.weight[among]
    fixed, new = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    change = (b.astype(float) - a) * weight
    _, board = np.unique(outcomes.board[among], return_inverse=True)
    m = int(board.max()) + 1 if len(board) else 0
    low = high = None
    if m > 1:
        sums, of = np.bincount(board, change, m), np.bincount(board, weight, m)
        draws = np.random.default_rng(0).multinomial(m, np.full(m, 1 / m), size=_DRAWS)
        low, high = (float(v) for v in np.quantile(draws @ sums / (draws @ of), [0.025, 0.975]))
    difference = float(change.sum() / weight.sum()) if len(weight) else 0.0
    p = float(binomtest(fixed, fixed + new).pvalue) if fixed + new else 1.0
    return ChangedRate(what, len(a), int(a.sum()), int(b.sum()), fixed, new, difference, low, high, p)

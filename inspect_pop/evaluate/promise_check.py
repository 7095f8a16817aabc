"""Whether a promise would hold if the calibration boards had been other ones.

There are two ways to redraw them. `check_scores` takes the boards at hand for all boards: each draw takes as many of them
at random, some several times and some not at all, chooses the operating point that keeps the promise on those, and counts
its errors on all of them. `check_fresh` splits them: half of the boards choose the operating point, and its errors are
counted on the other half, of which the choice knew nothing. The second is stricter: half as many boards choose, and those
that judge are few, so that their rate scatters around the true one. With a confidence of 95 % about one draw in twenty may
break the promise.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Model
from inspect_pop.classify.operating_points import choose_operating_point, read_calibration
from inspect_pop.classify.session import log_odds
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import PromiseFault

__all__ = ["PromiseCheck", "check_fresh", "check_promise", "check_scores"]

_GOOD = CLASSES.index(GOOD)


@dataclass(frozen=True)
class PromiseCheck:
    """How often a promise was kept, and the mean rates, over redrawn boards.

    Attributes
    ----------
    draws, refused
        Draws whose joints could carry the promise, and those whose joints could not.
    held_escapes, held_false_calls
        Draws in which the promised rate was kept on the boards that judge.
    escape_rate, false_call_ppm, review_share
        Mean rates on those boards; NaN without draws.
    """

    max_escape_rate: float | None
    max_false_call_ppm: float | None
    draws: int
    refused: int
    held_escapes: int
    held_false_calls: int
    escape_rate: float
    false_call_ppm: float
    review_share: float

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON, NaN as None."""
        return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        lines = []
        if self.max_escape_rate is not None:
            lines.append(
                f"at most {self.max_escape_rate:.2%} escapes kept in {self.held_escapes} of {self.draws} ({self.escape_rate:.3%})"
            )
        if self.max_false_call_ppm is not None:
            lines.append(
                f"at most {self.max_false_call_ppm:.0f} ppm false calls kept in {self.held_false_calls} of {self.draws} "
                f"({self.false_call_ppm:.0f} ppm)"
            )
        return "; ".join([*lines, f"{self.review_share:.2%} of good joints in review", f"{self.refused} draws refused"])


def check_promise(
    model: Model,
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    draws: int = 20,
    seed: int = 0,
) -> PromiseCheck:
    """Check a promise on the joints that a model was calibrated on. Raises `ModelFault` if it has none."""
    joints, calibration = read_calibration(model), model.card.calibration
    scores = log_odds(joints.logits / calibration.temperature + np.asarray(calibration.bias, np.float32))
    return check_scores(
        scores,
        joints.label != _GOOD,
        joints.serial.astype(str),
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        draws=draws,
        seed=seed,
    )


def check_scores(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    boards: NDArray[np.str_],
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    draws: int = 20,
    seed: int = 0,
) -> PromiseCheck:
    """Check a promise on any joints: (n,) log-odds, (n,) whether each is defective, and its board."""
    rng, groups = np.random.default_rng(seed), _group_by_board(boards)
    everything = np.arange(len(scores))
    draws_of_boards = ([groups[k] for k in rng.integers(0, len(groups), len(groups))] for _ in range(draws))
    pairs = ((chosen, everything) for chosen in draws_of_boards)
    return _count_draws(scores, defective, pairs, max_escape_rate, max_false_call_ppm)


def check_fresh(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    boards: NDArray[np.str_],
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    draws: int = 20,
    seed: int = 0,
) -> PromiseCheck:
    """Check a promise on boards that did not choose it: each draw chooses by half of the boards and counts on the rest."""
    rng, groups = np.random.default_rng(seed), _group_by_board(boards)
    orders = (rng.permutation(len(groups)) for _ in range(draws))
    half = (len(groups) + 1) // 2
    pairs = (([groups[k] for k in order[:half]], np.concatenate([groups[k] for k in order[half:]])) for order in orders)
    return _count_draws(scores, defective, pairs, max_escape_rate, max_false_call_ppm)


def _group_by_board(boards: NDArray[np.str_]) -> list[NDArray[np.intp]]:
    """Return the numbers of each board's joints."""
    return [np.flatnonzero(boards == name) for name in np.unique(boards)]


def _count_draws(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    pairs: Iterable[tuple[list[NDArray[np.intp]], NDArray[np.intp]]],
    max_escape_rate: float | None,
    max_false_call_ppm: float | None,
) -> PromiseCheck:
    """Count how often the promise held over pairs of (joints by board that choose, joints that judge)."""
    results: list[tuple[float, float, float]] = []
    refused = 0
    for drawn, judged in pairs:
        rows = np.concatenate(drawn)
        try:
            point = choose_operating_point(
                scores[rows],
                defective[rows],
                max_escape_rate=max_escape_rate,
                max_false_call_ppm=max_false_call_ppm,
                boards=np.repeat(np.arange(len(drawn)), [len(d) for d in drawn]),
            ).point
        except PromiseFault:
            refused += 1
            continue
        bad, good = scores[judged][defective[judged]], scores[judged][~defective[judged]]
        review = np.mean((good >= point.pass_below) & (good < point.fail_above))
        results.append((float(np.mean(bad < point.pass_below)), float(np.mean(good >= point.fail_above)), float(review)))
    rates = np.array(results).reshape(-1, 3)
    means = rates.mean(axis=0) if len(rates) else np.full(3, np.nan)
    return PromiseCheck(
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        draws=len(rates),
        refused=refused,
        held_escapes=int((rates[:, 0] <= max_escape_rate).sum()) if max_escape_rate is not None else 0,
        held_false_calls=int((rates[:, 1] <= max_false_call_ppm / 1e6).sum()) if max_false_call_ppm is not None else 0,
        escape_rate=float(means[0]),
        false_call_ppm=float(1e6 * means[1]),
        review_share=float(means[2]),
    )

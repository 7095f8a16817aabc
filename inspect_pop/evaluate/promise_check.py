"""Whether promises are kept when the calibration boards had been other ones, drawn afresh.

Two ways. Either the boards at hand stand for all boards: each draw takes as many of them at random, some several times and some
not at all, chooses the operating point that keeps the promise on those, and counts what it does to all of them
(`check_scores`). Or each draw splits them: half of the boards choose the operating point, and it is counted on the other
half, of which the choice knew nothing (`check_fresh`). The second is stricter: half as many boards promise, and those that judge
are few, so that their rate strays to either side of the true one. With a confidence of 95 % about one draw in twenty may
break the promise.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Model
from inspect_pop.classify.operating_points import choose, read_calibration
from inspect_pop.classify.session import log_odds
from inspect_pop.core.errors import PromiseRefused
from inspect_pop.core.joint_table import CLASSES

__all__ = ["PromiseCheck", "check_fresh", "check_promise", "check_scores"]

_GOOD = CLASSES.index("good")


@dataclass(frozen=True)
class PromiseCheck:
    """`draws` in which the joints carried the promise; in how many it was kept on the boards judged; the mean rates found there.

    `refused` counts draws that could not carry the promise.
    """

    max_escape_rate: float | None
    max_false_call_ppm: float | None
    draws: int
    refused: int
    kept_escapes: int
    kept_false_calls: int
    escape_rate: float
    false_call_ppm: float
    review_share: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON: NaN as null."""
        return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        said = []
        if self.max_escape_rate is not None:
            said.append(
                f"at most {self.max_escape_rate:.2%} escapes kept in {self.kept_escapes} of {self.draws} ({self.escape_rate:.3%})"
            )
        if self.max_false_call_ppm is not None:
            said.append(
                f"at most {self.max_false_call_ppm:.0f} ppm false calls kept in {self.kept_false_calls} of {self.draws} "
                f"({self.false_call_ppm:.0f} ppm)"
            )
        return "; ".join([*said, f"{self.review_share:.2%} of good joints in review", f"{self.refused} draws refused"])


def check_promise(
    model: Model,
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    draws: int = 20,
    seed: int = 0,
) -> PromiseCheck:
    """Check a promise on the joints that a model was calibrated on. Raises `ModelFault` where it keeps none."""
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
    """The same for any joints: log-odds, truth and board of each (n,)."""
    rng, groups = np.random.default_rng(seed), _by_board(boards)
    everything = np.arange(len(scores))
    drawn = ([groups[k] for k in rng.integers(0, len(groups), len(groups))] for _ in range(draws))
    pairs = ((chosen, everything) for chosen in drawn)
    return _count(scores, defective, pairs, max_escape_rate, max_false_call_ppm)


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
    """Check a promise on boards that had no part in it: each draw promises by one half of the boards and counts on the other."""
    rng, groups = np.random.default_rng(seed), _by_board(boards)
    orders = (rng.permutation(len(groups)) for _ in range(draws))
    half = (len(groups) + 1) // 2
    pairs = (([groups[k] for k in order[:half]], np.concatenate([groups[k] for k in order[half:]])) for order in orders)
    return _count(scores, defective, pairs, max_escape_rate, max_false_call_ppm)


def _by_board(boards: NDArray[np.str_]) -> list[NDArray[np.intp]]:
    """The joints of each board."""
    return [np.flatnonzero(boards == name) for name in np.unique(boards)]


def _count(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    pairs: Iterable[tuple[list[NDArray[np.intp]], NDArray[np.intp]]],
    max_escape_rate: float | None,
    max_false_call_ppm: float | None,
) -> PromiseCheck:
    """Of each pair, (joints by board that promise, joints that judge), whether the promise was kept."""
    found: list[tuple[float, float, float]] = []
    refused = 0
    for drawn, judged in pairs:
        rows = np.concatenate(drawn)
        try:
            point = choose(
                scores[rows],
                defective[rows],
                max_escape_rate=max_escape_rate,
                max_false_call_ppm=max_false_call_ppm,
                boards=np.repeat(np.arange(len(drawn)), [len(d) for d in drawn]),
            ).point
        except PromiseRefused:
            refused += 1
            continue
        bad, good = scores[judged][defective[judged]], scores[judged][~defective[judged]]
        review = np.mean((good >= point.pass_below) & (good < point.fail_above))
        found.append((float(np.mean(bad < point.pass_below)), float(np.mean(good >= point.fail_above)), float(review)))
    rates = np.array(found).reshape(-1, 3)
    means = rates.mean(axis=0) if len(rates) else np.full(3, np.nan)
    return PromiseCheck(
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        draws=len(rates),
        refused=refused,
        kept_escapes=int((rates[:, 0] <= max_escape_rate).sum()) if max_escape_rate is not None else 0,
        kept_false_calls=int((rates[:, 1] <= max_false_call_ppm / 1e6).sum()) if max_false_call_ppm is not None else 0,
        escape_rate=float(means[0]),
        false_call_ppm=float(1e6 * means[1]),
        review_share=float(means[2]),
    )

"""Whether promises are kept when the calibration boards had been other ones, drawn afresh.

The boards of the calibration stand for all boards. Each draw takes as many of them at random, some several times and some
not at all, chooses the operating point that keeps the promise on those, and counts what it does to all of them. With a
confidence of 95 % about one draw in twenty may break the promise.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.calibration import read_calibration
from inspect_pop.classify.model import Model
from inspect_pop.classify.promise import choose
from inspect_pop.classify.session import log_odds
from inspect_pop.errors import PromiseRefused
from inspect_pop.joints import CLASSES

__all__ = ["PromiseCheck", "check_promise", "check_scores"]

_GOOD = CLASSES.index("good")


@dataclass(frozen=True)
class PromiseCheck:
    """`draws` in which the joints carried the promise; in how many it was kept on all boards; the mean rates found there.

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
    rng, groups = np.random.default_rng(seed), [np.flatnonzero(boards == name) for name in np.unique(boards)]
    bad, good = scores[defective], scores[~defective]
    found: list[tuple[float, float, float]] = []
    refused = 0
    for _ in range(draws):
        drawn = [groups[k] for k in rng.integers(0, len(groups), len(groups))]
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

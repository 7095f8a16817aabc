"""The line's verdicts on labelled joints and their labels, and every figure that follows; tables of figures.

Definitions: an *escape* is a defective joint whose verdict is `pass`; a *false call* is a good joint whose verdict is
`fail`; a joint without a row, or of a board that could not be inspected, is undecided and counts as `review`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import OperatingPoint
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.statistics import calibration_error, estimate_rate
from inspect_pop.evaluate.samples import Samples

__all__ = ["HEAD", "SCHEMA", "Outcomes", "judge", "row", "table"]

SCHEMA = "inspect-pop-evaluation/1"
_GOOD = CLASSES.index(GOOD)
HEAD = (
    "| boards of | number | joints | defects | defects passed | head-in-pillow passed | good failed (ppm) | review | exact label "
    "| calibration error |"
)


@dataclass(frozen=True)
class Outcomes:
    """Parallel arrays of n labelled joints.

    `truth` (n,) int8 index in `CLASSES`; `label` (n,) int8 the line's class, -1 undecided; `verdict` (n,) text;
    `probabilities` (n, 5) float32, NaN if undecided; `serial`, `machine`, `refdes`, `interface`, `ball`, `reason` (n,) text.
    `weight` (n,) float64 is how many joints each one stands for: 1 but for those drawn from all that passed.
    """

    truth: NDArray[np.int8]
    label: NDArray[np.int8]
    verdict: NDArray[np.object_]
    probabilities: NDArray[np.float32]
    serial: NDArray[np.object_]
    machine: NDArray[np.object_]
    refdes: NDArray[np.object_]
    interface: NDArray[np.object_]
    ball: NDArray[np.object_]
    reason: NDArray[np.object_]
    weight: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not len(self.weight):
            object.__setattr__(self, "weight", np.ones(len(self.truth)))
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"outcomes of unequal length: {lengths}")

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def board(self) -> NDArray[np.int64]:
        """The (n,) number of each joint's board."""
        return np.unique(self.serial.astype(str), return_inverse=True)[1]

    @property
    def escaped(self) -> NDArray[np.bool_]:
        """Which (n,) joints are defective and passed."""
        return np.asarray((self.truth != _GOOD) & (self.verdict == "pass"))

    @property
    def false_call(self) -> NDArray[np.bool_]:
        """Which (n,) joints are good and failed."""
        return np.asarray((self.truth == _GOOD) & (self.verdict == "fail"))

    def take(self, index: NDArray[Any]) -> "Outcomes":
        """Return the joints of a boolean mask or integer index."""
        return Outcomes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def of_scores(
        samples: Samples, probabilities: NDArray[np.float32], log_odds: NDArray[np.float32], point: OperatingPoint
    ) -> "Outcomes":
        """Return the outcomes of samples by their scores and the thresholds alone, without flags and neighbours."""
        fails, passes = log_odds >= point.fail_above, log_odds < point.pass_below
        best, worst = probabilities.argmax(axis=1), 1 + probabilities[:, 1:].argmax(axis=1)
        text = {name: getattr(samples, name).astype(object) for name in ("machine", "refdes", "interface", "ball")}
        return Outcomes(
            truth=samples.label,
            label=np.where(passes, _GOOD, np.where(fails, worst, best)).astype(np.int8),
            verdict=np.where(fails, "fail", np.where(passes, "pass", "review")).astype(object),
            probabilities=probabilities,
            serial=samples.serials.astype(object),
            weight=samples.weight.astype(np.float64),
            reason=np.full(len(samples), "", object),
            **text,
        )

    @staticmethod
    def concat(parts: Sequence["Outcomes"]) -> "Outcomes":
        """Return all joints in order."""
        return Outcomes(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Outcomes)})


def judge(outcomes: Outcomes) -> dict[str, Any]:
    """Return all figures as one object for JSON: each rate with its count, exact interval and interval over boards.

    The flat names (`escape_rate`, `false_call_ppm`, ...) are those of an independent scoring of `joints.parquet`.
    """
    decided = np.isfinite(outcomes.probabilities).all(axis=1)
    error = calibration_error(outcomes.probabilities[decided], outcomes.truth[decided], outcomes.weight[decided])
    labels = [*enumerate(CLASSES), (-1, "none")]  # `none` if nothing could be decided
    return {
        "schema": SCHEMA,
        **_rates(outcomes),
        "stands_for": round(float(outcomes.weight.sum())),
        "confusion": {
            true: {name: int(((outcomes.truth == t) & (outcomes.label == k)).sum()) for k, name in labels}
            for t, true in enumerate(CLASSES)
        },
        "recall": _each_class(outcomes, lambda k: (outcomes.label == k, outcomes.truth == k)),
        "exact_label_of_defects": _rate(outcomes, outcomes.label == outcomes.truth, outcomes.truth != _GOOD),
        "escapes_of": _each_class(outcomes, lambda k: (outcomes.escaped, outcomes.truth == k), skip_good=True),
        "false_calls_as": _each_class(
            outcomes, lambda k: (outcomes.false_call & (outcomes.label == k), outcomes.truth == _GOOD), skip_good=True
        ),
        "review_of": _each_class(outcomes, lambda k: (outcomes.verdict == "review", outcomes.truth == k)),
        "calibration": {"expected_error": None if np.isnan(error) else error, "joints": int(decided.sum())},
        "by": {name: _rates_by(outcomes, name) for name in ("serial", "machine", "interface")},
    }


def _rates(o: Outcomes) -> dict[str, Any]:
    """Return the figures of a whole judgement and of each group within it."""
    bad, good = o.truth != _GOOD, o.truth == _GOOD
    escapes, calls, review = _rate(o, o.escaped, bad), _rate(o, o.false_call, good), _rate(o, o.verdict == "review", bad | good)
    return {
        "joints": len(o),
        "boards": len(set(o.serial)),
        "defects": int(bad.sum()),
        "undecided": int((o.label < 0).sum()),
        "escapes": escapes["count"],
        "escape_rate": escapes["rate"],
        "escape_upper95": escapes["upper95"],
        "escape": escapes,
        "false_calls": calls["count"],
        "false_call_ppm": None if calls["rate"] is None else 1e6 * calls["rate"],
        "false_call_upper95_ppm": 1e6 * calls["upper95"],
        "false_call": calls,
        "review_share": review["rate"],
        "review": review,
        "label_miss": _rate(o, o.label == _GOOD, bad),
        "label_false": _rate(o, o.label != _GOOD, good),
    }


def _rate(o: Outcomes, hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> dict[str, Any]:
    return estimate_rate(np.asarray(hit), np.asarray(among), o.board, weight=o.weight).to_dict()


def _each_class(
    o: Outcomes, of: Callable[[int], tuple[NDArray[np.bool_], NDArray[np.bool_]]], *, skip_good: bool = False
) -> dict[str, Any]:
    return {name: _rate(o, *of(k)) for k, name in enumerate(CLASSES) if not (skip_good and k == _GOOD)}


def _rates_by(o: Outcomes, name: str) -> dict[str, Any]:
    groups = getattr(o, name)
    return {str(g): _rates(o.take(groups == g)) for g in dict.fromkeys(groups)}


def table(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table with one row per name, from the results of `judge`."""
    return [HEAD, "|---" * HEAD.count(" | ") + "|---|", *(row(name, values) for name, values in figures.items())]


def row(name: str, figures: Mapping[str, Any]) -> str:
    """Return one row of the table. A group within a judgement has fewer figures; those that it lacks are a dash."""
    cells = [name, *(str(figures[count]) for count in ("boards", "joints", "defects"))]
    cells += [_format_rate(figures["escape"]), _format_rate(figures.get("escapes_of", {}).get("head_in_pillow"))]
    cells += [_format_rate(figures["false_call"], 1e6, 0, ""), _format_rate(figures["review"])]
    cells += [_format_rate(figures.get("exact_label_of_defects"))]
    error = figures.get("calibration", {}).get("expected_error")
    cells.append("-" if error is None else f"{error:.4f}")
    return f"| {' | '.join(cells)} |"


def _format_rate(rate: Mapping[str, Any] | None, times: float = 100, digits: int = 2, unit: str = " %") -> str:
    """Format a rate and its exact 95 % interval."""
    if not rate or not rate["of"]:
        return "-"
    return f"{times * rate['rate']:.{digits}f}{unit} ({times * rate['low']:.{digits}f} to {times * rate['high']:.{digits}f})"

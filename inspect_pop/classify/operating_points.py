"""Choose operating points: from a promise, or for a machine never seen.

Scores are log-odds of 'defective' (`classify.session.log_odds`): a joint passes below one threshold, fails from another
one on, and goes to review between them.

**Promises**: at most so many defects pass, at most so many good joints fail, with a stated confidence. A threshold read
off the calibration scores is itself a matter of chance. With n defects and the threshold at the (k + 1)-th smallest of
their scores, the share of all defects below it follows Beta(k + 1, n - k); it exceeds r with a probability of
P(Binomial(n, r) <= k), so that the Clopper-Pearson bound of k in n holds for the *chosen* threshold too (Wilks, 1941:
tolerance limits by order statistics), when k is fixed beforehand as the largest that the promise admits. Joints of one
board resemble each other, so that n joints say less than n independent ones. How much less is the design effect of the
scores by board, and the bounds use n over it (Korn and Graubard, 1998: intervals for clustered counts).

**Calibration joints** stay with the model, for promises that are made after its release. `calibration.parquet` holds one
row per joint: `serial`, `machine`, `refdes`, `interface`, `ball`, `label`, and `logit_<class>` as the network gave them,
before calibration, to the 64th.

**A machine never seen** gets thresholds from the scores of its own boards, without labels. Measured on a network that was
trained on many simulated machines, with each machine left out in turn: the bulk of the good joints' scores moves from
machine to machine, but the tail of awkward ones, where the thresholds lie, does not move with it (moving them together
cost 6,000 to 11,000 ppm of false calls where fixed thresholds cost 0 to 1,300). What a machine's own boards do tell is how
many of its joints would go to review. So the thresholds are moved outwards as far as the share of joints in review allows:
a sharp machine buys fewer escapes and false calls with the reviews that it does not need. Passing never begins later than
the model says, and failing never earlier. Only where the whole bulk lies higher than nearly all good joints of the
calibration is it the machine that speaks: failing then begins as much later, and what lies between goes to review.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Model, OperatingPoint
from inspect_pop.classify.session import log_odds
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import ModelFault, PromiseFault, describe_error
from inspect_pop.core.statistics import clopper_pearson_upper

__all__ = [
    "CALIBRATION",
    "LEAST_JOINTS",
    "CalibrationJoints",
    "MachinePoint",
    "Promise",
    "choose_machine_point",
    "choose_model_point",
    "choose_operating_point",
    "count_needed_joints",
    "design_effect",
    "read_calibration",
    "write_calibration",
]

# The design effect is measured where at least this many joints stand out: at a low rate's threshold there are too few to
# see whether they lie on one board.
_EFFECT_AT = 30
_EVEN = OperatingPoint(pass_below=0, fail_above=0, source="even odds")
CALIBRATION = "calibration.parquet"
_TEXT = ("serial", "machine", "refdes", "interface", "ball", "label")
# Logits are stored to the 64th: finer than any difference between thresholds that matters, in a third of the bytes.
_STEPS = np.float32(64)
# Fewer joints than this cannot say what two in a hundred of them are.
LEAST_JOINTS = 60
_STEP, _LARGEST_MOVE = 0.1, 2.0
# A machine's scores lie higher than the calibration's where its sixth decile reaches what one in ten good joints of those
# does. A middle decile, because even a board with every fourth joint defective must not look like another machine.
_BULK, _KNOWN_BULK = 0.6, 90
_LARGEST_LIFT = 4.0


@dataclass(frozen=True)
class Promise:
    """An operating point and what it keeps.

    `escape_bound` and `false_call_bound` (fractions) are one-sided upper bounds at `confidence`, each by itself, or NaN
    where nothing was promised about it. `defects` and `good` count the calibration joints that carry them, `escapes` and
    `false_calls` how many of these fall on the wrong side. `review_share` is the share of good joints that go to review.
    """

    point: OperatingPoint
    confidence: float
    escape_bound: float
    false_call_bound: float
    defects: int
    good: int
    escapes: int
    false_calls: int
    review_share: float


@dataclass(frozen=True)
class CalibrationJoints:
    """`logits` (n, classes) float32, `label` (n,) int64 index in `CLASSES`, `serial` and `machine` (n,) text."""

    logits: NDArray[np.float32]
    label: NDArray[np.int64]
    serial: NDArray[np.object_]
    machine: NDArray[np.object_]


@dataclass(frozen=True)
class MachinePoint:
    """The machine's operating point, and how it came about.

    `widening` is by how much each threshold moved outwards, `lift` by how much failing moved up in addition (log-odds);
    `joints` counts the scores that were used. `is_moved` is False where the model's own thresholds stand.
    """

    point: OperatingPoint
    widening: float
    lift: float
    joints: int

    @property
    def is_moved(self) -> bool:
        """Whether the machine has thresholds of its own."""
        return self.widening > 0 or self.lift > 0


def choose_operating_point(
    log_odds: NDArray[np.floating],
    defective: NDArray[np.bool_],
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    confidence: float = 0.95,
    boards: NDArray[np.generic] | None = None,
    default: OperatingPoint | None = None,
) -> Promise:
    """Choose the operating point that keeps a promise with the fewest joints in review.

    Parameters
    ----------
    log_odds, defective
        (n,) calibration joints, held out of training: score and truth.
    max_escape_rate
        Share of defective joints that may pass, 0 to 1; None: nothing is promised, and `default` says where passing ends.
    max_false_call_ppm
        Good joints that may fail, in a million good ones; None: nothing is promised, and `default` says where failing begins.
    confidence
        Of each bound by itself.
    boards
        (n,) which board each joint is from; None takes joints as independent, which flatters.
    default
        For the side without a promise; None: even odds.

    Raises
    ------
    PromiseRefused
        Nothing is to be promised, a rate or the confidence is impossible, or the calibration joints are too few; it says
        how many it would take.
    """
    _check_promise(max_escape_rate, max_false_call_ppm, confidence)
    bad, good = log_odds[defective], log_odds[~defective]
    passing, escape_bound = math.nan, math.nan
    failing, false_call_bound = math.nan, math.nan
    if max_escape_rate is not None:
        effect = 1.0 if boards is None else _tail_effect(bad, max_escape_rate, boards[defective])
        passing, escape_bound = _find_limit(bad, max_escape_rate, confidence, effect, "defective")
    if max_false_call_ppm is not None:
        rate = max_false_call_ppm / 1e6
        effect = 1.0 if boards is None else _tail_effect(-good, rate, boards[~defective])
        mirrored, false_call_bound = _find_limit(-good, rate, confidence, effect, "good")
        # 'At the threshold' fails, and the joint that the threshold was read from must not.
        failing = float(np.nextafter(-mirrored, np.inf))
    pass_below, fail_above = _combine_limits(passing, failing, default or _EVEN)
    promise = Promise(
        point=OperatingPoint(pass_below=pass_below, fail_above=fail_above, source=""),
        confidence=confidence,
        escape_bound=escape_bound,
        false_call_bound=false_call_bound,
        defects=len(bad),
        good=len(good),
        escapes=int(np.sum(bad < pass_below)),
        false_calls=int(np.sum(good >= fail_above)),
        review_share=float(np.mean((good >= pass_below) & (good < fail_above))) if len(good) else math.nan,
    )
    bounds = []
    if max_escape_rate is not None:
        bounds.append(f"at most {_format_rate(escape_bound)} of defects pass ({promise.escapes} of {promise.defects})")
    if max_false_call_ppm is not None:
        bounds.append(f"at most {_format_rate(false_call_bound)} of good joints fail ({promise.false_calls} of {promise.good})")
    source = (
        f"promise, {confidence:.0%} confidence each: {'; '.join(bounds)}; {promise.review_share:.2%} of good joints go to review"
    )
    return replace(promise, point=promise.point.model_copy(update={"source": source}))


def choose_model_point(
    model: Model,
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    confidence: float = 0.95,
) -> Promise:
    """Choose the operating point of a model that keeps a promise; the model's own threshold where nothing is promised.

    The bounds hold for boards like those of the calibration. Raises `PromiseFault`, `ModelFault`.
    """
    joints = read_calibration(model)
    calibration = model.card.calibration
    scores = log_odds(joints.logits / calibration.temperature + np.asarray(calibration.bias, np.float32))
    return choose_operating_point(
        scores,
        joints.label != CLASSES.index(GOOD),
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        confidence=confidence,
        boards=joints.serial.astype(str),
        default=model.card.operating_point,
    )


def count_needed_joints(rate: float, confidence: float = 0.95) -> int:
    """Count the joints without any error that bound a rate at `rate`: 299 for 1 %, 2,995 for 0.1 % at 95 %."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate))


def design_effect(errors: NDArray[np.bool_], boards: NDArray[np.generic]) -> float:
    """Return the variance of a rate with joints grouped by board over that with independent joints; at least 1.

    `errors` (n,) and `boards` (n,). The variance between boards is the linearised one of a ratio of totals (Korn and
    Graubard, 1998). With fewer than two boards nothing can be seen, and 1 is returned.
    """
    _, which = np.unique(boards, return_inverse=True)
    m = int(which.max()) + 1 if len(which) else 0
    rate = float(errors.mean()) if len(errors) else 0.0
    if m < 2 or rate in (0.0, 1.0):
        return 1.0
    total, wrong = np.bincount(which, minlength=m), np.bincount(which, weights=errors, minlength=m)
    residual = wrong - rate * total
    clustered = m / (m - 1) * float(np.sum(residual**2)) / len(errors) ** 2
    return max(1.0, clustered / (rate * (1 - rate) / len(errors)))


def _check_promise(max_escape_rate: float | None, max_false_call_ppm: float | None, confidence: float) -> None:
    if max_escape_rate is None and max_false_call_ppm is None:
        raise PromiseFault("a promise", expected="a largest escape rate or false-call rate", found="neither")
    false_calls = None if max_false_call_ppm is None else max_false_call_ppm / 1e6
    for name, value in (("escape rate", max_escape_rate), ("false-call ppm / 1e6", false_calls)):
        if value is not None and not 0 < value < 1:
            raise PromiseFault(
                f"promise of a largest {name}",
                expected="more than 0 and less than 1",
                found=f"{value:g}",
                remedy="No number of joints can promise that nothing ever happens; choose a rate that you can accept.",
            )
    if not 0.5 <= confidence < 1:
        raise PromiseFault("confidence of a promise", expected="0.5 to below 1", found=f"{confidence:g}")


def _find_limit(scores: NDArray[np.floating], rate: float, confidence: float, effect: float, kind: str) -> tuple[float, float]:
    """Find the threshold with at most `rate` of the scores below it, and the bound that the joints carry (at most `rate`)."""
    n = len(scores)
    bound = clopper_pearson_upper(0, n, confidence, effect)
    if bound > rate:
        together = "" if effect < 1.05 else f" (they lie together on few boards: {n} count as {n / effect:.0f})"
        raise PromiseFault(
            f"at most {_format_rate(rate)} of {kind} joints wrong, with {confidence:.0%} confidence",
            expected=f"at least {math.ceil(count_needed_joints(rate, confidence) * effect)} {kind} joints in the calibration set",
            found=f"{n}{together}",
            remedy=f"Promise no less than {_format_rate(bound)}, or label more boards and train again.",
        )
    low, high = 0, n - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if clopper_pearson_upper(middle, n, confidence, effect) <= rate else (low, middle - 1)
    return float(np.partition(scores, low)[low]), clopper_pearson_upper(low, n, confidence, effect)


def _combine_limits(passing: float, failing: float, default: OperatingPoint) -> tuple[float, float]:
    """Combine both thresholds: as little review as the promises admit, and never a joint that both passes and fails."""
    if math.isnan(passing):
        return min(default.pass_below, failing), failing
    if math.isnan(failing):
        return passing, max(default.fail_above, passing)
    if passing >= failing:  # both promises hold with room to spare: one threshold in the middle of it, and no review
        return ((passing + failing) / 2,) * 2
    return passing, failing


def _tail_effect(scores: NDArray[np.floating], rate: float, boards: NDArray[np.generic]) -> float:
    """Return the largest design effect of the joints with the lowest scores: `rate` of them, twice and four times as many.

    But no fewer than `_EFFECT_AT` joints, or a tenth of all where there are few. The few boards that make a tail may be
    missing among those that were calibrated on; farther in there are more of them (measured on a released model's joints
    with boards drawn afresh, 200 times: a promise of 3,000 ppm was kept in 88 % of the draws with the effect at the rate
    itself, and in 96 % so).
    """
    effect = 1.0
    for k in (1, 2, 4) if len(scores) else ():
        count = min(max(_EFFECT_AT, round(k * rate * len(scores))), max(1, len(scores) // 10))
        effect = max(effect, design_effect(np.asarray(scores <= np.partition(scores, count - 1)[count - 1]), boards))
    return effect


def _format_rate(rate: float) -> str:
    return f"{rate:.2%}" if rate >= 0.001 else f"{rate * 1e6:.0f} ppm"


def write_calibration(path: Path, text: Mapping[str, Sequence[str]], logits: NDArray[np.floating]) -> None:
    """Write calibration joints: `text` has the columns serial, machine, refdes, interface, ball, label; `logits` (n, classes)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: pa.array(list(text[name]), pa.string()) for name in _TEXT}
    rounded = np.round(logits.astype(np.float32) * _STEPS) / _STEPS
    columns |= {f"logit_{c}": pa.array(rounded[:, k]) for k, c in enumerate(CLASSES)}
    table = pa.table(columns)
    numbers = [name for name in table.column_names if name not in _TEXT]
    pq.write_table(
        table, path, compression="zstd", compression_level=19, use_dictionary=list(_TEXT), use_byte_stream_split=numbers
    )


def read_calibration(model: Model) -> CalibrationJoints:
    """Read the calibration joints of a model. Raises `ModelFault` where it has none, or they are not as they should be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = model.folder / CALIBRATION
    if CALIBRATION not in model.card.files:
        raise ModelFault(
            f"model {model.card.name}", expected=CALIBRATION, found="none", remedy="Train it again to promise anything with it."
        )
    try:
        table = pq.read_table(path)
        logits = np.stack([table[f"logit_{c}"].to_numpy() for c in CLASSES], axis=1).astype(np.float32)
        label = np.array([CLASSES.index(name) for name in table["label"].to_pylist()], np.int64)
        serial, machine = (np.array(table[name].to_pylist(), object) for name in ("serial", "machine"))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise ModelFault(
            str(path), expected="calibration joints", found=describe_error(error), remedy="Copy the model again."
        ) from error
    return CalibrationJoints(logits, label, serial, machine)


def choose_machine_point(
    log_odds: NDArray[np.floating],
    good_scores: NDArray[np.floating] | tuple[float, ...],
    reference: OperatingPoint,
    *,
    review_share: float = 0.02,
) -> MachinePoint:
    """Choose thresholds of one machine from the scores of its unlabelled joints.

    Parameters
    ----------
    log_odds
        (n,) of 'defective' of all joints that the machine has shown so far; NaN (undecided) is left out.
    good_scores
        (101,) quantiles at 0, 1, … 100 % of the calibration's good joints (`Card.good_scores`).
    reference
        The model's own thresholds.
    review_share
        Largest share of joints in review. Where more lie between the model's own thresholds, these stand.
    """
    scores, known = np.asarray(log_odds, np.float64), np.asarray(good_scores, np.float64)
    scores = scores[np.isfinite(scores)]
    if len(scores) < LEAST_JOINTS or len(known) != 101:
        why = "the model keeps no good scores" if len(known) != 101 else f"{len(scores)} joints of this machine are too few"
        return MachinePoint(_move_point(reference, 0, 0, f"{why} to follow it"), 0.0, 0.0, len(scores))
    # How much higher the bulk of this machine lies than nine in ten good joints of the calibration; 0 where it does not.
    lift, bulk = 0.0, scores[scores < reference.fail_above + _LARGEST_LIFT]
    if len(bulk) >= LEAST_JOINTS:
        lift = min(max(0.0, float(np.quantile(bulk, _BULK)) - float(known[_KNOWN_BULK])), _LARGEST_LIFT)

    def share_in_review(widening: float) -> float:
        # One joint more than was seen: few joints must not promise little review.
        low, high = reference.pass_below - widening, reference.fail_above + lift + widening
        return float((np.sum((scores >= low) & (scores < high)) + 1) / (len(scores) + 1))

    widening = 0.0
    while widening + _STEP <= _LARGEST_MOVE and share_in_review(widening + _STEP) <= review_share:
        widening = round(widening + _STEP, 6)
    why = f"after {len(scores)} joints of this machine, {share_in_review(widening):.1%} of them for review"
    if lift:
        why += f", whose scores lie {lift:.1f} higher than those of any machine known"
    return MachinePoint(_move_point(reference, widening, lift, why), widening, lift, len(scores))


def _move_point(reference: OperatingPoint, widening: float, lift: float, why: str) -> OperatingPoint:
    low, high = reference.pass_below - widening, reference.fail_above + widening + lift
    moved = f"pass below {low:.2f} and fail from {high:.2f}, " if widening or lift else ""
    return OperatingPoint(pass_below=low, fail_above=high, source="; ".join(filter(None, [reference.source, moved + why])))

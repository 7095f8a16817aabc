"""Compare a model with another one on the same boards, and with what people decided.

Both models inspect the same joints, so each joint tells by itself in which direction an error moved. The difference of two shares
gets its interval from resampled boards (percentile bootstrap over pairs; Efron and Tibshirani, 1993, chapter 13), since joints of
a board resemble one another. The exact test of McNemar (Psychometrika 12, 1947, 153-157) is on the joints whose errors differ.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sqlalchemy import and_, or_, select

from inspect_pop.classify.model import Card, Model
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import LabelsFault, PopError
from inspect_pop.core.limits import Limits
from inspect_pop.core.statistics import clopper_pearson, percent
from inspect_pop.core.text import pluralize
from inspect_pop.evaluate.decision_labels import DecidedJoint, DecisionLabels
from inspect_pop.evaluate.evaluation import Outcomes, find_learnt_boards, list_learnt_boards, outcomes_of
from inspect_pop.ingest import Source
from inspect_pop.store import Store
from inspect_pop.store.schema import boards, defects

__all__ = [
    "ChangedRate",
    "Comparison",
    "Disagreement",
    "DisagreementReport",
    "Forecast",
    "compare_models",
    "compare_outcomes",
    "find_disagreements",
    "forecast_training",
]

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


# Where the model and people disagree, the most surprising joint first, and whether there is enough for a new training.
#
# A disagreement is a judged joint whose class, as a person says, is not the machine's. It surprises the more, the less probable
# the machine held the person's class. No torch is needed: the learning curve comes from the report of the model's training.


_PLACE = ("refdes", "interface", "ball")
_P = tuple(f"p_{name}" for name in CLASSES)
# Four labelled boards of a new machine took nearly all its false calls; fewer leave none to judge by (docs/lab/training.md).
_LEAST_BOARDS = 4


@dataclass(frozen=True)
class Disagreement:
    """A joint that the machine and a person call differently.

    `p` is the probability that the machine gave to the person's class, None where it is not known. `kind` is `false call`
    (failed, and good), `cleared` (in review, and good), `escape` (passed, and defective) or `class` (another kind of defect).
    """

    record: str
    serial: str
    joint: str
    kind: str
    called: str | None
    verdict: str
    label: str
    p: float | None
    decided_by: str
    decided_at: str
    stage: str
    note: str


@dataclass(frozen=True)
class Forecast:
    """What is missing until a new training pays: judged boards, and decisions at the present number a board.

    Both are None where it is not known. `new_boards` are judged boards that the model has not learnt from. `ground` says why.
    """

    new_boards: int
    boards: int | None
    decisions: int | None
    ground: str


@dataclass(frozen=True)
class DisagreementReport:
    """All disagreements, the most surprising first, and the numbers; intervals are exact 95 % ones.

    `sampled` counts the looked-at joints that were drawn from those that passed, `escapes` the defective ones among them.
    `escape_boards` of `sampled_boards` showed such an escape; `escape_low` and `escape_high` bound that share over boards, since
    joints of one board resemble one another.
    """

    disagreements: tuple[Disagreement, ...]
    judged: int
    confirmed: int
    false_calls: int
    cleared: int
    sampled: int
    escapes: int
    sampled_boards: int
    escape_boards: int
    escape_low: float
    escape_high: float
    bias: str
    forecast: Forecast

    def to_dict(self, limit: int | None = None) -> dict[str, Any]:
        """Return the report for JSON, with at most `limit` disagreements."""
        values = asdict(self)
        values["n_disagreements"] = len(self.disagreements)
        values["disagreements"] = list(values["disagreements"][:limit])
        return values

    def lines(self, limit: int | None = None) -> list[str]:
        """Return the report as text of 80 columns where names allow it: numbers, then at most `limit` disagreements."""
        escapes = f"{self.escapes} of {self.sampled} joints that passed and were drawn"
        if self.sampled:
            escapes += (
                f"; on {self.escape_boards} of {pluralize(self.sampled_boards, 'board')} "
                f"({percent(self.escape_low)} to {percent(self.escape_high)})"
            )
        lines = [
            f"{pluralize(self.judged, 'joint')} judged: {pluralize(self.confirmed, 'defect')} confirmed, "
            f"{pluralize(self.false_calls, 'false call')}, {self.cleared} cleared in review",
            f"escapes: {escapes}",
            *([self.bias] if self.bias else []),
            f"a new training: {self.forecast.ground}",
            f"{pluralize(len(self.disagreements), 'disagreement')}, the most surprising first:",
        ]
        for item in self.disagreements[:limit]:
            p = "?" if item.p is None else f"{item.p:.3f}"
            lines.append(f"  {item.serial} {item.joint}: {item.kind}: {item.called or 'undecided'} -> {item.label} (p {p})")
            lines.append(f"      {item.stage} {item.decided_by} {item.decided_at}{f': {item.note}' if item.note else ''}")
        return lines


def find_disagreements(store: Store, found: DecisionLabels, forecast: Forecast) -> DisagreementReport:
    """Compare the labels from decisions with what the machine said. Raises `StoreFault`."""
    labels = found.labels
    differing = [joint for joint in labels if joint.label != joint.called]
    p = _read_probabilities(store, differing)
    items = [_make_disagreement(joint, p.get((joint.record, joint.name), {})) for joint in differing]
    items.sort(key=lambda item: (math.inf if item.p is None else item.p, item.serial, item.joint))
    suspects = [joint for joint in labels if joint.role == "suspect"]
    drawn = [joint for joint in labels if joint.role == "sample"]
    escaped = [joint for joint in drawn if joint.label != GOOD]
    sampled_boards, escape_boards = (len({joint.record for joint in joints}) for joints in (drawn, escaped))
    low, high = clopper_pearson(escape_boards, sampled_boards)
    return DisagreementReport(
        tuple(items),
        judged=len(labels),
        confirmed=sum(joint.label != GOOD for joint in suspects),
        false_calls=sum(joint.label == GOOD and joint.verdict == "fail" for joint in suspects),
        cleared=sum(joint.label == GOOD and joint.verdict == "review" for joint in suspects),
        sampled=len(drawn),
        escapes=len(escaped),
        sampled_boards=sampled_boards,
        escape_boards=escape_boards,
        escape_low=low,
        escape_high=high,
        bias=found.describe_bias(),
        forecast=forecast,
    )


def _make_disagreement(joint: DecidedJoint, p: Mapping[str, float | None]) -> Disagreement:
    if joint.label != GOOD:
        kind = "escape" if joint.verdict == "pass" else "class"
    else:
        kind = "false call" if joint.verdict == "fail" else "cleared"
    names = ("record", "serial", "called", "verdict", "label", "stage", "note")
    about = {name: getattr(joint, name) for name in names}
    return Disagreement(
        **about, joint=joint.name, kind=kind, p=p.get(joint.label), decided_by=joint.labelled_by, decided_at=joint.labelled_at
    )


def _read_probabilities(store: Store, joints: Sequence[DecidedJoint]) -> dict[tuple[str, str], dict[str, float | None]]:
    """Read the probability of each class, by record and joint: of suspects in the database, of others in the joints' files."""
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    suspects = [joint for joint in joints if joint.verdict != "pass"]
    query = select(boards.c.record, *(defects.c[n] for n in (*_PLACE, *_P))).join_from(defects, boards)
    with store.reading() as connection:
        for start in range(0, len(suspects), 200):  # databases bound the number of values of a statement
            part = [
                and_(boards.c.record == joint.record, *(defects.c[n] == getattr(joint, n) for n in _PLACE))
                for joint in suspects[start : start + 200]
            ]
            for row in connection.execute(query.where(or_(*part))):
                name = f"{row.refdes}.{row.interface}.{row.ball}"
                found[row.record, name] = {c: getattr(row, f"p_{c}") for c in CLASSES}
    for record in {joint.record for joint in joints if joint.verdict == "pass"}:
        try:
            table = store.joints(record=record).select([*_PLACE, *_P]).to_pylist()
        except PopError:  # a store without files of joints
            continue
        for row in table:
            found[record, ".".join(row[n] for n in _PLACE)] = {c: row[f"p_{c}"] for c in CLASSES}
    return found


def forecast_training(found: DecisionLabels, card: Card, folder: Path) -> Forecast:
    """Forecast how many more judged boards and decisions a new training needs to pay.

    The learning curve of the model's last training (`report.json`) says how many boards halve the errors that it left: the number
    that it learnt from times 2^(1/slope). A model without a curve, such as a released one, has never learnt from boards of this
    kind: four of them are enough to help (docs/lab/training.md). Where the curve is flat, it is not known.

    Parameters
    ----------
    found
        What people decided.
    card, folder
        Of the current model.
    """
    serials = {joint.serial for joint in found.labels}
    new = len(serials - list_learnt_boards(card))
    per_board = max(1.0, len(found.labels) / max(1, len(serials)))
    curve = _read_curve(folder)
    if curve is None:
        needed = _LEAST_BOARDS
        why = f"the model has no learning curve of such boards; the rule is {_LEAST_BOARDS} new boards (docs/lab/training.md)"
    elif not curve.get("slope"):
        return Forecast(new, None, None, f"not known when it pays: {curve.get('summary', 'its last training shows no curve')}")
    else:
        learnt = curve["points"][-1]["boards"]
        needed = math.ceil(learnt * (2 ** (1 / curve["slope"]) - 1))
        why = f"by the learning curve of the last training, {needed} new boards halve the errors that {learnt} left"
    missing = max(0, needed - new)
    state = "may pay now" if missing == 0 else f"pays after about {pluralize(missing, 'more board')}"
    state += f", {math.ceil(missing * per_board)} decisions" if missing else ""
    return Forecast(new, missing, math.ceil(missing * per_board), f"{state} ({pluralize(new, 'new board')} judged; {why})")


def _read_curve(folder: Path) -> dict[str, Any] | None:
    try:
        curve = json.loads((folder / "report.json").read_text(encoding="utf-8")).get("curve")
    except (OSError, ValueError, AttributeError):
        return None
    return curve if isinstance(curve, dict) and curve.get("points") else None

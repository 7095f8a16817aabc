"""Where the model and people disagree, the most surprising joint first, and whether there is enough for a new training.

A disagreement is a judged joint whose class, as a person says, is not the machine's. It surprises the more, the less probable the
machine held the person's class. No torch is needed: the learning curve comes from the report of the model's training.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import and_, or_, select

from inspect_pop.classify.model import Card
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import PopError
from inspect_pop.core.statistics import clopper_pearson, percent
from inspect_pop.core.text import pluralize
from inspect_pop.evaluate.decision_labels import DecidedJoint, DecisionLabels
from inspect_pop.evaluate.evaluation import list_learnt_boards
from inspect_pop.store import Store
from inspect_pop.store.schema import boards, defects

__all__ = ["Disagreement", "DisagreementReport", "Forecast", "find_disagreements", "forecast_training"]

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

"""Labels from people's decisions, and the exports whose joints they judged.

A decision says what the joint is only where it is about the joint's class. `DefectConfirmed` confirms the machine's class, or
gives another one; `DefectRejected` and `PassConfirmed` say that the joint is good; `DefectMissed` needs the class that the person
gave. `DefectAccepted`, `DefectRepaired` and `DefectClosed` say what became of the board, not what the joint is, unless the person
gave the class. `DefectWithdrawn` takes back what its stage decided before. The repair station outranks the operator. A joint
that nobody decided is unknown, not good: it has no label.

People look at the suspects, and at a sample of the joints that passed. Suspects alone would teach a model that every second good
joint is doubtful, and would hide all escapes. So each joint of the sample stands for the joints that passed on its board,
divided by the number of them that were looked at (Horvitz and Thompson, JASA 47, 1952, 663-685). A defect that somebody found
elsewhere was not drawn and stands for itself.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import and_, func, select

from inspect_pop.core.classes import GOOD
from inspect_pop.core.columns import KEY
from inspect_pop.core.errors import FileFault, InputFault, StoreFault
from inspect_pop.core.system import write_text
from inspect_pop.core.text import format_csv, pluralize
from inspect_pop.ingest import BoardPlace, open_export
from inspect_pop.store import Store
from inspect_pop.store.schema import boards, decisions, defects, samples
from inspect_pop.store.types import PASS_CONFIRMED, list_standing
from inspect_pop.verify.windows_file import read_windows

__all__ = [
    "LABEL_COLUMNS",
    "SOURCE",
    "DecidedExports",
    "DecidedJoint",
    "DecisionLabels",
    "collect_decision_labels",
    "find_decided_exports",
    "write_decision_labels",
]

SOURCE = "verification"
LABEL_COLUMNS = (*KEY, "label", "source", "labelled_by", "labelled_at", "note", "inspected_at", "stage", "stands_for")
_SAYS_GOOD = {"DefectRejected", PASS_CONFIRMED}
_PLACE = ("refdes", "interface", "ball")


@dataclass(frozen=True)
class DecidedJoint:
    """The label of one joint of one inspection; fields as in `labels.csv`.

    `role` is `suspect` for a joint that did not pass, `sample` for one that was drawn from those that passed, `reported` for
    another that passed. `called` is the machine's class, None where it gave none. `stands_for` counts joints.
    """

    record: str
    serial: str
    refdes: str
    interface: str
    ball: str
    label: str
    labelled_by: str
    labelled_at: str
    note: str
    inspected_at: str
    stage: str
    role: str
    called: str | None
    verdict: str
    stands_for: float = 1.0
    source: str = SOURCE

    @property
    def name(self) -> str:
        """The joint's name, such as U1.lower.C4."""
        return f"{self.refdes}.{self.interface}.{self.ball}"


@dataclass(frozen=True)
class DecisionLabels:
    """Labels in order of inspection and decision; `unclear` names decisions that do not say the class, with the state."""

    labels: tuple[DecidedJoint, ...]
    unclear: tuple[str, ...]

    def describe_bias(self) -> str:
        """Return in words how the labelled joints were chosen, and what that means; empty without labels."""
        if not self.labels:
            return ""
        counts = Counter(joint.role for joint in self.labels)
        drawn = [joint for joint in self.labels if joint.role == "sample"]
        words = f"people looked at {pluralize(counts['suspect'], 'suspect')}"
        if not drawn:
            return f"{words} and at no joint of a sample of those that passed: what the model lets pass is not known"
        total = round(sum(joint.stands_for for joint in drawn))
        words += f", and at {len(drawn)} of {pluralize(total, 'joint')} that passed"
        return f"{words}: each of these stands for those that it was drawn from"


def collect_decision_labels(store: Store) -> DecisionLabels:
    """Collect the labels that follow from the decisions in a store.

    A later decision about the same joint of the same inspection replaces an earlier one of its stage, unless it does not say the
    class; the repair station's counts before the operator's. Raises `StoreFault`.
    """
    suspects = defects.alias("suspects")
    n_suspects = select(func.count()).where(suspects.c.board_id == boards.c.id, suspects.c.verdict != "pass").scalar_subquery()
    query = (
        select(
            *(boards.c[n] for n in ("record", "serial", "inspected_at")),
            (boards.c.n_joints - n_suspects).label("n_passed"),
            *(decisions.c[n] for n in (*_PLACE, "state", "label", "stage", "decided_by", "decided_at", "note")),
            defects.c.label.label("called"),
            defects.c.verdict,
            samples.c.ball.label("drawn"),
        )
        .select_from(decisions)
        .join(boards, boards.c.id == decisions.c.board_id)
        .outerjoin(defects, and_(defects.c.board_id == boards.c.id, *(defects.c[n] == decisions.c[n] for n in _PLACE)))
        .outerjoin(samples, and_(samples.c.board_id == boards.c.id, *(samples.c[n] == decisions.c[n] for n in _PLACE)))
        .order_by(boards.c.inspected_us, boards.c.id, decisions.c.id)
    )
    by_joint: dict[tuple[str, ...], list[Any]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            by_joint.setdefault((row.record, row.refdes, row.interface, row.ball), []).append(row)
    found, passed, unclear = [], {}, []
    for rows in by_joint.values():
        standing = [row for _, _, row in list_standing([(row.state, row.stage, row) for row in rows])]
        last = next((row for row in reversed(standing) if _find_class(row) is not None), None)
        if last is not None:
            found.append(_make_label(last))
            passed[last.record] = last.n_passed
        elif standing:
            row = standing[-1]
            unclear.append(f"{row.serial} {row.refdes}.{row.interface}.{row.ball}: {row.state}")
    drawn = Counter(joint.record for joint in found if joint.role == "sample")
    weights = [passed[joint.record] / drawn[joint.record] if joint.role == "sample" else 1.0 for joint in found]
    labels = (replace(joint, stands_for=max(1.0, weight)) for joint, weight in zip(found, weights, strict=True))
    return DecisionLabels(tuple(labels), tuple(unclear))


def _find_class(decision: Any) -> str | None:
    """Return the class that a decision says the joint has, or None where it does not say one."""
    if decision.label is not None:
        return str(decision.label)
    if decision.state in _SAYS_GOOD:
        return GOOD
    is_call = decision.called not in (None, GOOD)
    return str(decision.called) if decision.state == "DefectConfirmed" and is_call else None


def _make_label(row: Any) -> DecidedJoint:
    verdict = row.verdict or "pass"
    role = "suspect" if verdict != "pass" else "reported" if row.drawn is None else "sample"
    return DecidedJoint(
        record=row.record,
        serial=row.serial,
        refdes=row.refdes,
        interface=row.interface,
        ball=row.ball,
        label=str(_find_class(row)),
        labelled_by=row.decided_by,
        labelled_at=row.decided_at,
        note=row.note,
        inspected_at=row.inspected_at,
        stage=row.stage,
        role=role,
        called=row.called if row.verdict else GOOD,
        verdict=verdict,
    )


def write_decision_labels(found: DecisionLabels, path: Path) -> None:
    """Write the labels as `labels.csv`: it appears whole or not at all."""
    rows = [
        [f"{joint.stands_for:g}" if n == "stands_for" else getattr(joint, n) for n in LABEL_COLUMNS] for joint in found.labels
    ]
    write_text(path, format_csv(LABEL_COLUMNS, rows))


# Where the exports lie whose joints people judged, as the records say it; and which of them are gone.


@dataclass(frozen=True)
class DecidedExports:
    """The exports of judged inspections that are still there, and a line on each of the others: serial, and why not."""

    places: tuple[BoardPlace, ...]
    lost: tuple[str, ...]


def find_decided_exports(store: Store, labels: Iterable[DecidedJoint]) -> DecidedExports:
    """Find the exports of the inspections that labels are about, each once, in order of the labels.

    An export counts as gone if the record does not say where it lay, if nothing can be read there, and if what lies there now is
    another export than the one that was inspected.
    """
    places, lost = [], []
    for record, serial in dict.fromkeys((joint.record, joint.serial) for joint in labels):
        try:
            places.append(_find_place(store, record))
        except (InputFault, StoreFault) as fault:
            lost.append(f"{serial}: {fault}")
    return DecidedExports(tuple(places), tuple(lost))


def _find_place(store: Store, record: str) -> BoardPlace:
    """Return where the export of a record lies. Raises `InputFault` or `StoreFault` that says why there is none to use."""
    windows = read_windows(store, record)
    if windows is None or windows.export is None:
        found = (
            "nothing: its windows were deleted, or the store keeps no files"
            if windows is None
            else "an upload, of which nothing is left"
        )
        raise FileFault(f"record {record[:12]}", expected="where its export lies", found=found)
    place = BoardPlace(Path(windows.export.path), Path(windows.export.root))
    digest = open_export(place.path, place.root).digest
    if digest != windows.export.digest:
        expected, found = f"the export {windows.export.digest[:12]} that was inspected", f"another one, {digest[:12]}"
        raise FileFault(str(place), expected=expected, found=found)
    return place

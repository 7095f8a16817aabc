"""Labels from what people decided at the verify station, in the form that training and evaluation read.

A decision says what the joint is only where it is about the joint's class. `DefectConfirmed` confirms the machine's class, or
gives another one; `DefectRejected` says that the joint is good; `DefectMissed` needs the class that the person gave.
`PassConfirmed` says that a joint that passed is good. A decision that was withdrawn says nothing, and the repair station counts
before the operator. `DefectAccepted`, `DefectRepaired` and `DefectClosed` say what became of the board, not what the joint is,
unless the person gave the class. A joint that nobody decided is unknown, not good: it has no label.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import and_, select

from inspect_pop.core.atomic import write_text
from inspect_pop.core.classes import GOOD
from inspect_pop.core.columns import KEY
from inspect_pop.store import Store
from inspect_pop.store.outcome import list_standing
from inspect_pop.store.schema import boards, decisions, defects
from inspect_pop.store.types import PASS_CONFIRMED

__all__ = ["LABEL_COLUMNS", "SOURCE", "DecidedJoint", "DecisionLabels", "collect_decision_labels", "write_decision_labels"]

SOURCE = "verification"
LABEL_COLUMNS = (*KEY, "label", "source", "labelled_by", "labelled_at", "note", "inspected_at")


@dataclass(frozen=True)
class DecidedJoint:
    """The label of one joint of one inspection; fields as in `labels.csv`."""

    serial: str
    refdes: str
    interface: str
    ball: str
    label: str
    labelled_by: str
    labelled_at: str
    note: str
    inspected_at: str
    source: str = SOURCE


@dataclass(frozen=True)
class DecisionLabels:
    """Labels in order of inspection and decision; `unclear` names decisions that do not say the class, with the state."""

    labels: tuple[DecidedJoint, ...]
    unclear: tuple[str, ...]


def collect_decision_labels(store: Store) -> DecisionLabels:
    """Collect the labels that follow from the decisions in a store.

    A later standing decision about the same joint of the same inspection replaces an earlier one, unless it does not say the
    class. Raises `StoreFault`.
    """
    query = (
        select(
            *(boards.c[n] for n in ("record", "serial", "inspected_at")),
            *(decisions.c[n] for n in ("refdes", "interface", "ball", "state", "stage")),
            *(decisions.c[n] for n in ("label", "decided_by", "decided_at", "note")),
            defects.c.label.label("called"),
        )
        .select_from(decisions)
        .join(boards, boards.c.id == decisions.c.board_id)
        .outerjoin(
            defects,
            and_(defects.c.board_id == boards.c.id, *(defects.c[n] == decisions.c[n] for n in ("refdes", "interface", "ball"))),
        )
        .order_by(boards.c.inspected_us, boards.c.id, decisions.c.id)
    )
    decided: dict[tuple[str, ...], list[tuple[str, str, Any]]] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            decided.setdefault((row.record, row.refdes, row.interface, row.ball), []).append((row.state, row.stage, row))
    found: list[DecidedJoint] = []
    unclear: list[str] = []
    for entries in decided.values():
        standing = [row for _, _, row in list_standing(entries)]
        clear = [(label, row) for row in standing if (label := _find_class(row)) is not None]
        if clear:
            label, row = clear[-1]
            place = (row.serial, row.refdes, row.interface, row.ball)
            found.append(DecidedJoint(*place, label, row.decided_by, row.decided_at, row.note, row.inspected_at))
        elif standing:
            row = standing[-1]
            unclear.append(f"{row.serial} {row.refdes}.{row.interface}.{row.ball}: {row.state}")
    return DecisionLabels(tuple(found), tuple(unclear))


def _find_class(decision: Any) -> str | None:
    """Return the class that a decision says the joint has, or None where it does not say one."""
    if decision.label is not None:
        return str(decision.label)
    if decision.state in ("DefectRejected", PASS_CONFIRMED):
        return GOOD
    is_call = decision.called not in (None, GOOD)
    return str(decision.called) if decision.state == "DefectConfirmed" and is_call else None


def write_decision_labels(found: DecisionLabels, path: Path) -> None:
    """Write the labels as `labels.csv`: it appears whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LABEL_COLUMNS)
    writer.writerows([getattr(joint, name) for name in LABEL_COLUMNS] for joint in found.labels)
    write_text(path, text.getvalue())

"""Which labels belong to which inspection, and which labels and boards do not meet at all.

A label names a serial, and a board may be inspected again after it was repaired: what a person said of the first inspection
is not true of the second. A label belongs to the inspection whose time it gives (`inspected_at`), else to the one that was the
last when it was made (`labelled_at`), unless that was the last of all: then it may be about any of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path

from inspect_pop.evaluate.label_book import BoardLabels, LabelBook
from inspect_pop.ingest.contract import BoardExport
from inspect_pop.ingest.labels import LabelledJoint

__all__ = ["MatchedLabels", "describe_unmatched", "find_changed_serials", "match_inspections"]

_DIGITS_LEFT = 0.005  # a spreadsheet shows three digits of a long number: 2.41E+08
_MOST_LISTED = 8


@dataclass(frozen=True)
class MatchedLabels:
    """The labels of each inspection, by its export's path, and a line on each serial whose labels cannot be told apart.

    `weights` has, by path, how many joints a labelled joint stands for, of those that stand for more than themselves.
    """

    by_path: Mapping[Path, BoardLabels]
    unclear: tuple[str, ...]
    weights: Mapping[Path, Mapping[tuple[str, str, str], float]] = field(default_factory=dict)


def match_inspections(book: LabelBook, exports: Iterable[BoardExport]) -> MatchedLabels:
    """Give each inspection its labels.

    A copy of an export gets none, nor does an export without slices of a board that another one shows with slices.
    """
    labels: dict[str, dict[tuple[str, str, str], LabelledJoint]] = {}
    for (serial, *joint), labelled in book.joints.items():
        labels.setdefault(serial, {})[joint[0], joint[1], joint[2]] = labelled
    by_path: dict[Path, BoardLabels] = {}
    weights: dict[Path, dict[tuple[str, str, str], float]] = {}
    unclear: list[str] = []
    in_order = sorted(exports, key=lambda export: (export.serial, datetime.fromisoformat(export.inspected_at)))
    for serial, group in groupby(in_order, lambda export: export.serial):
        unique = list({export.digest: export for export in group}.values())
        inspections = [export for export in unique if export.slices] or unique
        times = [datetime.fromisoformat(export.inspected_at) for export in inspections]
        which = {key: _find_inspection(joint, times) for key, joint in labels.get(serial, {}).items()}
        for k, export in enumerate(inspections):
            given = {key: labels[serial][key] for key, number in which.items() if number == k}
            by_path[export.path] = {key: joint.label for key, joint in given.items()}
            weights[export.path] = {key: joint.stands_for for key, joint in given.items() if joint.stands_for != 1}
        if n := sum(number is None for number in which.values()):
            unclear.append(
                f"{serial} was inspected again ({len(inspections)} of its exports are here): {n} of its labels do not say which "
                "of these inspections they are about and are not used; give their inspected_at, or move other exports away"
            )
    return MatchedLabels(by_path, tuple(unclear), weights)


def describe_unmatched(boards: Sequence[str], labelled: Sequence[str]) -> list[str]:
    """Return a line each on the boards without labels, on the labelled serials without a board, and on each likely pair."""
    without_labels = [serial for serial in dict.fromkeys(boards) if serial not in set(labelled)]
    without_board = [serial for serial in dict.fromkeys(labelled) if serial not in set(boards)]
    lines = [
        f"{what} ({len(names)}): {', '.join(map(repr, names[:_MOST_LISTED]))}"
        + (f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else "")
        for what, names in (("boards without labels", without_labels), ("labelled serials without a board", without_board))
        if names
    ]
    return lines + [
        f"labels of {label!r} are probably those of board {board!r}, whose serial a spreadsheet changed"
        for label, board in find_changed_serials(without_board, without_labels)
    ]


def find_changed_serials(labelled: Iterable[str], boards: Sequence[str]) -> list[tuple[str, str]]:
    """Return the (labelled serial, board's serial) that a spreadsheet may have made one of the other."""
    return [(label, board) for label in labelled for board in boards if _may_be_changed(label, board)]


def _may_be_changed(label: str, board: str) -> bool:
    """Return whether both are the same but for case and blanks, or the same number: leading zeros lost, 2411E5 as 2.41E+08."""
    if label.strip().casefold() == board.strip().casefold():
        return True
    try:
        one, other = float(label), float(board)
    except ValueError:
        return False
    return one == other or ("E" in label.upper() and abs(one - other) <= _DIGITS_LEFT * abs(other))


def _find_inspection(joint: LabelledJoint, times: Sequence[datetime]) -> int | None:
    """Return the number of the inspection, of those at `times` in rising order, that a label is about; None: it does not say."""
    try:
        if joint.inspected_at:
            return times.index(datetime.fromisoformat(joint.inspected_at))
        if len(times) == 1:
            return 0
        labelled_at = datetime.fromisoformat(joint.labelled_at)
        before = sum(time <= labelled_at for time in times)
    except (ValueError, TypeError):  # no time, none of these, or one without an offset
        return None
    return before - 1 if 0 < before < len(times) else None

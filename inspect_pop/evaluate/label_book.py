"""All labels of some batches: a report on them, labels that may be wrong, and the inspection that each belongs to.

`find_label_doubts` lists joints whose label a model that never saw it thinks very unlikely. Out of fold by board: a quick
classifier (logistic regression on the current network's embeddings) learns from all boards but some, and is asked about
those (Northcutt et al., 2021: confident learning). One wrong label in fifty costs a retrained model more than ten boards
fewer; a person who looks at twenty joints can correct most of them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.classes import CLASSES, joint_class
from inspect_pop.core.columns import KEY
from inspect_pop.core.errors import LabelsFault
from inspect_pop.core.recipe import Recipe
from inspect_pop.core.text import pluralize
from inspect_pop.evaluate.decision_labels import SOURCE
from inspect_pop.evaluate.samples import Samples, split_folds
from inspect_pop.ingest import Source, find_labels
from inspect_pop.ingest.contract import BoardExport
from inspect_pop.ingest.document import read_rows
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes
from inspect_pop.ingest.pop_export import JointKey, LabelledJoint, check_labels, read_labels

__all__ = [
    "LabelBook",
    "LabelDoubt",
    "LabelReport",
    "MatchedLabels",
    "describe_unmatched",
    "find_changed_serials",
    "find_label_doubts",
    "match_inspections",
    "predict_out_of_fold",
    "read_book",
    "report_labels",
]

BoardLabels = dict[tuple[str, str, str], str]
# With fewer joints of a class, a share of a fifth leaves fewer than four to calibrate on and to judge by.
_RARE = 20
_FOLDS = 5
# A label is doubtful if it gets less than this probability and another class more than that: few, and mostly right.
_UNLIKELY = 0.05
_LIKELY = 0.9
# Inverse strength of the pull towards even odds: some hundred joints against thirty-odd features.
_STRENGTH = 1.0


@dataclass(frozen=True)
class LabelBook:
    """The last label of each joint.

    `repeated` counts lines about a joint that an earlier line names; `changed` describes those with another label.
    """

    joints: Mapping[JointKey, LabelledJoint]
    files: tuple[Path, ...]
    repeated: int = 0
    changed: tuple[str, ...] = ()

    def of_board(self, serial: str) -> BoardLabels:
        """Return the labels of one board by (refdes, interface, ball)."""
        return self._by_board.get(serial, {})

    @property
    def serials(self) -> tuple[str, ...]:
        """The boards that have labels."""
        return tuple(self._by_board)

    @cached_property
    def _by_board(self) -> dict[str, BoardLabels]:
        found: dict[str, BoardLabels] = {}
        for (serial, refdes, interface, ball), joint in self.joints.items():
            found.setdefault(serial, {})[refdes, interface, ball] = joint.label
        return found


@dataclass(frozen=True)
class LabelReport:
    """What the labels contain: counts by class and board, and everything that a person should check.

    `bias` says in words how people at the verify station chose the joints; empty where they chose none.
    """

    boards: int
    joints: int
    by_class: dict[str, int]
    by_board: dict[str, dict[str, int]]
    rare: dict[str, str]
    repeated: int
    changed: tuple[str, ...]
    boards_without_labels: tuple[str, ...]
    labels_without_board: tuple[str, ...]
    put_aside: tuple[tuple[str, str], ...]
    not_visible: int = 0
    doubts: tuple[str, ...] = field(default=())
    unclear: tuple[str, ...] = ()
    bias: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self.__dict__.items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "LabelReport":
        """Return the report from the result of `to_dict`, also after a round trip through JSON."""
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        aside = {"put_aside": tuple((path, why) for path, why in values["put_aside"])}
        return LabelReport(**{**values, **lists, **aside})

    def lines(self) -> list[str]:
        """Return the report as text."""
        counts = ", ".join(f"{n} {c}" for c, n in self.by_class.items())
        lines = [f"{pluralize(self.joints, 'labelled joint')} on {pluralize(self.boards, 'board')}: {counts}"]
        lines += [f"few {c} joints ({self.by_class[c]}): {remedy}" for c, remedy in self.rare.items()]
        if self.repeated:
            lines.append(f"{self.repeated} lines repeat a joint; the last label counts")
        lines += [f"changed: {text}" for text in self.changed]
        lists = {
            "boards without labels, not used": self.boards_without_labels,
            "labels of boards that are missing, not used": self.labels_without_board,
        }
        for what, names in lists.items():
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            lines += [f"{len(names)} {what}: {shown}"] if names else []
        lines += [*self.unclear, *([self.bias] if self.bias else [])]
        lines += [f"put aside: {path}: {why}" for path, why in self.put_aside]
        if self.not_visible:
            lines.append(f"{self.not_visible} labelled joints have no slices and are not used")
        if self.doubts:
            lines.append(f"{len(self.doubts)} labels disagree strongly with the pictures; check these joints:")
            lines += [f"  {text}" for text in self.doubts]
        return lines


@dataclass(frozen=True)
class LabelDoubt:
    """A joint whose label should be checked: its label, the likelier class, and the probability of each."""

    serial: str
    refdes: str
    interface: str
    ball: str
    label: str
    p_label: float
    suggestion: str
    p_suggestion: float

    def __str__(self) -> str:
        joint = f"{self.serial} {self.refdes} {self.interface} {self.ball}"
        return f"{joint}: labelled {self.label} ({self.p_label:.1%}), looks {self.suggestion} ({self.p_suggestion:.1%})"


def read_book(paths: Sequence[Source], recipes: Mapping[str, Recipe]) -> LabelBook:
    """Read all labels beside and below `paths`, checked against the boards' recipes (by serial).

    If two files give a joint different labels, the later `labelled_at` counts. Raises `LabelsFault` if there is no file, if
    one does not follow the format, and if two disagree without saying which is later.
    """
    files = find_labels(paths)
    if not files:
        names = ", ".join(str(p) for p in paths)
        raise LabelsFault(names, expected="labels.csv beside the boards", found="none", remedy="Label boards first.")
    joints: dict[JointKey, LabelledJoint] = {}
    source: dict[JointKey, Path] = {}
    repeated, changed = 0, []
    for path in files:
        labels = read_labels(path)
        check_labels(labels, recipes)
        lines, differing = _find_repeats(path)
        repeated += lines - len(labels)
        changed += differing
        for key, joint in labels.items():
            known = joints.get(key)
            if known is not None:
                repeated += 1
                if known.label != joint.label:
                    changed.append(f"{' '.join(key)}: {known.label} in {source[key]}, {joint.label} in {path}")
                    if not _is_later(joint, known, key, path, source[key]):
                        continue
            joints[key], source[key] = joint, path
    return LabelBook(joints, tuple(files), repeated, tuple(changed))


def report_labels(
    book: LabelBook,
    serials: Iterable[str],
    *,
    put_aside: Sequence[tuple[str, str]] = (),
    not_visible: int = 0,
    unclear: Sequence[str] = (),
) -> LabelReport:
    """Return the report on the labels of the boards `serials`, which can be read.

    `put_aside` (path, reason) are boards that cannot be read, `not_visible` counts labelled joints without slices, `unclear`
    describes labels that may be about another inspection.
    """
    boards = dict.fromkeys(serials)
    labelled = {serial: Counter(book.of_board(serial).values()) for serial in boards}
    by_board = {serial: {c: count[c] for c in CLASSES} for serial, count in labelled.items() if count}
    by_class = {c: sum(count[c] for count in by_board.values()) for c in CLASSES}
    chosen = [joint for key, joint in book.joints.items() if key[0] in boards and joint.source == SOURCE]
    drawn = [joint.stands_for for joint in chosen if joint.stands_for > 1]
    bias = f"people looked at {len(chosen)} of these joints, mostly suspects: "
    if drawn:
        bias += f"{len(drawn)} were drawn from {round(sum(drawn))} that passed, and stand for them"
    else:
        bias += "none of them stands for others that passed, so what the model lets pass elsewhere is not known"
    return LabelReport(
        boards=len(by_board),
        joints=sum(by_class.values()),
        by_class=by_class,
        by_board=by_board,
        rare={c: joint_class(c).label_remedy for c in CLASSES if by_class[c] < _RARE},
        repeated=book.repeated,
        changed=book.changed,
        boards_without_labels=tuple(s for s in boards if s not in by_board),
        labels_without_board=tuple(s for s in book.serials if s not in boards),
        put_aside=tuple(put_aside),
        not_visible=not_visible,
        unclear=tuple(unclear),
        bias=bias if chosen else "",
    )


def find_label_doubts(samples: Samples, features: NDArray[np.floating]) -> list[LabelDoubt]:
    """Return the joints whose labels disagree with their pictures, the least likely label first.

    `features` (n, k) are the outputs of a network that has not seen these labels: its embedding and its logits.
    """
    label, serial = samples.label.astype(int), samples.serials
    p = predict_out_of_fold(features, label, serial)
    given, best = p[np.arange(len(label)), label], np.nan_to_num(p, nan=-1.0).argmax(axis=1)
    top = p[np.arange(len(label)), best]
    doubtful = np.flatnonzero((given < _UNLIKELY) & (top > _LIKELY) & (best != label))
    return [
        LabelDoubt(
            serial=str(serial[k]),
            refdes=str(samples.refdes[k]),
            interface=str(samples.interface[k]),
            ball=str(samples.ball[k]),
            label=CLASSES[label[k]],
            p_label=float(given[k]),
            suggestion=CLASSES[best[k]],
            p_suggestion=float(top[k]),
        )
        for k in doubtful[np.argsort(given[doubtful])]
    ]


def predict_out_of_fold(
    features: NDArray[np.floating], label: NDArray[np.integer], board: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Return the (n, classes) probabilities of each class for every joint, learnt from boards other than its own.

    A class that no other board shows is NaN in that row: a joint cannot be told from what was never seen. With a single
    board every row is NaN.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    p = np.full((len(label), len(CLASSES)), np.nan)
    parts = split_folds(board.tolist(), _FOLDS)
    for part in parts if len(parts) > 1 else ():
        away = np.isin(board, part)
        known = label[~away]
        if len(np.unique(known)) < 2:
            continue
        scaler = StandardScaler().fit(features[~away])
        model = LogisticRegression(C=_STRENGTH, max_iter=2000).fit(scaler.transform(features[~away]), known)
        p[np.ix_(away, model.classes_)] = model.predict_proba(scaler.transform(features[away]))
    return p


def _find_repeats(path: Path) -> tuple[int, list[str]]:
    """Return how many labels a file holds, and the joints that it gives two different labels."""
    last: dict[JointKey, tuple[str, int]] = {}
    count, changed = 0, []
    text = decode_text(path, read_bytes(path, BOUNDS.labels_bytes), LabelsFault)
    for line, (serial, refdes, interface, ball, label) in read_rows(path, text, (*KEY, "label"), (), LabelsFault):
        key, count = (serial, refdes, interface, ball), count + 1
        if key in last and last[key][0] != label:
            changed.append(f"{' '.join(key)}: {last[key][0]} in line {last[key][1]}, {label} in line {line} of {path}")
        last[key] = (label, line)
    return count, changed


def _is_later(new: LabelledJoint, old: LabelledJoint, key: JointKey, path: Path, old_path: Path) -> bool:
    """Return whether the new label is later. Raises `LabelsFault` if the two do not say."""
    try:
        times = [datetime.fromisoformat(joint.labelled_at) for joint in (old, new)]
        return times[1] >= times[0]
    except (ValueError, TypeError) as error:  # no time, or one with and one without an offset
        raise LabelsFault(
            f"{path}: line {new.line}: {' '.join(key)}",
            expected=f"{old.label}, as in {old_path} line {old.line}, or labelled_at in both",
            found=new.label,
            remedy="Remove one of the two, or say when each was decided.",
        ) from error


# Which labels belong to which inspection, and which labels and boards do not meet at all.
#
# A label names a serial, and a board may be inspected again after it was repaired: what a person said of the first inspection
# is not true of the second. A label belongs to the inspection whose time it gives (`inspected_at`), else to the one that was the
# last when it was made (`labelled_at`), unless that was the last of all: then it may be about any of them.


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

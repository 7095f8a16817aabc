"""All labels of some batches, a report on them, and labels that may be wrong.

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
from inspect_pop.ingest.document import read_rows
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes
from inspect_pop.ingest.labels import JointKey, LabelledJoint, check_labels, read_labels

__all__ = ["LabelBook", "LabelDoubt", "LabelReport", "find_label_doubts", "predict_out_of_fold", "read_book", "report_labels"]

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

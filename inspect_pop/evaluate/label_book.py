"""All labels of some batches as one book, and what a person should know of it before anything is learnt from it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from inspect_pop.core.errors import LabelsFault
from inspect_pop.core.joint_table import CLASSES, KEY
from inspect_pop.core.recipe import Recipe
from inspect_pop.ingest import board_labels
from inspect_pop.ingest.files import BOUNDS, read_bytes, text_of
from inspect_pop.ingest.labels import JointKey, LabelledJoint, check_against, read_labels
from inspect_pop.ingest.table import rows

__all__ = ["LabelBook", "LabelReport", "read_book", "report_on"]

# With fewer joints of a class, a share of a fifth leaves fewer than four to calibrate on and to judge by.
_RARE = 20
_REMEDY = {
    "bridged": "they are the easiest to simulate: add a simulated batch with excess paste",
    "open": "add a simulated batch, or keep boards that failed electrically",
    "starved": "add a simulated batch with insufficient paste",
    "head_in_pillow": "add a simulated batch with warpage; real ones need a cross-section or a pull test to be sure",
    "good": "label more of what passes",
}


@dataclass(frozen=True)
class LabelBook:
    """The last word on each joint.

    `repeated` counts lines about a joint that an earlier line had named; `changed` tells, in words, of those that differed.
    """

    joints: Mapping[JointKey, LabelledJoint]
    files: tuple[Path, ...]
    repeated: int = 0
    changed: tuple[str, ...] = ()

    def of_board(self, serial: str) -> dict[tuple[str, str, str], str]:
        """Labels of one board by (refdes, interface, ball)."""
        return self._by_board.get(serial, {})

    @property
    def serials(self) -> tuple[str, ...]:
        """The boards that have labels."""
        return tuple(self._by_board)

    @cached_property
    def _by_board(self) -> dict[str, dict[tuple[str, str, str], str]]:
        found: dict[str, dict[tuple[str, str, str], str]] = {}
        for (serial, refdes, interface, ball), joint in self.joints.items():
            found.setdefault(serial, {})[refdes, interface, ball] = joint.label
        return found


@dataclass(frozen=True)
class LabelReport:
    """What the labels hold: counts by class and board, and whatever a person should look at."""

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
    not_seen: int = 0
    suspects: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self.__dict__.items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "LabelReport":
        """What `to_dict` gave, also after a way through JSON."""
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        aside = {"put_aside": tuple((path, why) for path, why in values["put_aside"])}
        return LabelReport(**{**values, **lists, **aside})

    def lines(self) -> list[str]:
        """For people."""
        counts = ", ".join(f"{n} {c}" for c, n in self.by_class.items())
        said = [f"{self.joints} labelled joints on {self.boards} boards: {counts}"]
        said += [f"few {c} joints ({self.by_class[c]}): {remedy}" for c, remedy in self.rare.items()]
        if self.repeated:
            said.append(f"{self.repeated} lines repeat a joint; the last word counts")
        said += [f"changed: {text}" for text in self.changed]
        said += _named("boards without labels, not used", self.boards_without_labels)
        said += _named("labels of boards that are not here, not used", self.labels_without_board)
        said += [f"put aside: {path}: {why}" for path, why in self.put_aside]
        if self.not_seen:
            said.append(f"{self.not_seen} labelled joints have no slices and teach nothing")
        if self.suspects:
            said.append(f"{len(self.suspects)} labels disagree strongly with the pictures; look at these joints again:")
            said += [f"  {text}" for text in self.suspects]
        return said


def read_book(paths: Sequence[Path], recipes: Mapping[str, Recipe]) -> LabelBook:
    """All labels beside and below `paths`, checked against the boards' recipes (by serial).

    Where two files name the same joint with different labels, the later `labelled_at` counts. Raises `LabelsFault` where
    there is no file, where one is not as the format says, and where two disagree and do not say which is later.
    """
    files = board_labels(paths)
    if not files:
        names = ", ".join(str(p) for p in paths)
        raise LabelsFault(names, expected="labels.csv beside the boards", found="none", remedy="Label boards first.")
    joints: dict[JointKey, LabelledJoint] = {}
    source: dict[JointKey, Path] = {}
    repeated, changed = 0, []
    for path in files:
        labels = read_labels(path)
        check_against(labels, recipes)
        lines, differing = _within(path)
        repeated += lines - len(labels)
        changed += differing
        for key, joint in labels.items():
            known = joints.get(key)
            if known is not None:
                repeated += 1
                if known.label != joint.label:
                    changed.append(f"{_name(key)}: {known.label} in {source[key]}, {joint.label} in {path}")
                    if not _is_later(joint, known, key, path, source[key]):
                        continue
            joints[key], source[key] = joint, path
    return LabelBook(joints, tuple(files), repeated, tuple(changed))


def report_on(
    book: LabelBook, serials: Iterable[str], *, put_aside: Sequence[tuple[str, str]] = (), not_seen: int = 0
) -> LabelReport:
    """What the book says of the boards `serials`, which are there and can be read."""
    here = dict.fromkeys(serials)
    labelled = {serial: Counter(book.of_board(serial).values()) for serial in here}
    by_board = {serial: {c: count[c] for c in CLASSES} for serial, count in labelled.items() if count}
    by_class = {c: sum(count[c] for count in by_board.values()) for c in CLASSES}
    return LabelReport(
        boards=len(by_board),
        joints=sum(by_class.values()),
        by_class=by_class,
        by_board=by_board,
        rare={c: _REMEDY[c] for c in CLASSES if by_class[c] < _RARE},
        repeated=book.repeated,
        changed=book.changed,
        boards_without_labels=tuple(s for s in here if s not in by_board),
        labels_without_board=tuple(s for s in book.serials if s not in here),
        put_aside=tuple(put_aside),
        not_seen=not_seen,
    )


def _within(path: Path) -> tuple[int, list[str]]:
    """How many labels a file holds, and the joints that it names twice with different labels."""
    last: dict[JointKey, tuple[str, int]] = {}
    count, changed = 0, []
    text = text_of(path, read_bytes(path, BOUNDS.labels_bytes), LabelsFault)
    for line, (serial, refdes, interface, ball, label) in rows(path, text, (*KEY, "label"), (), LabelsFault):
        key, count = (serial, refdes, interface, ball), count + 1
        if key in last and last[key][0] != label:
            changed.append(f"{_name(key)}: {last[key][0]} in line {last[key][1]}, {label} in line {line} of {path}")
        last[key] = (label, line)
    return count, changed


def _is_later(new: LabelledJoint, old: LabelledJoint, key: JointKey, path: Path, old_path: Path) -> bool:
    try:
        times = [datetime.fromisoformat(joint.labelled_at) for joint in (old, new)]
        return times[1] >= times[0]
    except (ValueError, TypeError) as error:  # no time, or one with and one without an offset
        raise LabelsFault(
            f"{path}: line {new.line}: {_name(key)}",
            expected=f"{old.label}, as {old_path} line {old.line} says, or labelled_at in both",
            found=new.label,
            remedy="Remove one of the two, or say when each was decided.",
        ) from error


def _name(key: JointKey) -> str:
    return " ".join(key)


def _named(what: str, names: Sequence[str]) -> list[str]:
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return [f"{len(names)} {what}: {shown}"] if names else []

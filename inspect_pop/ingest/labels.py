"""Read `labels.csv`, version 1: the class that a person gave to each joint."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.columns import KEY
from inspect_pop.core.errors import LabelsFault
from inspect_pop.core.recipe import Recipe
from inspect_pop.core.text import restore_cell
from inspect_pop.ingest.document import format_value, parse_number, read_rows
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes

__all__ = ["JointKey", "LabelledJoint", "Labels", "check_labels", "read_labels"]

JointKey = tuple[str, str, str, str]  # serial, refdes, interface, ball
REQUIRED = (*KEY, "label")
OPTIONAL = ("source", "labelled_by", "labelled_at", "note", "inspected_at", "stands_for")


@dataclass(frozen=True, slots=True)
class LabelledJoint:
    """The label of one joint. Text that the file does not give is empty; `line` is the line of the file.

    `stands_for` is the number of joints from which it was drawn, for a joint that passed and was looked at in a sample; else 1.
    """

    label: str
    source: str
    labelled_by: str
    labelled_at: str
    note: str
    line: int
    inspected_at: str = ""
    stands_for: float = 1.0


@dataclass(frozen=True)
class Labels(Mapping[JointKey, LabelledJoint]):
    """The labels of one file, by (serial, refdes, interface, ball), in the order in which it first names the joints."""

    path: Path
    joints: dict[JointKey, LabelledJoint]

    def __getitem__(self, key: JointKey) -> LabelledJoint:
        return self.joints[key]

    def __iter__(self) -> Iterator[JointKey]:
        return iter(self.joints)

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def serials(self) -> tuple[str, ...]:
        """The serials of boards with labels, each once, in the file's order."""
        return tuple(dict.fromkeys(key[0] for key in self.joints))


def read_labels(path: Path | str) -> Labels:
    """Read all labels of a file; a later line for the same joint replaces an earlier one.

    Raises `FileFault` for a file that cannot be read. Raises `LabelsFault`, naming the line, for a missing column, an
    unknown label or interface, a `stands_for` that is no number from 1 on, and a row without a joint.
    """
    path = Path(path)
    text = decode_text(path, read_bytes(path, BOUNDS.labels_bytes), LabelsFault)
    joints: dict[JointKey, LabelledJoint] = {}
    for line, row in read_rows(path, text, REQUIRED, OPTIONAL, LabelsFault):
        serial, refdes, interface, ball, label, source, by, at, note, inspected_at, stands_for = map(restore_cell, row)
        if label not in CLASSES:
            raise LabelsFault(f"{path}: line {line}: label", expected=f"one of {', '.join(CLASSES)}", found=format_value(label))
        if not (serial and refdes and ball) or interface not in ("lower", "upper"):
            found = ",".join((serial, refdes, interface, ball))
            raise LabelsFault(
                f"{path}: line {line}", expected="a joint: serial, refdes, lower or upper, ball", found=format_value(found)
            )
        joints[serial, refdes, interface, ball] = LabelledJoint(
            label, source, by, at, note, line, inspected_at, _parse_count(path, line, stands_for)
        )
    return Labels(path, joints)


def _parse_count(path: Path, line: int, text: str) -> float:
    """Return how many joints a label stands for; 1 where the file does not say."""
    count = parse_number(path, line, "stands_for", text, LabelsFault) if text else 1.0
    if count < 1:
        raise LabelsFault(f"{path}: line {line}: stands_for", expected="a number of joints, 1 or more", found=format_value(text))
    return count


def check_labels(labels: Labels, recipes: Mapping[str, Recipe]) -> None:
    """Check that the labelled joints exist on their boards; `recipes` by serial.

    A board that is not among `recipes` is skipped, since one file may hold the labels of many batches.
    Raises `LabelsFault` naming the line.
    """
    known = {
        recipe.digest: {(p.refdes, i.name, ball) for p in recipe.packages for i in p.interfaces for ball in i.ball}
        for recipe in {recipe.digest: recipe for recipe in recipes.values()}.values()
    }
    for (serial, *joint), labelled in labels.items():
        recipe = recipes.get(serial)
        if recipe is not None and tuple(joint) not in known[recipe.digest]:
            found = f"{'/'.join(joint)} of {serial}"
            remedy = f"The recipe {recipe.name} has no such joint."
            raise LabelsFault(
                f"{labels.path}: line {labelled.line}",
                expected="a joint of its board's recipe",
                found=format_value(found),
                remedy=remedy,
            )

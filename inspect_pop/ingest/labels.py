"""labels.csv, version 1: what a person decided about joints, the last word on each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inspect_pop.core.errors import LabelsFault
from inspect_pop.core.joint_table import CLASSES, KEY
from inspect_pop.core.recipe import Recipe
from inspect_pop.ingest.document import show
from inspect_pop.ingest.files import BOUNDS, read_bytes, text_of
from inspect_pop.ingest.table import rows

__all__ = ["JointKey", "LabelledJoint", "Labels", "check_against", "read_labels"]

JointKey = tuple[str, str, str, str]  # serial, refdes, interface, ball
REQUIRED = (*KEY, "label")
OPTIONAL = ("source", "labelled_by", "labelled_at", "note")


@dataclass(frozen=True, slots=True)
class LabelledJoint:
    """What was decided about a joint; `line` is where the file says so, and text that it does not give is empty."""

    label: str
    source: str
    labelled_by: str
    labelled_at: str
    note: str
    line: int


@dataclass(frozen=True)
class Labels(Mapping[JointKey, LabelledJoint]):
    """Labelled joints by (serial, refdes, interface, ball), in the order in which the file first names them."""

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
        """The boards that have labels, each once, in the file's order."""
        return tuple(dict.fromkeys(key[0] for key in self.joints))


def read_labels(path: Path | str) -> Labels:
    """All labels of a file; a later line for the same joint replaces an earlier one.

    Raises `FileFault` for a file that cannot be read, and `LabelsFault`, naming the line, for a missing column, an
    unknown label or interface, and a row without a joint.
    """
    path = Path(path)
    text = text_of(path, read_bytes(path, BOUNDS.labels_bytes), LabelsFault)
    joints: dict[JointKey, LabelledJoint] = {}
    for line, (serial, refdes, interface, ball, label, source, by, at, note) in rows(path, text, REQUIRED, OPTIONAL, LabelsFault):
        if label not in CLASSES:
            raise LabelsFault(f"{path}: line {line}: label", expected=f"one of {', '.join(CLASSES)}", found=show(label))
        if not (serial and refdes and ball) or interface not in ("lower", "upper"):
            found = ",".join((serial, refdes, interface, ball))
            raise LabelsFault(f"{path}: line {line}", expected="a joint: serial, refdes, lower or upper, ball", found=show(found))
        joints[serial, refdes, interface, ball] = LabelledJoint(label, source, by, at, note, line)
    return Labels(path, joints)


def check_against(labels: Labels, recipes: Mapping[str, Recipe]) -> None:
    """Refuse labels of joints that their boards do not have; `recipes` by serial.

    A board that is not among `recipes` is passed over: one file may hold the labels of many batches.
    Raises `LabelsFault` naming the line.
    """
    known = {recipe.digest: _joints_of(recipe) for recipe in recipes.values()}
    for (serial, *joint), labelled in labels.items():
        recipe = recipes.get(serial)
        if recipe is not None and tuple(joint) not in known[recipe.digest]:
            found = f"{'/'.join(joint)} of {serial}"
            remedy = f"The recipe {recipe.name} has no such joint."
            raise LabelsFault(
                f"{labels.path}: line {labelled.line}", expected="a joint of its board's recipe", found=show(found), remedy=remedy
            )


def _joints_of(recipe: Recipe) -> frozenset[tuple[str, ...]]:
    return frozenset((p.refdes, i.name, ball) for p in recipe.packages for i in p.interfaces for ball in i.ball)

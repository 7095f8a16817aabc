"""Map boxes that people drew in a labelling tool to joints: through the board's picture, its pixel size and its placement.

What cannot be mapped is listed with its reason. A joint without a box has no label: only where the user says that a labelled
picture shows everything (`unlabelled="good"`), and all of its boxes were mapped, its other joints are good.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align import align_slices
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import InputFault, LabelsFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.core.text import format_csv
from inspect_pop.evaluate.label_formats import Box, LabelledPicture
from inspect_pop.ingest import BoardExport
from inspect_pop.ingest.document import read_rows
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes

__all__ = ["ImportedLabels", "Unmapped", "import_boxes", "read_class_table", "write_labels"]

COLUMNS = ("serial", "refdes", "interface", "ball", "label", "source", "labelled_by", "labelled_at", "note", "inspected_at")
SAME_SHAPE = 0.01  # of the ratio of width and height: a copy of another shape was cropped
BRIDGED = "bridged"
# Words of people and tools for our classes; a table of the user's own replaces them.
WORDS = {
    **{name: name for name in CLASSES},
    "ok": GOOD,
    "pass": GOOD,
    "short": BRIDGED,
    "bridge": BRIDGED,
    "bridging": BRIDGED,
    "solder_bridge": BRIDGED,
    "insufficient": "starved",
    "insufficient_solder": "starved",
    "non_wet": "open",
    "missing": "open",
    "missing_ball": "open",
    "hip": "head_in_pillow",
    "hop": "head_in_pillow",
    "head_on_pillow": "head_in_pillow",
}

JointName = tuple[str, str, str, str]  # serial, refdes, interface, ball


@dataclass(frozen=True)
class Unmapped:
    """A box, or a whole picture, that no joint got: which picture, the tool's label, the box in pixels, and why."""

    picture: str
    label: str
    box: str
    reason: str


@dataclass
class ImportedLabels:
    """The labels of joints, with the picture each came from, and what could not be mapped."""

    joints: dict[JointName, str] = field(default_factory=dict)
    pictures: dict[JointName, str] = field(default_factory=dict)
    inspected_at: dict[str, str] = field(default_factory=dict)
    unmapped: list[Unmapped] = field(default_factory=list)
    words: Counter[tuple[str, str]] = field(default_factory=Counter)


def read_class_table(path: Path) -> dict[str, str]:
    """Read a table `theirs,ours` of class names. Raises `FileFault`, and `LabelsFault` for a class that does not exist."""
    text = decode_text(path, read_bytes(path, BOUNDS.table_bytes), LabelsFault)
    table = {}
    for line, (theirs, ours) in read_rows(path, text, ("theirs", "ours"), (), LabelsFault):
        if ours not in CLASSES:
            raise LabelsFault(f"{path}: line {line}: ours", expected=f"one of {', '.join(CLASSES)}", found=repr(ours[:40]))
        table[_simplify(theirs)] = ours
    return table


def import_boxes(
    pictures: Sequence[LabelledPicture],
    exports: Sequence[BoardExport],
    *,
    classes: Mapping[str, str] | None = None,
    unlabelled: str = "unknown",
) -> ImportedLabels:
    """Give the joints of exports the labels of the boxes on their pictures.

    A picture belongs to the export and interface that its name names: the serial, and `lower` or `upper`, also the refdes
    where a board has several packages. A box goes to the joint nearest to its middle, within half the pitch; one of class
    `bridged` to all joints whose middles it covers. Joints lie where the package was found in the picture's slices.

    Parameters
    ----------
    classes
        Our class for each word of theirs, instead of the usual words.
    unlabelled
        `unknown`, or `good`: joints without a box on a picture all of whose boxes were mapped.

    Raises
    ------
    UsageFault
        `unlabelled` is neither.
    """
    if unlabelled not in ("unknown", "good"):
        raise UsageFault(f"--unlabelled {unlabelled}", expected="unknown or good")
    table = dict(WORDS if classes is None else classes)
    imported = ImportedLabels(inspected_at={export.serial: export.inspected_at for export in exports})
    conflicts: set[JointName] = set()
    complete: list[tuple[str, _JointMap]] = []
    maps: dict[Path, _JointMap | str] = {}
    for picture in pictures:
        before = len(imported.unmapped)
        imported.unmapped += [Unmapped(picture.name, label, "", reason) for label, reason in picture.refused]
        joints = _find_joints(picture, exports, maps)
        if isinstance(joints, str):
            boxes: Sequence[Box | None] = picture.boxes or (None,)
            imported.unmapped += [_refuse(picture, box, joints) for box in boxes]
            continue
        _label_joints(imported, conflicts, picture, joints, table)
        if len(imported.unmapped) == before:
            complete.append((picture.name, joints))
    for joint in conflicts:
        name, label = imported.pictures.pop(joint), imported.joints.pop(joint)
        imported.unmapped.append(Unmapped(name, label, "", f"{'/'.join(joint)}: boxes of two classes"))
    fill = [(joint, name) for name, joints in complete for joint in joints.names] if unlabelled == "good" else []
    for joint, name in fill:
        if joint not in conflicts and joint not in imported.joints:
            imported.joints[joint], imported.pictures[joint] = GOOD, name
    return imported


def _label_joints(
    imported: ImportedLabels,
    conflicts: set[JointName],
    picture: LabelledPicture,
    joints: "_JointMap",
    table: Mapping[str, str],
) -> None:
    """Give the joints of a picture the labels of its boxes; `conflicts` are those that have two."""
    for box in picture.boxes:
        ours = table.get(_simplify(box.label))
        if ours is None:
            imported.unmapped.append(_refuse(picture, box, "no class of ours has this name: add it to --classes"))
            continue
        found = joints.match(picture, box, ours)
        if isinstance(found, str):
            imported.unmapped.append(_refuse(picture, box, found))
            continue
        imported.words[box.label, ours] += 1
        for joint in found:
            if imported.joints.get(joint, ours) != ours:
                conflicts.add(joint)
            imported.joints.setdefault(joint, ours)
            imported.pictures.setdefault(joint, picture.name)


def write_labels(path: Path, imported: ImportedLabels, form: str, labelled_by: str = "", labelled_at: str = "") -> Path:
    """Write `labels.csv` and, beside it, the table of what could not be mapped; return the path of the latter."""
    rows = [
        (*joint, label, form, labelled_by, labelled_at, imported.pictures[joint], imported.inspected_at[joint[0]])
        for joint, label in imported.joints.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(format_csv(COLUMNS, rows), encoding="utf-8", newline="\n")
    left = path.with_name(f"{path.stem}.unmapped.csv")
    rest = [(u.picture, u.label, u.box, u.reason) for u in imported.unmapped]
    left.write_text(format_csv(("picture", "label", "box", "reason"), rest), encoding="utf-8", newline="\n")
    return left


@dataclass(frozen=True, eq=False)
class _JointMap:
    """The joints of one interface of one export, in pixels of its slices: names, column and row, half the pitch."""

    names: tuple[JointName, ...]
    col: NDArray[np.float64]
    row: NDArray[np.float64]
    reach_px: float
    shape: tuple[int, int]

    def match(self, picture: LabelledPicture, box: Box, ours: str) -> list[JointName] | str:
        """Return the joints of a box, or why it has none."""
        rows, cols = self.shape
        scale_x, scale_y = cols / picture.size[0], rows / picture.size[1]
        left, right = box.left * scale_x - 0.5, box.right * scale_x - 0.5
        top, bottom = box.top * scale_y - 0.5, box.bottom * scale_y - 0.5
        covered = np.flatnonzero((self.col > left) & (self.col < right) & (self.row > top) & (self.row < bottom))
        if ours == BRIDGED and len(covered) > 1:
            return [self.names[k] for k in covered]
        if len(covered) > 1:
            return f"it covers {len(covered)} joints"
        away = np.hypot(self.col - (left + right) / 2, self.row - (top + bottom) / 2)
        nearest = int(away.argmin())
        if away[nearest] > self.reach_px:
            return "its middle is further than half the pitch from any joint"
        return [self.names[nearest]]


def _find_joints(
    picture: LabelledPicture, exports: Sequence[BoardExport], maps: dict[Path, _JointMap | str]
) -> "_JointMap | str":
    """Return the joints that a picture shows, or why they are not known."""
    words = _split_words(picture.name)
    boards = [export for export in exports if _holds(words, export.serial)]
    longest = max((len(_split_words(export.serial)) for export in boards), default=0)
    boards = [export for export in boards if len(_split_words(export.serial)) == longest]
    if len(boards) != 1:
        what = "no board's serial" if not boards else f"the serial of {len(boards)} exports"
        return f"its name holds {what}"
    sources = [s for s in boards[0].slices if s.interface in words]
    named = [s for s in sources if _holds(words, s.refdes)]
    sources = named or sources
    if len(sources) != 1:
        return (
            "its name does not say which interface it shows: lower or upper"
            if not sources
            else "its name does not say which package"
        )
    source = sources[0]
    if source.path not in maps:
        package = next(p for p in boards[0].recipe.packages if p.refdes == source.refdes)
        interface = package.interface(source.interface)
        try:
            stack = source.read()
            placement = align_slices(stack, package, Limits())
        except InputFault as fault:
            maps[source.path] = f"the package is not found in its slices: {fault}"
        else:
            row, col = stack.grid.to_pixel(*placement.apply(interface.x_um, interface.y_um))
            maps[source.path] = _JointMap(
                tuple((boards[0].serial, source.refdes, source.interface, ball) for ball in interface.ball),
                np.asarray(col, dtype=np.float64),
                np.asarray(row, dtype=np.float64),
                0.5 * interface.pitch_um / stack.grid.pixel_um,
                stack.grid.shape,
            )
    joints = maps[source.path]
    if isinstance(joints, str) or picture.size == (1.0, 1.0) or not picture.boxes:
        return joints
    ratio = picture.size[0] / picture.size[1] * joints.shape[0] / joints.shape[1]
    if abs(ratio - 1) > SAME_SHAPE:
        size = f"{picture.size[0]:g} x {picture.size[1]:g}"
        return f"it is {size}, the slices {joints.shape[1]} x {joints.shape[0]}: cropped or turned"
    return joints


def _refuse(picture: LabelledPicture, box: Box | None, reason: str) -> Unmapped:
    if box is None:
        return Unmapped(picture.name, "", "", reason)
    corners = " ".join(f"{v:g}" for v in (box.left, box.top, box.right, box.bottom))
    return Unmapped(picture.name, box.label, corners, reason)


def _simplify(word: str) -> str:
    """Return a class name in lower case, with underscores between its words."""
    return re.sub(r"[\s_-]+", "_", word.strip().lower())


def _split_words(name: str) -> list[str]:
    """Return the words of a picture's name and of the folders around it."""
    path = PurePosixPath(unquote(urlsplit(name).path if "://" in name else name).replace("\\", "/"))
    return [word for word in re.split(r"[^0-9A-Za-z\u0080-\uffff]+", str(path)) if word]


def _holds(words: list[str], name: str) -> bool:
    """Return whether the words of a name follow one another among these."""
    part = _split_words(name)
    return any(words[k : k + len(part)] == part for k in range(len(words) - len(part) + 1)) and bool(part)

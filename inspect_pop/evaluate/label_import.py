"""Labels from labelling tools: read their boxes, and map each box to a joint.

Each reader gives boxes in pixels of the picture that was labelled, and lists what it could not read as a box. Predictions of
a tool's own model are no labels and are left out.
"""

import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align import align_slices
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import FileFault, InputFault, LabelsFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.core.text import format_csv
from inspect_pop.ingest import BoardExport
from inspect_pop.ingest.document import read_rows
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes, resolve_inside

__all__ = [
    "FORMATS",
    "Box",
    "ImportedLabels",
    "LabelledPicture",
    "Unmapped",
    "import_boxes",
    "read_boxes",
    "read_class_table",
    "write_labels",
]

_MOST_FILES = 100_000
_YOLO_VALUES = 5  # class, centre x and y, width and height


@dataclass(frozen=True)
class Box:
    """One labelled box: its class as the tool names it, and its corners in pixels (left, top, right, bottom)."""

    label: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def centre(self) -> tuple[float, float]:
        """Column and row of its middle; the centre of the first pixel is (0, 0)."""
        return (self.left + self.right) / 2 - 0.5, (self.top + self.bottom) / 2 - 0.5


@dataclass
class LabelledPicture:
    """The boxes of one picture. `size` is (width, height) in pixels; (1, 1) where boxes are fractions of it.

    `refused`: what is no box, as (label, reason).
    """

    name: str
    size: tuple[float, float]
    boxes: list[Box] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def read_boxes(path: Path, form: str) -> list[LabelledPicture]:
    """Read the labelled pictures of a file, or of a folder where the format has one file a picture (YOLO, LabelMe).

    Raises `UsageFault` for an unknown format, `FileFault`, and `LabelsFault` for a file that is not of the format.
    """
    if form not in FORMATS:
        raise UsageFault(f"--format {form}", expected=f"one of {', '.join(FORMATS)}")
    return FORMATS[form](path)


def _read_coco(path: Path) -> list[LabelledPicture]:
    content = _read_json(path, dict)
    pictures: dict[Any, LabelledPicture] = {}
    for entry in _list(path, content, "images"):
        key = entry.get("id")
        if key in pictures:
            raise LabelsFault(f"{path}: images", expected="each id once", found=f"{key!r} again")
        pictures[key] = LabelledPicture(_text(entry.get("file_name")), _size(path, entry.get("width"), entry.get("height")))
    classes = {entry.get("id"): _text(entry.get("name")) for entry in _list(path, content, "categories")}
    for entry in _list(path, content, "annotations"):
        picture = pictures.get(entry.get("image_id"))
        if picture is None:
            raise LabelsFault(f"{path}: annotations", expected="an image_id of images", found=repr(entry.get("image_id"))[:40])
        label = classes.get(entry.get("category_id"), "")
        box = _numbers(entry.get("bbox"), 4)
        if not label:
            picture.refused.append(("", f"category {entry.get('category_id')!r:.40} is not listed"))
        elif entry.get("iscrowd"):
            picture.refused.append((label, "a crowd, no single box"))
        elif box is None:
            picture.refused.append((label, "no bbox of four numbers"))
        else:
            picture.boxes.append(Box(label, box[0], box[1], box[0] + box[2], box[1] + box[3]))
    return list(pictures.values())


def _read_cvat(path: Path) -> list[LabelledPicture]:
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import ParseError, iterparse
    except ImportError as error:
        remedy = "Install inspect_pop[recipes]."
        raise UsageFault(str(path), expected="defusedxml, which reads XML safely", found="none", remedy=remedy) from error
    pictures: list[LabelledPicture] = []
    root = ""
    try:
        for event, element in iterparse(
            io.BytesIO(read_bytes(path, BOUNDS.labels_bytes)), events=("start", "end"), forbid_dtd=True
        ):
            root = root or element.tag
            if event == "end" and element.tag == "track":
                raise LabelsFault(str(path), expected="annotations of images", found="tracks of a video")
            if event == "start" or element.tag != "image":
                continue
            picture = LabelledPicture(element.get("name", ""), _size(path, element.get("width"), element.get("height")))
            for shape in element:
                corners = _numbers([shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr")], 4)
                label = shape.get("label", "")
                if shape.tag != "box":
                    what = "a label of the whole picture" if shape.tag == "tag" else f"a {shape.tag}"
                    picture.refused.append((label, f"{what}, no box"))
                elif corners is None or float(shape.get("rotation") or 0):
                    picture.refused.append((label, "no upright box with four corners"))
                else:
                    picture.boxes.append(Box(label, *corners))
            pictures.append(picture)
            element.clear()
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise LabelsFault(str(path), expected="XML of CVAT for images", found=f"{error!s:.80}") from error
    if root != "annotations":
        raise LabelsFault(str(path), expected="annotations of CVAT for images", found=f"{root!r:.40}")
    return pictures


def _read_label_studio(path: Path) -> list[LabelledPicture]:
    pictures = []
    for task in _read_json(path, list):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise LabelsFault(str(path), expected="tasks with data, as Label Studio exports them (JSON)", found=f"{task!r:.40}")
        name = next((v for v in task["data"].values() if isinstance(v, str)), "")
        picture = LabelledPicture(name, (0.0, 0.0))
        people = [one for one in _list(path, task, "annotations", "completions") if not one.get("was_cancelled")]
        if len(people) > 1:
            picture.refused.append(("", f"{len(people)} sets of annotations: export the one that counts"))
        for result in _list(path, people[0], "result") if len(people) == 1 else ():
            given = result.get("value")
            value: dict[str, Any] = given if isinstance(given, dict) else {}
            size = _numbers([result.get("original_width"), result.get("original_height")], 2)
            labels = value.get("rectanglelabels") or value.get("choices") or [""]
            label = _text(labels[0]) if isinstance(labels, list) else ""
            box = _numbers([value.get(key) for key in ("x", "y", "width", "height")], 4)
            if result.get("type") != "rectanglelabels" or box is None or size is None or min(size) <= 0:
                picture.refused.append((label, f"{_text(result.get('type')) or 'a result'}, no box"))
                continue
            if len(labels) > 1:
                picture.refused.append((label, f"{len(labels)} classes on one box"))
                continue
            if picture.size not in ((0.0, 0.0), tuple(size)):
                picture.refused.append((label, "results of two sizes of the picture"))
                continue
            picture.size = (size[0], size[1])
            # In percent, turned clockwise about the upper left corner.
            x, y, width, height = (v / 100 * size[k % 2] for k, v in enumerate(box))
            angle = math.radians(next(iter(_numbers([value.get("rotation", result.get("rotation", 0))], 1) or [0.0])))
            middle_x = x + width / 2 * math.cos(angle) - height / 2 * math.sin(angle)
            middle_y = y + width / 2 * math.sin(angle) + height / 2 * math.cos(angle)
            half_x = (width * abs(math.cos(angle)) + height * abs(math.sin(angle))) / 2
            half_y = (width * abs(math.sin(angle)) + height * abs(math.cos(angle))) / 2
            picture.boxes.append(Box(label, middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y))
        if people or picture.refused:
            pictures.append(picture)  # a task without annotations was not looked at
    return pictures


def _read_yolo(path: Path) -> list[LabelledPicture]:
    """Read a folder of label files with its `data.yaml` or `classes.txt`, or either of these two files itself."""
    folder = path if path.is_dir() else path.parent
    names = [path] if path.is_file() else [p for p in (folder / "data.yaml", folder / "classes.txt") if p.is_file()]
    if not names:
        raise LabelsFault(str(path), expected="data.yaml or classes.txt with the names of the classes", found="neither")
    text = decode_text(names[0], read_bytes(names[0], BOUNDS.manifest_bytes), LabelsFault)
    if names[0].suffix == ".txt":
        classes = dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    else:  # `names` of data.yaml: a list or a map, in either notation
        found = re.search(r"^names:[ \t]*(.*(?:\n(?:[ \t]+.*|-.*|[ \t]*))*)", text, re.MULTILINE)
        body = found[1].strip() if found else ""
        items = re.split(r"[,\n]", body.strip("[]{}")) if body[:1] in ("[", "{") else body.split("\n")
        classes = {}
        for k, item in enumerate(item for item in items if item.strip()):
            numbered = re.fullmatch(r"\s*(\d+)\s*:\s*(.+?)\s*", item)
            classes[int(numbered[1]) if numbered else k] = (numbered[2] if numbered else item.strip().lstrip("- ")).strip("'\"")
        if not classes:
            raise LabelsFault(str(names[0]), expected="names of the classes", found="none")
    pictures = []
    lists = ("classes.txt", "train.txt", "val.txt", "test.txt")
    for file in [file for file in _find_files(folder, "*.txt") if file.name not in lists]:
        picture = LabelledPicture(file.stem, (1.0, 1.0))
        text = decode_text(file, read_bytes(file, BOUNDS.table_bytes), LabelsFault) if file.stat().st_size else ""
        for line in filter(str.strip, text.splitlines()):
            values = _numbers(line.split(), len(line.split()))
            if values is None or len(values) < _YOLO_VALUES or int(values[0]) not in classes:
                picture.refused.append(("", f"no class and box: {line!r:.60}"))
            elif len(values) > _YOLO_VALUES:
                picture.refused.append((classes[int(values[0])], "a polygon, no box"))
            else:
                label, (x, y, width, height) = classes[int(values[0])], values[1:]
                picture.boxes.append(Box(label, x - width / 2, y - height / 2, x + width / 2, y + height / 2))
        pictures.append(picture)
    return pictures


def _read_labelme(path: Path) -> list[LabelledPicture]:
    pictures = []
    for file in _find_files(path, "*.json") if path.is_dir() else [path]:
        content = _read_json(file, dict)
        if "shapes" not in content:
            raise LabelsFault(str(file), expected="shapes, as LabelMe writes them", found="none")
        name = _text(content.get("imagePath")).replace("\\", "/") or file.stem
        picture = LabelledPicture(name, _size(file, content.get("imageWidth"), content.get("imageHeight")))
        for shape in _list(file, content, "shapes"):
            points: Any = shape.get("points")
            is_list = isinstance(points, list) and all(isinstance(point, list) for point in points)
            corners = _numbers([value for point in points for value in point], 4) if is_list else None
            label = _text(shape.get("label"))
            if shape.get("shape_type") != "rectangle" or corners is None:
                picture.refused.append((label, f"a {_text(shape.get('shape_type')) or 'shape'}, no box"))
            else:
                (left, right), (top, bottom) = sorted(corners[::2]), sorted(corners[1::2])
                picture.boxes.append(Box(label, left, top, right, bottom))
        pictures.append(picture)
    return pictures


FORMATS: dict[str, Callable[[Path], list[LabelledPicture]]] = {
    "coco": _read_coco,
    "cvat": _read_cvat,
    "label-studio": _read_label_studio,
    "yolo": _read_yolo,
    "labelme": _read_labelme,
}


def _find_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder, none of which a link leads out of it."""
    files = []
    for file in sorted(folder.rglob(pattern)):
        files.append(resolve_inside(str(file.relative_to(folder)), folder, folder, str(file)))
        if len(files) > _MOST_FILES:
            raise LabelsFault(str(folder), expected=f"at most {_MOST_FILES:,} label files", found="more")
    if not files:
        raise FileFault(str(folder), expected=f"files {pattern}", found="none")
    return files


def _read_json(path: Path, kind: type) -> Any:
    text = decode_text(path, read_bytes(path, BOUNDS.labels_bytes), LabelsFault)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabelsFault(str(path), expected="JSON", found=f"{error!s:.80}") from error
    if not isinstance(value, kind):
        what = "an object" if kind is dict else "a list"
        raise LabelsFault(str(path), expected=f"{what} at the top, as this tool writes it", found=type(value).__name__)
    return value


def _list(path: Path, content: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    """Return the list of objects under the first of these names that is there; none gives an empty list."""
    value: Any = next((content[name] for name in names if name in content), [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise LabelsFault(f"{path}: {names[0]}", expected="a list of objects", found=f"{value!r:.40}")
    return value


def _numbers(values: Any, count: int) -> list[float] | None:
    """Return that many finite numbers; None for anything else."""
    if not isinstance(values, Iterable) or isinstance(values, str):
        return None
    try:
        numbers = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(math.isfinite(v) for v in numbers) else None


def _size(path: Path, width: Any, height: Any) -> tuple[float, float]:
    size = _numbers([width, height], 2)
    if size is None or min(size) <= 0:
        raise LabelsFault(str(path), expected="width and height of each picture", found=f"{width!r:.20} and {height!r:.20}")
    return size[0], size[1]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


# Map boxes that people drew in a labelling tool to joints: through the board's picture, its pixel size and its placement.
#
# What cannot be mapped is listed with its reason. A joint without a box has no label: only where the user says that a labelled
# picture shows everything (`unlabelled="good"`), and all of its boxes were mapped, its other joints are good.


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

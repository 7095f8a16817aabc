"""Read labelled boxes as labelling tools write them: COCO, CVAT for images 1.1, Label Studio, YOLO and LabelMe.

Each reader gives boxes in pixels of the picture that was labelled, and lists what it could not read as a box. Predictions of
a tool's own model are no labels and are left out.
"""

import io
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspect_pop.core.errors import FileFault, LabelsFault, UsageFault
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes, resolve_inside

__all__ = ["FORMATS", "Box", "LabelledPicture", "read_boxes"]

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

"""Boxes from labelling tools: what each format means by its numbers, and what is no box."""

import json
from pathlib import Path

import pytest

from inspect_pop.core.errors import LabelsFault, PathFault, UsageFault
from inspect_pop.evaluate.label_import import Box, read_boxes


def write(folder: Path, content: object, name: str = "labels.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 80}],
    "categories": [{"id": 3, "name": "short"}],
    "annotations": [
        {"image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40]},
        {"image_id": 7, "category_id": 9, "bbox": [1, 1, 1, 1]},
    ],
}
CVAT = """<annotations><image id="0" name="a.png" width="100" height="80"><box label="short" xtl="10" ytl="20" xbr="40" ybr="60"/>
<polygon label="void" points="1,1;2,2"/><tag label="bad"/></image></annotations>"""
LABELME = {
    "imagePath": "..\\a.png",
    "imageWidth": 100,
    "imageHeight": 80,
    "shapes": [
        {"label": "short", "shape_type": "rectangle", "points": [[40, 20], [10, 60]]},
        {"label": "void", "shape_type": "polygon", "points": [[1, 1], [2, 2], [3, 3]]},
    ],
}


def studio(value: dict[str, object], **more: object) -> dict[str, object]:
    box = {"x": 10, "y": 25, "width": 30, "height": 50, "rectanglelabels": ["short"]}
    return {"type": "rectanglelabels", "value": box | value, "original_width": 100, "original_height": 80} | more


def test_coco_and_cvat_and_labelme(tmp_path: Path) -> None:
    for form, content, name in (("coco", COCO, "a.json"), ("cvat", CVAT, "a.xml"), ("labelme", LABELME, "b.json")):
        (picture,) = read_boxes(write(tmp_path, content, name), form)
        assert picture.name.endswith("a.png")
        assert picture.size == (100.0, 80.0)
        assert picture.boxes == [Box("short", 10.0, 20.0, 40.0, 60.0)]
        assert picture.refused, "the category, shapes and tags that are no boxes"


def test_label_studio_counts_in_percent_and_turns(tmp_path: Path) -> None:
    tasks = [
        {
            "data": {"image": "https://x/a%20b.png"},
            "annotations": [{"result": [studio({})]}],
            "predictions": [{"result": [studio({"x": 50})]}],
        },
        {"data": {"image": "c.png"}, "annotations": []},
        {"data": {"image": "d.png"}, "annotations": [{"result": []}, {"result": []}]},
        {"data": {"image": "e.png"}, "completions": [{"result": [studio({"rotation": 90.0})]}]},
        {"data": {"image": "f.png"}, "annotations": [{"result": [studio({"choices": ["bad"]}, type="choices")]}]},
    ]
    plain, two, turned, choice = read_boxes(write(tmp_path, tasks), "label-studio")
    assert plain.boxes == [Box("short", 10.0, 20.0, 40.0, 60.0)], "predictions are no labels"
    assert "2 sets of annotations" in two.refused[0][1]
    assert turned.boxes[0].centre == pytest.approx((10 - 20 - 0.5, 20 + 15 - 0.5))
    assert choice.refused[0][1] == "choices, no box"


@pytest.mark.parametrize(
    "names",
    [
        "names: [open, 'short']",
        "names:\n  0: open\n  1: short\nnc: 2",
        "nc: 2\nnames:\n- open\n- short\n",
        "names: {0: open, 1: short}",
    ],
)
def test_yolo(tmp_path: Path, names: str) -> None:
    write(tmp_path, names, "data.yaml")
    (tmp_path / "labels").mkdir()
    write(tmp_path / "labels", "1 0.25 0.5 0.3 0.5\n9 0 0 0 0\n1 0 0 1 1 0 1\n\n", "a.txt")
    (tmp_path / "labels" / "empty.txt").touch()
    for source in (tmp_path, tmp_path / "data.yaml"):
        one, empty = read_boxes(source, "yolo")
        assert one.boxes == [Box("short", pytest.approx(0.1), 0.25, pytest.approx(0.4), 0.75)]
        assert [reason.partition(":")[0] for _, reason in one.refused] == ["no class and box", "a polygon, no box"]
        assert (empty.name, empty.boxes) == ("empty", [])


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("coco", "[]"),
        ("coco", "{"),
        ("coco", {"images": [{"id": 1, "file_name": "a", "width": 1, "height": 1}] * 2}),
        ("coco", {"images": [{"id": 1, "file_name": "a"}]}),
        ("coco", COCO | {"images": []}),
        ("cvat", "<annotations><track/></annotations>"),
        ("cvat", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>'),
        ("cvat", "<data/>"),
        ("cvat", "<annotations>"),
        ("label-studio", "{}"),
        ("label-studio", "[1]"),
        ("labelme", "{}"),
    ],
)
def test_what_is_not_of_the_format(tmp_path: Path, form: str, content: object) -> None:
    with pytest.raises(LabelsFault):
        read_boxes(write(tmp_path, content), form)


def test_unknown_formats_missing_names_and_links_that_leave(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="label-studio"):
        read_boxes(tmp_path, "voc")
    with pytest.raises(LabelsFault, match=r"data\.yaml or classes\.txt"):
        read_boxes(tmp_path, "yolo")
    write(tmp_path, "open\n", "secret.txt")
    inner = tmp_path / "in"
    inner.mkdir()
    write(inner, "open\n", "classes.txt")
    (inner / "a.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(PathFault, match="a file inside"):
        read_boxes(inner, "yolo")


def test_real_files(shared: Path) -> None:
    folder = shared / "formats" / "labels"
    names = {"coco": 3, "cvat": 2, "label_studio": 1, "labelme": 1}
    for name, least in names.items():
        (path,) = folder.glob(f"sample_valid.{name}.*")
        assert sum(len(p.boxes) for p in read_boxes(path, name.replace("_", "-"))) >= least
    with pytest.raises(LabelsFault, match="each id once"):
        read_boxes(folder / "sample_invalid.coco.json", "coco")

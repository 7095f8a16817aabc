"""Boxes to joints: through pixel size, origin and placement; nothing unmapped or unlabelled becomes good unsaid."""

from pathlib import Path

import pytest

from inspect_pop.align import align_slices
from inspect_pop.core.errors import LabelsFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.label_import import Box, LabelledPicture, import_boxes, read_class_table, write_labels
from inspect_pop.ingest import BoardExport, open_export
from inspect_pop.ingest.pop_export import read_labels

NAME = "export/PB2411-010204_U1_lower_z2.png"


@pytest.fixture(scope="module")
def export() -> BoardExport:
    root = Path(__file__).resolve().parents[2] / "datasets" / "sample"
    return open_export(root / "boards" / "PB2411-010204", root)


@pytest.fixture(scope="module")
def places(export: BoardExport) -> dict[str, tuple[float, float]]:
    """Column and row of each lower joint in the slices."""
    stack = next(s for s in export.slices if s.interface == "lower").read()
    package = export.recipe.packages[0]
    lower = package.interface("lower")
    row, col = stack.grid.to_pixel(*align_slices(stack, package, Limits()).apply(lower.x_um, lower.y_um))
    return {b: (float(c), float(r)) for b, c, r in zip(lower.ball, col, row, strict=True)}


@pytest.fixture(scope="module")
def size(export: BoardExport) -> tuple[float, float]:
    rows, cols = next(s for s in export.slices if s.interface == "lower").read().grid.shape
    return float(cols), float(rows)


def box(label: str, at: tuple[float, float], half: float = 14.0, wide: float = 0.0, scale: float = 1.0) -> Box:
    x, y = at[0] + 0.5, at[1] + 0.5
    return Box(label, (x - half) * scale, (y - half) * scale, (x + half + wide) * scale, (y + half) * scale)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_boxes_become_joints(export: BoardExport, places: dict, size: tuple[float, float], scale: float) -> None:
    boxes = [
        box("Insufficient", places["B2"], scale=scale),
        box("short", places["D3"], wide=places["D4"][0] - places["D3"][0], scale=scale),
        box("open", (places["F5"][0] + 5, places["F5"][1] - 5), scale=scale),
    ]
    picture = LabelledPicture(NAME, (size[0] * scale, size[1] * scale), boxes)
    found = import_boxes([picture], [export])
    assert found.unmapped == []
    assert {joint[3]: label for joint, label in found.joints.items()} == {
        "B2": "starved",
        "D3": "bridged",
        "D4": "bridged",
        "F5": "open",
    }
    assert {joint[:3] for joint in found.joints} == {("PB2411-010204", "U1", "lower")}


def test_what_cannot_be_mapped_is_listed(export: BoardExport, places: dict, size: tuple[float, float]) -> None:
    boxes = [
        box("scratch", places["B2"]),
        box("open", (2.0, 2.0)),
        box("open", places["D3"], wide=places["D4"][0] - places["D3"][0]),
        box("open", places["E5"]),
        box("hip", places["E5"]),
    ]
    found = import_boxes([LabelledPicture(NAME, size, boxes)], [export], unlabelled="good")
    reasons = [item.reason for item in found.unmapped]
    for part in ("no class of ours", "half the pitch", "covers 2 joints", "boxes of two classes"):
        assert any(part in reason for reason in reasons), part
    assert found.joints == {}, "nothing is good on a picture that was not understood"


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("PB2411-999999_U1_lower.png", (1, 1), "no board's serial"),
        ("PB2411-010204_U1.png", (1, 1), "which interface"),
        (NAME, (0.5, 1), "cropped or turned"),
    ],
)
def test_pictures_that_belong_to_no_joints(
    export: BoardExport, size: tuple[float, float], name: str, shape: tuple[float, float], reason: str
) -> None:
    picture = LabelledPicture(name, (size[0] * shape[0], size[1] * shape[1]), [box("open", (100, 100))])
    found = import_boxes([picture], [export], unlabelled="good")
    assert found.joints == {}
    assert reason in found.unmapped[0].reason


def test_unlabelled_is_good_only_where_the_user_says_so(export: BoardExport, places: dict, size: tuple[float, float]) -> None:
    picture = LabelledPicture(NAME, size, [box("open", places["B2"])])
    assert len(import_boxes([picture], [export]).joints) == 1
    whole = import_boxes([picture], [export], unlabelled="good").joints
    assert len(whole) == len(places)
    assert [joint[3] for joint, label in whole.items() if label != "good"] == ["B2"]
    with pytest.raises(UsageFault, match="unknown or good"):
        import_boxes([], [], unlabelled="yes")


def test_a_table_of_class_names(tmp_path: Path, export: BoardExport, places: dict, size: tuple[float, float]) -> None:
    (tmp_path / "classes.csv").write_text("theirs,ours\nKurz Schluss,bridged\n", encoding="utf-8")
    table = read_class_table(tmp_path / "classes.csv")
    picture = LabelledPicture(NAME, size, [box("kurz-schluss", places["B2"])])
    found = import_boxes([picture], [export], classes=table)
    left = write_labels(tmp_path / "labels.csv", found, "coco", "kim")
    (joint,) = read_labels(tmp_path / "labels.csv").values()
    assert (joint.label, joint.source, joint.labelled_by, joint.note) == ("bridged", "coco", "kim", NAME)
    assert left.read_text(encoding="utf-8") == "picture,label,box,reason\n"
    (tmp_path / "classes.csv").write_text("theirs,ours\nx,broken\n", encoding="utf-8")
    with pytest.raises(LabelsFault, match="ours"):
        read_class_table(tmp_path / "classes.csv")

"""Boards of the export format, from the folder to a `BoardExport`."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from inspect_pop.core.errors import FileFault, ManifestFault, PathFault, RecipeFault
from inspect_pop.core.geometry import HeightMap, SliceStack
from inspect_pop.ingest import check_export, export_digest, open_export
from tests.ingest.boards import SERIAL, edit, heights, seal, slices, write_board


def test_everything_of_the_manifest_comes_through(board: Path) -> None:
    export = open_export(board)
    assert (export.path, export.serial, export.panel, export.position) == (board, SERIAL, "PN-07", 3)
    assert (export.product, export.lot, export.work_order) == ("TINY", "L1", "W1")
    assert (export.line, export.station, export.operator) == ("A", "AXI-1", "op1")
    assert export.inspected_at == "2026-11-22T08:27:51+01:00"
    assert export.recipe.n_joints == 25
    assert [image.name for image in export.images] == ["U1/lower", "U1/upper", "U1/pre_stack", "U1/post_reflow"]


def test_images_are_read_when_they_are_asked_for(board: Path) -> None:
    lower, _, _, post = open_export(board).images
    stack, height = lower.read(), post.read()
    assert isinstance(stack, SliceStack)
    assert isinstance(height, HeightMap)
    np.testing.assert_array_equal(stack.values, slices("lower"))
    np.testing.assert_array_equal(height.height_um, heights("post_reflow"))


def test_opening_decodes_nothing(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tifffile, "TiffFile", None)
    assert len(open_export(board).images) == 4


def test_what_is_opened_can_go_to_another_process(board: Path) -> None:
    export = pickle.loads(pickle.dumps(open_export(board)))
    assert export.serial == SERIAL
    np.testing.assert_array_equal(export.images[0].read().values, slices("lower"))


def test_the_manifest_itself_may_be_named(board: Path) -> None:
    assert open_export(board / "export.json").path == board
    assert check_export(board / "export.json") == []


def test_a_relative_path_and_a_link_to_the_board(board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(board.parent)
    assert open_export("B1").path == board
    (tmp_path / "link").symlink_to(board)
    assert open_export(tmp_path / "link").path == board


def test_a_board_outside_its_root_is_refused(board: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(PathFault, match="a board inside"):
        open_export(board, tmp_path / "other")


def test_the_recipe_may_lie_anywhere_inside_the_root(board: Path, tmp_path: Path) -> None:
    (tmp_path / "batch/recipes").rename(tmp_path / "recipes")
    edit(board / "export.json", lambda d: d.update(recipe="../../../recipes/tiny.json"))
    with pytest.raises(PathFault, match="recipe"):
        open_export(board)
    assert open_export(board, tmp_path).recipe.n_joints == 25


def test_all_that_is_wrong_with_a_manifest_is_one_error(board: Path) -> None:
    edit(board / "export.json", lambda d: d.update(serial=5, line=None, position="3"))
    with pytest.raises(ManifestFault) as caught:
        open_export(board)
    for fragment in ("serial: expected", "found 5", "line: expected", "found null", "position: expected", "found '3'"):
        assert fragment in str(caught.value)


def test_what_export_and_recipe_disagree_about_is_one_error(board: Path) -> None:
    def change(document: dict) -> None:  # type: ignore[type-arg]
        document["product"] = "OTHER"
        document["images"][0]["refdes"] = "U2"

    edit(board / "export.json", change)
    with pytest.raises(RecipeFault, match=r"product: expected 'TINY'.*images\[0\]\.refdes: expected one of \['U1'\]"):
        open_export(board)


def test_slices_of_an_interface_that_the_package_does_not_have(board: Path) -> None:
    edit(board.parents[1] / "recipes/tiny.json", lambda d: d["packages"][0]["interfaces"].pop())
    with pytest.raises(RecipeFault, match=r"images\[1\]\.interface.*'upper'"):
        open_export(board)


def test_check_tells_every_fault_of_every_kind_at_once(board: Path) -> None:
    def change(document: dict) -> None:  # type: ignore[type-arg]
        document["images"][0]["pixel_um"] = "12"
        document["images"][1]["file"] = "../../recipes/tiny.json"
        document["images"].append({"kind": "height_map"})

    edit(board / "export.json", change)
    (board / "height/U1_pre_stack.tif").unlink()
    (board / "height/U1_post_reflow.tif").write_bytes(b"II*\0\x08\0\0\0")
    (board.parents[1] / "recipes/U1_lower.csv").write_text("ball,x_um,y_um\n")
    faults = [str(fault) for fault in check_export(board)]
    fragments = [
        "images[0].pixel_um",
        "images[4].file",
        "U1_lower.csv",
        "images[1].file",
        "U1_pre_stack.tif",
        "U1_post_reflow.tif",
    ]
    for fragment in fragments:
        assert any(fragment in fault for fault in faults), fragment


def test_check_tells_of_the_recipe_where_the_manifest_is_right(board: Path) -> None:
    edit(board / "export.json", lambda d: d.update(product="OTHER"))
    assert [type(fault) for fault in check_export(board)] == [RecipeFault]
    edit(board / "export.json", lambda d: d.update(recipe="/recipes/tiny.json"))
    assert [type(fault) for fault in check_export(board)] == [PathFault]


def test_the_digest_does_not_depend_on_place_or_spelling(board: Path, tmp_path: Path) -> None:
    digest = export_digest(board)
    assert len(digest) == 64
    assert export_digest(write_board(tmp_path / "copy", "renamed")) == digest
    document = json.loads((board / "export.json").read_text())
    (board / "export.json").write_text(json.dumps(dict(reversed(document.items())), indent=4))
    assert export_digest(board) == digest


@pytest.mark.parametrize("what", ["manifest", "unknown field", "image", "recipe", "table"])
def test_the_digest_follows_everything_that_the_board_is_made_of(board: Path, what: str) -> None:
    before = export_digest(board)
    if what == "manifest":
        edit(board / "export.json", lambda d: d.update(lot="L2"))
    elif what == "unknown field":
        edit(board / "export.json", lambda d: d.update(shift="night"))
    elif what == "image":
        tifffile.imwrite(board / "height/U1_pre_stack.tif", heights("pre_stack") + 1, photometric="minisblack")
    else:
        path = board.parents[1] / "recipes" / {"recipe": "tiny.json", "table": "U1_lower.csv"}[what]
        path.write_text(path.read_text() + "\n")
    assert export_digest(board) != before


def test_checksums_spare_reading_the_images_when_a_board_is_opened(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(board)
    opened: list[str] = []
    really = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(Path(path).name) or really(path, *rest))
    open_export(board)
    assert sorted(opened) == ["U1_lower.csv", "U1_upper.csv", "export.json", "tiny.json"]


def test_an_image_that_changes_after_the_board_was_opened_is_refused(board: Path) -> None:
    lower = open_export(board).images[0]
    tifffile.imwrite(board / "xray/U1_lower.tif", slices("lower") + 1, photometric="minisblack")
    with pytest.raises(FileFault, match="sha256"):
        lower.read()


def test_an_image_that_vanishes_after_the_board_was_opened_is_refused(board: Path) -> None:
    lower = open_export(board).images[0]
    lower.path.unlink()
    with pytest.raises(FileFault, match="No such file"):
        lower.read()


def test_an_image_that_becomes_a_pipe_after_the_board_was_opened_is_refused(board: Path) -> None:
    lower = open_export(board).images[0]
    lower.path.unlink()
    os.mkfifo(lower.path)
    with pytest.raises(FileFault, match="pipe"):
        lower.read()


def test_importing_the_room_does_not_load_the_image_libraries() -> None:
    code = (
        "import sys, inspect_pop.ingest; print([m for m in ('tifffile', 'imagecodecs', 'pydantic', 'scipy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_sample_boards(shared: Path) -> None:
    for line, n_slices in (("line-a", 5), ("line-b", 7)):
        for manifest in sorted((shared / "exports" / line).glob("boards/*/export.json"))[:2]:
            export = open_export(manifest.parent)
            assert export.serial == manifest.parent.name
            stack = export.images[0].read()
            assert isinstance(stack, SliceStack)
            assert (len(stack.values), stack.lost, stack.values.dtype) == (n_slices, (), np.uint16)
            assert all(np.isfinite(i.read().height_um).mean() > 0.5 for i in export.images if i.kind == "height_map")  # type: ignore[union-attr]

"""From a machine's folder to a batch that is inspected: what is found, what is assumed, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspect_pop.convert import batch
from inspect_pop.convert.batch import Outcome, convert_batch
from inspect_pop.core.errors import MapFault, UsageFault
from inspect_pop.ingest import check_export, open_export
from tests.convert.boards import PIXEL_UM, draw_slices, draw_volume, slices, write_map, write_pictures, write_vgi
from tests.ingest import boards

FOLDER = "scans/S1_20260102030405"
LAMINOGRAPHY = 'method = "laminography"'
KNOWN = (f"pixel_um = {PIXEL_UM}", f"z_um = {boards.Z_UM['lower']}", LAMINOGRAPHY)


def convert(tmp_path: Path, path: Path) -> Outcome:
    (outcome,) = convert_batch([tmp_path / "scans"], path, tmp_path / "batch")
    return outcome


def read_manifest(outcome: Outcome) -> dict[str, Any]:
    assert outcome.folder is not None, outcome.reason
    assert check_export(outcome.folder, outcome.folder.parents[1]) == []
    manifest: dict[str, Any] = json.loads((outcome.folder / "export.json").read_text())
    return manifest


def test_a_picture_stack_becomes_a_board_with_what_was_assumed(tmp_path: Path) -> None:
    write_pictures(tmp_path / FOLDER / "s", draw_slices())
    manifest = read_manifest(convert(tmp_path, write_map(tmp_path, slices("s/*.png", *KNOWN))))
    assert (manifest["serial"], manifest["inspected_at"]) == ("S1", "2026-01-02T03:04:05+01:00")
    (image,) = manifest["images"]
    assert (image["polarity"], image["z_um"], image["planes"]) == ("solder_bright", boards.Z_UM["lower"], [1, 2, 3, 4, 5])
    assert [text.split(":")[0] for text in manifest["assumed"]] == ["U1/lower polarity", "U1/lower origin_um"]
    export = open_export(tmp_path / "batch/boards/S1")
    assert export.assumed == tuple(manifest["assumed"])
    assert np.array_equal(export.slices[0].read().values, draw_slices())


def test_what_the_map_says_is_not_assumed(tmp_path: Path) -> None:
    write_pictures(tmp_path / FOLDER / "s", draw_slices())
    more = ('polarity = "solder_bright"', "origin_um = [-1590, 1490]")
    assert read_manifest(convert(tmp_path, write_map(tmp_path, slices("s/*.png", *KNOWN, *more))))["assumed"] == []


def test_pixel_size_polarity_and_place_are_found_from_the_balls(tmp_path: Path) -> None:
    dark = 60000 - np.pad(draw_slices(), ((0, 0), (60, 10), (10, 120)), mode="edge")
    write_pictures(tmp_path / FOLDER / "s", dark.astype(np.uint16))
    manifest = read_manifest(convert(tmp_path, write_map(tmp_path, slices("s/*.png", *KNOWN[1:]))))
    (image,) = manifest["images"]
    assert image["pixel_um"] == pytest.approx(PIXEL_UM, rel=0.01)
    assert image["polarity"] == "solder_dark"
    assert image["origin_um"] == pytest.approx([-1590 - 200, 1490 + 1200], abs=40)


@pytest.mark.parametrize("turned", [False, True])
def test_a_volume_is_taken_at_the_heights_of_both_interfaces_whichever_way_up(tmp_path: Path, turned: bool) -> None:
    volume = draw_volume(shift_um=(60.0, -40.0))
    write_vgi(tmp_path / FOLDER, volume[::-1] if turned else volume)
    images = [slices("scan.vgi", 'method = "ct"', interface=name) for name in ("lower", "upper")]
    outcome = convert(tmp_path, write_map(tmp_path, *images))
    manifest = read_manifest(outcome)
    for image, name in zip(manifest["images"], ("lower", "upper"), strict=True):
        planes = np.array(image["planes"]) - 1
        true_um = -100 + 10.0 * (94 - planes if turned else planes)
        assert np.allclose(image["z_um"], true_um, atol=8), name
        assert len(planes) == 5 and (np.diff(true_um) > 0).all()
    end = "top" if turned else "bottom"
    assert f"U1/lower first_plane: {end}, from the order of the interfaces" in outcome.assumed


def test_a_volume_is_looked_at_once_for_all_its_interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_vgi(tmp_path / FOLDER, draw_volume())
    looks = []
    look = batch.look_at_volume
    monkeypatch.setattr(batch, "look_at_volume", lambda *what: looks.append(1) or look(*what))
    path = write_map(tmp_path, *(slices("scan.vgi", interface=name) for name in ("lower", "upper")))
    assert convert(tmp_path, path).folder is not None
    assert len(looks) == 1


def test_pixels_that_are_no_squares_are_resampled(tmp_path: Path) -> None:
    write_pictures(tmp_path / FOLDER / "s", np.repeat(draw_slices(), 2, axis=1))
    more = (f"pixel_um = [{PIXEL_UM}, {PIXEL_UM / 2}]", *KNOWN[1:])
    (image,) = read_manifest(convert(tmp_path, write_map(tmp_path, slices("s/*.png", *more))))["images"]
    assert image["pixel_um"] == PIXEL_UM / 2


def test_a_board_without_its_files_goes_to_quarantine_and_another_is_converted(tmp_path: Path) -> None:
    write_pictures(tmp_path / FOLDER / "s", draw_slices())
    write_pictures(tmp_path / "scans/S2_20260102030406/s", draw_slices()[:4])
    (tmp_path / "scans/S3_20260102030407").mkdir()
    found = convert_batch([tmp_path / "scans"], write_map(tmp_path, slices("s/*.png", *KNOWN)), tmp_path / "batch")
    assert [outcome.folder is not None for outcome in found] == [True, False, False]
    assert "5 slices, one for each height of z_um, found 4" in found[1].reason
    assert "files s/*.png, found none" in found[2].reason
    assert [path.name for path in (tmp_path / "batch/boards").iterdir()] == ["S1"]


def test_a_product_other_than_the_recipe_s_is_named_with_the_map(tmp_path: Path) -> None:
    write_pictures(tmp_path / "scans/OTHER_S1/s", draw_slices())
    outcome = convert(tmp_path, write_map(tmp_path, slices("s/*.png", *KNOWN), path="{product}_{serial}"))
    assert "OTHER_S1: product: expected 'TINY', the product of the recipe recipes/tiny.json, found 'OTHER'" in outcome.reason


@pytest.mark.parametrize(("turned", "said"), [(False, "bottom, assumed: the balls do not tell"), (True, "")])
def test_the_end_of_a_ct_volume_of_one_interface_is_assumed_unless_the_map_says_it(
    tmp_path: Path, turned: bool, said: str
) -> None:
    volume = draw_volume(count=37, interfaces=("lower",))
    write_vgi(tmp_path / FOLDER, volume[::-1] if turned else volume)
    more = ['method = "ct"', *(['first_plane = "top"'] if turned else [])]
    outcome = convert(tmp_path, write_map(tmp_path, slices("scan.vgi", *more)))
    (image,) = read_manifest(outcome)["images"]
    planes = np.array(image["planes"]) - 1
    assert np.allclose(image["z_um"], -100 + 10.0 * (36 - planes if turned else planes), atol=8)
    assert [text for text in outcome.assumed if "first_plane" in text] == ([f"U1/lower first_plane: {said}"] if said else [])


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / FOLDER / "s", draw_slices())
    path = write_map(tmp_path, slices("s/*.png", *KNOWN))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inspect_pop.convert.batch._replace_folder", fail)
    with pytest.raises(OSError, match="No space"):
        convert(tmp_path, path)
    assert list((tmp_path / "batch/boards").iterdir()) == []


def test_a_board_that_is_there_is_left_until_its_files_or_the_map_change(tmp_path: Path) -> None:
    write_pictures(tmp_path / FOLDER / "s", draw_slices())
    path = write_map(tmp_path, slices("s/*.png", *KNOWN))
    assert [convert(tmp_path, path).skipped for _ in range(2)] == [False, True]
    write_pictures(tmp_path / FOLDER / "s", draw_slices())
    assert not convert(tmp_path, path).skipped
    write_map(tmp_path, slices("s/*.png", *KNOWN, "optional = false"))
    assert not convert(tmp_path, path).skipped


def test_a_serial_is_never_a_path_and_each_inspection_has_its_folder(tmp_path: Path) -> None:
    for name in ("S+1_20260102030405", "S 1_20260102030405", "S1_20260102030405", "S1_20260102030406"):
        write_pictures(tmp_path / "scans" / name / "s", draw_slices())
    found = convert_batch([tmp_path / "scans"], write_map(tmp_path, slices("s/*.png", *KNOWN)), tmp_path / "batch")
    folders = {outcome.folder for outcome in found}
    assert len(folders) == 4
    assert {folder.parent for folder in folders if folder} == {tmp_path / "batch/boards"}


def test_nothing_to_convert_is_told(tmp_path: Path) -> None:
    (tmp_path / "scans/other").mkdir(parents=True)
    path = write_map(tmp_path, slices("s/*.png"))
    with pytest.raises(UsageFault, match="none, but other"):
        convert_batch([tmp_path / "scans"], path, tmp_path / "batch")
    with pytest.raises(UsageFault, match="nothing there"):
        convert_batch([tmp_path / "nowhere"], path, tmp_path / "batch")
    (tmp_path / "map.toml").write_text("[board]\n")
    with pytest.raises(MapFault):
        convert_batch([tmp_path / "scans"], path, tmp_path / "batch")

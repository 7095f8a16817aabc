"""A first map from a look at a folder."""

from pathlib import Path

import pytest

from inspect_pop.convert.batch import probe_source
from inspect_pop.convert.map_file import load_map
from inspect_pop.core.errors import UsageFault
from tests.convert.boards import draw_slices, draw_volume, write_pictures, write_vgi


def test_a_first_map_names_what_was_recognised_and_what_is_missing(tmp_path: Path) -> None:
    board = tmp_path / "scans/XT_S1_20260102030405"
    write_pictures(board / "slices", draw_slices())
    write_vgi(board, draw_volume(count=12))
    text = probe_source(tmp_path / "scans")
    assert 'path = "{_0}_{serial}_{time:%Y%m%d%H%M%S}"' in text
    assert "12 planes of 150 x 160, uint16; pixels of 20 x 20 um; planes 10 um apart" in text
    assert 'files = "slices/*.png"' in text and "# pixel_um = ?" in text
    (tmp_path / "map.toml").write_text(text)
    assert [image.name for image in load_map(tmp_path / "map.toml").image] == ["U1/lower", "U1/upper"]


def test_a_folder_without_anything_known_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(UsageFault, match="no file of a known kind"):
        probe_source(tmp_path)

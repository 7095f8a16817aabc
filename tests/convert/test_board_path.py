"""Boards by the pattern of their paths, and the files of an image."""

from pathlib import Path

import pytest

from inspect_pop.convert.map_file import BoardPattern, fill_names, find_boards, list_files
from inspect_pop.core.errors import PathFault


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_names_of_folders_become_fields(tmp_path: Path) -> None:
    make(
        tmp_path,
        "lots/L7/APX_S2_20260102030405/a",
        "lots/L7/APX_S10_20260102030406/a",
        "lots/L7/notes/a",
        "lots/L7/.APX_S3_20260102030405/a",
    )
    found = find_boards(tmp_path / "lots", BoardPattern("{lot}/APX_{serial}_{time:%Y%m%d%H%M%S}"))
    assert [dict(board.fields) for board in found] == [
        {"lot": "L7", "serial": "S2", "time": "2026-01-02T03:04:05"},
        {"lot": "L7", "serial": "S10", "time": "2026-01-02T03:04:06"},
    ]


def test_a_board_may_be_the_source_itself_or_a_file(tmp_path: Path) -> None:
    make(tmp_path, "S1/a.tif", "flat/S1.tif", "flat/S2.tif")
    assert find_boards(tmp_path / "S1", BoardPattern("{serial}"))[0].fields == {"serial": "a.tif"}
    flat = find_boards(tmp_path / "flat", BoardPattern("{serial}.tif"))
    assert [board.fields["serial"] for board in flat] == ["S1", "S2"]
    assert list_files(flat[1].folder, "{serial}.tif", flat[1].fields) == [tmp_path / "flat/S2.tif"]
    (single,) = find_boards(tmp_path / "flat" / "S1.tif", BoardPattern("{serial}.tif"))
    assert single.fields == {"serial": "S1"}


def test_a_name_that_reads_in_two_ways_is_no_guess(tmp_path: Path) -> None:
    make(tmp_path, "A_B_C/a")
    (board,) = find_boards(tmp_path, BoardPattern("{product}_{serial}"))
    assert isinstance(board.fault, PathFault)
    assert "'A' or 'A_B'" in str(board.fault)


def test_a_time_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    make(tmp_path, "S_20261399000000/a")
    (board,) = find_boards(tmp_path, BoardPattern("{serial}_{time:%Y%m%d%H%M%S}"))
    assert "a time of the form" in str(board.fault)


def test_files_come_in_natural_order_whatever_their_case(tmp_path: Path) -> None:
    make(tmp_path, "s/z10.PNG", "s/z9.png", "s/z1.png", "s/.z0.png", "s/z2.txt")
    assert [path.name for path in list_files(tmp_path, "S/*.png", {})] == ["z1.png", "z9.png", "z10.PNG"]
    assert len(list_files(tmp_path, "s", {})) == 4


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    make(tmp_path, "secret/a.png", "boards/S1/b.png")
    (tmp_path / "boards/S1/a.png").symlink_to(tmp_path / "secret/a.png")
    with pytest.raises(PathFault):
        list_files(tmp_path / "boards/S1", "*.png", {})
    (tmp_path / "boards/S2").symlink_to(tmp_path / "secret")
    found = find_boards(tmp_path / "boards", BoardPattern("{serial}"))
    assert [type(board.fault) for board in found] == [type(None), PathFault]


def test_a_field_never_adds_a_level() -> None:
    assert fill_names("recipes/{product}.json", {"product": "../../x"}) == "recipes/.._.._x.json"

"""A board in the batch: whole or not at all, beside others of the same recipe name."""

from pathlib import Path

import pytest

from inspect_pop.convert.batch import copy_recipe, make_folder_name, write_board
from inspect_pop.core.errors import FileFault, InputFault
from tests.convert.boards import write_recipe


@pytest.mark.parametrize("serial", ["../S1", "a/b", ".hidden", "S 1", "S\\1", "CON:", "x" * 200, "ü"])
def test_a_folder_s_name_is_never_a_path_and_never_shared(serial: str) -> None:
    name = make_folder_name(serial)
    assert not set(name) & set('/\\: "') and not name.startswith(".") and len(name) < 120
    assert name != make_folder_name(serial + "1")


def test_a_plain_serial_is_its_folder_s_name() -> None:
    assert make_folder_name("PB2411-010204") == "PB2411-010204"


def test_another_recipe_of_the_same_name_gets_its_folder(tmp_path: Path) -> None:
    write_recipe(tmp_path / "a")
    first = copy_recipe(tmp_path / "a/tiny.json", tmp_path / "out")
    assert first == copy_recipe(tmp_path / "a/tiny.json", tmp_path / "out") == tmp_path / "out/recipes/tiny.json"
    table = tmp_path / "a/U1_lower.csv"
    table.write_text(table.read_text().replace("A1,", "A01,"))
    second = copy_recipe(tmp_path / "a/tiny.json", tmp_path / "out")
    assert second.parent.parent == first.parent
    assert first.with_name("U1_lower.csv").read_text() != second.with_name("U1_lower.csv").read_text()


def test_a_folder_that_is_no_board_is_not_replaced(tmp_path: Path) -> None:
    write_recipe(tmp_path / "recipes")
    (tmp_path / "boards/S1").mkdir(parents=True)
    (tmp_path / "boards/S1/notes.txt").write_text("mine")
    fields = {
        "serial": "S1",
        "product": "TINY",
        "line": "A",
        "station": "X",
        "recipe": "../../recipes/tiny.json",
        "inspected_at": "2026-01-02T03:04:05+00:00",
    }
    with pytest.raises(FileFault, match="a board, or nothing there"):
        write_board(tmp_path / "boards/S1", fields, [], [], {}, tmp_path)
    assert [path.name for path in (tmp_path / "boards").iterdir()] == ["S1"]
    with pytest.raises(InputFault):  # what could not be read again does not appear
        write_board(tmp_path / "boards/S2", fields | {"line": ""}, [], [], {}, tmp_path)
    assert [path.name for path in (tmp_path / "boards").iterdir()] == ["S1"]

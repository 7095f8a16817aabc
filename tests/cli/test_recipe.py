"""`inspect-pop recipe`: a recipe in a folder, with a drawing, its notes and its exit status."""

from pathlib import Path

import cv2
import pytest

from inspect_pop import cli
from inspect_pop.ingest.recipe_file import read_recipe
from tests.recipes.samples import footprint, grid, ipc2581, netlist, picture

Captured = pytest.CaptureFixture[str]


def test_from_a_picture(tmp_path: Path, capsys: Captured) -> None:
    cv2.imwrite(str(tmp_path / "good.png"), picture(grid(11, 9)))
    out = tmp_path / "out"
    call = [
        "recipe",
        "from-image",
        str(tmp_path / "good.png"),
        "--pitch-um",
        "500",
        "--out",
        str(out),
        "--polarity",
        "solder_bright",
    ]
    assert cli.main(call) == 0
    printed = capsys.readouterr().out
    assert "U1 lower: 99 balls, pitch 500 um, A1 upper_left" in printed
    assert "A1 is assumed" in printed
    assert read_recipe(out / "recipe.json", out).n_joints == 99
    assert (out / "recipe.png").is_file()
    assert cli.main(call) == 2
    assert "--add" in capsys.readouterr().err
    assert cli.main([*call, "--replace"]) == 0
    assert cli.main(["recipe", "show", str(out / "recipe.json"), "--out", str(tmp_path / "a.svg")]) == 0


def test_from_cad_and_lists(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "a.kicad_mod").write_text(footprint(), encoding="utf-8")
    (tmp_path / "a.ipc").write_text(netlist(), encoding="utf-8")
    (tmp_path / "a.xml").write_text(ipc2581(), encoding="utf-8")
    (tmp_path / "a.csv").write_text("ball\nA1\nA2\nB1\nB2\n", encoding="utf-8")
    (tmp_path / "pos.csv").write_text("Ref,PosX,PosY,Rot,Package\nU7,1,2,90,BGA\n", encoding="utf-8")
    sources = {"kicad": ("a.kicad_mod", 9), "ipc356": ("a.ipc", 12), "ipc2581": ("a.xml", 9), "ball-list": ("a.csv", 4)}
    for kind, (name, joints) in sources.items():
        out = tmp_path / kind
        pitch = ["--pitch-um", "800"] if kind == "ball-list" else []
        assert cli.main(["recipe", f"from-{kind}", str(tmp_path / name), "--out", str(out), *pitch]) == 0
        assert read_recipe(out / "recipe.json", out).n_joints == joints
        assert (out / "recipe.png").is_file()
    board = str(tmp_path / "board")
    part = f"BGA={tmp_path / 'kicad' / 'recipe.json'}"
    assert cli.main(["recipe", "from-placement", str(tmp_path / "pos.csv"), "--part", part, "--out", board]) == 0
    assert cli.main(["recipe", "from-placement", str(tmp_path / "pos.csv"), "--part", "BGA", "--out", board]) == 2
    capsys.readouterr()
    assert cli.main(["recipe", "from-kicad", str(tmp_path / "a.csv"), "--out", str(tmp_path / "no")]) == 2
    assert "expected" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()

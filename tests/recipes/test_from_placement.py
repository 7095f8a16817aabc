"""Placement files of several dialects, joined with recipes of parts."""

from pathlib import Path

import pytest

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.ingest.recipe_file import read_recipe
from inspect_pop.recipes.draft import Choices, build_package, write_recipe
from inspect_pop.recipes.from_kicad import read_kicad
from inspect_pop.recipes.from_lists import join_placement, read_placement
from tests.recipes.samples import footprint, shared

DIALECTS = {
    "kicad.csv": 'Ref,Val,Package,PosX,PosY,Rot,Side\n"U1","x","BGA",46.44,16.53,90.0,top\n"U2","x","BGA",1.0,2.0,0.0,bottom\n',
    "kicad.pos": "### Module positions ###\n## Unit = mm, Angle = deg.\n# Ref  Val  Package  PosX  PosY  Rot  Side\n"
    "U1 x BGA 46.4400 16.5300 90.0000 top\nU2 x BGA 1.0 2.0 0.0 bottom\n## End\n",
    "altium.csv": "Designator,Footprint,Mid X,Mid Y,Layer,Rotation\n"
    "U1,BGA,46.44mm,16.53mm,TopLayer,90\nU2,BGA,1mm,2mm,BottomLayer,0\n",
    "allegro.txt": "UUNITS = MILS\nU1 1828.3465 650.7874 90 BGA\nU2 39.3701 78.7402 0 m BGA\n",
    "diptrace.csv": "RefDes;Pattern;X (mm);Y (mm);Side;Rotate\nU1;BGA;46.44;16.53;Top;90\nU2;BGA;1;2;Bottom;0\n",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(DIALECTS[name], encoding="utf-8")
    places = read_placement(path)
    assert {n: (p.package, p.rotation_deg, p.is_bottom) for n, p in places.items()} == {
        "U1": ("BGA", 90.0, False),
        "U2": ("BGA", 0.0, True),
    }
    assert (places["U1"].x_um, places["U1"].y_um) == pytest.approx((46_440, 16_530), abs=0.1)


def make_part(folder: Path) -> Path:
    (folder / "part.kicad_mod").write_text(footprint(), encoding="utf-8")
    drafts = read_kicad(folder / "part.kicad_mod")
    return write_recipe(folder / "part", [build_package(d, Choices()) for d in drafts], "part", "test").path


def test_parts_are_turned_as_they_are_placed(tmp_path: Path) -> None:
    part = make_part(tmp_path)
    path = tmp_path / "kicad.csv"
    path.write_text(DIALECTS["kicad.csv"], encoding="utf-8")
    packages, missing = join_placement(read_placement(path), {"BGA": part, "U9": part})
    assert missing == ["U9 has no place in the placement file"]
    written = write_recipe(tmp_path / "board", packages, "board", "test")
    recipe = read_recipe(written.path, written.path.parent)
    assert [(p.refdes, p.a1_corner) for p in recipe.packages] == [("U1", "lower_left"), ("U2", "upper_left")]
    lower = recipe.packages[0].interface("lower")
    assert (lower.x_um[0], lower.y_um[0]) == (-800.0, -800.0)
    clockwise, _ = join_placement(read_placement(path), {"U1": part}, clockwise=True)
    assert clockwise[0]["a1_corner"] == "upper_right"


def test_what_cannot_be_used(tmp_path: Path) -> None:
    part = make_part(tmp_path)
    path = tmp_path / "kicad.csv"
    path.write_text(DIALECTS["kicad.csv"], encoding="utf-8")
    with pytest.raises(UsageFault, match="places: U1, U2"):
        join_placement(read_placement(path), {"U9": part})
    path.write_text("Ref,PosX,PosY,Rot\nU1,far,2,0\n", encoding="utf-8")
    with pytest.raises(RecipeFault, match="line 2: x"):
        read_placement(path)
    path.write_text("hello\n", encoding="utf-8")
    with pytest.raises(RecipeFault, match="columns for reference"):
        read_placement(path)


@pytest.mark.parametrize("name", ["OrangeCrab-top-pos.csv", "OrangeCrab-top.pos"])
def test_real_files(name: str) -> None:
    places = read_placement(shared(f"formats/cad/kicad/{name}"))
    assert places["C2"].x_um == pytest.approx(46_440)
    assert "U3" not in places, "the board's BGA285 is missing from its placement file"

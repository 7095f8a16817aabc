"""Recipes that are written: read back by the product, marked where a value was assumed, whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.recipes.draft import ArrayDraft, Choices, build_package, parse_choices, write_recipe


def draft(pitch: float = 500.0, refdes: str = "U1", **more) -> ArrayDraft:
    x, y = (axis.ravel() * pitch for axis in np.meshgrid([-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]))
    return ArrayDraft(refdes, tuple(f"{r}{c}" for r in "ABC" for c in (1, 2, 3)), x, y, pitch, **more)


def test_a_recipe_says_what_was_assumed(tmp_path: Path) -> None:
    package = build_package(draft(ball_um=310.0), parse_choices("lower", ["solder=SnBi", "body_um=2000,2500"]))
    written = write_recipe(tmp_path / "out", [package], "board 1", "test")
    lower = written.recipe.packages[0].interface("lower")
    assert (lower.ball_diameter_um, lower.solder, written.recipe.packages[0].body_um) == (310.0, "SnBi", (2000.0, 2500.0))
    assert {"U1.pad_diameter_um", "U1.pads_z_um", "U1.construction"} <= set(written.assumed)
    assert not {"U1.ball_diameter_um", "U1.solder", "U1.body_um"} & set(written.assumed)
    content = json.loads(written.path.read_text(encoding="utf-8"))
    assert content["packages"][0]["assumed"]
    assert content["source"] == "test"
    assert sorted(p.name for p in written.path.parent.iterdir()) == ["U1_lower.csv", "recipe.json"]


def test_the_other_interface_joins_its_package(tmp_path: Path) -> None:
    write_recipe(tmp_path, [build_package(draft(400.0), Choices())], "pop", "lower.png")
    upper = build_package(draft(650.0), Choices("upper"))
    with pytest.raises(UsageFault, match="--add"):
        write_recipe(tmp_path, [upper], "pop", "upper.png")
    written = write_recipe(tmp_path, [upper], "pop", "upper.png", add=True)
    package = written.recipe.packages[0]
    assert [i.name for i in package.interfaces] == ["lower", "upper"]
    assert package.construction == "tmv"
    assert written.recipe.revision == 2
    with pytest.raises(UsageFault, match="an interface that the recipe does not have"):
        write_recipe(tmp_path, [upper], "pop", "upper.png", add=True)
    assert len(write_recipe(tmp_path, [upper], "pop", "x", replace_old=True).recipe.packages[0].interfaces) == 1


def test_the_impossible_is_not_written(tmp_path: Path) -> None:
    package = build_package(draft(), parse_choices("lower", ["ball_diameter_um=600"]))
    with pytest.raises(RecipeFault, match="less than the pitch"):
        write_recipe(tmp_path, [package], "board", "test")
    assert list(tmp_path.iterdir()) == []


def test_names_of_parts_make_no_paths(tmp_path: Path) -> None:
    packages = [build_package(draft(refdes=name), Choices()) for name in ("../../evil", "..//..//evil", "U 1")]
    written = write_recipe(tmp_path / "out", packages, "../x", "test")
    assert [p.refdes for p in written.recipe.packages] == ["../../evil", "..//..//evil", "U 1"]
    assert {p.name for p in tmp_path.rglob("*.csv")} == {p.name for p in (tmp_path / "out").glob("*.csv")}
    assert len(list((tmp_path / "out").glob("*.csv"))) == 3


@pytest.mark.parametrize("text", ["ball_diameter_um", "colour=red", "body_um=3", "body_um=a,b", "stack_height_um=high"])
def test_choices_that_cannot_be_read(text: str) -> None:
    with pytest.raises(UsageFault, match="--set"):
        parse_choices("lower", [text])
    with pytest.raises(UsageFault, match="lower or upper"):
        parse_choices("middle", [])

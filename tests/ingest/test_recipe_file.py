"""Recipes: every right one comes through exactly; what is impossible is refused (each kind of that is in `broken`)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspect_pop.core.errors import PathFault, RecipeFault
from inspect_pop.ingest.recipe_file import find_recipe_faults, read_recipe
from tests.ingest.boards import edit, joints, recipe, table


@pytest.fixture
def path(board: Path) -> Path:
    return board.parents[1] / "recipes/tiny.json"


def test_packages_interfaces_and_joints(path: Path) -> None:
    read = read_recipe(path, path.parent)
    assert (read.name, read.revision, read.product, read.n_joints) == ("tiny-pop", 4, "TINY", 25)
    (package,) = read.packages
    assert (package.refdes, package.part, package.construction) == ("U1", "POP2-TMV", "tmv")
    assert (package.body_um, package.stack_height_um, package.warpage_limit_um) == ((2400, 2400), 1350, 60)
    assert (package.a1_corner, package.underfill) == ("upper_left", False)
    lower = package.interface("lower")
    assert (lower.pitch_um, lower.ball_diameter_um, lower.pad_diameter_um) == (400, 250, 230)
    assert (lower.pad_definition, lower.pads_z_um, lower.solder) == ("nsmd", (0, 170), "SAC305")
    assert list(zip(lower.ball, lower.x_um, lower.y_um, strict=True)) == joints("lower")


@pytest.mark.parametrize("corner", ["upper_left", "upper_right", "lower_left", "lower_right"])
def test_the_corner_of_pin_one_and_underfill(path: Path, corner: str) -> None:
    edit(path, lambda d: d["packages"][0].update(a1_corner=corner, underfill=True))
    (package,) = read_recipe(path, path.parent).packages
    assert (package.a1_corner, package.underfill) == (corner, True)


def test_one_interface_is_enough(path: Path) -> None:
    edit(path, lambda d: d["packages"][0]["interfaces"].pop(0))
    assert [i.name for i in read_recipe(path, path.parent).packages[0].interfaces] == ["upper"]


def test_joints_cannot_be_changed_by_one_board_for_the_next(path: Path) -> None:
    lower = read_recipe(path, path.parent).packages[0].interface("lower")
    with pytest.raises(ValueError, match="read-only"):
        lower.x_um[0] = 0.0


def test_the_same_content_is_checked_once(path: Path) -> None:
    assert read_recipe(path, path.parent) is read_recipe(path, path.parent)


@pytest.mark.parametrize("changed", ["tiny.json", "U1_lower.csv", "U1_upper.csv"])
def test_the_digest_follows_every_file(path: Path, changed: str) -> None:
    before = read_recipe(path, path.parent).digest
    file = path.parent / changed
    file.write_text(file.read_text() + "\n")
    after = read_recipe(path, path.parent)
    assert len(before) == 64
    assert after.digest != before
    assert after.n_joints == 25


def test_every_table_and_field_that_is_wrong_is_told(path: Path) -> None:
    (path.parent / "U1_lower.csv").write_text("ball,x_um,y_um\n")
    (path.parent / "U1_upper.csv").unlink()
    assert [Path(f.thing).name for f in find_recipe_faults(path, path.parent)] == ["U1_lower.csv", "U1_upper.csv"]
    edit(path, lambda d: d.update(revision=-1, name=7))
    assert [f.thing.split(": ")[1] for f in find_recipe_faults(path, path.parent)] == ["name", "revision"]
    with pytest.raises(RecipeFault, match=r"name: .*; revision: "):
        read_recipe(path, path.parent)


def test_a_table_outside_the_root_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "U1_lower.csv").write_text(table("lower"))
    edit(path, lambda d: d["packages"][0]["interfaces"][0].update(joints="../../U1_lower.csv"))
    with pytest.raises(PathFault, match="joints of the lower interface"):
        read_recipe(path, tmp_path / "batch")
    assert read_recipe(path, tmp_path).n_joints == 25


def test_the_sample_recipes(shared: Path) -> None:
    recipes = shared / "exports/line-a/recipes"
    assert read_recipe(recipes / "apx17-pop.json", recipes).n_joints == 820
    assert read_recipe(recipes / "tst4-pop.json", recipes).n_joints == 88


def test_half_a_pitch_is_the_least_distance(path: Path) -> None:
    table_path = path.parent / "U1_lower.csv"
    table_path.write_text("ball,x_um,y_um\nA1,0,0\nA2,200,0\n")
    assert read_recipe(path, path.parent).n_joints == 11
    table_path.write_text("ball,x_um,y_um\nA1,0,0\nA2,141,141\nA3,400,400\n")
    with pytest.raises(RecipeFault, match=r"A1 at \(0, 0\) and A2 at \(141, 141\)"):
        read_recipe(path, path.parent)


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=2, max_size=60, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_that_are_too_close_are_found_as_by_comparing_all(path: Path, places: list[tuple[int, int]]) -> None:
    text = "ball,x_um,y_um\n" + "".join(f"B{k},{50 * x},{50 * y}\n" for k, (x, y) in enumerate(places))
    (path.parent / "U1_lower.csv").write_text(text)
    p = 50.0 * np.array(places)
    apart_um = np.hypot(*(p[:, None] - p[None]).transpose(2, 0, 1))
    np.fill_diagonal(apart_um, np.inf)
    assert bool(find_recipe_faults(path, path.parent)) == bool((apart_um < 200).any())


PRINTS = st.characters(exclude_categories=("C", "Zl", "Zp", "Zs"))
BALLS = st.lists(st.text(PRINTS, min_size=1, max_size=32), min_size=1, max_size=30, unique=True)


@given(
    balls=BALLS,
    pitch_um=st.floats(50, 5000),
    gap_um=st.floats(1, 400),
    name=st.text(PRINTS, min_size=1, max_size=40),
    end=st.sampled_from(["\n", "\r\n"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_right_recipe_comes_through_exactly(
    path: Path, balls: list[str], pitch_um: float, gap_um: float, name: str, end: str
) -> None:
    document: dict[str, Any] = recipe(name=name)
    document["packages"][0]["body_um"] = [400_000.0, 10.0]
    interface = document["packages"][0]["interfaces"].pop(0) and document["packages"][0]["interfaces"][0]
    interface |= {
        "pitch_um": pitch_um,
        "ball_diameter_um": pitch_um * 0.6,
        "pad_diameter_um": pitch_um * 0.5,
        "pads_z_um": [500, 500 + gap_um],
    }
    path.write_text(json.dumps(document))
    x_um = [k * pitch_um for k in range(len(balls))]
    quoted = ['"' + ball.replace('"', '""') + '"' for ball in balls]
    text = end.join(["ball,x_um,y_um", *(f"{ball},{x!r},0" for ball, x in zip(quoted, x_um, strict=True))])
    (path.parent / "U1_upper.csv").write_bytes(text.encode())
    read = read_recipe(path, path.parent)
    (upper,) = read.packages[0].interfaces
    assert read.name == name
    assert upper.ball == tuple(balls)
    assert upper.x_um.tolist() == x_um
    assert (upper.pitch_um, upper.gap_um) == (pitch_um, 500 + gap_um - 500)

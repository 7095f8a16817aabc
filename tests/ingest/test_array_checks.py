"""Tables of joints in another unit, or mirrored, are recognised with their likely cause; turned ones are not mirrored."""

from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import RecipeFault
from inspect_pop.ingest.recipe_file import explain_mirror, guess_unit, read_recipe
from tests.drawn import drawn_interface
from tests.ingest.boards import edit, joints
from tests.scenes import ring

FULL, RING = drawn_interface(8), ring(8)
BELOW = "it is seen from below, or its x axis points left"
DOWN = "its y axis points down, so that row A lies opposite to the a1_corner"
TURNED = {"upper_left": 0, "lower_left": 1, "lower_right": 2, "upper_right": 3}


def turn(x: np.ndarray, y: np.ndarray, quarters: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn places anticlockwise by quarters."""
    for _ in range(quarters):
        x, y = -y, x
    return x, y


@pytest.mark.parametrize("interface", [FULL, RING])
@pytest.mark.parametrize("corner", TURNED)
def test_a_turned_package_is_right_and_its_mirror_images_are_not(interface, corner: str) -> None:
    x, y = turn(interface.x_um, interface.y_um, TURNED[corner])
    assert explain_mirror(interface.ball, x, y, corner) is None
    assert explain_mirror(interface.ball, x, -y, corner) == DOWN
    assert explain_mirror(interface.ball, -x, y, corner) == BELOW


def test_a_turned_table_that_forgot_its_corner_is_not_called_mirrored() -> None:
    x, y = turn(FULL.x_um, FULL.y_um, 1)
    assert explain_mirror(FULL.ball, x, y, "upper_left") is None


@pytest.mark.parametrize(
    ("ball", "x", "y"),
    [
        (("1", "2", "3", "4"), [0, 400, 0, 400], [0, 0, 400, 400]),  # not JEDEC names
        (("A1", "A2", "A3"), [0, 400, 800], [0, 0, 0]),  # a single row
        (("A1",), [0], [0]),
        (("A1", "A2", "B1", "B2"), [0, 400, 400, 0], [0, 0, 400, 400]),  # names in a meander
    ],
)
def test_names_that_do_not_show_the_axes_are_taken_as_they_are(ball: tuple[str, ...], x: list, y: list) -> None:
    assert explain_mirror(ball, np.array(x, float), np.array(y, float), "upper_left") is None


@pytest.mark.parametrize(("unit_um", "unit"), [(1000.0, "millimetres"), (25.4, "mils"), (25400.0, "inches"), (1.0, None)])
def test_the_unit_shows_in_the_distance_of_neighbours(unit_um: float, unit: str | None) -> None:
    assert guess_unit(RING.x_um / unit_um, RING.y_um / unit_um, RING.pitch_um) == unit
    assert guess_unit(np.zeros(1), np.zeros(1), 400.0) is None


def write_table(path: Path, change) -> None:
    rows = [f"{ball},{change(x, y)[0]:.6g},{change(x, y)[1]:.6g}" for ball, x, y in joints("lower")]
    (path.parent / "U1_lower.csv").write_text("\n".join(["ball,x_um,y_um", *rows]) + "\n")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x, y: (x, -y), "its y axis points down"),
        (lambda x, y: (-x, y), "seen from below"),
        (lambda x, y: (x / 1000, y / 1000), "fits millimetres"),
        (lambda x, y: (x / 25.4, y / 25.4), "fits mils"),
    ],
)
def test_such_a_table_is_refused(board: Path, change, found: str) -> None:
    path = board.parents[1] / "recipes/tiny.json"
    read_recipe(path, path.parent)
    write_table(path, change)
    with pytest.raises(RecipeFault, match=found):
        read_recipe(path, path.parent)


@pytest.mark.parametrize("pitch", [0.4, 15.7])
def test_a_recipe_in_another_unit_is_refused(board: Path, pitch: float) -> None:
    path = board.parents[1] / "recipes/tiny.json"
    sizes = {"pitch_um": pitch, "ball_diameter_um": 0.6 * pitch, "pad_diameter_um": 0.5 * pitch}
    edit(path, lambda d: d["packages"][0]["interfaces"][0].update(sizes))
    with pytest.raises(RecipeFault, match="not millimetres or mils"):
        read_recipe(path, path.parent)


def test_a_bga_has_the_lower_interface_alone(board: Path) -> None:
    path = board.parents[1] / "recipes/tiny.json"
    edit(path, lambda d: d["packages"][0].update(construction="bga"))
    with pytest.raises(RecipeFault, match="the lower interface alone"):
        read_recipe(path, path.parent)
    edit(path, lambda d: d["packages"][0]["interfaces"].pop())
    assert read_recipe(path, path.parent).packages[0].construction == "bga"

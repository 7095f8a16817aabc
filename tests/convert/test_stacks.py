"""From planes to slices: which are taken, at which heights, and what is said of it."""

from pathlib import Path

import numpy as np
import pytest

from inspect_pop.convert.map_file import ImageMap
from inspect_pop.convert.planes import Planes
from inspect_pop.convert.stacks import is_volume, make_turn, mask_boxes, take_pictures
from inspect_pop.core.errors import ImageFault
from inspect_pop.core.recipe import Package
from inspect_pop.ingest.document import MOST_SLICES
from inspect_pop.ingest.recipe_file import read_recipe
from tests.convert.boards import PIXEL_UM, SHAPE, draw_plane, write_recipe


@pytest.fixture
def package(tmp_path: Path) -> Package:
    write_recipe(tmp_path)
    return read_recipe(tmp_path / "tiny.json", tmp_path).packages[0]


def make_map(**more: object) -> ImageMap:
    return ImageMap(kind="xray_slices", refdes="U1", interface="lower", files="*", **more)


def make_planes(heights: list[float]) -> Planes:
    pages = [draw_plane(z, interfaces=("lower",)) for z in heights]
    return Planes("scan", len(pages), SHAPE, lambda k, rows: pages[k][rows.start : rows.stop : rows.step], ())


@pytest.mark.parametrize(
    ("count", "listed", "chosen"),
    [(9, None, False), (10, None, True), (10, 10, False), (MOST_SLICES, MOST_SLICES, False), (65, 64, True), (60, 5, True)],
)
def test_planes_are_chosen_where_they_are_many_and_not_each_has_its_height(count: int, listed: int | None, chosen: bool) -> None:
    image = make_map(z_um=None if listed is None else [float(k) for k in range(listed)])
    planes = Planes("scan", count, (10, 10), lambda k, rows: np.zeros((len(rows), 10)), ())
    assert is_volume(planes, image) is chosen


def test_up_to_64_pictures_with_their_heights_are_taken_as_they_are(package: Package) -> None:
    heights = [float(z) for z in np.linspace(5, 165, 20)]
    found = take_pictures(make_planes(heights), make_map(z_um=heights, pixel_um=PIXEL_UM, method="ct"), package)
    assert found.stack.z_um == tuple(heights) and found.taken == tuple(range(1, 21))


def test_heights_that_fall_turn_the_stack(package: Package) -> None:
    heights = [165.0, 85.0, 5.0]
    found = take_pictures(make_planes(heights), make_map(z_um=heights, pixel_um=PIXEL_UM, method="ct"), package)
    assert (found.stack.z_um, found.taken) == ((5.0, 85.0, 165.0), (3, 2, 1))
    assert np.array_equal(found.stack.values[0], draw_plane(5.0, interfaces=("lower",)))


def test_heights_that_nobody_says_are_assumed_evenly(package: Package) -> None:
    found = take_pictures(make_planes([5, 45, 85, 125, 165]), make_map(pixel_um=PIXEL_UM, method="ct"), package)
    assert found.stack.z_um[0] < 20 and found.stack.z_um[-1] > 150
    assert "U1/lower z_um: evenly from the lower to the upper pad" in found.assumed


def test_two_slices_of_ct_are_too_few(package: Package) -> None:
    with pytest.raises(ImageFault, match="at least 3 slices of ct"):
        take_pictures(make_planes([5, 165]), make_map(pixel_um=PIXEL_UM, method="ct"), package)


def test_a_picture_is_turned_counter_clockwise_then_mirrored() -> None:
    page = np.array([[1, 2], [3, 4]])
    assert make_turn(make_map(turn_deg=90))(page).tolist() == [[2, 4], [1, 3]]
    assert make_turn(make_map(turn_deg=90, mirror=True))(page).tolist() == [[4, 2], [3, 1]]


def test_masked_boxes_are_no_data() -> None:
    masked = mask_boxes(np.ones((4, 5), np.uint16), make_map(mask_px=[[1, 0, 3, 2]]))
    assert np.isnan(masked[:2, 1:3]).all() and np.isnan(masked).sum() == 4

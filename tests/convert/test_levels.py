"""Where interfaces lie in a volume: their heights from the balls, and what is read of it."""

from pathlib import Path

import numpy as np
import pytest

from inspect_pop.convert.levels import Crop, cut_plane, find_levels
from inspect_pop.convert.planes import Planes
from inspect_pop.core.errors import FrameFault, ImageFault
from inspect_pop.core.recipe import Package
from inspect_pop.ingest.recipe_file import read_recipe
from tests.convert.boards import PADS_UM, PIXEL_UM, SHAPE, draw_volume, write_recipe


@pytest.fixture
def package(tmp_path: Path) -> Package:
    write_recipe(tmp_path)
    return read_recipe(tmp_path / "tiny.json", tmp_path).packages[0]


def make_planes(volume: np.ndarray) -> Planes:
    return Planes("scan", len(volume), volume.shape[1:], lambda k, rows: volume[k, rows.start : rows.stop : rows.step], ())


def find(volume: np.ndarray, package: Package, polarity: str | None = None):
    return find_levels(make_planes(volume), package, (PIXEL_UM, PIXEL_UM), 10.0, polarity, lambda page: page, "ct")


@pytest.mark.parametrize("dark", [False, True])
def test_interfaces_are_found_half_way_between_their_pads(package: Package, dark: bool) -> None:
    volume = draw_volume(shift_um=(100.0, 60.0))
    levels = find(60_000 - volume if dark else volume, package)
    assert [level.interface for level in levels] == ["lower", "upper"]
    for level in levels:
        assert level.clear
        assert -100 + 10 * level.middle == pytest.approx(np.mean(PADS_UM[level.interface]), abs=5)
        assert level.stack.polarity == ("solder_dark" if dark else "solder_bright")
        # The middle of the package, 100 um to the right and 60 um up of the picture's.
        row, col = level.grid.to_pixel(*level.placement.apply(np.zeros(1), np.zeros(1)))
        assert col[0] + level.crop.cols.start == pytest.approx((SHAPE[1] - 1) / 2 + 100 / PIXEL_UM, abs=0.3)
        assert row[0] + level.crop.rows.start == pytest.approx((SHAPE[0] - 1) / 2 - 60 / PIXEL_UM, abs=0.3)


def test_fewer_pixels_a_ball_find_the_same_place(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = draw_volume(shift_um=(100.0, 60.0))
    monkeypatch.setattr("inspect_pop.convert.levels._MEASURED_BALL_PX", 6.0)
    small = find(volume, package)
    monkeypatch.setattr("inspect_pop.convert.levels._MEASURED_BALL_PX", 1000.0)
    for a, b in zip(small, find(volume, package), strict=True):
        assert a.stack.grid.pixel_um == 2 * b.stack.grid.pixel_um == 2 * PIXEL_UM
        assert a.grid.shape == b.grid.shape and a.crop == b.crop
        assert a.grid.origin_um == pytest.approx(b.grid.origin_um, abs=4)
        assert a.middle == pytest.approx(b.middle, abs=0.5)


def test_an_interface_that_is_not_in_the_volume_is_not_found(package: Package) -> None:
    assert [level.interface for level in find(draw_volume(count=37, interfaces=("lower",)), package)] == ["lower"]


def test_a_volume_without_balls_is_refused(package: Package) -> None:
    with pytest.raises((ImageFault, FrameFault)):
        find(np.full((20, *SHAPE), 8000, np.uint16), package)


def test_pixels_that_are_no_squares_are_cut_as_squares() -> None:
    planes = make_planes(np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30))
    assert cut_plane(planes, 1, Crop(range(5, 15), range(10)), (10.0, 20.0)).shape == (20, 10)
    assert np.array_equal(cut_plane(planes, 1, Crop(range(5, 15), range(3, 10)), (10.0, 10.0)), planes.read_plane(1)[5:15, 3:10])

"""The height map's picture."""

import base64
from dataclasses import replace

import cv2
import numpy as np
import pytest

from inspect_pop.core.geometry import Grid, HeightMap, Placement
from inspect_pop.core.recipe import Package
from inspect_pop.report.maps import HeightPicture, draw_height_picture, round_up_step
from tests.drawn import drawn_interface

PACKAGE = Package("U1", "POP4", "tmv", (4400.0, 4400.0), 1350.0, 80.0, ())


def surface(warpage_um: float, placement: Placement, tilt: float = 0.0, pixel_um: float = 24.0) -> HeightMap:
    """A dome on the package, board at 0 around it, tilted by `tilt` um a mm."""
    n = 241
    half = (n - 1) / 2 * pixel_um
    grid = Grid((n, n), pixel_um, (-half, half))
    row, col = np.mgrid[0:n, 0:n].astype(float)
    x, y = grid.to_um(row, col)
    px, py = placement.undo(x, y)
    r2 = (px**2 + py**2) / (2 * 2200.0**2)
    height = np.where((np.abs(px) < 2200) & (np.abs(py) < 2200), 1350 - warpage_um * r2, 0.0) + tilt * x / 1000
    return HeightMap("U1", "post_reflow", height.astype(np.float32), grid)


def decode(picture: HeightPicture) -> np.ndarray:
    coded = np.frombuffer(base64.b64decode(picture.url.partition(",")[2]), np.uint8)
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1]


def test_a_dome_rises_in_the_middle_whatever_tilt_and_place() -> None:
    placement = Placement(120.0, -80.0, 0.8, 1.0)
    picture = draw_height_picture(surface(60.0, placement, tilt=4.0), PACKAGE, placement)
    assert picture is not None
    assert picture.high_um - picture.low_um == pytest.approx(60 * 0.97**2, abs=6)  # corners are smoothed
    middle, corner = decode(picture)[picture.height // 2, picture.width // 2], decode(picture)[4, 4]
    assert middle[0] > middle[2] + 40  # orange: above the plane
    assert corner[2] > corner[0] + 40  # blue: below it
    assert picture.contour_um == 10
    assert len(picture.contours) >= 4


def test_a_flat_top_looks_flat() -> None:
    picture = draw_height_picture(surface(2.0, Placement(0, 0, 0, 0)), PACKAGE, None)
    assert picture is not None
    assert (picture.contour_um, picture.reach_um) == (5.0, 20.0)
    assert np.ptp(decode(picture).astype(int), axis=(0, 1)).max() < 40


def test_the_openings_before_stacking_are_left_out() -> None:
    upper = drawn_interface(side=4, pitch_um=500.0, name="upper")
    before = replace(surface(40.0, Placement(0, 0, 0, 0)), stage="pre_stack")
    picture = draw_height_picture(before, replace(PACKAGE, interfaces=(upper,)), None)
    assert picture is not None
    grey = (decode(picture) == 215).all(axis=2)
    assert grey.mean() == pytest.approx((4 * 500 / (4400 * 0.97)) ** 2, abs=0.03)
    assert grey[picture.height // 2, picture.width // 2] and not grey[3, 3]


def test_dropouts_are_bridged_and_large_gaps_left_open() -> None:
    height = surface(60.0, Placement(0, 0, 0, 0))
    values = height.height_um.copy()
    values[::7, ::5] = np.nan
    values[60:100, 60:100] = np.nan
    picture = draw_height_picture(HeightMap("U1", "post_reflow", values, height.grid), PACKAGE, None)
    assert picture is not None
    grey = (decode(picture) == 215).all(axis=2).mean()
    assert 0.02 < grey < 0.08  # 40 x 40 of 183 x 183 samples are 4.8 %


def test_a_map_without_the_package_gives_no_picture() -> None:
    empty = HeightMap("U1", "post_reflow", np.full((50, 50), np.nan, np.float32), Grid((50, 50), 24.0, (-600.0, 600.0)))
    assert draw_height_picture(empty, PACKAGE, None) is None
    away = surface(60.0, Placement(0, 0, 0, 0))
    assert draw_height_picture(away, PACKAGE, Placement(90_000.0, 0.0, 0.0, 0.0)) is None


@pytest.mark.parametrize(("raw", "step"), [(0.3, 1.0), (1.0, 1.0), (1.1, 2.0), (7.0, 10.0), (21.0, 50.0), (900_000.0, 900_000.0)])
def test_steps_are_round(raw: float, step: float) -> None:
    assert round_up_step(raw) == step

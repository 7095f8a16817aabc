"""A local rise of the mold, and surfaces that have none."""

import numpy as np
import pytest

from inspect_pop.core.geometry import Grid, HeightMap, Placement
from inspect_pop.diagnose import find_bulge
from tests.diagnose.patterns import package

PACKAGE = package()
PLACEMENT = Placement(80.0, -60.0, 0.5, 1.0)


def top(
    warpage_um: float = 0.0, rise_um: float = 0.0, at_um: tuple[float, float] = (0.0, 0.0), noise_um: float = 3.0
) -> HeightMap:
    n, pixel = 281, 48.0
    half = (n - 1) / 2 * pixel
    grid = Grid((n, n), pixel, (-half, half))
    row, col = np.mgrid[0:n, 0:n].astype(float)
    x, y = PLACEMENT.undo(*grid.to_um(row, col))
    shape = -warpage_um * (x**2 + y**2 + 0.3 * (x**4 + y**4) / 6000**2) / (2 * 6000**2)
    blister = rise_um * np.exp(-((x - at_um[0]) ** 2 + (y - at_um[1]) ** 2) / (2 * 1400.0**2))
    body = (np.abs(x) < 6000) & (np.abs(y) < 6000)
    height = np.where(body, 1350 + shape + blister, 0.0) + np.random.default_rng(0).normal(0, noise_um, x.shape)
    return HeightMap("U1", "post_reflow", height.astype(np.float32), grid)


@pytest.mark.parametrize("at", [(0.0, 0.0), (1800.0, -1200.0), (-2500.0, 2500.0)])
def test_a_blister_is_found_at_its_place(at: tuple[float, float]) -> None:
    bulge = find_bulge(top(warpage_um=-60.0, rise_um=40.0, at_um=at), PLACEMENT, PACKAGE)
    assert bulge is not None
    assert 18 < bulge.height_um < 40  # the mean over its disc
    assert np.hypot(bulge.x_um - at[0], bulge.y_um - at[1]) < 900


@pytest.mark.parametrize("warpage_um", [-150.0, -40.0, 0.0, 90.0, 170.0])
def test_a_warped_top_is_no_blister(warpage_um: float) -> None:
    bulge = find_bulge(top(warpage_um), PLACEMENT, PACKAGE)
    assert bulge is None or bulge.height_um < 5


def test_without_data_there_is_none() -> None:
    seen = top()
    empty = HeightMap("U1", "post_reflow", np.full_like(seen.height_um, np.nan), seen.grid)
    assert find_bulge(empty, PLACEMENT, PACKAGE) is None

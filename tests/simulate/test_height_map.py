from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.geometry import Grid, Placement
from inspect_pop.simulate.catalog import MACHINES, PRODUCTS
from inspect_pop.simulate.causes import make_stack
from inspect_pop.simulate.pictures import Domes, HeightScene, render_height_map
from inspect_pop.simulate.scene import Passive

PACKAGE = PRODUCTS["tst4"].packages[0]
CLEAN = replace(MACHINES["line_a"], height_noise_um=0.0, dropouts=0.0, outliers=0.0)
GRID = Grid((241, 241), 24.0, (-2880.0, 2880.0))
CENTRED = Placement(0.0, 0.0, 0.0, 0.0)
UPPER = PACKAGE.interface("upper")


def seen(stage: str, bow: float = 0.0, placement: Placement = CENTRED, machine=CLEAN, passives: tuple[Passive, ...] = ()):
    stack = make_stack(np.random.default_rng(2), PACKAGE, bow, (0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
    high = np.full(len(UPPER.ball), 100.0)
    high[UPPER.ball.index("A4")] = 0.0
    view = HeightScene(stage, stack, Domes(UPPER.x_um, UPPER.y_um, high, 140.0), passives, ("PART", "0001"))
    return render_height_map(np.random.default_rng(3), PACKAGE, view, GRID, placement, machine), stack


def near(height, x_um: float, y_um: float, reach_um: float = 60.0) -> float:
    rows, cols = np.indices(height.height_um.shape)
    x, y = height.grid.to_um(rows, cols)
    return float(np.nanmedian(height.height_um[np.hypot(x - x_um, y - y_um) < reach_um]))


def test_the_finished_stack_stands_at_its_height_and_bows():
    height, _ = seen("post_reflow", bow=80.0)
    assert near(height, 0, 0) - near(height, 2000, 2000) > 40
    assert near(height, 0, 1900) == pytest.approx(PACKAGE.stack_height_um, abs=60)


def test_domes_show_before_stacking_and_a_missing_one_is_a_hole():
    height, stack = seen("pre_stack")
    mold = near(height, 0, 0)
    assert mold == pytest.approx(692 + stack.lift_um, abs=12)
    ball = dict(zip(UPPER.ball, zip(UPPER.x_um, UPPER.y_um, strict=True), strict=True))
    assert near(height, *ball["C1"], 30.0) == pytest.approx(mold - 172 + 100, abs=15)
    assert near(height, *ball["A4"], 30.0) == pytest.approx(mold - 172, abs=15)


def test_the_package_is_where_the_placement_puts_it():
    height, _ = seen("post_reflow", placement=Placement(120.0, -72.0, 0.0, 0.0))
    rows, cols = np.nonzero(np.nan_to_num(height.height_um) > 1200)
    x, y = height.grid.to_um(np.median(rows), np.median(cols))
    assert (x, y) == pytest.approx((120.0, -72.0), abs=40)


def test_steep_walls_and_shadows_lose_points_the_flat_top_few():
    height, _ = seen("post_reflow", machine=MACHINES["line_a"])
    lost = np.isnan(height.height_um)
    assert lost[90:150, 90:150].mean() < 0.02
    assert 0.02 < lost.mean() < 0.35


def test_the_pin_one_dimple_marks_its_corner_alone():
    height, _ = seen("post_reflow")
    at = (0.5 - 0.08) * 4400
    assert near(height, at, at) - near(height, -at, at) == pytest.approx(35, abs=8)
    assert near(height, at, at) - near(height, at, -at) == pytest.approx(0, abs=8)


def test_parts_beside_the_package_stand_on_the_board():
    height, _ = seen("post_reflow", passives=(Passive(2600.0, 0.0, 500.0, 400.0, 300.0, True),))
    assert near(height, 2600, 0, 80.0) == pytest.approx(300, abs=30)

import numpy as np
import pytest

from inspect_pop.simulate.catalog import PRODUCTS
from inspect_pop.simulate.causes import WarpedSurface, compute_warpage, make_stack

PACKAGE = PRODUCTS["tst4"].packages[0]
FLAT = (0.0, 0.0, 1.0, 0.0)


def surface(bow: float, saddle: float = 0.0, tilt: float = 0.0) -> WarpedSurface:
    return WarpedSurface(2200.0, 10.0, tilt, -tilt, bow, saddle, 0.0)


def test_warpage_is_positive_where_the_edges_are_down():
    assert surface(60).height_at(np.array(2200.0), np.array(0.0)) < surface(60).height_at(np.array(0.0), np.array(0.0))
    assert compute_warpage(surface(60)) == pytest.approx(60.0, rel=0.01)
    assert compute_warpage(surface(-60)) == pytest.approx(-60.0, rel=0.01)


def test_a_tilt_is_no_warpage():
    assert compute_warpage(surface(40, tilt=90.0)) == pytest.approx(compute_warpage(surface(40)), rel=1e-6)


def test_the_joints_carry_the_package():
    for bow in (-120.0, 0.0, 120.0):
        stack = make_stack(np.random.default_rng(1), PACKAGE, bow, (4.0, 6.0), FLAT)
        lower, upper = PACKAGE.interfaces
        assert stack.bottom.height_at(lower.x_um, lower.y_um).mean() == pytest.approx(-4.0, abs=0.01)
        assert stack.memory.height_at(upper.x_um, upper.y_um).mean() == pytest.approx(-10.0, abs=0.01)


def test_unmelted_balls_lift_the_package_by_a_quarter_to_a_third():
    lifts = [make_stack(np.random.default_rng(k), PACKAGE, 0.0, (0.0, 0.0), FLAT).lift_um for k in range(20)]
    assert 170 / 4 <= min(lifts) <= max(lifts) <= 170 / 3


def test_a_bulge_is_local():
    stack = make_stack(np.random.default_rng(1), PACKAGE, 0.0, (0.0, 0.0), (500.0, 500.0, 300.0, 50.0))
    plain = make_stack(np.random.default_rng(1), PACKAGE, 0.0, (0.0, 0.0), FLAT)
    x = np.array([500.0, -1500.0])
    assert stack.memory.height_at(x, x) - plain.memory.height_at(x, x) == pytest.approx([50.0, 0.0], abs=0.1)

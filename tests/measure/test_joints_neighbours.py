"""Outliers stand out; what varies smoothly over the package does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_pop.measure.joints import NEIGHBOURS, compare_with_neighbours, find_neighbours, remove_trend, robust_z
from tests.drawn import drawn_interface

INTERFACE = drawn_interface(10)


def values(seed: int = 0, spread: float = 3.0) -> np.ndarray:
    return (280 + np.random.default_rng(seed).normal(0, spread, 100)).astype(np.float32)


def test_z_of_plain_joints_is_standard() -> None:
    z = np.concatenate([robust_z(values(seed), INTERFACE, 0.1) for seed in range(20)])
    assert np.median(z) == pytest.approx(0, abs=0.1)
    assert 0.9 < np.std(z) < 1.5  # each against twelve of its like


@settings(max_examples=25, deadline=None)
@given(tilt=st.floats(-0.02, 0.02), bend=st.floats(-1e-5, 1e-5), offset=st.floats(-100, 100), seed=st.integers(0, 20))
def test_warpage_and_tilt_drop_out(tilt: float, bend: float, offset: float, seed: int) -> None:
    plain = values(seed)
    x, y = INTERFACE.x_um, INTERFACE.y_um
    warped = plain + tilt * x - tilt / 2 * y + bend * (x * x + y * y) + offset
    deviation, _ = compare_with_neighbours(warped.astype(np.float32), INTERFACE)
    assert deviation == pytest.approx(compare_with_neighbours(plain, INTERFACE)[0], abs=1.0)


def test_an_outlier_has_its_own_size_and_leaves_its_neighbours_alone() -> None:
    odd = values()
    odd[44] -= 40
    before, after = compare_with_neighbours(values(), INTERFACE)[0], compare_with_neighbours(odd, INTERFACE)[0]
    assert after[44] - before[44] == pytest.approx(-40, abs=3)
    assert np.abs(np.delete(after - before, 44)).max() < 3


def test_small_spreads_are_not_blown_up() -> None:
    flat = np.full(100, 280.0, dtype=np.float32)
    flat[7] += 1
    assert robust_z(flat, INTERFACE, 2.0)[7] == pytest.approx(0.5, abs=0.01)


def test_unknown_stays_unknown_and_is_no_neighbour() -> None:
    holed = values()
    holed[::7] = np.nan
    z = robust_z(holed, INTERFACE, 2.0)
    assert np.isnan(z[::7]).all()
    assert np.isfinite(np.delete(z, np.arange(0, 100, 7))).all()


def test_pads_of_two_sizes_are_compared_with_their_own() -> None:
    large = np.arange(100) % 2
    mixed = (values() + 60 * large).astype(np.float32)
    z = robust_z(mixed, INTERFACE, 2.0, large.astype(np.intp))
    assert np.abs(z).max() < 5


def test_too_few_to_compare_is_unknown() -> None:
    few = drawn_interface(2)
    assert np.isnan(robust_z(np.array([1, 2, 3, 4], dtype=np.float32), few, 1.0)).all()


def test_neighbours_are_the_nearest_joints() -> None:
    near = find_neighbours(INTERFACE)
    assert near.shape == (100, NEIGHBOURS)
    away = np.hypot(INTERFACE.x_um[:, None] - INTERFACE.x_um, INTERFACE.y_um[:, None] - INTERFACE.y_um)
    np.fill_diagonal(away, np.inf)
    assert np.take_along_axis(away, near, axis=1).max(axis=1) == pytest.approx(np.sort(away, axis=1)[:, NEIGHBOURS - 1])
    rows = np.arange(0, 100, 7)
    assert find_neighbours(INTERFACE, rows.tobytes()).max() < len(rows)


def test_a_trend_is_removed_and_an_outlier_is_left() -> None:
    x, y = INTERFACE.x_um, INTERFACE.y_um
    smooth = 40 + 0.01 * x - 2e-6 * y * y
    smooth[33] += 50
    rest = remove_trend(smooth, x, y)
    assert rest[33] == pytest.approx(50, abs=1)
    assert np.abs(np.delete(rest, 33)).max() < 1

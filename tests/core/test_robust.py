"""Robust statistics against numpy's, and the rigid fit with a quarter of the points wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_pop.core.geometry import Placement
from inspect_pop.core.robust import biweight, fit_rigid, group_median, mad_sigma, nan_median, root_biweight, row_median
from tests.drawn import drawn_interface

DESIGN = np.column_stack([drawn_interface(8).x_um, drawn_interface(8).y_um])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 2, 7, 12])
def test_row_medians_are_numpys(dtype: type, length: int) -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, length)).astype(dtype)
    median = row_median(values)
    assert median.dtype == dtype
    assert (median == np.median(values, axis=-1)).all()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_nan_medians_are_numpys_and_nan_where_nothing_is_known(axis: int) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 8)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    np.testing.assert_array_equal(nan_median(values, axis=axis), np.nanmedian(values, axis=axis))
    empty = nan_median(np.full((3, 4), np.nan, np.float32), axis=axis)
    assert np.isnan(empty).all()


def test_the_median_of_a_few_patches_passes_over_what_is_not_known() -> None:
    patches = np.array([[[1, 5, np.nan, np.nan]], [[2, 6, np.nan, 4]], [[9, np.nan, np.nan, np.nan]], [[3, 8, np.nan, np.nan]]])
    median = nan_median(patches.astype(np.float32), axis=0)
    np.testing.assert_array_equal(median, np.array([[2.5, 6.0, np.nan, 4.0]], np.float32))


def test_medians_of_groups() -> None:
    rng = np.random.default_rng(2)
    group, values = rng.integers(0, 9, 200) * 7, rng.normal(size=200)
    found, median = group_median(group, values)
    assert found.tolist() == np.unique(group).tolist()
    assert median.tolist() == [np.median(values[group == g]) for g in found]


def test_scatter_of_normal_values_is_their_standard_deviation_whatever_a_tenth_of_them_is() -> None:
    values = np.random.default_rng(3).normal(0, 2.5, 20_000)
    assert mad_sigma(values) == pytest.approx(2.5, rel=0.03)
    values[:2000] = 1e6
    assert mad_sigma(values) == pytest.approx(2.5, rel=0.2)
    assert np.isnan(mad_sigma(np.zeros(0)))


def test_the_biweight_ends_at_the_cut_off() -> None:
    scaled = np.array([0.0, 0.5, -0.5, 1.0, 3.0])
    assert biweight(scaled).tolist() == [1.0, 0.5625, 0.5625, 0.0, 0.0]
    assert (root_biweight(scaled) ** 2 == biweight(scaled)).all()


@settings(max_examples=50, deadline=None)
@given(x=st.floats(-500, 500), y=st.floats(-500, 500), turn=st.floats(-5, 5), seed=st.integers(0, 1000))
def test_a_quarter_of_wrong_joints_does_not_matter(x: float, y: float, turn: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = np.column_stack(Placement(x, y, turn, 0.0).apply(DESIGN[:, 0], DESIGN[:, 1])) + rng.normal(0, 1, DESIGN.shape)
    wrong = rng.choice(64, 16, replace=False)
    found[wrong] += rng.choice([-1, 1], (16, 2)) * rng.uniform(60, 150, (16, 2))
    placement, agree = fit_rigid(DESIGN, found)
    assert np.hypot(placement.offset_x_um - x, placement.offset_y_um - y) < 1.0
    assert placement.rotation_deg == pytest.approx(turn, abs=0.05)
    assert not agree[wrong].any()
    assert placement.residual_um < 3

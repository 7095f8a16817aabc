"""The measured columns: complete, declared, flagged, and the same whatever the machine's scale."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.flags import bit
from inspect_pop.core.geometry import SliceStack
from inspect_pop.core.joint_table import JointTable
from inspect_pop.measure import MEASURED, measure_joints
from inspect_pop.segment.windows import cut_slices
from tests.drawn import drawn_interface
from tests.measure.test_xray import INTERFACE, barrel, shaped
from tests.scenes import HOME, stack_of


def columns_of(stack: SliceStack) -> dict[str, np.ndarray]:
    return measure_joints(cut_slices(stack, INTERFACE, HOME), INTERFACE, method=stack.method)


def test_columns_are_declared_and_one_a_joint() -> None:
    columns = columns_of(shaped(barrel(INTERFACE)))
    assert set(columns) == {*MEASURED, "flags"}
    table = JointTable(columns)  # raises for an undeclared or uneven column
    assert len(table) == 36
    assert (columns["flags"] == 0).all()
    assert columns["x_um"] - columns["dx_um"] == pytest.approx(INTERFACE.x_um, abs=0.01)


def test_missing_and_far_off_joints_keep_their_rows() -> None:
    moved = np.zeros((36, 2))
    moved[20] = [0, 110]
    radii = np.broadcast_to(barrel(INTERFACE), (36, 5)).copy()
    radii[8] = 0
    columns = columns_of(shaped(radii, moved))
    assert columns["flags"][8] == bit("no_ball")
    assert columns["flags"][20] == bit("far_off")
    assert np.isnan(columns["diameter_um"][8])
    assert columns["volume_ratio"][8] == 0
    assert columns["dy_um"][20] == pytest.approx(110, abs=6)


def test_joints_out_of_view_are_not_measured() -> None:
    stack = shaped(barrel(INTERFACE))
    cut = stack.grid.shape[1] // 2
    half = replace(stack, values=stack.values[:, :, :cut], grid=replace(stack.grid, shape=(stack.grid.shape[0], cut)))
    columns = columns_of(half)
    outside = INTERFACE.x_um > 0
    assert all(np.isnan(columns[name][outside]).all() for name in MEASURED)
    assert all(np.isfinite(columns[name][~outside]).all() for name in MEASURED)
    assert (columns["flags"][outside] == 0).all()


def test_an_outlier_stands_out_against_its_neighbours() -> None:
    """Head-in-pillow: pad slice smaller, other slices larger than the neighbours'."""
    rng = np.random.default_rng(5)
    radii = np.repeat(np.round(barrel(INTERFACE) + rng.normal(0, 2, (36, 1))), 1, axis=1)
    radii[14] = [100, 105, 130, 150, 145]
    columns = columns_of(shaped(radii))
    assert columns["z_low"][14] < -4
    assert columns["z_high"][14] > 4
    assert np.abs(np.delete(columns["z_low"], 14)).max() < 4


@pytest.mark.parametrize("change", ["dark", "scaled", "float32"])
def test_the_scale_of_grey_changes_nothing_material(change: str) -> None:
    stack = shaped(np.broadcast_to(barrel(INTERFACE), (36, 5)))
    values = stack.values.astype(np.float64)
    other = {
        "dark": replace(stack, values=(60000 - 7 * values).astype(np.uint16), polarity="solder_dark"),
        "scaled": replace(stack, values=(values * 30 + 3000).astype(np.uint16)),
        "float32": replace(stack, values=(values / 7e3 - 0.5).astype(np.float32)),
    }[change]
    one, two = columns_of(stack), columns_of(other)
    for name, within in {
        "diameter_um": 0.3,
        "dx_um": 0.1,
        "clearance_um": 1.0,
        "volume_ratio": 0.003,
        "void_fraction": 0.005,
    }.items():
        assert two[name] == pytest.approx(one[name], abs=within)


def test_half_a_pixel_of_shift_changes_nothing_material() -> None:
    interface = drawn_interface(6)
    stack = stack_of(interface, slices=5)
    shifted = stack_of(interface, replace(HOME, offset_x_um=6.0, offset_y_um=-6.0), slices=5)
    one = columns_of(stack)
    placed = replace(HOME, offset_x_um=6.0, offset_y_um=-6.0)
    two = measure_joints(cut_slices(shifted, interface, placed), interface, method="laminography")
    assert two["diameter_um"] == pytest.approx(one["diameter_um"], abs=2.0)
    assert two["dx_um"] == pytest.approx(one["dx_um"], abs=1.5)

"""Measurements of drawn joints: sizes, places, volumes."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.geometry import Placement, SliceStack
from inspect_pop.core.recipe import Interface
from inspect_pop.measure.xray import AXIAL_VARIANCE_UM2, SCALE, XrayMeasures, measure_slices, volume_ratio
from inspect_pop.segment.windows import cut_slices
from tests.drawn import drawn_interface
from tests.scenes import HOME, discs, stack_of

INTERFACE = drawn_interface(6)
Z_UM = (5.0, 45.0, 85.0, 125.0, 165.0)


def barrel(interface: Interface, volume: float = 1.0) -> np.ndarray:
    """Radii at Z_UM of a parabolic barrel through both pads that holds this share of the nominal volume."""
    a, h = interface.pad_diameter_um / 2, interface.gap_um
    sagitta = np.linspace(-60, 80, 1401)
    held = np.pi * h * (a * a + 4 / 3 * a * sagitta + 8 / 15 * sagitta**2) / interface.nominal_volume_um3
    s = sagitta[np.argmin(np.abs(held - volume))]
    share = np.array(Z_UM) / h
    return a + 4 * s * share * (1 - share)


def shaped(radii: np.ndarray, moved_um: np.ndarray | None = None, pixel_um: float = 10.0) -> SliceStack:
    """A stack whose joints have radii (n, slices) or the same (slices,)."""
    radii = np.broadcast_to(radii, (36, len(Z_UM)))
    moved = np.zeros((36, 2)) if moved_um is None else moved_um
    stack = stack_of(INTERFACE, slices=len(Z_UM), pixel_um=pixel_um)
    x, y = INTERFACE.x_um + moved[:, 0], INTERFACE.y_um + moved[:, 1]
    pages = np.zeros((len(Z_UM), *stack.grid.shape))
    for k in range(len(Z_UM)):
        for radius in np.unique(radii[:, k]):
            same = radii[:, k] == radius
            if radius > 0:
                pages[k] = np.maximum(pages[k], discs(stack.grid, x[same], y[same], float(radius)))
    noise = np.random.default_rng(0).normal(0, 0.02, pages.shape)
    return replace(stack, values=(400 + 1000 * (pages + noise)).astype(np.uint16), z_um=Z_UM)


def measured(stack: SliceStack, method: str = "ct") -> XrayMeasures:
    return measure_slices(cut_slices(stack, INTERFACE, HOME), INTERFACE, method)


def test_diameters_slice_by_slice() -> None:
    radii = barrel(INTERFACE)
    found = measured(shaped(radii))
    assert found.diameter_um == pytest.approx(np.broadcast_to(2 * radii, (36, 5)), abs=5)
    assert (found.low, found.mid, found.high) == (0, 2, 4)


@pytest.mark.parametrize("pixel", [6.0, 10.0, 14.0])
def test_displacement_to_a_seventh_of_a_pixel(pixel: float) -> None:
    """The issue's target, rms over joints, the array's own offset and rotation taken out."""
    moved = np.random.default_rng(2).normal(0, 8, (36, 2))
    found = measured(shaped(barrel(INTERFACE), moved, pixel))
    design = np.column_stack([INTERFACE.x_um, INTERFACE.y_um, np.ones(36)])
    error = np.column_stack([found.dx_um, found.dy_um]) - moved
    error -= design @ np.linalg.lstsq(design, error, rcond=None)[0]
    assert np.sqrt(np.mean(np.sum(error**2, axis=1))) < 0.15 * pixel


def test_offset_and_rotation_of_the_whole_are_taken_out() -> None:
    turn = Placement(6.0, -4.0, 0.15, 0.0)
    x, y = turn.apply(INTERFACE.x_um, INTERFACE.y_um)
    found = measured(shaped(barrel(INTERFACE), np.column_stack([x - INTERFACE.x_um, y - INTERFACE.y_um])))
    assert np.hypot(found.dx_um, found.dy_um).max() < 2
    assert (found.fit.offset_x_um, found.fit.offset_y_um) == pytest.approx((6.0, -4.0), abs=0.5)
    assert found.fit.rotation_deg == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("volume", [0.6, 0.8, 1.0, 1.3])
def test_volume_from_slices(volume: float) -> None:
    found = measured(shaped(barrel(INTERFACE, volume)))
    assert volume_ratio(found.diameter_um, np.array(Z_UM), INTERFACE) == pytest.approx(volume, abs=0.04)


def test_volume_follows_the_local_standoff() -> None:
    found = measured(shaped(barrel(INTERFACE)))
    standoff = np.full(36, 1.1 * INTERFACE.gap_um, dtype=np.float32)
    standoff[3] = np.nan
    ratio = volume_ratio(found.diameter_um, np.array(Z_UM), INTERFACE, standoff)
    assert ratio[4] / ratio[3] == pytest.approx(1.1, abs=0.01)


def test_volume_of_a_single_picture_is_a_barrels() -> None:
    widest = 2 * barrel(INTERFACE)[2]
    ratio = volume_ratio(np.array([[widest], [0.0]], dtype=np.float32), np.array([85.0]), INTERFACE)
    assert ratio == pytest.approx([1.0, 0.0], abs=0.01)


def test_axial_blur_is_taken_off_bellies_and_necks() -> None:
    """A belly looks slimmer and a neck wider by half of the variance times the curvature of the diameter."""
    belly, neck = barrel(INTERFACE, 1.0), barrel(INTERFACE, 0.6)
    for radii, sign in ((belly, 1), (neck, -1)):
        plain = measured(shaped(radii), "ct").diameter_um[:, 2]
        cleared = measured(shaped(radii), "laminography").diameter_um[:, 2]
        curvature = 2 * 2 * (radii[0] - radii[2]) / 80.0**2
        expected = -AXIAL_VARIANCE_UM2["laminography"] / 2 * curvature
        assert np.median(cleared / SCALE["laminography"] - plain) == pytest.approx(expected, abs=1.0)
        assert sign * expected > 0


def test_shape_of_a_dome_on_a_dome_shows_as_a_waist() -> None:
    radii = np.broadcast_to(barrel(INTERFACE), (36, 5)).copy()
    radii[14] = [110, 100, 75, 110, 125]
    found = measured(shaped(radii))
    assert found.waist[14] == pytest.approx(75 / 125, abs=0.05)
    assert np.delete(found.waist, 14).min() > 0.9
    assert found.roundness == pytest.approx(1.0, abs=0.02)


def test_a_slice_without_solder_is_zero_a_joint_without_is_nan() -> None:
    radii = np.broadcast_to(barrel(INTERFACE), (36, 5)).copy()
    radii[7, 1] = 0
    radii[8] = 0
    found = measured(shaped(radii))
    assert found.diameter_um[7, 1] == 0
    assert found.waist[7] == 0
    assert not found.present[8].any()
    for values in (found.dx_um, found.waist, found.grey, found.void_fraction):
        assert np.isnan(values[8])
        assert np.isfinite(np.delete(values, 8)).all()


def test_clearance_is_the_narrowest_in_any_slice() -> None:
    radii = np.broadcast_to(barrel(INTERFACE), (36, 5)).copy()
    radii[14, 3] = 175
    found = measured(shaped(radii))
    assert found.clearance_um[14] == pytest.approx(400 - 175 - radii[0, 3], abs=12)
    assert found.clearance_um[15] == pytest.approx(found.clearance_um[14], abs=3)
    assert found.clearance_um[28] == pytest.approx(400 - 2 * radii[0, 2], abs=12)


def test_one_picture_gives_no_slices_to_compare() -> None:
    stack = shaped(barrel(INTERFACE))
    found = measured(replace(stack, values=stack.values[2:3], z_um=(85.0,)), "transmission")
    assert (found.low, found.mid, found.high) == (-1, 0, -1)
    assert np.isnan(found.waist).all()
    assert np.isfinite(found.diameter_um).all()

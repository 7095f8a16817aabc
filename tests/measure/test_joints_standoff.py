"""Stand-off from slices: truncated spheres of known height, and maps that are right or wrong about it."""

import numpy as np
import pytest

from inspect_pop.core.recipe import Interface
from inspect_pop.measure.joints import estimate_gap_um, estimate_volume_ratio, reconcile_standoff
from tests.drawn import drawn_interface

UPPER = drawn_interface(6, 500.0, "upper")
Z_UM = np.linspace(525, 735, 5)


def spheres(interface: Interface, gap_um: float, z_um: np.ndarray, seed: int = 0) -> np.ndarray:
    """Diameters (n, s) of truncated spheres of a given height through both pads, with 4 um of noise."""
    middle, radius = np.mean(interface.pads_z_um), np.hypot(interface.pad_diameter_um / 2, gap_um / 2)
    diameter = 2 * np.sqrt(np.maximum(radius**2 - (z_um - middle) ** 2, 0))
    noise = np.random.default_rng(seed).normal(0, 4, (len(interface.ball), len(z_um)))
    return (diameter + noise).astype(np.float32)


def reconcile(gap_um: float, true_um: float) -> tuple[float, bool]:
    diameter = spheres(UPPER, true_um, Z_UM)
    gap = np.full(len(UPPER.ball), gap_um, np.float32)
    volume = estimate_volume_ratio(diameter, Z_UM, UPPER, gap)
    found, doubtful = reconcile_standoff(gap, diameter, Z_UM, UPPER, volume)
    return float(np.median(found)), doubtful


@pytest.mark.parametrize("gap", [180.0, 220.0, 280.0])
def test_the_gap_of_truncated_spheres(gap: float) -> None:
    assert estimate_gap_um(spheres(UPPER, gap, Z_UM), Z_UM, UPPER) == pytest.approx(gap, rel=0.05)


def test_too_few_slices_joints_or_no_belly_say_nothing() -> None:
    assert np.isnan(estimate_gap_um(spheres(UPPER, 220, Z_UM[::2]), Z_UM[::2], UPPER))
    assert np.isnan(estimate_gap_um(spheres(UPPER, 220, Z_UM)[:5], Z_UM, UPPER))
    assert np.isnan(estimate_gap_um(np.full((36, 5), 300, np.float32), Z_UM + 0.0, UPPER))
    waisted = (300 + 0.005 * (Z_UM - 630) ** 2).astype(np.float32)
    assert np.isnan(estimate_gap_um(np.tile(waisted, (36, 1)), Z_UM, UPPER))


def test_a_map_that_agrees_stays_as_it_is() -> None:
    assert reconcile(228, 220) == (228, False)


def test_a_map_that_took_a_cap_for_a_bend_is_doubtful_and_the_slices_are_used() -> None:
    found, doubtful = reconcile(310, 220)
    assert doubtful
    assert found == pytest.approx(220, abs=12)


def test_a_doubtful_map_with_sound_volumes_stays() -> None:
    """The slices are the ones that are off where the map's volumes are those of sound joints."""
    diameter, gap = spheres(UPPER, 150, Z_UM), np.full(len(UPPER.ball), 220, np.float32)
    found, doubtful = reconcile_standoff(gap, diameter, Z_UM, UPPER, np.full(len(gap), 1.0, np.float32))
    assert doubtful
    np.testing.assert_array_equal(found, gap)


def test_an_unknown_standoff_stays_unknown() -> None:
    nothing = np.full(len(UPPER.ball), np.nan, np.float32)
    found, doubtful = reconcile_standoff(nothing, spheres(UPPER, 220, Z_UM), Z_UM, UPPER, np.ones(len(nothing), np.float32))
    assert np.isnan(found).all()
    assert not doubtful

import numpy as np
import pytest

from inspect_pop.simulate.bodies import Bodies, arc_sagitta, arc_volume, cap, cap_volume, empty_bodies
from inspect_pop.simulate.products import PRODUCTS

LOWER = PRODUCTS["tst4"].packages[0].interface("lower")


def arc(volume_ratio: float, standoff_um: float = 170.0, pad_um: float = 115.0) -> Bodies:
    one = np.ones(1)
    volume = one * volume_ratio * LOWER.nominal_volume_um3
    sagitta = arc_sagitta(volume, standoff_um * one, pad_um * one, pad_um * one)
    empty = empty_bodies(standoff_um * one)
    return Bodies(empty.standoff, pad_um * one, pad_um * one, sagitta, empty.parts, empty.crease)


def test_nominal_volume_is_the_truncated_sphere():
    body = arc(1.0)
    radius = body.radius(np.array([[0.0, 85.0, 170.0]]))[0]
    assert radius == pytest.approx([115.0, LOWER.nominal_mid_diameter_um / 2, 115.0], abs=0.2)


@pytest.mark.parametrize("ratio", [0.4, 0.66, 0.8, 1.0, 1.3, 1.6])
def test_arc_holds_the_volume_that_was_asked_for(ratio):
    assert arc(ratio).volume()[0] / LOWER.nominal_volume_um3 == pytest.approx(ratio, rel=2e-3)


def test_starved_bodies_have_a_neck_and_excess_a_belly():
    u = np.array([[85.0]])
    assert arc(0.5).radius(u)[0, 0] < 115.0 < arc(1.0).radius(u)[0, 0] < arc(1.4).radius(u)[0, 0]


def test_more_standoff_makes_the_same_solder_thinner():
    assert arc(1.0, 190.0).radius(np.array([[95.0]]))[0, 0] < arc(1.0, 160.0).radius(np.array([[80.0]]))[0, 0]


def test_nothing_outside_the_pads():
    assert (arc(1.0).radius(np.array([[-1.0, 171.0]])) == 0).all()


def test_cylinder_volume():
    one = np.ones(1)
    assert arc_volume(170 * one, 115 * one, 115 * one, 0 * one)[0] == pytest.approx(np.pi * 115**2 * 170, rel=1e-4)


def test_cap_is_a_piece_of_its_sphere():
    radius, centre = cap(100.0, 40.0)
    assert radius + centre == pytest.approx(40.0)  # its top
    assert radius**2 - centre**2 == pytest.approx(100.0**2)  # its rim at the base
    assert cap_volume(100.0, 100.0) == pytest.approx(2 / 3 * np.pi * 100.0**3)  # half a ball

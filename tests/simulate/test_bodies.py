import numpy as np
import pytest

from inspect_pop.core.classes import CLASSES
from inspect_pop.simulate.bodies import (
    VARIETIES,
    Bodies,
    arc_sagitta,
    arc_volume,
    build_bodies,
    cap_sphere,
    cap_volume,
    empty_bodies,
)
from inspect_pop.simulate.catalog import PRODUCTS

LOWER = PRODUCTS["tst4"].packages[0].interface("lower")
N = 60


def arc(volume_ratio: float, standoff_um: float = 170.0, pad_um: float = 115.0) -> Bodies:
    one = np.ones(1)
    volume = one * volume_ratio * LOWER.nominal_volume_um3
    sagitta = arc_sagitta(volume, standoff_um * one, pad_um * one, pad_um * one)
    empty = empty_bodies(standoff_um * one)
    return Bodies(empty.standoff, pad_um * one, pad_um * one, sagitta, empty.parts, empty.crease)


def test_nominal_volume_is_the_truncated_sphere():
    body = arc(1.0)
    radius = body.radius_at(np.array([[0.0, 85.0, 170.0]]))[0]
    assert radius == pytest.approx([115.0, LOWER.nominal_mid_diameter_um / 2, 115.0], abs=0.2)


@pytest.mark.parametrize("ratio", [0.4, 0.66, 0.8, 1.0, 1.3, 1.6])
def test_arc_holds_the_volume_that_was_asked_for(ratio):
    assert arc(ratio).volume()[0] / LOWER.nominal_volume_um3 == pytest.approx(ratio, rel=2e-3)


def test_starved_bodies_have_a_neck_and_excess_a_belly():
    u = np.array([[85.0]])
    assert arc(0.5).radius_at(u)[0, 0] < 115.0 < arc(1.0).radius_at(u)[0, 0] < arc(1.4).radius_at(u)[0, 0]


def test_more_standoff_makes_the_same_solder_thinner():
    assert arc(1.0, 190.0).radius_at(np.array([[95.0]]))[0, 0] < arc(1.0, 160.0).radius_at(np.array([[80.0]]))[0, 0]


def test_nothing_outside_the_pads():
    assert (arc(1.0).radius_at(np.array([[-1.0, 171.0]])) == 0).all()


def test_cylinder_volume():
    one = np.ones(1)
    assert arc_volume(170 * one, 115 * one, 115 * one, 0 * one)[0] == pytest.approx(np.pi * 115**2 * 170, rel=1e-4)


def test_cap_is_a_piece_of_its_sphere():
    radius, centre = cap_sphere(100.0, 40.0)
    assert radius + centre == pytest.approx(40.0)  # its top
    assert radius**2 - centre**2 == pytest.approx(100.0**2)  # its rim at the base
    assert cap_volume(100.0, 100.0) == pytest.approx(2 / 3 * np.pi * 100.0**3)  # half a ball


def build(variety: str, volume_ratio: float = 1.0):
    rng = np.random.default_rng(3)
    standoff = np.full(N, 170.0)
    volume = np.full(N, volume_ratio * LOWER.nominal_volume_um3)
    return build_bodies(rng, np.full(N, variety, object), standoff, LOWER.pad_diameter_um / 2, volume)


def empty_run(bodies, joint: int) -> float:
    """Longest stretch of height (um) without solder between the pads of one joint."""
    u = (np.arange(1700) + 0.5) / 10
    solid = bodies.radius_at(np.broadcast_to(u, (N, 1700)))[joint] > 0
    edges = np.flatnonzero(np.diff(np.r_[1, solid.astype(int), 1]))
    runs = edges[1::2] - edges[::2]
    return float(runs.max(initial=0)) / 10


def test_every_variety_is_of_a_class_and_only_the_plain_one_is_not_drawn_by_chance():
    assert {v.label for v in VARIETIES.values()} <= set(CLASSES)
    assert [name for name, v in VARIETIES.items() if v.chance <= 0] == ["plain"]


@pytest.mark.parametrize("variety", sorted(name for name, v in VARIETIES.items() if v.label == "open"))
def test_open_joints_have_a_gap_of_at_least_five_micrometres(variety):
    bodies, gap = build(variety)
    assert (gap >= 5.0).all()
    for joint in range(10):
        assert empty_run(bodies, joint) == pytest.approx(gap[joint], abs=0.6)


@pytest.mark.parametrize("variety", ["dome_on_dome", "cupped"])
def test_head_in_pillow_touches_within_five_micrometres(variety):
    bodies, gap = build(variety)
    assert (gap < 5.0).all()
    assert max(empty_run(bodies, joint) for joint in range(N)) < 5.0


@pytest.mark.parametrize("variety", ["plain", "hourglass", "excess"])
def test_merged_joints_are_one_body_and_have_no_gap(variety):
    bodies, gap = build(variety)
    assert np.isnan(gap).all()
    assert max(empty_run(bodies, joint) for joint in range(N)) == 0


def test_head_in_pillow_is_narrow_at_the_deposit_and_wide_at_the_ball():
    bodies, _ = build("dome_on_dome")
    low, high = (np.median(bodies.radius_at(np.full((N, 1), u))) for u in (45.0, 125.0))
    assert low < 0.85 * high


def test_domes_in_borderline_opens_are_plentiful():
    _, gap = build("hanging")
    assert ((gap >= 5) & (gap < 15)).mean() > 0.4

import numpy as np
import pytest

from inspect_pop.simulate.bodies import CLASS_OF, build_bodies
from inspect_pop.simulate.products import PRODUCTS

LOWER = PRODUCTS["tst4"].packages[0].interface("lower")
N = 60


def built(variety: str, volume_ratio: float = 1.0):
    rng = np.random.default_rng(3)
    standoff = np.full(N, 170.0)
    volume = np.full(N, volume_ratio * LOWER.nominal_volume_um3)
    return build_bodies(rng, np.full(N, variety, object), standoff, LOWER.pad_diameter_um / 2, volume)


def empty_run(bodies, joint: int) -> float:
    """Longest stretch of height (um) without solder between the pads of one joint."""
    u = (np.arange(1700) + 0.5) / 10
    solid = bodies.radius(np.broadcast_to(u, (N, 1700)))[joint] > 0
    edges = np.flatnonzero(np.diff(np.r_[1, solid.astype(int), 1]))
    runs = edges[1::2] - edges[::2]
    return float(runs.max(initial=0)) / 10


@pytest.mark.parametrize("variety", sorted(v for v, c in CLASS_OF.items() if c == "open"))
def test_open_joints_have_a_gap_of_at_least_five_micrometres(variety):
    bodies, gap = built(variety)
    assert (gap >= 5.0).all()
    for joint in range(10):
        assert empty_run(bodies, joint) == pytest.approx(gap[joint], abs=0.6)


@pytest.mark.parametrize("variety", ["dome_on_dome", "cupped"])
def test_head_in_pillow_touches_within_five_micrometres(variety):
    bodies, gap = built(variety)
    assert (gap < 5.0).all()
    assert max(empty_run(bodies, joint) for joint in range(N)) < 5.0


@pytest.mark.parametrize("variety", ["plain", "hourglass", "excess"])
def test_merged_joints_are_one_body_and_have_no_gap(variety):
    bodies, gap = built(variety)
    assert np.isnan(gap).all()
    assert max(empty_run(bodies, joint) for joint in range(N)) == 0


def test_head_in_pillow_is_narrow_at_the_deposit_and_wide_at_the_ball():
    bodies, _ = built("dome_on_dome")
    low, high = (np.median(bodies.radius(np.full((N, 1), u))) for u in (45.0, 125.0))
    assert low < 0.85 * high


def test_domes_in_borderline_opens_are_plentiful():
    _, gap = built("hanging")
    assert ((gap >= 5) & (gap < 15)).mean() > 0.4

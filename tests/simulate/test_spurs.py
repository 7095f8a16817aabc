import numpy as np

from inspect_pop.simulate.bodies import build_bodies
from inspect_pop.simulate.products import PRODUCTS
from inspect_pop.simulate.spurs import bridge, spurs_of

LOWER = PRODUCTS["tst4"].packages[0].interface("lower")
N = len(LOWER.ball)


def varieties(**marked: str) -> np.ndarray:
    out = np.full(N, "plain", object)
    for ball, variety in marked.items():
        out[LOWER.ball.index(ball)] = variety
    return out


def test_a_web_makes_its_neighbour_bridged_too():
    for seed in range(20):
        variety, spurs = bridge(np.random.default_rng(seed), LOWER, varieties(D4="web"), np.full(N, 170.0), None)
        assert (variety == "web").sum() >= 2
        assert set(spurs.joint) == set(np.flatnonzero(variety == "web"))
        reach = np.hypot(spurs.ends_um[:, 2], spurs.ends_um[:, 3])
        assert np.isin(np.round(reach), (0, 400, 566)).all()  # nothing, a neighbour, a diagonal one


def test_a_web_keeps_to_the_direction_of_the_offset():
    for seed in range(20):
        _, spurs = bridge(np.random.default_rng(seed), LOWER, varieties(D4="web", F6="web"), np.full(N, 170.0), 0.0)
        assert (np.abs(spurs.ends_um[:, 3]) < 1).all()


def test_a_joint_without_sound_neighbours_bridges_nobody():
    variety = np.full(N, "missing", object)
    variety[10] = "web"
    after, spurs = bridge(np.random.default_rng(0), LOWER, variety, np.full(N, 170.0), None)
    assert after[10] == "plain"
    assert len(spurs.joint) == 0


def test_webs_lie_within_the_standoff_and_are_often_thin():
    widths = []
    for seed in range(60):
        _, spurs = bridge(np.random.default_rng(seed), LOWER, varieties(D4="web"), np.full(N, 170.0), None)
        assert ((spurs.u_um > 0) & (spurs.u_um < 170)).all()
        widths += list(spurs.width_um[spurs.semi_um > 0])
    assert min(widths) >= 24
    assert max(widths) <= 160
    assert np.mean(np.array(widths) < 61) > 0.35


def test_spikes_stop_short_of_the_neighbour():
    rng = np.random.default_rng(5)
    variety = np.full(N, "spike", object)
    bodies, _ = build_bodies(rng, variety, np.full(N, 170.0), 115.0, np.full(N, LOWER.nominal_volume_um3))
    spurs = spurs_of(rng, LOWER, variety, bodies)
    tip = np.hypot(spurs.ends_um[:, 2], spurs.ends_um[:, 3]) + spurs.width_um / 2 * spurs.flare[:, 1]
    belly = bodies.radius(spurs.u_um[:, None])[:, 0]
    assert (400 - belly - tip > 0).mean() > 0.95

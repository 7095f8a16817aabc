import numpy as np

from inspect_pop.simulate.bodies import build_bodies
from inspect_pop.simulate.catalog import PRODUCTS
from inspect_pop.simulate.scene import add_webs, make_spurs, populate

LOWER = PRODUCTS["tst4"].packages[0].interface("lower")
N = len(LOWER.ball)


def population(variety: str = "plain", factor: float = 1.0, seed: int = 0):
    shear = np.zeros((N, 2))
    marked = np.full(N, variety, object)
    return populate(np.random.default_rng(seed), LOWER, np.zeros(N), np.full(N, 170.0), marked, np.full(N, factor), shear)


def test_label_follows_from_the_volume_that_came_out():
    p = population(factor=0.67)
    starved = p.volume_ratio < 2 / 3
    assert 0 < starved.sum() < N
    assert (p.label[starved] == "starved").all()
    assert (p.label[~starved] == "good").all()


def test_excess_without_a_web_is_good():
    p = population("excess")
    assert (p.label == "good").all()
    assert (p.volume_ratio > 1.2).all()


def test_every_class_has_its_label_and_its_truth():
    assert (population("hanging").label == "open").all()
    assert (population("cupped").label == "head_in_pillow").all()
    webs = population("web")
    assert (webs.label == "bridged").all()
    assert np.isfinite(webs.web_um).all()
    assert np.isnan(population().web_um).all()


def test_voids_lie_inside_their_joints():
    p = population("big_void", seed=2)
    u = np.clip(p.voids.u_um, 1, 169)
    all_radii = p.bodies.radius_at(np.broadcast_to(u[None, :], (N, len(u))))
    radius = all_radii[p.voids.joint, np.arange(len(u))]
    assert len(p.voids.joint) > N / 2
    assert (np.hypot(p.voids.dx_um, p.voids.dy_um) + p.voids.radius_um <= radius).all()


def test_the_same_seed_gives_the_same_joints():
    a, b = population(seed=4), population(seed=4)
    assert (a.volume_ratio == b.volume_ratio).all()
    assert (population(seed=5).volume_ratio != a.volume_ratio).any()


def varieties(**marked: str) -> np.ndarray:
    out = np.full(N, "plain", object)
    for ball, variety in marked.items():
        out[LOWER.ball.index(ball)] = variety
    return out


def test_a_web_makes_its_neighbour_bridged_too():
    for seed in range(20):
        variety, spurs = add_webs(np.random.default_rng(seed), LOWER, varieties(D4="web"), np.full(N, 170.0), None)
        assert (variety == "web").sum() >= 2
        assert set(spurs.joint) == set(np.flatnonzero(variety == "web"))
        reach = np.hypot(spurs.ends_um[:, 2], spurs.ends_um[:, 3])
        assert np.isin(np.round(reach), (0, 400, 566)).all()  # nothing, a neighbour, a diagonal one


def test_a_web_keeps_to_the_direction_of_the_offset():
    for seed in range(20):
        _, spurs = add_webs(np.random.default_rng(seed), LOWER, varieties(D4="web", F6="web"), np.full(N, 170.0), 0.0)
        assert (np.abs(spurs.ends_um[:, 3]) < 1).all()


def test_a_joint_without_sound_neighbours_bridges_nobody():
    variety = np.full(N, "missing", object)
    variety[10] = "web"
    after, spurs = add_webs(np.random.default_rng(0), LOWER, variety, np.full(N, 170.0), None)
    assert after[10] == "plain"
    assert len(spurs.joint) == 0


def test_webs_lie_within_the_standoff_and_are_often_thin():
    widths = []
    for seed in range(60):
        _, spurs = add_webs(np.random.default_rng(seed), LOWER, varieties(D4="web"), np.full(N, 170.0), None)
        assert ((spurs.u_um > 0) & (spurs.u_um < 170)).all()
        widths += list(spurs.width_um[spurs.semi_um > 0])
    assert min(widths) >= 24
    assert max(widths) <= 160
    assert np.mean(np.array(widths) < 61) > 0.35


def test_spikes_stop_short_of_the_neighbour():
    rng = np.random.default_rng(5)
    variety = np.full(N, "spike", object)
    bodies, _ = build_bodies(rng, variety, np.full(N, 170.0), 115.0, np.full(N, LOWER.nominal_volume_um3))
    spurs = make_spurs(rng, LOWER, variety, bodies)
    tip = np.hypot(spurs.ends_um[:, 2], spurs.ends_um[:, 3]) + spurs.width_um / 2 * spurs.flare[:, 1]
    belly = bodies.radius_at(spurs.u_um[:, None])[:, 0]
    assert (400 - belly - tip > 0).mean() > 0.95

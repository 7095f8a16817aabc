import numpy as np

from inspect_pop.simulate.population import populate
from inspect_pop.simulate.products import PRODUCTS

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
    all_radii = p.bodies.radius(np.broadcast_to(u[None, :], (N, len(u))))
    radius = all_radii[p.voids.joint, np.arange(len(u))]
    assert len(p.voids.joint) > N / 2
    assert (np.hypot(p.voids.dx_um, p.voids.dy_um) + p.voids.radius_um <= radius).all()


def test_the_same_seed_gives_the_same_joints():
    a, b = population(seed=4), population(seed=4)
    assert (a.volume_ratio == b.volume_ratio).all()
    assert (population(seed=5).volume_ratio != a.volume_ratio).any()

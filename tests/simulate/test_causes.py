import numpy as np
import pytest

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import UsageFault
from inspect_pop.simulate.bodies import VARIETIES
from inspect_pop.simulate.catalog import PRODUCTS
from inspect_pop.simulate.causes import CAUSES, draw_varieties, plan_board

PACKAGE = PRODUCTS["apx17"].packages[0]


def classes(cause: str, which: int, seed: int = 3, rate: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    plan = plan_board(rng, PACKAGE, cause)
    interface = PACKAGE.interfaces[which]
    standoff = np.full(len(interface.ball), interface.gap_um)
    variety = draw_varieties(rng, interface, plan.patterns[which], standoff, plan.reach, rate)
    return np.array([VARIETIES[v].label for v in variety])


def test_every_cause_can_be_asked_for_and_random_draws_all():
    assert {plan_board(np.random.default_rng(0), PACKAGE, c).cause for c in CAUSES} == set(CAUSES)
    drawn = {plan_board(np.random.default_rng(k), PACKAGE, "random").cause for k in range(150)}
    assert drawn == set(CAUSES)


def test_an_unknown_cause_is_refused():
    with pytest.raises(UsageFault, match="gremlins"):
        plan_board(np.random.default_rng(0), PACKAGE, "gremlins")


def test_without_a_cause_and_chance_all_joints_are_sound():
    assert (classes("none", 0) == "good").all()


def test_causes_leave_their_defects():
    assert np.mean([np.mean(classes("excess_paste", 0, k) == "bridged") for k in range(5)]) > 0.015
    assert np.mean([np.mean(classes("shallow_dip", 1, k) == "open") for k in range(5)]) > 0.02
    assert np.mean([np.mean(classes("shallow_dip", 0, k) != "good") for k in range(5)]) == 0
    heads = [np.mean(classes("oxidised_balls", w, k) == "head_in_pillow") for k in range(5) for w in (0, 1)]
    assert np.mean(heads) > 0.02


def test_insufficient_paste_is_a_region():
    plan = plan_board(np.random.default_rng(3), PACKAGE, "insufficient_paste")
    volume = plan.patterns[0].volume
    assert volume.min() < 0.7 < np.median(volume)


def test_too_much_standoff_keeps_joints_from_merging():
    rng = np.random.default_rng(3)
    interface = PACKAGE.interfaces[0]
    plan = plan_board(rng, PACKAGE, "warpage")
    wide = np.where(interface.x_um > 4000, 1.25, 1.0) * interface.gap_um
    variety = draw_varieties(rng, interface, plan.patterns[0], wide, plan.reach, 0.0)
    bad = np.array([VARIETIES[v].label in ("open", "head_in_pillow") for v in variety])
    assert bad[interface.x_um > 4000].mean() > 0.4
    assert bad[interface.x_um < 4000].mean() < 0.02


@pytest.mark.parametrize("label", CLASSES)
def test_every_class_is_drawn_without_a_cause(label: str):
    """A class that no variety belongs to, or whose varieties have no chance, would be missing from what models learn from."""
    assert label in classes("none", 0, rate=0.7)


def test_half_of_the_odd_joints_are_good_ones_that_look_odd():
    share = np.mean(classes("none", 0, rate=1.0) == "good")
    assert 0.25 < share < 0.55

"""Each rule by itself: what its hypothesis rests on, and what leaves it without support."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.causes import CAUSES
from inspect_pop.core.limits import Limits
from inspect_pop.diagnose import Bulge, PackageState
from inspect_pop.diagnose.diagnosis import (
    RULES,
    rank_hypotheses,
    weigh_moisture,
    weigh_oxidised_balls,
    weigh_placement_force,
    weigh_warpage,
)
from inspect_pop.diagnose.evidence import PackageContext, collect_joints
from tests.diagnose.patterns import draw


def context_of(cause: str, seed: int = 0) -> PackageContext:
    joints, package, state = draw(np.random.default_rng([seed, 1]), cause)
    return PackageContext(collect_joints(joints, package), package, state, Limits())


def test_every_cause_but_none_has_one_rule() -> None:
    context = context_of("none")
    assert sorted(rule(context).name for rule in RULES) == sorted(CAUSES[1:])


@pytest.mark.parametrize("cause", CAUSES[1:])
def test_the_rule_of_the_cause_ranks_first(cause: str) -> None:
    ranked = rank_hypotheses(context_of(cause))
    assert ranked[0].name == cause
    assert [h.strength for h in ranked] == sorted((h.strength for h in ranked), reverse=True)


@pytest.mark.parametrize("rule", [weigh_warpage, weigh_placement_force, weigh_moisture])
def test_without_a_height_map_the_rule_says_so(rule) -> None:  # type: ignore[no-untyped-def]
    hypothesis = rule(replace(context_of("none"), state=PackageState()))
    assert hypothesis.strength == 0
    assert hypothesis.joints == ()
    assert "measured" in hypothesis.evidence or "no local bulge" in hypothesis.evidence


def test_a_bulge_below_the_limit_is_no_moisture() -> None:
    context = context_of("none")
    limit = context.limits.cause_bulge_um
    low, high = (Bulge(0.0, 0.0, share * limit, 2000.0) for share in (0.9, 1.5))
    assert weigh_moisture(replace(context, state=PackageState(bulge=low))).strength == 0
    assert weigh_moisture(replace(context, state=PackageState(bulge=high))).strength > 3


def test_oxidised_balls_rest_on_every_head_in_pillow_joint() -> None:
    context = context_of("oxidised_balls")
    assert len(weigh_oxidised_balls(context).joints) == context.count_all("head_in_pillow")


def test_joints_are_collected_in_the_recipes_order_and_gaps_are_undecided() -> None:
    joints, package, _ = draw(np.random.default_rng(3), "none")
    present = np.arange(len(joints)) != 5
    shuffled = joints.take(np.random.default_rng(0).permutation(np.flatnonzero(present)))
    collected, whole = collect_joints(shuffled, package), collect_joints(joints, package)
    lower, before = collected["lower"], whole["lower"]
    assert lower.ball == package.interface("lower").ball
    assert lower.label[5] is None
    assert np.isnan(lower.measured["volume_ratio"][5])
    assert np.array_equal(np.delete(lower.measured["volume_ratio"], 5), np.delete(before.measured["volume_ratio"], 5))
    assert np.isnan(lower.measured["waist"]).all()  # a column that is not there

"""Each rule by itself: what its hypothesis rests on, and what leaves it without support."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.classes import CAUSES
from inspect_pop.core.limits import Limits
from inspect_pop.diagnose import Bulge, PackageState
from inspect_pop.diagnose.diagnosis import (
    RULES,
    rank_hypotheses,
    weigh_excess_paste,
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


def test_warpage_far_below_its_limit_opens_nothing() -> None:
    context = context_of("warpage")
    assert weigh_warpage(context).strength > 10
    limit = context.package.warpage_limit_um
    nearly_flat = replace(context.state, warpage_um=0.2 * limit * np.sign(context.state.warpage_um))
    assert weigh_warpage(replace(context, state=nearly_flat)).strength <= 0


def test_a_little_more_paste_speaks_hardly_against_the_bridges_that_it_leaves() -> None:
    """Good joints hold 5 % more than nominal where 26 of 36 defects are bridges: as on boards of another simulator."""
    context = context_of("excess_paste")
    lower = context.interfaces["lower"]
    label = np.full(len(lower.ball), "good", object)
    for k, name in enumerate(["bridged"] * 26 + ["open"] * 3 + ["starved"] * 3 + ["head_in_pillow"] * 4):
        label[7 * k] = name

    def with_volume(ratio: float) -> PackageContext:
        measured = lower.measured | {"volume_ratio": np.full(len(label), ratio)}
        return replace(context, interfaces={"lower": replace(lower, label=label, measured=measured)})

    strengths = {ratio: weigh_excess_paste(with_volume(ratio)).strength for ratio in (0.95, 1.0, 1.05, 1.2)}
    assert strengths[0.95] < strengths[1.0] < context.limits.cause_strength < strengths[1.05] < strengths[1.2]


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

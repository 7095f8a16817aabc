"""The rules on boards whose cause is known, with and without what they look at."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.diagnose import CAUSES, PackageState, suspect
from tests.diagnose.patterns import draw

BOARDS = 15
FAULTY = CAUSES[1:]


def named(cause: str, *, without: tuple[str, ...] = (), boards: int = BOARDS) -> Counter[str]:
    """What is suspected on boards of this cause; `without` names columns, or `state`, that were not measured."""
    found: Counter[str] = Counter()
    for seed in range(boards):
        joints, package, state = draw(np.random.default_rng([seed, 1]), cause)
        kept = JointTable({n: v for n, v in joints.to_dict().items() if n not in without})
        found[suspect(kept, package, PackageState() if "state" in without else state).name] += 1
    return found


@pytest.mark.parametrize("cause", FAULTY)
def test_a_cause_is_named_on_eight_boards_of_ten(cause: str) -> None:
    assert named(cause)[cause] >= 0.8 * BOARDS


def test_boards_without_a_cause_have_none() -> None:
    assert named("none", boards=40)["none"] >= 0.85 * 40


@pytest.mark.parametrize("cause", ["excess_paste", "insufficient_paste", "shallow_dip", "oxidised_balls"])
def test_what_shows_in_the_labels_is_named_without_a_height_map(cause: str) -> None:
    assert named(cause, without=("state", "standoff_um"))[cause] >= 0.8 * BOARDS


def test_warpage_needs_no_stand_off_of_each_joint() -> None:
    assert named("warpage", without=("standoff_um",))["warpage"] >= 0.8 * BOARDS


def test_without_shear_an_offset_shows_in_the_direction_of_bridges_or_stays_open() -> None:
    found = named("placement_offset", without=("shear_x_um", "shear_y_um"))
    assert found["placement_offset"] >= BOARDS / 3
    assert found["placement_offset"] + found["none"] >= BOARDS - 1


def test_evidence_names_the_joints_in_words_and_as_values() -> None:
    joints, package, state = draw(np.random.default_rng(3), "shallow_dip")
    cause = suspect(joints, package, state)
    assert cause.name == "shallow_dip"
    assert all(name.startswith("upper R") for name in cause.joints)
    assert cause.joints[0] in cause.evidence and " more" in cause.evidence
    bad = np.flatnonzero(
        (joints["interface"] == "upper") & np.isin(joints["label"].astype(str), ["open", "starved", "head_in_pillow"])
    )
    assert [f"upper {joints['ball'][k]}" for k in bad] == list(cause.joints)


def test_a_board_without_defects_has_no_cause_whatever_its_shape() -> None:
    joints, package, _ = draw(np.random.default_rng(0), "none")
    clean = joints.replace(label=["good"] * len(joints))
    cause = suspect(clean, package, PackageState(warpage_um=-300.0, stack_height_um=1500.0))
    assert (cause.name, cause.evidence, cause.joints, cause.strength) == ("none", "no defects", (), 0.0)


def test_undecided_joints_and_other_packages_are_not_defects() -> None:
    joints, package, state = draw(np.random.default_rng(5), "oxidised_balls")
    undecided = joints.replace(label=[None] * len(joints))
    assert suspect(undecided, package, state).evidence == "no defects"
    elsewhere = joints.replace(refdes=["U9"] * len(joints))
    assert suspect(elsewhere, package, state).evidence == "no defects"


def test_nothing_measured_but_labels_still_gives_an_answer() -> None:
    joints, package, _ = draw(np.random.default_rng(5), "none")
    few = JointTable({n: joints[n] for n in ("serial", "refdes", "interface", "ball", "label")})
    assert suspect(few, package, PackageState()).name in CAUSES


def test_the_limit_decides_what_is_clear() -> None:
    joints, package, state = draw(np.random.default_rng(2), "shallow_dip")
    assert suspect(joints, package, state, replace(Limits(), cause_strength=100.0)).name == "none"


def test_the_warpage_s_sign_decides_where_the_gap_is() -> None:
    """Head-in-pillow at the corners: warpage where the package is concave, not where it is convex."""
    joints, package, _ = draw(np.random.default_rng(8), "none", background=0)
    lower = package.interface("lower")
    far = np.argsort(-np.hypot(lower.x_um, lower.y_um))[:24]
    label = np.array(["good"] * len(joints), object)
    label[far] = "head_in_pillow"
    table = JointTable({n: joints[n] for n in ("serial", "refdes", "interface", "ball")} | {"label": label})
    concave, convex = (suspect(table, package, PackageState(warpage_um=w)).name for w in (-110.0, 110.0))
    assert concave == "warpage"
    assert convex != "warpage"


def test_an_interface_alone_is_judged_by_itself() -> None:
    joints, package, state = draw(np.random.default_rng(4), "excess_paste")
    alone = replace(package, interfaces=package.interfaces[:1])
    cause = suspect(joints.take(joints["interface"] == "lower"), alone, state)
    assert cause.name == "excess_paste"
    assert math.isfinite(cause.strength)

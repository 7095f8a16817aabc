"""The diagnosis of boards whose cause is known, with and without what the rules use, and of lots."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.classes import DEFECTS
from inspect_pop.core.columns import JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.diagnose import CAUSES, LotDefects, PackageState, choose_disposition, diagnose, diagnose_lot
from inspect_pop.diagnose.diagnosis import find_repeating_positions
from tests.diagnose.patterns import draw, package

BOARDS = 15
FAULTY = CAUSES[1:]


def named(cause: str, *, without: tuple[str, ...] = (), boards: int = BOARDS) -> Counter[str]:
    """What is diagnosed on boards of this cause; `without` names columns, or `state`, that were not measured."""
    found: Counter[str] = Counter()
    for seed in range(boards):
        joints, package, state = draw(np.random.default_rng([seed, 1]), cause)
        measured = JointTable({n: v for n, v in joints.to_dict().items() if n not in without})
        found[diagnose(measured, package, PackageState() if "state" in without else state).name] += 1
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
    cause = diagnose(joints, package, state)
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
    cause = diagnose(clean, package, PackageState(warpage_um=-300.0, stack_height_um=1500.0))
    assert (cause.name, cause.evidence, cause.joints, cause.strength) == ("none", "no defects", (), 0.0)


def test_undecided_joints_and_other_packages_are_not_defects() -> None:
    joints, package, state = draw(np.random.default_rng(5), "oxidised_balls")
    undecided = joints.replace(label=[None] * len(joints))
    assert diagnose(undecided, package, state).evidence == "no defects"
    elsewhere = joints.replace(refdes=["U9"] * len(joints))
    assert diagnose(elsewhere, package, state).evidence == "no defects"


def test_nothing_measured_but_labels_still_gives_an_answer() -> None:
    joints, package, _ = draw(np.random.default_rng(5), "none")
    few = JointTable({n: joints[n] for n in ("serial", "refdes", "interface", "ball", "label")})
    assert diagnose(few, package, PackageState()).name in CAUSES


def test_the_limit_decides_what_is_clear() -> None:
    joints, package, state = draw(np.random.default_rng(2), "shallow_dip")
    assert diagnose(joints, package, state, replace(Limits(), cause_strength=100.0)).name == "none"


def test_the_warpage_s_sign_decides_where_the_gap_is() -> None:
    """Head-in-pillow at the corners: warpage where the package is concave, not where it is convex."""
    joints, package, _ = draw(np.random.default_rng(8), "none", background=0)
    lower = package.interface("lower")
    far = np.argsort(-np.hypot(lower.x_um, lower.y_um))[:24]
    label = np.array(["good"] * len(joints), object)
    label[far] = "head_in_pillow"
    table = JointTable({n: joints[n] for n in ("serial", "refdes", "interface", "ball")} | {"label": label})
    concave, convex = (diagnose(table, package, PackageState(warpage_um=w)).name for w in (-110.0, 110.0))
    assert concave == "warpage"
    assert convex != "warpage"


def test_an_interface_alone_is_judged_by_itself() -> None:
    joints, package, state = draw(np.random.default_rng(4), "excess_paste")
    alone = replace(package, interfaces=package.interfaces[:1])
    cause = diagnose(joints.take(joints["interface"] == "lower"), alone, state)
    assert cause.name == "excess_paste"
    assert math.isfinite(cause.strength)


SIZES = {i.name: len(i.ball) for i in package().interfaces}


def lot(rng: np.random.Generator, boards: int = 200, rate: float = 0.003) -> LotDefects:
    """Defects spread evenly: `rate` a joint and board, as many of each class."""
    interface = np.array([name for name, n in SIZES.items() for _ in range(n)], object)
    ball = np.array([b for i in package().interfaces for b in i.ball], object)
    return LotDefects(boards, interface, ball, rng.poisson(boards * rate / len(DEFECTS), (len(ball), len(DEFECTS))))


def test_even_defects_have_no_cause() -> None:
    for seed in range(20):
        cause = diagnose_lot(lot(np.random.default_rng(seed)), {"none": 60, "warpage": 5, "excess_paste": 4})
        assert cause.name == "none"
        assert "without a clear pattern" in cause.evidence


def test_a_clogged_opening_shows_as_positions_that_repeat() -> None:
    of = lot(np.random.default_rng(1))
    of.defects[[40, 41, 66], DEFECTS.index("starved")] += [9, 14, 11]
    cause = diagnose_lot(of, {"none": 60})
    assert cause.name == "insufficient_paste"
    assert set(cause.joints) == {f"lower {of.ball[k]}" for k in (40, 41, 66)}
    assert cause.joints[0] == f"lower {of.ball[41]}"  # the most frequent first
    assert "of 200 boards" in cause.evidence


@pytest.mark.parametrize(
    ("interface", "label", "name"),
    [
        ("lower", "bridged", "excess_paste"),
        ("lower", "open", "insufficient_paste"),
        ("lower", "head_in_pillow", "warpage"),
        ("upper", "head_in_pillow", "shallow_dip"),
        ("upper", "bridged", "placement_offset"),
    ],
)
def test_what_repeats_says_which_step(interface: str, label: str, name: str) -> None:
    of = lot(np.random.default_rng(2))
    rows = np.flatnonzero(of.interface == interface)[[3, 8, 20]]
    of.defects[rows, DEFECTS.index(label)] += 15
    assert diagnose_lot(of, {}).name == name


def test_boards_that_agree_speak_for_the_lot() -> None:
    cause = diagnose_lot(lot(np.random.default_rng(3)), {"none": 10, "shallow_dip": 25, "warpage": 2})
    assert cause.name == "shallow_dip"
    assert cause.evidence.startswith("25 of 37 boards")


def test_a_single_failure_is_no_repetition_and_an_empty_lot_has_no_cause() -> None:
    few = LotDefects(
        3,
        *(getattr(lot(np.random.default_rng(0)), n) for n in ("interface", "ball")),
        np.zeros((sum(SIZES.values()), len(DEFECTS)), np.int64),
    )
    few.defects[5, 0] = 1
    assert not find_repeating_positions(few).any()
    nothing = LotDefects(0, np.zeros(0, object), np.zeros(0, object), np.zeros((0, len(DEFECTS)), np.int64))
    assert diagnose_lot(nothing, {}).evidence == "no defects"


# What follows for the board


@pytest.mark.parametrize(
    ("faulty", "verdict", "underfill", "expected"),
    [
        ([], "pass", False, "ship"),
        ([], "review", False, "review"),
        (["upper"], "fail", False, "rework_memory"),
        (["upper"], "fail", True, "rework_stack"),
        (["lower", "upper"], "fail", False, "rework_stack"),
        (["lower"], "fail", False, "rework_stack"),
        ([], "fail", False, "review"),
        (["lower"], "unheard of", False, "review"),
    ],
)
def test_disposition(faulty: list[str], verdict: str, underfill: bool, expected: str) -> None:
    assert choose_disposition(faulty, verdict, underfill) == expected

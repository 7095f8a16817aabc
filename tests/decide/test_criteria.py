"""Acceptance criteria and evidence: each alone stops a joint that the classifier passes, and measure-only judges none."""

import numpy as np
import pytest

from inspect_pop.core import flags
from inspect_pop.core.errors import LimitsFault
from inspect_pop.core.limits import CRITERIA, DEFAULT_PROFILE, PROFILES, Profile, change_profile
from inspect_pop.decide.criteria import apply_violations, collect_measures, doubt_starved, find_violations
from inspect_pop.decide.verdict import JointVerdicts
from tests.drawn import drawn_interface

INTERFACE = drawn_interface(6)
N, JOINT = 36, 14
NOMINAL_UM = INTERFACE.nominal_mid_diameter_um


def sound() -> dict[str, np.ndarray]:
    """Columns of 36 joints with nothing wrong."""
    values = {
        "diameter_um": NOMINAL_UM, "diameter_low_um": 230.0, "diameter_high_um": 230.0, "volume_ratio": 1.0, "dx_um": 0.0,
        "dy_um": 0.0, "void_fraction": 0.02, "clearance_um": 120.0, "stray_um": 0.0, "standoff_um": INTERFACE.gap_um,
        "waist": 0.8, "roundness": 0.99, "z_low": 0.0, "z_mid": 0.0, "z_high": 0.0,
    }  # fmt: skip
    columns = {name: np.full(N, value, dtype=np.float32) for name, value in values.items()}
    return {**columns, "flags": np.zeros(N, dtype=np.int64)}


# What makes a joint violate each criterion: values of some columns, and the verdict that follows.
WRONG: dict[str, tuple[dict[str, float], str]] = {
    "void_area": ({"void_fraction": 0.37}, "fail"),
    "clearance": ({"clearance_um": 10.0}, "review"),
    "offset": ({"dx_um": 0.26 * INTERFACE.pitch_um}, "fail"),
    "diameter": ({"diameter_um": 0.6 * NOMINAL_UM}, "review"),
    "volume": ({"volume_ratio": 2.2}, "review"),
    "stray_solder": ({"stray_um": 130.0}, "review"),
    "missing_ball": ({"flags": flags.bit("no_ball")}, "fail"),
    "standoff": ({"standoff_um": 2.0 * INTERFACE.gap_um}, "review"),
    "outlier_diameter": ({"diameter_low_um": 300.0, "z_low": 14.0}, "review"),
    "outlier_offset": ({"dy_um": 0.12 * INTERFACE.pitch_um}, "review"),
    "outlier_roundness": ({"roundness": 0.9}, "review"),
    "outlier_volume": ({"volume_ratio": 1.45}, "review"),
    "outlier_waist": ({"waist": 0.6}, "review"),
    "no_outline": ({"waist": 0.0}, "review"),
    "not_measured": ({"void_fraction": float("nan")}, "review"),
}


def passing() -> JointVerdicts:
    label, verdict, reason = (np.full(N, text, dtype=object) for text in ("good", "pass", ""))
    return JointVerdicts(label, verdict, reason)


def judge(changes: dict[str, float], profile: str = "ipc-a-610", method: str = "laminography", bits: int = 0):  # type: ignore[no-untyped-def]
    columns = sound()
    for name, value in changes.items():
        columns[name][JOINT] = value
    columns["flags"][JOINT] |= bits
    found = find_violations(columns, INTERFACE, method, PROFILES[profile])
    return found, apply_violations(passing(), found)


def test_sound_joints_violate_nothing() -> None:
    found, decided = judge({})
    assert set(found.criteria) == {""}
    assert set(decided.verdict) == {"pass"}


def test_every_row_of_the_table_is_tried() -> None:
    assert set(WRONG) == {c.name for c in CRITERIA} == set(collect_measures(sound(), INTERFACE))


@pytest.mark.parametrize("name", WRONG)
def test_each_criterion_stops_a_joint_that_the_classifier_passes(name: str) -> None:
    """By itself, in a profile of this row alone; in the default profile it is among those that are named."""
    changes, verdict = WRONG[name]
    columns = sound()
    for column, value in changes.items():
        columns[column][JOINT] = value
    alone = Profile("alone", tuple(c for c in CRITERIA if c.name == name))
    found = find_violations(columns, INTERFACE, "laminography", alone)
    decided = apply_violations(passing(), found)
    assert found.criteria[JOINT] == name
    assert name in judge(changes)[0].criteria[JOINT].split(";")
    assert (decided.label[JOINT], decided.verdict[JOINT]) == ("good", verdict)
    assert decided.reason[JOINT]
    others = np.arange(N) != JOINT
    assert set(decided.verdict[others]) == {"pass"}


@pytest.mark.parametrize("name", WRONG)
def test_measure_only_judges_no_criterion(name: str) -> None:
    found, decided = judge(WRONG[name][0], "measure-only")
    assert found.criteria[JOINT] == decided.reason[JOINT] == ""
    assert decided.verdict[JOINT] == "pass"


@pytest.mark.parametrize(("void", "verdict"), [(0.2499, "pass"), (0.25, "review"), (0.2999, "review"), (0.30, "fail")])
def test_the_limits_themselves_belong_to_the_violation(void: float, verdict: str) -> None:
    assert judge({"void_fraction": np.float32(void)}, method="ct")[1].verdict[JOINT] == verdict


@pytest.mark.parametrize(("void", "verdict", "limit"), [(0.29, "review", 0.25), (0.35, "review", 0.30), (0.37, "fail", 0.30)])
def test_laminography_fails_a_void_only_beyond_its_error(void: float, verdict: str, limit: float) -> None:
    found, decided = judge({"void_fraction": np.float32(void)}, method="laminography")
    assert decided.verdict[JOINT] == verdict
    assert f"(limit {limit:.2f})" in found.reason[JOINT]


def test_all_that_is_violated_is_named() -> None:
    found, decided = judge({"void_fraction": 0.5, "clearance_um": 0.0})
    assert found.criteria[JOINT] == "void_area;clearance"
    assert decided.reason[JOINT] == (
        "voids take 0.50 of the ball's picture (limit 0.30); only 0 um free of solder to a neighbour (limit 25 um)"
    )


def test_a_doubtful_picture_fails_no_joint() -> None:
    assert judge({"void_fraction": 0.5}, bits=flags.bit("saturated"))[1].verdict[JOINT] == "review"


def test_a_joint_that_is_not_seen_is_not_judged() -> None:
    assert judge({"void_fraction": float("nan")}, bits=flags.bit("off_image"))[0].criteria[JOINT] == ""


@pytest.mark.parametrize("name", WRONG)
def test_what_the_other_interface_lies_over_is_judged_only_by_what_it_does_not_change(name: str) -> None:
    criterion = next(c for c in CRITERIA if c.name == name)
    names = judge(WRONG[name][0], bits=flags.bit("overlapped"))[0].criteria[JOINT].split(";")
    assert (name in names) != criterion.clear_view


def test_a_criterion_holds_for_its_methods_only() -> None:
    assert judge({"waist": 0.0}, method="transmission")[0].criteria[JOINT] == ""


@pytest.mark.parametrize("column", ["roundness", "volume_ratio", "waist"])
def test_what_differs_little_is_no_outlier_and_what_neighbours_share_neither(column: str) -> None:
    """However alike the neighbours are, and however unlike the typical joint they are together."""
    assert set(judge({column: sound()[column][JOINT] * np.float32(0.97)})[1].verdict) == {"pass"}
    columns = sound()
    odd = INTERFACE.x_um < 0
    columns[column][odd] *= np.float32(0.72)
    found = find_violations(columns, INTERFACE, "laminography", DEFAULT_PROFILE)
    assert not any("outlier_" in names for names in found.criteria[INTERFACE.x_um < -1.2 * INTERFACE.pitch_um])


def test_too_few_joints_have_no_outliers() -> None:
    few = drawn_interface(1)
    columns = {name: values[:1] for name, values in sound().items()}
    assert set(find_violations(columns, few, "laminography", DEFAULT_PROFILE).criteria) == {""}


@pytest.mark.parametrize(
    ("label", "volume", "verdict"),
    [
        ("starved", 0.57, "fail"),
        ("starved", 0.58, "review"),
        ("starved", 0.70, "review"),
        ("starved", float("nan"), "fail"),
        ("open", 0.66, "fail"),
    ],
)
def test_a_starved_joint_near_two_thirds_is_in_doubt(label: str, volume: float, verdict: str) -> None:
    decided = passing()
    decided.label[JOINT], decided.verdict[JOINT] = label, "fail"
    after = doubt_starved(decided, np.where(np.arange(N) == JOINT, np.float32(volume), np.float32(0.66)))
    assert (after.label[JOINT], after.verdict[JOINT]) == (label, verdict)
    assert ("measured" in after.reason[JOINT]) == (verdict == "review")
    assert set(after.verdict[np.arange(N) != JOINT]) == {"pass"}


def test_a_fail_stays_a_fail_and_keeps_its_label() -> None:
    found, _ = judge({"clearance_um": 0.0})
    decided = passing()
    decided.label[JOINT], decided.verdict[JOINT] = "bridged", "fail"
    after = apply_violations(decided, found)
    assert (after.label[JOINT], after.verdict[JOINT]) == ("bridged", "fail")


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: c.name)
def test_every_limit_is_within_its_range_and_has_a_source(criterion) -> None:  # type: ignore[no-untyped-def]
    limits = [x for x in (criterion.fail, criterion.review) if x is not None]
    assert limits and all(criterion.low <= x <= criterion.high for x in limits)
    assert criterion.source and criterion.words and criterion.methods


def test_a_user_profile_changes_limits_and_takes_them_away() -> None:
    mine = change_profile("mine", {"void_area": {"fail": 0.2, "review": 0.1}, "clearance": {"review": False}}, "f")
    by_name = {c.name: c for c in mine.criteria}
    assert (by_name["void_area"].fail, by_name["void_area"].review) == (0.2, 0.1)
    assert by_name["clearance"].review is None
    assert by_name["offset"] == {c.name: c for c in DEFAULT_PROFILE.criteria}["offset"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voids": {"fail": 0.2}}, "f.voids: expected one of .*, found an unknown criterion"),
        ({"void_area": {"fail": 30}}, "f.void_area.fail: expected a number from 0 to 1 1, or false for no limit, found 30"),
        ({"void_area": {"fail": True}}, "found True"),
        ({"void_area": {"limit": 0.2}}, "expected a table with fail, review or both"),
        ({"void_area": 0.2}, "expected a table with fail, review or both"),
    ],
)
def test_what_is_no_criterion_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(LimitsFault, match=message):
        change_profile("mine", changes, "f")

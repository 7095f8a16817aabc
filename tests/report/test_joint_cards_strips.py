"""A joint's figures among its neighbours'."""

import numpy as np

from inspect_pop.report.ball_map import designed_um
from inspect_pop.report.joint_cards import STRIP_WIDTH, Strip, _medians, _neighbours, drawn_strips, strips_of
from tests.factories import make_inspection
from tests.report.recipes import recipe_of

SIDE = {"lower": 8, "upper": 3}


def test_a_joint_stands_out_among_its_neighbours_by_its_robust_distance() -> None:
    inspection = make_inspection(defects={"U1.lower.D4": "starved"}, side=SIDE, measures={"U1.lower.D4": {"volume_ratio": 0.5}})
    joints = inspection.joints
    row = int(np.flatnonzero(joints["label"] == "starved")[0])
    strip = next(s for s in strips_of(joints, [row], designed_um(joints, recipe_of(inspection)))[0] if s.words == "volume")
    assert strip.value == "0.50"
    assert strip.at is not None and strip.at < 0.1 * STRIP_WIDTH  # the lowest of all, at the left
    assert strip.sigma.startswith("−") and abs(float(strip.sigma.split("\u00a0")[0].replace("−", "-"))) > 5


def test_what_was_not_measured_has_a_line_without_the_joint() -> None:
    inspection = make_inspection(defects={"U1.lower.D4": "open"}, side=SIDE, measures={"U1.lower.D4": {"volume_ratio": np.nan}})
    joints = inspection.joints
    row = int(np.flatnonzero(joints["label"] == "open")[0])
    strip = next(s for s in strips_of(joints, [row], designed_um(joints, recipe_of(inspection)))[0] if s.words == "volume")
    assert (strip.value, strip.at, strip.sigma) == ("–", None, "")
    assert strip.ticks


def test_a_column_that_nobody_measured_has_no_line() -> None:
    inspection = make_inspection(defects={"U1.lower.A1": "open"})
    joints = inspection.joints.replace(standoff_um=np.full(len(inspection.joints), np.nan))
    words = [s.words for s in strips_of(joints, [0], designed_um(joints, recipe_of(inspection)))[0]]
    assert "stand-off" not in words and "volume" in words


def test_medians_pass_over_what_is_not_known() -> None:
    values = np.array([[3.0, np.nan, 1.0, 2.0], [np.nan] * 4, [4.0, 1.0, 3.0, 2.0], [np.nan, 7.0, np.nan, np.nan]])
    assert np.array_equal(_medians(values), [2.0, np.nan, 2.5, 7.0], equal_nan=True)
    assert np.isnan(_medians(np.zeros((2, 0)))).all()


def test_strips_are_escaped() -> None:
    strip = Strip(words="<b>", value="1 & 2", ticks="M1 4v8", at=None, low="0", high='"9"', sigma="")
    drawn = drawn_strips([strip, strip])
    assert "<b>" not in drawn
    assert drawn.count("&lt;b&gt;") == 4
    assert "to &#34;9&#34;" in drawn
    assert 'class="own"' not in drawn


def test_neighbours_are_the_nearest_that_passed_in_the_same_interface() -> None:
    inspection = make_inspection(defects={"U1.lower.A1": "open", "U1.lower.A2": "open", "U1.upper.B2": "open"}, side=SIDE)
    joints, place_um = inspection.joints, designed_um(inspection.joints, recipe_of(inspection))
    rows = np.flatnonzero(joints["verdict"] != "pass")
    lower, _, upper = (near[near >= 0] for near in _neighbours(joints, rows, place_um))
    assert len(lower) == 24 and len(upper) == 8
    for row, near, name in ((rows[0], lower, "lower"), (rows[2], upper, "upper")):
        assert set(joints["interface"][near]) == {name}
        assert set(joints["verdict"][near]) == {"pass"}
        away = np.hypot(*(place_um - place_um[row]).T)
        left = np.setdiff1d(np.flatnonzero((joints["interface"] == name) & (joints["verdict"] == "pass")), near)
        assert not len(left) or away[near].max() <= away[left].min()


def test_no_rows_have_no_strips() -> None:
    inspection = make_inspection()
    assert strips_of(inspection.joints, [], designed_um(inspection.joints, recipe_of(inspection))) == []


def test_joints_without_a_passing_neighbour_stand_alone_on_their_lines() -> None:
    names = [f"U1.lower.{row}{column}" for row in "ABCD" for column in range(1, 5)]
    inspection = make_inspection(defects=dict.fromkeys(names, "open"), side={"lower": 4, "upper": 3})
    joints = inspection.joints
    rows = np.flatnonzero(joints["interface"] == "lower").tolist()
    for strips in strips_of(joints, rows, designed_um(joints, recipe_of(inspection))):
        assert strips and all(strip.ticks == "" and strip.at is not None and strip.sigma == "" for strip in strips)

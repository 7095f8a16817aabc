"""The joints that did not pass, among their neighbours."""

import numpy as np

from inspect_pop.report.maps import designed_um
from inspect_pop.report.suspects import STRIP_WIDTH, Strip, _medians, choose, drawn_strips, pictures_of, strips_of, suspect_of
from tests.factories import ROWS, make_inspection
from tests.report.recipes import recipe_of

SIDE = {"lower": 8, "upper": 3}


def test_a_cap_leaves_no_class_unseen() -> None:
    many = {f"U1.lower.{ROWS[r]}{c}": "open" for r in range(6) for c in range(1, 9)}
    inspection = make_inspection(
        defects=many | {"U1.lower.H1": "starved", "U1.upper.B2": "bridged"}, reviews={"U1.lower.H2": "near"}, side=SIDE
    )
    rows, left_out = choose(inspection.joints, limit=4)
    assert left_out == 51 - 4
    labels = [(inspection.joints["interface"][r], inspection.joints["label"][r]) for r in rows]
    assert {("lower", "open"), ("lower", "starved"), ("upper", "bridged")} <= set(labels)
    assert rows == sorted(rows)


def test_failures_come_before_reviews() -> None:
    inspection = make_inspection(defects={"U1.upper.C3": "open"}, reviews={"U1.lower.A1": "near"})
    rows, left_out = choose(inspection.joints)
    assert [inspection.joints["verdict"][r] for r in rows] == ["fail", "review"]
    assert left_out == 0


def test_a_joint_stands_out_among_its_neighbours_by_its_robust_distance() -> None:
    inspection = make_inspection(defects={"U1.lower.D4": "starved"}, side=SIDE, measures={"U1.lower.D4": {"volume_ratio": 0.5}})
    joints = inspection.joints
    row = int(np.flatnonzero(joints["label"] == "starved")[0])
    strip = next(s for s in strips_of(joints, row, designed_um(joints, recipe_of(inspection))) if s.words == "volume")
    assert strip.value == "0.50"
    assert strip.at is not None and strip.at < 0.1 * STRIP_WIDTH  # the lowest of all, at the left
    assert strip.sigma.startswith("−") and abs(float(strip.sigma.split("\u00a0")[0].replace("−", "-"))) > 5


def test_what_was_not_measured_has_a_line_without_the_joint() -> None:
    inspection = make_inspection(defects={"U1.lower.D4": "open"}, side=SIDE, measures={"U1.lower.D4": {"volume_ratio": np.nan}})
    joints = inspection.joints
    row = int(np.flatnonzero(joints["label"] == "open")[0])
    strip = next(s for s in strips_of(joints, row, designed_um(joints, recipe_of(inspection))) if s.words == "volume")
    assert (strip.value, strip.at, strip.sigma) == ("–", None, "")
    assert strip.ticks


def test_a_column_that_nobody_measured_has_no_line() -> None:
    inspection = make_inspection(defects={"U1.lower.A1": "open"})
    joints = inspection.joints.replace(standoff_um=np.full(len(inspection.joints), np.nan))
    words = [s.words for s in strips_of(joints, 0, designed_um(joints, recipe_of(inspection)))]
    assert "stand-off" not in words and "volume" in words


def test_pictures_share_a_reference_and_stop_at_the_budget() -> None:
    defects = {f"U1.lower.{ROWS[r]}{c}": "open" for r in range(4) for c in range(1, 5)}
    inspection = make_inspection(defects=defects, side=SIDE, pictures=True)
    rows, _ = choose(inspection.joints)
    everything, references = pictures_of(inspection.crops, rows)
    assert len(everything.addresses) == len(rows) + 1  # one good neighbour serves all
    assert len(set(references.values())) == 1
    each = max(map(len, everything.addresses.values()))
    few, _ = pictures_of(inspection.crops, rows, budget=5 * each)
    assert 4 <= len(few.addresses) <= 6
    assert sum(map(len, few.addresses.values())) <= 5 * each


def test_a_card_without_pictures_says_so() -> None:
    inspection = make_inspection(undecided=["U1.lower.A1"])
    pictures, references = pictures_of(inspection.crops, [0])
    card = suspect_of(inspection.joints, 0, pictures, references, designed_um(inspection.joints, recipe_of(inspection)))
    assert (card.label, card.p, card.picture, card.reference) == (None, "–", None, None)
    assert card.flags == ("no X-ray slices show this interface",)


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

"""The joints that did not pass: which are shown, and what their cards say."""

from inspect_pop.report.ball_map import designed_um
from inspect_pop.report.board_page import choose, suspects_of
from inspect_pop.report.joint_cards import sheet_of
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


def test_a_card_without_pictures_says_so() -> None:
    inspection = make_inspection(undecided=["U1.lower.A1"])
    place_um = designed_um(inspection.joints, recipe_of(inspection))
    (card,) = suspects_of(inspection.joints, [0], sheet_of(inspection.crops, [0]), place_um)
    assert (card.label, card.p, card.pictured, card.reference) == (None, "–", False, None)
    assert card.flags == ("no X-ray slices show this interface",)

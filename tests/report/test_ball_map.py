"""Ball maps: every expected joint at its designed place."""

import numpy as np
import pytest

from inspect_pop.report.maps import choose_mark, find_places_um, make_ball_map
from tests.factories import make_inspection
from tests.report.recipes import recipe_of


@pytest.mark.parametrize(
    ("label", "verdict", "kind"),
    [
        ("good", "pass", "good"),
        ("open", "fail", "open"),
        ("open", "review", "open"),
        ("good", "review", "undecided"),
        (None, "review", "undecided"),
    ],
)
def test_kind(label: str | None, verdict: str, kind: str) -> None:
    assert choose_mark(label, verdict) == kind


def test_every_joint_is_on_the_map_once_and_up_is_up() -> None:
    inspection = make_inspection(defects={"U1.lower.A1": "open"}, undecided=["U1.lower.D4"])
    package = recipe_of(inspection).packages[0]
    drawn_map = make_ball_map(inspection.joints, package, package.interface("lower"))
    assert sorted(m.ball for m in drawn_map.markers) == sorted(package.interface("lower").ball)
    a1 = next(m for m in drawn_map.markers if m.ball == "A1")
    assert (a1.x, a1.y) == (-60, -60)  # upper left: y points down in a picture; 600 um are 60 units
    assert (a1.kind, drawn_map.counts) == ("open", {"open": 1, "good": 14, "undecided": 1})
    assert [label.text for label in drawn_map.rows] == ["A", "B", "C", "D"]
    assert [label.text for label in drawn_map.columns] == ["1", "2", "3", "4"]
    assert drawn_map.corner == (-1, -1)


def test_ball_names_that_do_not_run_with_the_rows_leave_the_edge_bare() -> None:
    inspection = make_inspection()
    package = recipe_of(inspection).packages[0]
    lower = package.interface("lower")
    shuffled = type(lower)(**{**vars(lower), "ball": lower.ball[::2] + lower.ball[1::2]})
    assert make_ball_map(inspection.joints, package, shuffled).columns == ()


def test_designed_places_follow_the_table() -> None:
    inspection = make_inspection()
    recipe = recipe_of(inspection)
    backwards = inspection.joints.take(np.arange(len(inspection.joints))[::-1])
    np.testing.assert_array_equal(find_places_um(backwards, recipe)[::-1], find_places_um(inspection.joints, recipe))
    np.testing.assert_array_equal(find_places_um(inspection.joints, recipe)[0], [-600.0, 600.0])

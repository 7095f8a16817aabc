"""The board's page says what a person needs, escapes text from outside, and stays small; its cards, slices and strips."""

import base64
import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from inspect_pop.core.robust import nan_median
from inspect_pop.report.board_page import (
    STRIP_WIDTH,
    Strip,
    choose_suspects,
    count_joints,
    find_neighbours,
    make_cards,
    make_contact_sheet,
    make_strips,
    render_board_page,
    render_strips,
)
from inspect_pop.report.maps import find_places_um
from inspect_pop.station.contract import make_answer
from tests.factories import ROWS, make_inspection
from tests.report.recipes import recipe_of

SIDE = {"lower": 8, "upper": 3}
DEFECTS = {f"U1.lower.{ROWS[r]}{c}": "open" for r in range(4) for c in range(1, 5)}


def test_the_page_names_verdict_serial_disposition_cause_and_what_was_missing() -> None:
    inspection = make_inspection(
        "PB2411-000123",
        defects={"U1.upper.A2": "open"},
        reviews={"U1.lower.B2": "between good and starved"},
        missing=("U1/pre_stack",),
        cause="shallow_dip",
        cause_evidence="5 of 5 open joints lie in the upper interface",
        disposition="rework_memory",
    )
    page = render_board_page(inspection, recipe_of(inspection))
    for text in (
        "FAIL",
        "PB2411-000123",
        "1 of 25 joints fails: 1 open; 1 for review",
        "take the memory package off",
        "Shallow dip.",
        "5 of 5 open joints lie in the upper interface",
        "U1/pre_stack",
        "between good and starved",
        inspection.board.export_digest,
        inspection.board.model_digest,
    ):
        assert text in page


def test_the_page_of_a_bga_speaks_of_a_package() -> None:
    inspection = make_inspection(
        defects={"U1.lower.A2": "open"}, side={"lower": 4}, construction="bga", disposition="rework_stack"
    )
    page = render_board_page(inspection, recipe_of(inspection))
    assert "Rework: remove the package" in page
    assert "whole stack" not in page


def test_the_counts_are_those_of_the_hook_s_answer() -> None:
    defects = {"U1.lower.A1": "open", "U1.lower.A2": "open", "U1.upper.A1": "starved", "U1.upper.A2": "bridged"}
    inspection = make_inspection(defects=defects, reviews={"U1.upper.A2": "near the limit", "U1.lower.D4": "unfamiliar"})
    page = render_board_page(inspection, recipe_of(inspection))
    assert "3 of 25 joints fail: 2 open, 1 starved; 2 for review" in page  # the bridge is a doubt, and counts as one
    answer = make_answer(inspection, report=None, elapsed_ms=0.0)
    counts = count_joints(inspection.joints)
    assert (counts.n_failed, counts.review) == (len(answer["defects"]), len(answer["review"])) == (3, 2)
    assert answer["reason"].startswith(", ".join(f"{n} {label}" for label, n in counts.failed.items()))
    assert counts.passed + counts.review + counts.n_failed == counts.joints == 25


@pytest.mark.parametrize(
    ("reviews", "headline"), [({}, "all 25 joints pass"), ({"U1.lower.A1": "near"}, "no joint fails, of 25 joints; 1 for review")]
)
def test_a_board_without_a_failure_says_so(reviews: dict[str, str], headline: str) -> None:
    inspection = make_inspection(reviews=reviews)
    assert f"<p>{headline}</p>" in render_board_page(inspection, recipe_of(inspection))


def test_the_page_speaks_in_words_and_not_in_the_names_of_the_records() -> None:
    inspection = make_inspection(
        defects={"U1.lower.A1": "head_in_pillow"},
        reviews={"U1.lower.B1": "head_in_pillow 0.63"},
        cause_evidence="3 head_in_pillow",
    )
    page = render_board_page(inspection, recipe_of(inspection))
    text = re.sub(r"<(script|style)[^>]*>.*?</\1>|<[^>]*>", " ", page, flags=re.S)  # what a person reads
    assert "head_in_pillow" not in text and "head-in-pillow 0.63" in text
    assert "through-mould vias" in text and "POP12-TMV, tmv" not in text


def test_a_clean_board_has_its_empty_states() -> None:
    inspection = make_inspection()
    page = render_board_page(inspection, recipe_of(inspection))
    assert "Every joint passed." in page
    assert "No height map" in page
    assert "all 25 joints pass" in page


def test_text_from_outside_is_escaped_everywhere() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&\"'"
    inspection = make_inspection(
        evil,
        defects={"U1.lower.A1": "open"},
        reviews={"U1.lower.A2": evil},
        missing=(evil,),
        cause_evidence=evil,
        lot=evil,
        product=evil,
        operator=evil,
        recipe=evil,
        pictures=True,
    )
    inspection = replace(inspection, timings_ms={evil: 1.0})
    page = render_board_page(inspection, recipe_of(inspection))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert len(re.findall(r"<script", page)) == 2  # the data and our own
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert evil in data["reason"]


def test_the_data_hold_every_joint_and_null_for_what_was_not_measured() -> None:
    inspection = make_inspection(measures={"U1.lower.A1": {"volume_ratio": np.nan}})
    page = render_board_page(inspection, recipe_of(inspection))
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["ball"]) == 25
    assert data["values"]["volume_ratio"][0] is None
    assert all(len(v) == 25 for v in data["values"].values())


def test_hundreds_of_failed_joints_stay_under_three_megabytes_and_the_rest_is_counted() -> None:
    defects = {f"U1.lower.{ROWS[r]}{c}": "open" for r in range(20) for c in range(1, 16)}
    inspection = make_inspection(defects=defects, side={"lower": 20, "upper": 12}, pictures=True)
    noise = np.random.default_rng(0).integers(0, 256, (len(inspection.crops.row), 5, 48, 48), np.uint8)
    inspection = replace(inspection, crops=replace(inspection.crops, pixels=noise))
    page = render_board_page(inspection, recipe_of(inspection))
    assert len(page.encode()) < 3_000_000
    assert "140 more are left out" in page
    assert re.search(r"; \d+ without pictures", page)


def test_two_packages_have_a_map_for_each_interface() -> None:
    inspection = make_inspection(refdes=("U1", "U2"), pictures=True, defects={"U2.upper.A1": "bridged"})
    page = render_board_page(inspection, recipe_of(inspection))
    assert page.count("data-map") >= 4
    assert "U2 · upper" in page


def test_a_cap_leaves_no_class_unseen() -> None:
    many = {f"U1.lower.{ROWS[r]}{c}": "open" for r in range(6) for c in range(1, 9)}
    inspection = make_inspection(
        defects=many | {"U1.lower.H1": "starved", "U1.upper.B2": "bridged"}, reviews={"U1.lower.H2": "near"}, side=SIDE
    )
    rows, left_out = choose_suspects(inspection.joints, limit=4)
    assert left_out == 51 - 4
    labels = [(inspection.joints["interface"][r], inspection.joints["label"][r]) for r in rows]
    assert {("lower", "open"), ("lower", "starved"), ("upper", "bridged")} <= set(labels)
    assert rows == sorted(rows)


def test_failures_come_before_reviews() -> None:
    inspection = make_inspection(defects={"U1.upper.C3": "open"}, reviews={"U1.lower.A1": "near"})
    rows, left_out = choose_suspects(inspection.joints)
    assert [inspection.joints["verdict"][r] for r in rows] == ["fail", "review"]
    assert left_out == 0


def test_a_card_without_pictures_says_so() -> None:
    inspection = make_inspection(undecided=["U1.lower.A1"])
    place_um = find_places_um(inspection.joints, recipe_of(inspection))
    (card,) = make_cards(inspection.joints, [0], make_contact_sheet(inspection.crops, [0]), place_um)
    assert (card.label, card.p, card.pictured, card.reference) == (None, "–", False, None)
    assert card.flags == ("no X-ray slices show this interface",)


def decode(address: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8), cv2.IMREAD_GRAYSCALE)


def test_joints_share_a_reference() -> None:
    inspection = make_inspection(defects=DEFECTS, side=SIDE, pictures=True)
    rows, _ = choose_suspects(inspection.joints)
    sheet = make_contact_sheet(inspection.crops, rows)
    assert len(sheet.places) == len(rows) + 1  # one good neighbour serves all
    assert len(set(sheet.references.values())) == 1


def test_each_joint_lies_where_the_sheet_says() -> None:
    inspection = make_inspection(defects=DEFECTS, side=SIDE, pictures=True)
    rows, _ = choose_suspects(inspection.joints)
    grey = np.random.default_rng(1).integers(20, 230, (len(inspection.crops.row), 5, 1, 1))
    crops = replace(inspection.crops, pixels=np.broadcast_to(grey, (*grey.shape[:2], 48, 48)).astype(np.uint8))
    sheet = make_contact_sheet(crops, rows)
    picture = decode(sheet.url)
    assert picture.shape == (sheet.height, sheet.width)
    crop = {int(row): k for k, row in enumerate(crops.row)}
    for row in sheet.places:
        x, y = sheet.at(row)
        seen = picture[y : y + 48, x : x + 5 * 48].reshape(48, 5, 48)[8:40, :, 8:40].mean(axis=(0, 2))
        np.testing.assert_allclose(seen, grey[crop[row], :, 0, 0], atol=3)


def test_the_first_joints_are_shown_where_not_all_fit_the_budget() -> None:
    inspection = make_inspection(defects=DEFECTS, side=SIDE, pictures=True)
    rows, _ = choose_suspects(inspection.joints)
    noise = np.random.default_rng(0).integers(0, 256, (len(inspection.crops.row), 5, 48, 48), np.uint8)
    crops = replace(inspection.crops, pixels=noise)
    whole = make_contact_sheet(crops, rows)
    few = make_contact_sheet(crops, rows, budget=len(whole.url) // 2)
    assert len(few.url) <= len(whole.url) // 2
    assert 5 <= len(few.places) <= 9
    assert set(rows[: len(few.places) - 1]) <= set(few.places)
    assert make_contact_sheet(crops, rows, budget=10).places == {}


def test_without_crops_there_is_no_sheet() -> None:
    inspection = make_inspection(undecided=["U1.lower.A1"])
    for sheet in (make_contact_sheet(None, [0]), make_contact_sheet(inspection.crops, [])):
        assert (sheet.url, sheet.places, sheet.width, sheet.height) == ("", {}, 0, 0)


def test_a_joint_stands_out_among_its_neighbours_by_its_robust_distance() -> None:
    inspection = make_inspection(defects={"U1.lower.D4": "starved"}, side=SIDE, measures={"U1.lower.D4": {"volume_ratio": 0.5}})
    joints = inspection.joints
    row = int(np.flatnonzero(joints["label"] == "starved")[0])
    strip = next(s for s in make_strips(joints, [row], find_places_um(joints, recipe_of(inspection)))[0] if s.words == "volume")
    assert strip.value == "0.50"
    assert strip.at is not None and strip.at < 0.1 * STRIP_WIDTH  # the lowest of all, at the left
    assert strip.sigma.startswith("−") and abs(float(strip.sigma.split("\u00a0")[0].replace("−", "-"))) > 5


def test_what_was_not_measured_has_a_line_without_the_joint() -> None:
    inspection = make_inspection(defects={"U1.lower.D4": "open"}, side=SIDE, measures={"U1.lower.D4": {"volume_ratio": np.nan}})
    joints = inspection.joints
    row = int(np.flatnonzero(joints["label"] == "open")[0])
    strip = next(s for s in make_strips(joints, [row], find_places_um(joints, recipe_of(inspection)))[0] if s.words == "volume")
    assert (strip.value, strip.at, strip.sigma) == ("–", None, "")
    assert strip.ticks


def test_a_column_without_values_has_no_line() -> None:
    inspection = make_inspection(defects={"U1.lower.A1": "open"})
    joints = inspection.joints.replace(standoff_um=np.full(len(inspection.joints), np.nan))
    words = [s.words for s in make_strips(joints, [0], find_places_um(joints, recipe_of(inspection)))[0]]
    assert "stand-off" not in words and "volume" in words


def test_medians_pass_over_what_is_not_known() -> None:
    values = np.array([[3.0, np.nan, 1.0, 2.0], [np.nan] * 4, [4.0, 1.0, 3.0, 2.0], [np.nan, 7.0, np.nan, np.nan]])
    assert np.array_equal(nan_median(values), [2.0, np.nan, 2.5, 7.0], equal_nan=True)


def test_strips_are_escaped() -> None:
    strip = Strip(words="<b>", value="1 & 2", ticks="M1 4v8", at=None, low="0", high='"9"', sigma="")
    drawn = render_strips([strip, strip])
    assert "<b>" not in drawn
    assert drawn.count("&lt;b&gt;") == 4
    assert "to &#34;9&#34;" in drawn
    assert 'class="this"' not in drawn


def test_neighbours_are_the_nearest_that_passed_in_the_same_interface() -> None:
    inspection = make_inspection(defects={"U1.lower.A1": "open", "U1.lower.A2": "open", "U1.upper.B2": "open"}, side=SIDE)
    joints, place_um = inspection.joints, find_places_um(inspection.joints, recipe_of(inspection))
    rows = np.flatnonzero(joints["verdict"] != "pass")
    lower, _, upper = (near[near >= 0] for near in find_neighbours(joints, rows, place_um))
    assert len(lower) == 24 and len(upper) == 8
    for row, near, name in ((rows[0], lower, "lower"), (rows[2], upper, "upper")):
        assert set(joints["interface"][near]) == {name}
        assert set(joints["verdict"][near]) == {"pass"}
        away = np.hypot(*(place_um - place_um[row]).T)
        left = np.setdiff1d(np.flatnonzero((joints["interface"] == name) & (joints["verdict"] == "pass")), near)
        assert not len(left) or away[near].max() <= away[left].min()


def test_no_rows_have_no_strips() -> None:
    inspection = make_inspection()
    assert make_strips(inspection.joints, [], find_places_um(inspection.joints, recipe_of(inspection))) == []


def test_joints_without_a_passing_neighbour_stand_alone_on_their_lines() -> None:
    names = [f"U1.lower.{row}{column}" for row in "ABCD" for column in range(1, 5)]
    inspection = make_inspection(defects=dict.fromkeys(names, "open"), side={"lower": 4, "upper": 3})
    joints = inspection.joints
    rows = np.flatnonzero(joints["interface"] == "lower").tolist()
    for strips in make_strips(joints, rows, find_places_um(joints, recipe_of(inspection))):
        assert strips and all(strip.ticks == "" and strip.at is not None and strip.sigma == "" for strip in strips)

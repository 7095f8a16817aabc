"""The board's page says what a person needs, escapes what came from outside, and stays small."""

import json
import re
from dataclasses import replace

import numpy as np

from inspect_pop.report.board_page import board_page
from tests.factories import ROWS, make_inspection
from tests.report.recipes import recipe_of


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
    page = board_page(inspection, recipe_of(inspection))
    for text in (
        "FAIL",
        "PB2411-000123",
        "1 open of 25 joints; 1 for review",
        "take the memory package off",
        "Shallow dip.",
        "5 of 5 open joints lie in the upper interface",
        "U1/pre_stack",
        "between good and starved",
        inspection.board.export_digest,
        inspection.board.model_digest,
    ):
        assert text in page


def test_a_clean_board_has_its_empty_states() -> None:
    inspection = make_inspection()
    page = board_page(inspection, recipe_of(inspection))
    assert "Every joint passed." in page
    assert "No height map" in page
    assert "no defect among 25 joints" in page


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
    page = board_page(inspection, recipe_of(inspection))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert len(re.findall(r"<script", page)) == 2  # the data and our own
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert evil in data["reason"]


def test_the_data_hold_every_joint_and_null_for_what_was_not_measured() -> None:
    inspection = make_inspection(measures={"U1.lower.A1": {"volume_ratio": np.nan}})
    page = board_page(inspection, recipe_of(inspection))
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["ball"]) == 25
    assert data["values"]["volume_ratio"][0] is None
    assert all(len(v) == 25 for v in data["values"].values())


def test_hundreds_of_failed_joints_stay_under_three_megabytes_and_the_rest_is_counted() -> None:
    defects = {f"U1.lower.{ROWS[r]}{c}": "open" for r in range(20) for c in range(1, 16)}
    inspection = make_inspection(defects=defects, side={"lower": 20, "upper": 12}, pictures=True)
    noise = np.random.default_rng(0).integers(0, 256, (len(inspection.crops.row), 5, 48, 48), np.uint8)
    inspection = replace(inspection, crops=replace(inspection.crops, pixels=noise))
    page = board_page(inspection, recipe_of(inspection))
    assert len(page.encode()) < 3_000_000
    assert "140 more are left out" in page
    assert re.search(r"; \d+ without pictures", page)


def test_two_packages_have_a_map_for_each_interface() -> None:
    inspection = make_inspection(refdes=("U1", "U2"), pictures=True, defects={"U2.upper.A1": "bridged"})
    page = board_page(inspection, recipe_of(inspection))
    assert page.count("data-map") >= 4
    assert "U2 · upper" in page

"""The slices of all suspects on one sheet."""

import base64
from dataclasses import replace

import cv2
import numpy as np

from inspect_pop.report.board_page import choose
from inspect_pop.report.joint_cards import sheet_of
from tests.factories import ROWS, make_inspection

SIDE = {"lower": 8, "upper": 3}
DEFECTS = {f"U1.lower.{ROWS[r]}{c}": "open" for r in range(4) for c in range(1, 5)}


def decoded(address: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8), cv2.IMREAD_GRAYSCALE)


def test_joints_share_a_reference() -> None:
    inspection = make_inspection(defects=DEFECTS, side=SIDE, pictures=True)
    rows, _ = choose(inspection.joints)
    sheet = sheet_of(inspection.crops, rows)
    assert len(sheet.places) == len(rows) + 1  # one good neighbour serves all
    assert len(set(sheet.references.values())) == 1


def test_each_joint_lies_where_the_sheet_says() -> None:
    inspection = make_inspection(defects=DEFECTS, side=SIDE, pictures=True)
    rows, _ = choose(inspection.joints)
    grey = np.random.default_rng(1).integers(20, 230, (len(inspection.crops.row), 5, 1, 1))
    crops = replace(inspection.crops, pixels=np.broadcast_to(grey, (*grey.shape[:2], 48, 48)).astype(np.uint8))
    sheet = sheet_of(crops, rows)
    picture = decoded(sheet.address)
    assert picture.shape == (sheet.height, sheet.width)
    crop = {int(row): k for k, row in enumerate(crops.row)}
    for row in sheet.places:
        x, y = sheet.at(row)
        seen = picture[y : y + 48, x : x + 5 * 48].reshape(48, 5, 48)[8:40, :, 8:40].mean(axis=(0, 2))
        np.testing.assert_allclose(seen, grey[crop[row], :, 0, 0], atol=3)


def test_the_first_joints_are_shown_where_not_all_fit_the_budget() -> None:
    inspection = make_inspection(defects=DEFECTS, side=SIDE, pictures=True)
    rows, _ = choose(inspection.joints)
    noise = np.random.default_rng(0).integers(0, 256, (len(inspection.crops.row), 5, 48, 48), np.uint8)
    crops = replace(inspection.crops, pixels=noise)
    whole = sheet_of(crops, rows)
    few = sheet_of(crops, rows, budget=len(whole.address) // 2)
    assert len(few.address) <= len(whole.address) // 2
    assert 5 <= len(few.places) <= 9
    assert set(rows[: len(few.places) - 1]) <= set(few.places)
    assert sheet_of(crops, rows, budget=10).places == {}


def test_without_crops_there_is_no_sheet() -> None:
    inspection = make_inspection(undecided=["U1.lower.A1"])
    for sheet in (sheet_of(None, [0]), sheet_of(inspection.crops, [])):
        assert (sheet.address, sheet.places, sheet.width, sheet.height) == ("", {}, 0, 0)

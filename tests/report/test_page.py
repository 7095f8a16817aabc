"""What all pages share: escaping, policy, figures, pictures."""

import base64
import hashlib
import math
import re

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspect_pop.report.board_page import count_joints
from inspect_pop.report.page import encode_jpeg_url, encode_png_url, format_number, format_time, to_words
from inspect_pop.report.write import render_run_page
from tests.factories import make_inspection

GRAIN = np.clip(np.random.default_rng(3).normal(128, 25, (48, 240)), 0, 255).astype(np.uint8)


def test_number_names_its_unit_and_shows_what_is_missing() -> None:
    assert format_number(-3.26, 1, "µm") == "−3.3\u00a0µm"
    assert format_number(12, signed=True) == "+12"
    assert format_number(math.nan, 2, "µm") == format_number(None) == "–"


@pytest.mark.parametrize(
    ("iso", "shown"), [("2026-03-02T08:15:00.123+01:00", "2026-03-02 08:15:00+01:00"), ("yesterday", "yesterday")]
)
def test_when_keeps_the_zone_and_leaves_other_text_alone(iso: str, shown: str) -> None:
    assert format_time(iso) == shown


def test_the_policy_allows_only_the_script_that_the_page_was_made_with() -> None:
    page = render_run_page([(make_inspection().board, count_joints(make_inspection().joints))], [], {})
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy and script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy[1].replace("&#39;", "'")


def test_a_page_asks_the_network_for_nothing() -> None:
    page = render_run_page([(make_inspection().board, count_joints(make_inspection().joints))], [("a", "b")], {})
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "@import" not in page and "url(" not in page


def decode(address: str) -> NDArray[np.uint8]:
    coded = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED), np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_is_what_it_was(channels: int) -> None:
    pixels = GRAIN if channels == 1 else np.stack([GRAIN, GRAIN // 2, 255 - GRAIN], axis=2)
    address = encode_png_url(pixels)
    assert address.startswith("data:image/png;base64,")
    seen = decode(address)
    np.testing.assert_array_equal(seen if channels == 1 else seen[:, :, ::-1], pixels)


def test_a_jpeg_errs_by_less_than_the_grain_and_is_smaller() -> None:
    address = encode_jpeg_url(GRAIN)
    assert address.startswith("data:image/jpeg;base64,")
    off = np.abs(decode(address).astype(int) - GRAIN)
    assert off.mean() < 3
    assert off.max() < 15
    assert len(address) < 0.8 * len(encode_png_url(GRAIN))


def test_words_are_those_of_the_table() -> None:
    assert [to_words(n) for n in ("head_in_pillow", "shallow_dip", None)] == ["head-in-pillow", "shallow dip", "undecided"]

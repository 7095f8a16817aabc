"""What all pages share: escaping, policy, figures."""

import base64
import hashlib
import math
import re

import pytest

from inspect_pop.report.page import number, when
from inspect_pop.report.run_page import run_page
from tests.factories import make_inspection


def test_number_names_its_unit_and_shows_what_is_missing() -> None:
    assert number(-3.26, 1, "µm") == "−3.3\u00a0µm"
    assert number(12, signed=True) == "+12"
    assert number(math.nan, 2, "µm") == number(None) == "–"


@pytest.mark.parametrize(
    ("iso", "shown"), [("2026-03-02T08:15:00.123+01:00", "2026-03-02 08:15:00+01:00"), ("yesterday", "yesterday")]
)
def test_when_keeps_the_zone_and_leaves_other_text_alone(iso: str, shown: str) -> None:
    assert when(iso) == shown


def test_the_policy_allows_only_the_script_that_the_page_was_made_with() -> None:
    page = run_page([make_inspection().board], [], {})
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy and script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy[1].replace("&#39;", "'")


def test_a_page_asks_the_network_for_nothing() -> None:
    page = run_page([make_inspection().board], [("a", "b")], {})
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "@import" not in page and "url(" not in page

"""What follows for the board."""

import pytest

from inspect_pop.diagnose import choose_disposition


@pytest.mark.parametrize(
    ("labels", "verdict", "underfill", "expected"),
    [
        ({"lower": [], "upper": []}, "pass", False, "ship"),
        ({"lower": [], "upper": []}, "review", False, "review"),
        ({"lower": [], "upper": ["open"]}, "review", False, "review"),
        ({"lower": [], "upper": ["open", "good"]}, "fail", False, "rework_memory"),
        ({"lower": [], "upper": ["open"]}, "fail", True, "rework_stack"),
        ({"lower": ["starved"], "upper": ["open"]}, "fail", False, "rework_stack"),
        ({"lower": ["bridged"], "upper": []}, "fail", False, "rework_stack"),
        ({"lower": [None], "upper": ["good"]}, "fail", False, "review"),
        ({"lower": ["open"], "upper": []}, "unheard of", False, "review"),
    ],
)
def test_disposition(labels: dict[str, list[str | None]], verdict: str, underfill: bool, expected: str) -> None:
    assert choose_disposition(labels, verdict, underfill) == expected

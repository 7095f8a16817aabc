"""What follows for the board."""

import pytest

from inspect_pop.diagnose import choose_disposition


@pytest.mark.parametrize(
    ("faulty", "verdict", "underfill", "expected"),
    [
        ([], "pass", False, "ship"),
        ([], "review", False, "review"),
        (["upper"], "fail", False, "rework_memory"),
        (["upper"], "fail", True, "rework_stack"),
        (["lower", "upper"], "fail", False, "rework_stack"),
        (["lower"], "fail", False, "rework_stack"),
        ([], "fail", False, "review"),
        (["lower"], "unheard of", False, "review"),
    ],
)
def test_disposition(faulty: list[str], verdict: str, underfill: bool, expected: str) -> None:
    assert choose_disposition(faulty, verdict, underfill) == expected

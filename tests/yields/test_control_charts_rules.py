"""Each run test holds on its own pattern, at the point that completes it, and not one point before."""

import numpy as np
import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.yields.control_charts import RULES, WESTERN_ELECTRIC, Signal, run_rules

PATTERNS = {
    1: [0.5, -0.5, 3.1],
    2: [-0.1, *[0.1] * 9],
    3: [0.5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    4: [0.1, *[-0.2, 0.2] * 6, -0.2],
    5: [2.1, 0.5, 2.2],
    6: [1.1, 1.2, 0.2, 1.3, 1.4],
    7: [1.5, *[0.5, -0.5, 0.2] * 5],
    8: [0.1, *[1.5, -1.5] * 4],
    9: [-0.1, *[0.1] * 8],
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_pattern_is_found_at_its_last_point(rule: int) -> None:
    z = np.array(PATTERNS[rule])
    assert run_rules(z, [rule]) == [Signal(rule, len(z) - 1)]
    assert run_rules(-z, [rule]) == [Signal(rule, len(z) - 1)]
    assert run_rules(z[:-1], [rule]) == []


@pytest.mark.parametrize(
    ("rule", "z"),
    [
        (1, [3.0, -3.0]),
        (2, [*[0.1] * 8, -0.1, 0.1]),
        (3, [0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.6]),
        (4, [*[-0.2, 0.2] * 6, 0.3, 0.1]),
        (5, [2.1, 0.0, -2.2]),
        (5, [2.1, 0.0, 0.0, 2.2]),
        (6, [1.1, -1.2, 1.3, -1.4, 1.5]),
        (7, [*[0.5] * 14, 1.0]),
        (8, [*[1.5] * 7, 0.9]),
    ],
)
def test_what_is_almost_a_pattern_is_none(rule: int, z: list[float]) -> None:
    assert run_rules(np.array(z), [rule]) == []


def test_empty_points_are_passed_over() -> None:
    z = np.array([0.1] * 4 + [np.nan] + [0.1] * 5)
    assert run_rules(z, [2]) == [Signal(2, 9)]


def test_signals_come_in_order_and_have_words() -> None:
    found = run_rules(np.array([3.5, 2.5, 2.5]), WESTERN_ELECTRIC)
    assert [(s.index, s.rule) for s in found] == [(0, 1), (1, 5), (2, 5)]
    assert found[0].text == "one point beyond 3 sigma"


def test_chance_seldom_makes_them() -> None:
    z = np.random.default_rng(1).normal(size=200_000)
    share = {rule: len(run_rules(z, [rule])) / len(z) for rule in RULES}
    assert share[1] == pytest.approx(0.0027, abs=0.0005)  # 2 (1 - Phi(3))
    assert share[2] == pytest.approx(2 * 0.5**9, abs=0.0005)
    assert all(value < 0.012 for value in share.values())


def test_no_points_and_unknown_rules() -> None:
    assert run_rules(np.array([]), tuple(RULES)) == []
    with pytest.raises(UsageFault, match="rule"):
        run_rules(np.zeros(3), [10])

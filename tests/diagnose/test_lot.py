"""What a lot points to."""

import numpy as np
import pytest

from inspect_pop.core.joint_table import CLASSES
from inspect_pop.diagnose import LotDefects, suspect_lot
from inspect_pop.diagnose.lot import repeating
from tests.diagnose.patterns import package

SIZES = {i.name: len(i.ball) for i in package().interfaces}


def lot(rng: np.random.Generator, boards: int = 200, rate: float = 0.003) -> LotDefects:
    """Defects spread evenly: `rate` a joint and board, a quarter of them of each class."""
    interface = np.array([name for name, n in SIZES.items() for _ in range(n)], object)
    ball = np.array([b for i in package().interfaces for b in i.ball], object)
    return LotDefects(boards, interface, ball, rng.poisson(boards * rate / 4, (len(ball), 4)))


def test_even_defects_have_no_cause() -> None:
    for seed in range(20):
        cause = suspect_lot(lot(np.random.default_rng(seed)), {"none": 60, "warpage": 5, "excess_paste": 4})
        assert cause.name == "none"
        assert "without a clear pattern" in cause.evidence


def test_a_clogged_opening_shows_as_positions_that_repeat() -> None:
    of = lot(np.random.default_rng(1))
    of.defects[[40, 41, 66], CLASSES[1:].index("starved")] += [9, 14, 11]
    cause = suspect_lot(of, {"none": 60})
    assert cause.name == "insufficient_paste"
    assert set(cause.joints) == {f"lower {of.ball[k]}" for k in (40, 41, 66)}
    assert cause.joints[0] == f"lower {of.ball[41]}"  # the most frequent first
    assert "of 200 boards" in cause.evidence


@pytest.mark.parametrize(
    ("interface", "label", "name"),
    [
        ("lower", "bridged", "excess_paste"),
        ("lower", "open", "insufficient_paste"),
        ("lower", "head_in_pillow", "warpage"),
        ("upper", "head_in_pillow", "shallow_dip"),
        ("upper", "bridged", "placement_offset"),
    ],
)
def test_what_repeats_says_which_step(interface: str, label: str, name: str) -> None:
    of = lot(np.random.default_rng(2))
    rows = np.flatnonzero(of.interface == interface)[[3, 8, 20]]
    of.defects[rows, CLASSES[1:].index(label)] += 15
    assert suspect_lot(of, {}).name == name


def test_boards_that_agree_speak_for_the_lot() -> None:
    cause = suspect_lot(lot(np.random.default_rng(3)), {"none": 10, "shallow_dip": 25, "warpage": 2})
    assert cause.name == "shallow_dip"
    assert cause.evidence.startswith("25 of 37 boards")


def test_a_single_failure_is_no_repetition_and_an_empty_lot_has_no_cause() -> None:
    few = LotDefects(
        3,
        *(getattr(lot(np.random.default_rng(0)), n) for n in ("interface", "ball")),
        np.zeros((sum(SIZES.values()), 4), np.int64),
    )
    few.defects[5, 0] = 1
    assert not repeating(few).any()
    nothing = LotDefects(0, np.zeros(0, object), np.zeros(0, object), np.zeros((0, 4), np.int64))
    assert suspect_lot(nothing, {}).evidence == "no defects"

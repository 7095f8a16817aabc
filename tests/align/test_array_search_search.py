"""The search scores joints against places that must be empty."""

import numpy as np
import pytest

from inspect_pop.align.array_search import pattern, score_shifts, search
from inspect_pop.align.solder_map import SolderMap, solder_map
from inspect_pop.core.geometry import Placement
from tests.drawn import drawn_interface
from tests.scenes import HOME, ring, stack_of

FULL = drawn_interface(8)


def seen(placement: Placement = HOME) -> SolderMap:
    return solder_map(stack_of(FULL, placement, half_um=3000.0), FULL.ball_diameter_um, 64)


def score_near(score: np.ndarray, x_um: np.ndarray, y_um: np.ndarray, at: tuple[float, float]) -> float:
    """The best score within half a ball of one shift."""
    return float(score[np.hypot(x_um - at[0], y_um - at[1]) < 125].max())


def test_a_pitch_beside_loses_a_row_of_joints_and_fills_a_row_of_empty_places() -> None:
    expected = pattern(FULL)
    maps = score_shifts(seen(), expected, 0.0, 600.0)
    assert score_near(*maps, (0.0, 0.0)) == pytest.approx(64, abs=0.5)
    for beside in ((400.0, 0.0), (0.0, -400.0)):
        assert score_near(*maps, beside) == pytest.approx(64 - expected.margin, abs=1.0)


def test_joints_outside_the_image_score_nothing() -> None:
    stack = stack_of(FULL, half_um=1400.0)
    small = solder_map(stack, FULL.ball_diameter_um, 64)
    maps = score_shifts(small, pattern(FULL), 0.0, 600.0)
    assert score_near(*maps, (0.0, 0.0)) <= 64


@pytest.mark.parametrize("turn", [-1.8, 0.0, 1.3])
def test_search_comes_within_half_a_ball(turn: float) -> None:
    placed = Placement(-410.0, 230.0, turn, 0.0)
    best = search(seen(placed), pattern(FULL), 600.0, FULL.ball_diameter_um).placement
    assert np.hypot(best.offset_x_um - placed.offset_x_um, best.offset_y_um - placed.offset_y_um) < 125
    assert best.rotation_deg == pytest.approx(turn, abs=1.5)  # 1.5 degrees move the corner joints by a fifth of a ball


def test_a_ring_in_transmission_is_not_drawn_into_the_array_beside_it() -> None:
    """The ring's own empty places keep it off joints of the other interface that would fit as well."""
    upper = ring(8, 400.0)
    stack = stack_of(FULL, half_um=3000.0)
    maps = score_shifts(solder_map(stack, 248.0, 28), pattern(upper), 0.0, 600.0)
    # All 28 places hold solder at home, but so do those inside the ring, which must be empty.
    assert score_near(*maps, (0.0, 0.0)) < 28 - 15

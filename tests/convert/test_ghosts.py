"""Which way up a volume is, from the ghosts of the other interface."""

import numpy as np
from numpy.typing import NDArray

from inspect_pop.convert.levels import decide_turned


def scores(up: float, down: float, at: int = 20) -> NDArray[np.float64]:
    """Scores whose best tilt is number `at` for both ways."""
    found = np.zeros((2, 60))
    found[:, at] = up, down
    return found


def test_volumes_of_a_board_are_judged_together() -> None:
    assert decide_turned([scores(1.8, 0.9), scores(0.9, 1.2)]) == [False, True]


def test_one_volume_alone_needs_more() -> None:
    assert decide_turned([scores(1.2, 1.0)]) == [None]
    assert decide_turned([scores(0.9, 1.8)]) == [True]


def test_what_disagrees_decides_nothing() -> None:
    assert decide_turned([scores(1.0, 1.05), scores(0.9, 1.6)]) == [None, None]
    assert decide_turned([]) == []

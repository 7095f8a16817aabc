"""Turned X-ray pictures show in domes and volumes that go together the wrong way round."""

import numpy as np
import pytest
from numpy.typing import NDArray

from inspect_pop.measure.joints import is_turned
from tests.drawn import drawn_interface

INTERFACE = drawn_interface(side=10, name="upper")
N = len(INTERFACE.ball)


def measured(noise: float, seed: int = 3) -> dict[str, NDArray[np.float32]]:
    """Domes with a spread of 6 um over a warped package, volumes that follow them."""
    rng = np.random.default_rng(seed)
    high = rng.normal(0, 1, N)
    warp = 1e-6 * (INTERFACE.x_um**2 + INTERFACE.y_um**2)
    dome = 6 * high + warp
    volume = 1 + 0.05 * high + 0.05 * noise * rng.normal(0, 1, N)
    return {"dome_um": dome.astype(np.float32), "volume_ratio": volume.astype(np.float32)}


def turned(columns: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The same with the volumes of the joints opposite: the recipe lists the grid row by row, so that it is the reverse order."""
    return {**columns, "volume_ratio": columns["volume_ratio"][::-1]}


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_turned_pictures_are_seen_and_straight_ones_believed(noise: float) -> None:
    columns = measured(noise)
    assert not is_turned(columns, INTERFACE)
    assert is_turned(turned(columns), INTERFACE)


def test_a_few_defects_do_not_turn_a_package() -> None:
    columns = measured(1.0)
    columns["volume_ratio"][[3, 17, 40]] = [0.2, 0.3, 2.0]
    columns["dome_um"][[96, 82, 59]] = [-90, -90, 90]  # the joints opposite
    assert not is_turned(columns, INTERFACE)


def test_a_package_that_looks_alike_both_ways_round_is_not_turned() -> None:
    columns = {name: (values + values[::-1]) / 2 for name, values in measured(0.3).items()}
    assert not is_turned(columns, INTERFACE)
    assert not is_turned(turned(columns), INTERFACE)


@pytest.mark.parametrize("lost", ["dome_um", "volume_ratio"])
def test_nothing_known_is_not_turned(lost: str) -> None:
    columns = turned(measured(0.3))
    columns[lost] = np.full(N, np.nan, np.float32)
    assert not is_turned(columns, INTERFACE)
    columns[lost] = np.zeros(N, np.float32)
    assert not is_turned(columns, INTERFACE)


def test_heights_and_volumes_that_tell_nothing_rarely_turn_a_package() -> None:
    rng = np.random.default_rng(5)
    chance = [{name: rng.normal(0, 1, N).astype(np.float32) for name in ("dome_um", "volume_ratio")} for _ in range(300)]
    assert sum(is_turned(columns, INTERFACE) for columns in chance) <= 6


def test_few_joints_tell_nothing() -> None:
    small = drawn_interface(side=3, name="upper")
    dome = np.arange(9, dtype=np.float32)
    assert not is_turned({"dome_um": dome, "volume_ratio": dome[::-1].copy()}, small)

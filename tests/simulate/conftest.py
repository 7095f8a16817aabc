"""A machine that is quick to simulate, and boards made with it once for all tests."""

from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.catalog import MACHINES, PRODUCTS, Machine

QUICK = replace(MACHINES["line_a"], name="quick", pixel_um=24.0, slices=3, views=8, height_pixel_um=48.0, shading=0.0)


@pytest.fixture(scope="session")
def quick() -> Machine:
    return QUICK


@pytest.fixture(scope="session")
def board() -> SimulatedBoard:
    return simulate_board(np.random.default_rng(11), PRODUCTS["tst4"], QUICK, cause="none", defect_rate=0.25)

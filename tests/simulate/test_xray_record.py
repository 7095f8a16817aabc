from dataclasses import replace

import numpy as np

from inspect_pop.simulate.machines import MACHINES
from inspect_pop.simulate.xray import recorded

SLICES = np.linspace(0, 1, 400, dtype=np.float32).reshape(2, 10, 20)


def written(**changes):
    return recorded(np.random.default_rng(1), SLICES, replace(MACHINES["line_a"], shading=0.0, **changes), (1.0, 1.0))


def test_solder_is_bright_or_dark_as_the_polarity_says():
    bright, dark = written(), written(polarity="solder_dark")
    assert bright[1, -1, -1] > bright[0, 0, 0]
    assert dark[1, -1, -1] < dark[0, 0, 0]


def test_dtype_is_the_machines_and_values_stay_inside():
    assert written().dtype == np.uint16
    assert written(dtype="float32").dtype == np.float32
    clipped = written(dtype="uint8", level=200.0, span=300.0)
    assert clipped.dtype == np.uint8
    assert clipped.max() == 255


def test_a_response_that_is_not_straight_keeps_the_order():
    bent = written(dtype="float32", gamma=1.4).ravel()
    assert (np.diff(bent) > 0).all()
    assert abs(bent[0] - written(dtype="float32").ravel()[0]) < 0.01


def test_a_dead_row_is_one_value_in_every_page():
    dead = written(dead_row=True)
    constant = [r for r in range(10) if len(np.unique(dead[:, r])) == 1]
    assert len(constant) == 1


def test_drift_scales_what_is_written():
    base = written(dtype="float32")
    moved = recorded(np.random.default_rng(1), SLICES, replace(MACHINES["line_a"], shading=0.0, dtype="float32"), (1.1, 1.0))
    assert np.allclose(np.ptp(moved), 1.1 * np.ptp(base))

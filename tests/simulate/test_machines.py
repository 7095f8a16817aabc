import numpy as np
import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.simulate.catalog import MACHINES, draw_machine, find_machine


def test_named_machines_bear_their_names():
    assert {"line_a", "line_b", "worn_tube", "ct9", "transmission"} <= set(MACHINES)
    assert all(find_machine(name).name == name for name in MACHINES)


def test_an_unknown_machine_is_refused_with_the_known_ones():
    with pytest.raises(UsageFault, match="line_a"):
        find_machine("line_z")


def test_random_machines_span_what_nobody_has_seen():
    machines = [draw_machine(np.random.default_rng(k)) for k in range(200)]
    assert {m.method for m in machines} == {"laminography", "ct", "transmission"}
    assert {m.polarity for m in machines} == {"solder_bright", "solder_dark"}
    assert {m.dtype for m in machines} == {"uint8", "uint16", "float32"}
    assert {m.slices for m in machines if m.method == "laminography"} == set(range(3, 10))
    assert all(m.slices == 1 for m in machines if m.method == "transmission")
    assert any(m.dead_row for m in machines)


def test_a_method_can_be_asked_for_and_the_seed_decides():
    assert draw_machine(np.random.default_rng(1), "ct").method == "ct"
    assert draw_machine(np.random.default_rng(1)) == draw_machine(np.random.default_rng(1))

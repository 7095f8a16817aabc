"""Measurements over time: first inspections in order, without those that have no value."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.store import Store, open_store
from inspect_pop.yields import MEASURES, read_series
from tests.factories import again, make_inspection

HOURS = [f"2026-03-02T{h:02d}:00:00+01:00" for h in (10, 8, 12, 9)]


@pytest.fixture
def store(tmp_path: Path):
    """Four boards that arrive out of order, one of them without a height map, one inspected twice."""
    with open_store(tmp_path / "records.db") as opened:
        for k, at in enumerate(HOURS):
            one = make_inspection(f"S{k}", inspected_at=at, warpage_um=10.0 * k, offset_um=(3.0 * k, 4.0 * k))
            if k == 2:
                one = replace(one, packages=(replace(one.packages[0], warpage_um=math.nan),))
            opened.write(one)
        opened.write(
            again(make_inspection("S1", warpage_um=99.0, inspected_at=HOURS[1]), inspected_at="2026-03-02T13:00:00+01:00")
        )
        yield opened


def test_values_come_in_order_of_time_and_of_first_inspections(store: Store) -> None:
    found = read_series(store, "warpage_um")
    assert found.serial.tolist() == ["S1", "S3", "S0"]
    assert found.value.tolist() == [10.0, 30.0, 0.0]
    assert found.left_out == 1
    assert (np.diff(found.at_us) > 0).all()
    assert (found.low, found.high) == (-80.0, 80.0)


def test_the_length_of_an_offset(store: Store) -> None:
    assert read_series(store, "offset_um").value.tolist() == [5.0, 15.0, 0.0, 10.0]


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_every_measure_is_there_for_every_board_that_has_it(store: Store, name: str) -> None:
    found = read_series(store, name, interface="upper" if MEASURES[name].per_interface else None)
    assert len(found.value) == (3 if name == "warpage_um" else 4)


def test_an_interface_has_its_own_values(store: Store) -> None:
    upper, lower = (read_series(store, "diameter_um", interface=i).value.mean() for i in ("upper", "lower"))
    assert upper == pytest.approx(325, abs=5)
    assert lower == pytest.approx(272, abs=5)


def test_limits_of_the_specification(store: Store) -> None:
    volume = read_series(store, "volume_ratio_min", interface="lower", limits=Limits(excess_volume=1.2))
    assert (volume.low, volume.high) == (2 / 3, 1.2)
    void = read_series(store, "void_fraction_max", interface="lower")
    assert (void.low, void.high) == (None, 0.25)
    assert read_series(store, "rotation_deg").low is None


def test_a_selection(store: Store) -> None:
    assert len(read_series(store, "offset_um", since="2026-03-02T09:30:00+01:00").value) == 2
    assert len(read_series(store, "offset_um", only={"lot": "other"}).value) == 0
    assert len(read_series(store, "offset_um", refdes="U2").value) == 0


def test_what_is_not_measured_is_refused(store: Store) -> None:
    with pytest.raises(UsageFault, match="measure"):
        read_series(store, "colour")
    with pytest.raises(UsageFault, match="lower or upper"):
        read_series(store, "diameter_um")

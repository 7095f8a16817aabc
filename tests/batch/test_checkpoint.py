"""A fragment is whole or absent, and gives back what was left."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.batch.checkpoint import fragment_path, read_fragment, write_fragment
from inspect_pop.core.errors import StoreFault
from tests.factories import make_inspection


def test_what_is_left_is_found_again(tmp_path: Path) -> None:
    left = make_inspection("Böärd/…\n7", defects={"U1.lower.A1": "open"}, undecided=["U1.upper.B2"], missing=("U1/pre_stack",))
    path = fragment_path(tmp_path, left.board.record)
    write_fragment(path, left)
    found = read_fragment(path)
    assert found is not None
    assert found.board == left.board
    assert found.packages == left.packages
    assert found.joints.names == left.joints.names
    for name in left.joints.names:
        np.testing.assert_array_equal(found.joints[name], left.joints[name])


def test_values_that_could_not_be_measured_stay_so(tmp_path: Path) -> None:
    left = make_inspection()
    left = replace(left, packages=(replace(left.packages[0], warpage_um=math.nan, cause=None),))
    write_fragment(tmp_path / "f.arrow", left)
    found = read_fragment(tmp_path / "f.arrow")
    assert found is not None
    assert math.isnan(found.packages[0].warpage_um)
    assert found.packages[0].cause is None


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert read_fragment(tmp_path / "absent.arrow") is None


@pytest.mark.parametrize("keep", [0, 10, 1000, -8])
def test_a_cut_fragment_is_none(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "f.arrow"
    write_fragment(path, make_inspection())
    path.write_bytes(path.read_bytes()[:keep])
    assert read_fragment(path) is None


@pytest.mark.parametrize("place", [9, 2000, -40, -1])
def test_a_fragment_with_another_byte_is_none(tmp_path: Path, place: int) -> None:
    path = tmp_path / "f.arrow"
    write_fragment(path, make_inspection())
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert read_fragment(path) is None


def test_a_place_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where the folder should be")
    with pytest.raises(StoreFault, match=r"folder to write to.*the same command then goes on"):
        write_fragment(tmp_path / "work" / "f.arrow", make_inspection())

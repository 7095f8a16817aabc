"""A checkpoint is whole or absent, and gives back what was written."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspect_pop.batch.worker import checkpoint_path, read_checkpoint, write_checkpoint
from inspect_pop.core.errors import StoreFault
from tests.factories import make_inspection


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    left = make_inspection("Böärd/…\n7", defects={"U1.lower.A1": "open"}, undecided=["U1.upper.B2"], missing=("U1/pre_stack",))
    path = checkpoint_path(tmp_path, left.board.record)
    write_checkpoint(path, left)
    found = read_checkpoint(path)
    assert found is not None
    assert found.board == left.board
    assert found.packages == left.packages
    assert found.joints.names == left.joints.names
    for name in left.joints.names:
        np.testing.assert_array_equal(found.joints[name], left.joints[name])


def test_values_that_could_not_be_measured_stay_so(tmp_path: Path) -> None:
    left = make_inspection()
    left = replace(left, packages=(replace(left.packages[0], warpage_um=math.nan, cause=None),))
    write_checkpoint(tmp_path / "f.arrow", left)
    found = read_checkpoint(tmp_path / "f.arrow")
    assert found is not None
    assert math.isnan(found.packages[0].warpage_um)
    assert found.packages[0].cause is None


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "absent.arrow") is None


@pytest.mark.parametrize("keep", [0, 10, 1000, -8])
def test_a_cut_checkpoint_is_none(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "f.arrow"
    write_checkpoint(path, make_inspection())
    path.write_bytes(path.read_bytes()[:keep])
    assert read_checkpoint(path) is None


@pytest.mark.parametrize("place", [9, 2000, -40, -1])
def test_a_checkpoint_with_another_byte_is_none(tmp_path: Path, place: int) -> None:
    path = tmp_path / "f.arrow"
    write_checkpoint(path, make_inspection())
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert read_checkpoint(path) is None


def test_a_place_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where the folder should be")
    with pytest.raises(StoreFault, match=r"folder to write to.*repeat the same command to resume"):
        write_checkpoint(tmp_path / "work" / "f.arrow", make_inspection())

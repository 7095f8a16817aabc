"""Netlists in IPC-D-356."""

from pathlib import Path

import numpy as np
import pytest

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.recipes.from_ipc import read_ipc356
from tests.recipes.samples import netlist, shared


def write(folder: Path, text: str) -> Path:
    path = folder / "board.ipc"
    path.write_text(text, encoding="latin-1", newline="")
    return path


@pytest.mark.parametrize(("turn", "corner"), [(0, "upper_left"), (90, "lower_left")])
def test_an_array_goes_back_onto_its_lattice(tmp_path: Path, turn: int, corner: str) -> None:
    """0.40 mm in units of 0.0001 inch is 399 or 401 um."""
    (draft,) = read_ipc356(write(tmp_path, netlist(turn=turn)))
    assert (draft.refdes, len(draft.ball), draft.pitch_um, draft.a1_corner) == ("U4", 12, 400.0, corner)
    assert set(np.round(np.diff(np.unique(draft.x_um)), 6)) == {400.0}
    assert draft.pad_um == pytest.approx(228.6)


def test_a_part_on_the_bottom_is_seen_from_there(tmp_path: Path) -> None:
    (draft,) = read_ipc356(write(tmp_path, netlist("10")))
    assert "bottom" in draft.notes[0]
    assert draft.x_um[0] == pytest.approx(600.0), "mirrored"


def test_what_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"U4 \(12 balls\)"):
        read_ipc356(write(tmp_path, netlist()), "U5")
    with pytest.raises(RecipeFault, match="records of IPC-D-356"):
        read_ipc356(write(tmp_path, "hello\n"))
    with pytest.raises(RecipeFault, match="UNITS"):
        read_ipc356(write(tmp_path, netlist().replace("CUST 0", "FURLONG")))
    with pytest.raises(UsageFault, match="Name the part"):
        read_ipc356(write(tmp_path, netlist().replace("-A", "-1")))


def test_a_real_netlist() -> None:
    path = shared("formats/cad/ipc-d-356/allegro-2_MinnowMax_RevA1_IPC356A.ipc")
    drafts = {d.refdes: d for d in read_ipc356(path)}
    assert len(drafts["CPU1"].ball) == 1170
    assert "no regular lattice" in "".join(drafts["CPU1"].notes)
    for name in ("MEM1", "MEM2", "MEM3", "MEM4"):
        assert (len(drafts[name].ball), drafts[name].pitch_um) == (96, 800.0)
        assert any("bottom" in note for note in drafts[name].notes) == (name in ("MEM3", "MEM4"))

"""Boards in IPC-2581."""

from pathlib import Path

import pytest

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.recipes.from_ipc import read_ipc2581
from tests.recipes.samples import ipc2581, shared


def write(folder: Path, text: str) -> Path:
    path = folder / "board.xml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("units", ["MILLIMETER", "INCH"])
def test_a_component_is_turned_counter_clockwise(tmp_path: Path, units: str) -> None:
    (draft,) = read_ipc2581(write(tmp_path, ipc2581("90.000", units)))
    assert (draft.refdes, draft.part, len(draft.ball), draft.pitch_um) == ("U1", "BGA_9", 9, 1000.0)
    assert (draft.x_um[0], draft.y_um[0]) == pytest.approx((-1000.0, -1000.0), abs=0.1)
    assert draft.a1_corner == "lower_left"
    assert draft.pad_um == pytest.approx(500.0)
    assert draft.body_um == pytest.approx((4500.0, 4000.0))


def test_entities_and_damage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeFault, match="document type"):
        read_ipc2581(write(tmp_path, ipc2581().replace("<IPC-2581", "<!DOCTYPE x><IPC-2581", 1)))
    entity = ipc2581().replace("<IPC-2581", '<!DOCTYPE x [<!ENTITY a "b">]><IPC-2581', 1)
    with pytest.raises(RecipeFault, match="document type"):
        read_ipc2581(write(tmp_path, entity))
    with pytest.raises(RecipeFault, match="expected XML"):
        read_ipc2581(write(tmp_path, ipc2581()[:500]))
    with pytest.raises(RecipeFault, match="an IPC-2581 element"):
        read_ipc2581(write(tmp_path, "<svg/>"))
    with pytest.raises(RecipeFault, match="in one another"):
        read_ipc2581(write(tmp_path, "<IPC-2581>" + "<a>" * 100 + "</a>" * 100 + "</IPC-2581>"))
    with pytest.raises(RecipeFault, match="units"):
        read_ipc2581(write(tmp_path, ipc2581().replace('CadHeader units="MILLIMETER"', 'CadHeader units="ELL"')))
    with pytest.raises(RecipeFault, match="rotation"):
        read_ipc2581(write(tmp_path, ipc2581("round")))
    with pytest.raises(UsageFault, match="U1"):
        read_ipc2581(write(tmp_path, ipc2581()), "U2")


def test_a_real_board() -> None:
    drafts = {d.refdes: d for d in read_ipc2581(shared("formats/cad/ipc2581/testcase10-RevC-Assembly.xml"))}
    assert {name: (len(d.ball), d.pitch_um) for name, d in drafts.items()} == {
        "U1": (576, 1000.0),
        "U2": (484, 1000.0),
        "U3": (484, 1000.0),
    }
    assert drafts["U2"].a1_corner == "lower_left"

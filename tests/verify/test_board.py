"""One board as the verify station shows it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inspect_pop.core import flags
from inspect_pop.core.columns import JointTable
from inspect_pop.core.inspection import Inspection
from inspect_pop.store import Decision, open_store
from inspect_pop.verify.board import describe_board
from tests.factories import joint_name, make_inspection

BRIDGE = {f"U1.lower.{ball}": "bridged" for ball in ("A1", "A2", "B2")} | {"U1.lower.D4": "open", "U1.upper.A1": "bridged"}


def describe(tmp_path: Path, inspection: Inspection, **more: object) -> dict:
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection)
        record = inspection.board.record
        store.add_decision(Decision(record, "U1", "lower", "D4", "DefectConfirmed", "Ada", "2026-03-02T10:00:00+01:00"))
        stored = store.record(record)
        assert stored is not None
        joints = None if more.pop("without_joints", False) else store.inspection(record).joints
        return describe_board(stored, joints, store.sample(record), **more)  # type: ignore[arg-type]


def test_every_joint_has_its_role_and_those_looked_at_have_figures(tmp_path: Path) -> None:
    board = describe(tmp_path, make_inspection("S", defects=BRIDGE))
    roles = [joint["role"] for joint in board["joints"]]
    assert (len(roles), roles.count("suspect"), roles.count("sample"), roles.count("reference")) == (25, 5, 1, 0)
    assert len(board["measured"]) == len(board["neighbours"]) == 6
    low, middle, high = board["neighbours"]["U1.lower.A1"]["diameter_um"]
    assert low < middle < high
    assert {c["name"] for c in board["columns"]} == set(board["measured"]["U1.lower.A1"])
    assert [(d["state"], d["id"], d["stage"]) for d in board["decisions"]] == [("DefectConfirmed", 1, "operator")]
    assert (board["verdict"], board["final"], board["golden"]) == ("fail", "fail", None)
    json.dumps(board, allow_nan=False)


def test_the_joints_of_one_bridge_are_one_group_and_others_are_not_in_it(tmp_path: Path) -> None:
    board = describe(tmp_path, make_inspection("S", defects=BRIDGE))
    assert board["groups"] == [{"id": "g1", "kind": "bridge", "joints": ["U1.lower.A1", "U1.lower.A2", "U1.lower.B2"]}]
    group_of = {".".join(j[n] for n in ("refdes", "interface", "ball")): j["group"] for j in board["joints"]}
    assert (group_of["U1.lower.A2"], group_of["U1.lower.D4"], group_of["U1.upper.A1"]) == ("g1", None, None)


@pytest.mark.parametrize(("size_um", "kind"), [(120.0, "stray"), (900.0, "puddle")])
def test_joints_beside_one_spot_of_stray_solder_are_one_group(tmp_path: Path, size_um: float, kind: str) -> None:
    inspection = make_inspection("S", reviews=dict.fromkeys(("U1.lower.C1", "U1.lower.C2", "U1.lower.D4"), "stray solder"))
    stray = {joint: {"stray_um": size_um} for joint in ("U1.lower.C1", "U1.lower.C2")}
    zero = {joint_name(inspection.joints, k): {"stray_um": 0.0} for k in range(len(inspection.joints))}
    board = describe(
        tmp_path,
        make_inspection(
            "S",
            reviews=dict.fromkeys(("U1.lower.C1", "U1.lower.C2"), "stray solder"),
            defects={"U1.lower.D4": "open"},
            measures=zero | stray,
        ),
    )
    assert board["groups"] == [{"id": "g1", "kind": kind, "joints": ["U1.lower.C1", "U1.lower.C2"]}]


def test_joints_of_a_part_without_solder_are_one_group() -> None:
    suspects = dict.fromkeys((f"U1.lower.{row}{col}" for row in "AB" for col in (1, 2)), "open")
    inspection = make_inspection("S", defects=suspects)
    names = [joint_name(inspection.joints, k) for k in range(len(inspection.joints))]
    bits = np.array([flags.bit("no_ball") if name in suspects else 0 for name in names], dtype=np.int64)
    columns = {name: inspection.joints[name] for name in inspection.joints[0]} | {"flags": bits}
    from inspect_pop.verify.board import _find_groups

    assert _find_groups(JointTable(columns)) == [{"id": "g1", "kind": "missing", "joints": sorted(suspects)}]


def test_without_joint_files_the_suspects_are_described(tmp_path: Path) -> None:
    board = describe(tmp_path, make_inspection("S", defects=BRIDGE), without_joints=True)
    assert (len(board["joints"]), board["measured"], board["groups"]) == (5, {}, [])


def test_windows_give_references_and_say_which_joints_have_a_picture(tmp_path: Path) -> None:
    windows = SimpleNamespace(roles={"U1.lower.A1": "suspect"}, references={"U1.lower.A1": "U1.lower.C3"}, export=None)
    board = describe(tmp_path, make_inspection("S", defects=BRIDGE), windows=windows, golden={"record": "g", "serial": "G"})
    joints = {".".join(j[n] for n in ("refdes", "interface", "ball")): j for j in board["joints"]}
    assert (joints["U1.lower.A1"]["has_windows"], joints["U1.lower.A1"]["reference"]) == (True, "U1.lower.C3")
    assert (joints["U1.lower.A2"]["has_windows"], joints["U1.lower.A2"]["reference"]) == (False, None)
    assert joints["U1.lower.C3"]["role"] in ("reference", "sample")
    assert board["golden"] == {"record": "g", "serial": "G"}

"""CFX messages: against examples worked out by hand, and that the same input gives the same messages."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from inspect_pop.core.columns import COLUMNS
from inspect_pop.core.inspection import Inspection
from inspect_pop.messages import Envelope, from_decision, from_fault, from_inspection, from_verification, make_heartbeat
from inspect_pop.messages.cfx import build_decision_step, build_joint_steps
from inspect_pop.messages.cfx_schema import VerificationState
from inspect_pop.store import Decision, DefectRecord, Message, open_store
from tests.factories import make_inspection

HANDLE = "ACME.AXI-1"
MEASURES = {"diameter_um": 268.0, "volume_ratio": 1.1, "void_fraction": 0.05, "standoff_um": 171.0, "clearance_um": 0.0}
BRIDGE = {"U1.lower.A1": "bridged"}
EXAMPLES = Path(__file__).parent / "examples"


def board(**changes: Any) -> Inspection:
    return make_inspection("PB2411-000123", **({"side": {"lower": 2, "upper": 2}, "record": "ab" * 32} | changes))


def units(inspection: Inspection) -> dict[str, dict[str, Any]]:
    """The one unit of each UnitsInspected, by method."""
    bodies = [m.payload["MessageBody"] for m in from_inspection(inspection, HANDLE)]
    return {b["InspectionMethod"]: b["InspectedUnits"][0] for b in bodies if "InspectionMethod" in b}


def test_a_board_with_a_bridge_gives_exactly_the_messages_of_the_example() -> None:
    """`examples/bridge.json` was worked out by hand from the standard's field list: see the comment in its README."""
    unmeasured = dict.fromkeys(
        (c.name for c in COLUMNS if c.cfx), math.nan
    )  # a column that was added later is not in the example
    exact = unmeasured | dict.fromkeys(("dx_um", "dy_um"), 0.0) | MEASURES
    inspection = board(defects=BRIDGE, measures={"U1.lower.A1": exact}, offset_um=(12.0, -7.0), warpage_um=31.0)
    messages = [m.payload for m in from_inspection(inspection, HANDLE)]
    expected = json.loads((EXAMPLES / "bridge.json").read_text())
    assert rounded(messages) == rounded(expected)


def test_every_message_is_valid_and_survives_the_store(tmp_path: Path) -> None:
    inspection = board(defects=BRIDGE, reviews={"U1.upper.A1": "unsure"}, undecided=["U1.upper.A2"])
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection, messages=from_inspection(inspection, HANDLE))
        kept = store.waiting()[1]
    assert [m.kind.rpartition(".")[2] for m in kept] == ["WorkStarted", "UnitsInspected", "UnitsInspected", "WorkCompleted"]
    for message in kept:
        envelope = Envelope.model_validate(json.loads(message.text))
        assert (str(envelope.UniqueID), envelope.Version, envelope.Source) == (message.id, "2.1", HANDLE)
        assert message.payload["MessageBody"]["$type"] == f"{envelope.MessageName}, CFX"
        assert message.text.index('"$type"') < message.text.index('"TransactionI')  # .NET wants the type first


def test_the_same_inspection_gives_the_same_identifiers_and_another_record_gives_others() -> None:
    first, second = (list(from_inspection(board(defects=BRIDGE), HANDLE)) for _ in range(2))
    other = list(from_inspection(board(defects=BRIDGE, record="cd" * 32), HANDLE))
    assert first == second
    assert len({m.id for m in first}) == len(first)
    assert not {m.id for m in first} & {m.id for m in other}
    assert all(UUID(m.id).version == 5 for m in first)


def test_all_identifiers_within_a_message_differ() -> None:
    text = "".join(m.text for m in from_inspection(board(defects={f"U1.lower.{b}": "open" for b in ("A1", "A2", "B1")}), HANDLE))
    unique = [part.split('"')[2] for part in text.split("UniqueIdentifier")[1:]]
    assert len(set(unique)) == len(unique) > 3


@pytest.mark.parametrize(
    ("label", "category", "code"),
    [
        ("bridged", "Short", "POP-BRIDGED"),
        ("starved", "InsufficientSolder", "POP-STARVED"),
        ("open", "SolderDefect", "POP-OPEN"),
        ("head_in_pillow", "SolderDefect", "POP-HEAD-IN-PILLOW"),
    ],
)
def test_each_class_has_its_category_and_code(label: str, category: str, code: str) -> None:
    step = units(board(defects={"U1.upper.B2": label}))["AXI"]["Inspections"][0]
    defect = step["DefectsFound"][0]
    assert (defect["DefectCategory"], defect["DefectCode"]) == (category, code)
    assert defect["ComponentOfInterest"]["ReferenceDesignator"] == "U1.B2"
    assert step["InspectionName"] == "U1.upper.B2"


@pytest.mark.parametrize(
    ("verdict", "category", "code"), [("fail", "SolderDefect", "POP-REJECTED"), ("review", "Miscellaneous", "POP-DOUBT")]
)
def test_a_good_joint_beyond_a_limit_is_rejected_and_no_doubt(verdict: str, category: str, code: str) -> None:
    """And stays the same defect when a person has decided."""
    found = DefectRecord("U1", "upper", "B2", "good", verdict, "voids take 0.40 of the ball's picture", 0, {"p_good": 0.99})
    (step,) = build_joint_steps("0" * 32, [found])
    decision = Decision("0" * 32, "U1", "upper", "B2", "confirmed", "qa1", "2026-03-02T08:00:00+00:00")
    decided = build_decision_step("0" * 32, decision, found, VerificationState.DEFECT_CONFIRMED)
    for defect in (step.DefectsFound[0], decided.DefectsFound[0]):
        assert (defect.DefectCategory, defect.DefectCode) == (category, code)
    assert step.DefectsFound[0].ConfidenceLevel == (100.0 if verdict == "fail" else 1.0)
    assert step.Comments == "voids take 0.40 of the ball's picture"


def test_only_what_did_not_pass_is_listed_and_all_is_counted() -> None:
    axi = units(board(defects=BRIDGE))["AXI"]
    assert (len(axi["Inspections"]), axi["TotalInspectionCount"]) == (1, 8)
    assert units(board())["AXI"]["Inspections"] == []


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, "Passed"),
        ({"defects": BRIDGE}, "Failed"),
        ({"reviews": {"U1.lower.A1": "unsure"}}, "Failed"),
        ({"undecided": ["U1.lower.A1"]}, "Error"),
    ],
)
def test_no_board_that_did_not_pass_is_reported_as_passed(changes: dict[str, Any], result: str) -> None:
    unit = units(board(**changes))["AXI"]
    assert (unit["OverallResult"], unit["Verification"]) == (result, "NotVerifiedYet")


def test_an_undecided_joint_is_an_error_with_its_reason() -> None:
    step = units(board(undecided=["U1.lower.A1"]))["AXI"]["Inspections"][0]
    assert (step["Result"], step["Error"], step["DefectsFound"]) == ("Error", "no slices", [])


def test_height_maps_and_slices_go_as_one_message_each() -> None:
    both = units(board())
    assert set(both) == {"AOI", "AXI"}
    assert both["AOI"]["TotalInspectionCount"] == 1
    names = [m["MeasurementName"] for m in both["AOI"]["Inspections"][0]["Measurements"]]
    assert names == ["Warpage", "StackHeight", "OffsetX", "OffsetY", "Rotation"]


def test_a_board_without_slices_is_not_passed_by_its_height_map() -> None:
    inspection = board(undecided=[f"U1.{i}.{b}" for i in ("lower", "upper") for b in ("A1", "A2", "B1", "B2")])
    blind = replace(inspection, joints=inspection.joints.replace(diameter_um=[float("nan")] * 8))
    found = units(blind)
    assert set(found) == {"AOI"}
    assert (found["AOI"]["OverallResult"], found["AOI"]["TotalInspectionCount"]) == ("Error", 9)


def test_a_board_of_which_nothing_was_seen_still_has_its_message() -> None:
    inspection = board(undecided=["U1.lower.A1"])
    nan = float("nan")
    blind = replace(
        inspection,
        joints=inspection.joints.replace(diameter_um=[nan] * 8),
        packages=tuple(replace(p, warpage_um=nan, stack_height_um=nan) for p in inspection.packages),
    )
    assert set(units(blind)) == {"AXI"}


def test_measurements_are_in_si_units_with_limits() -> None:
    step = units(board(warpage_um=-95.0))["AOI"]["Inspections"][0]
    warpage = step["Measurements"][0]
    assert warpage["MeasuredValue"]["Value"] == pytest.approx(-95e-6)
    assert warpage["MeasuredValue"]["ValueUnits"] == "m"
    assert warpage["MeasuredValue"]["MaximumAcceptableValue"] == pytest.approx(80e-6)
    assert warpage["Result"] == "Failed"


@pytest.mark.parametrize(
    ("state", "verification", "result"),
    [
        ("DefectConfirmed", "DefectConfirmed", "Failed"),
        ("DefectRejected", "DefectRejected", "Passed"),
        ("DefectAccepted", "DefectAccepted", "Passed"),
        ("DefectRepaired", "DefectRepaired", "Failed"),
        ("DefectMissed", "DefectConfirmed", "Failed"),
    ],
)
def test_a_decision_has_its_state_and_the_person_who_decided(tmp_path: Path, state: str, verification: str, result: str) -> None:
    inspection = board(defects=BRIDGE)
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection)
        stored = store.board("PB2411-000123")[0]
    ball = "A2" if state == "DefectMissed" else "A1"
    decision = Decision("ab" * 32, "U1", "lower", ball, state, "rita", "2026-03-02T09:00:00+01:00", label="open", note="seen")
    message = from_decision(stored.board, stored.defects, decision, HANDLE)
    body = Envelope.model_validate(message.payload).model_dump(mode="json", by_alias=True)["MessageBody"]
    unit = body["InspectedUnits"][0]
    assert (body["InspectionMethod"], body["Inspector"]["OperatorIdentifier"], body["Inspector"]["ActorType"]) == (
        "Human",
        "rita",
        "Human",
    )
    assert (unit["Verification"], unit["OverallResult"]) == (verification, result)
    assert unit["Inspections"][0]["DefectsFound"][0]["Verification"] == verification
    assert message == from_decision(stored.board, stored.defects, decision, HANDLE)
    assert message.id not in {m.id for m in from_inspection(inspection, HANDLE)}


@pytest.mark.parametrize(
    ("ball", "state", "before", "after", "verification", "result"),
    [
        ("A1", "DefectConfirmed", None, "DefectConfirmed", "DefectConfirmed", "Failed"),
        ("A1", "DefectRejected", "DefectConfirmed", "DefectRejected", "DefectRejected", "Passed"),  # the repair station overrules
        ("A1", "DefectWithdrawn", "DefectConfirmed", None, "NotVerifiedYet", "Failed"),
        (
            "A1",
            "DefectWithdrawn",
            "DefectRejected",
            "DefectConfirmed",
            "DefectConfirmed",
            "Failed",
        ),  # the operator's stands again
        ("C3", "PassConfirmed", None, "PassConfirmed", "DefectRejected", "Passed"),
        ("C3", "DefectWithdrawn", "PassConfirmed", None, "NotVerifiedYet", "Passed"),
        ("C3", "PassConfirmed", "DefectMissed", "PassConfirmed", "DefectRejected", "Passed"),
        ("C3", "DefectWithdrawn", "PassConfirmed", "DefectMissed", "DefectConfirmed", "Failed"),
    ],
)
def test_a_decision_of_either_stage_sends_what_counts_from_now_on(
    tmp_path: Path, ball: str, state: str, before: str | None, after: str | None, verification: str, result: str
) -> None:
    with open_store(tmp_path / "r.db") as store:
        store.write(board(defects=BRIDGE))
        stored = store.board("PB2411-000123")[0]
    decision = Decision("ab" * 32, "U1", "lower", ball, state, "rita", "2026-03-02T09:00:00+01:00")
    message = from_verification(stored.board, stored.defects, decision, HANDLE, before, after)
    unit = Envelope.model_validate(message.payload).model_dump(mode="json", by_alias=True)["MessageBody"]["InspectedUnits"][0]
    assert (unit["Verification"], unit["OverallResult"]) == (verification, result)
    # A joint at which nobody ever called a defect has none: it is no false call.
    called = ball == "A1" or "DefectMissed" in (before, after)
    assert len(unit["Inspections"][0]["DefectsFound"]) == int(called)


@pytest.mark.parametrize("position", [0, 1, 7, None])
def test_all_messages_have_one_position(position: int | None) -> None:
    inspection = board(position=position)
    bodies = [m.payload["MessageBody"] for m in from_inspection(inspection, HANDLE)]
    started = {u["PositionNumber"] for b in bodies for u in b.get("Units", ())}
    inspected = {u["UnitPositionNumber"] for b in bodies for u in b.get("InspectedUnits", ())}
    assert started == inspected == {1 if position is None else position}


@pytest.mark.parametrize("state", ["DefectConfirmed", "DefectRejected", "DefectAccepted", "DefectRepaired", "DefectClosed"])
def test_a_decision_is_about_the_defect_that_the_inspection_found(tmp_path: Path, state: str) -> None:
    inspection = board(defects={"U1.lower.A1": "open"}, reviews={"U1.upper.A1": "near"})
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection)
        stored = store.board("PB2411-000123")[0]
    steps = [s for unit in units(inspection).values() for s in unit["Inspections"]]
    found = {s["InspectionName"]: d["UniqueIdentifier"] for s in steps for d in s.get("DefectsFound", ())}
    assert {"U1.lower.A1", "U1.upper.A1"} <= found.keys()
    for name, identity in found.items():
        for person, at in (("rita", "2026-03-02T09:00:00+01:00"), ("omar", "2026-03-02T10:00:00+01:00")):
            decision = Decision("ab" * 32, *name.split("."), state, person, at)
            unit = from_decision(stored.board, stored.defects, decision, HANDLE).payload["MessageBody"]["InspectedUnits"][0]
            assert unit["Inspections"][0]["DefectsFound"][0]["UniqueIdentifier"] == identity


def test_a_fault_with_the_same_reason_is_the_same_message() -> None:
    at = "2026-03-02T09:00:00+01:00"
    first, again, other = (from_fault("/x/B1", r, "file", at, HANDLE) for r in ("cut short", "cut short", "gone"))
    assert first.id == again.id != other.id
    fault = Envelope.model_validate(first.payload).model_dump(mode="json", by_alias=True)["MessageBody"]["Fault"]
    assert (fault["FaultCode"], fault["Severity"], fault["Description"]) == ("file", "Error", "/x/B1: cut short")


def test_a_fault_of_a_path_that_is_no_text_has_a_message() -> None:
    message: Message = from_fault("/x/\udcff", "odd \0", "file", "2026-03-02T09:00:00+01:00", HANDLE)
    assert json.loads(message.text.encode())["MessageBody"]["Fault"]["Description"]


def test_a_heartbeat_says_how_often_it_comes() -> None:
    body = make_heartbeat(HANDLE, 90.0, "2026-03-02T09:00:00+01:00").model_dump(mode="json", by_alias=True)["MessageBody"]
    assert (body["$type"], body["CFXHandle"], body["HeartbeatFrequency"]) == ("CFX.Heartbeat, CFX", HANDLE, "00:01:30")


def rounded(value: Any) -> Any:
    """Numbers to nine significant digits: measurements are float32 in the table."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value

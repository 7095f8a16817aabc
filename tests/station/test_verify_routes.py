"""The verify station's routes over HTTP: queue, board, decisions of several people, the trail."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.station.conftest import Running

JOINTS = [f"{row}{col}" for row in "ABC" for col in range(1, 5)]


def write_suspects(service: Running, serial: str) -> str:
    answer = service.post(service.board(serial, defects={f"U1.lower.{ball}": "open" for ball in JOINTS}))
    return str(answer.json()["record"])


def decide(service: Running, serial: str, body: Any) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/boards/{serial}/decisions", json=body, timeout=300)


def decision(ball: str, state: str = "DefectRejected", **more: object) -> dict[str, object]:
    return {"refdes": "U1", "interface": "lower", "ball": ball, "state": state, **more}


def test_a_board_is_found_shown_and_decided(patient: Running) -> None:
    record = write_suspects(patient, "SHOWN-1")
    entry = patient.get("/v1/queue", params={"search": "SHOWN"}).json()["boards"][0]
    assert (entry["record"], entry["n_undecided"], entry["n_sample"]) == (record, 12, 1)
    board = patient.get(f"/v1/records/{record}").json()
    assert (len(board["joints"]), board["decisions"]) == (25, [])
    answer = decide(patient, "SHOWN-1", [decision(ball, record=record, seen=None) for ball in JOINTS])
    assert (answer.status_code, answer.json()["final"], len(answer.json()["ids"])) == (200, "pass", 12)
    one = decide(patient, "SHOWN-1", decision("A1", "DefectWithdrawn", record=record, seen=answer.json()["ids"][0]))
    assert set(one.json()) == {"record", "decided_by", "decided_at", "final"}
    assert one.json()["final"] == "fail"
    assert [d["id"] for d in patient.get(f"/v1/records/{record}").json()["decisions"]][:12] == answer.json()["ids"]
    assert patient.get("/v1/records/none").status_code == 404


def test_a_conflict_tells_what_the_other_person_decided_and_nothing_is_written(patient: Running) -> None:
    record = write_suspects(patient, "CONFLICT")
    first = decide(patient, "CONFLICT", [decision("A1", "DefectConfirmed", seen=None)]).json()["ids"][0]
    answer = decide(patient, "CONFLICT", [decision("A2", seen=None), decision("A1", seen=None)])
    assert answer.status_code == 409
    assert [(d["id"], d["ball"], d["state"]) for d in answer.json()["decisions"]] == [(first, "A1", "DefectConfirmed")]
    assert "saw" in answer.json()["reason"]
    assert len(patient.get(f"/v1/records/{record}").json()["decisions"]) == 1
    assert decide(patient, "CONFLICT", decision("A1")).status_code == 200  # a machine that saw none


def test_a_decision_about_a_replaced_inspection_is_refused_and_says_so(patient: Running) -> None:
    record = write_suspects(patient, "AGAIN")
    patient.post(patient.board("AGAIN", folder="AGAIN-2", scan=1, defects={"U1.lower.A1": "open"}))
    answer = decide(patient, "AGAIN", decision("A1", record=record, seen=None))
    assert (answer.status_code, answer.json()["superseded"], answer.json()["decisions"]) == (409, True, [])
    assert "a later one" in answer.json()["reason"]
    unnamed = decide(patient, "AGAIN", decision("A1"))
    assert (unnamed.status_code, "2 records" in unnamed.json()["reason"]) == (409, True)
    latest = patient.get("/v1/queue", params={"search": "AGAIN"}).json()["boards"][0]["record"]
    assert latest != record
    assert decide(patient, "AGAIN", decision("A1", record=latest, seen=None)).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 422),
        ([decision("A1")] * 501, 422),
        ([decision("A1"), decision("Z9")], 422),
        ([decision("A1", record="x"), decision("A2", record="y")], 422),
        (decision("A1", record="unknown"), 404),
        (decision("A1", seen="1"), 422),
        (decision("A1", stage="king"), 422),
        (decision("A1", "PassConfirmed"), 422),
        (decision("A1", "DefectWithdrawn"), 422),
        (decision("A1", "DefectRejected", stage="repair"), 200),
    ],
)
def test_what_is_not_valid_is_refused(patient: Running, body: Any, status: int) -> None:
    if not patient.get("/v1/queue", params={"search": "VALID"}).json()["boards"]:
        write_suspects(patient, "VALID")
    assert decide(patient, "VALID", body).status_code == status


def test_the_operator_does_not_overrule_the_repair_station(patient: Running) -> None:
    write_suspects(patient, "STAGES")
    assert decide(patient, "STAGES", decision("A1", stage="repair")).status_code == 200
    answer = decide(patient, "STAGES", decision("A1", "DefectConfirmed"))
    assert (answer.status_code, "stage repair" in answer.json()["reason"]) == (403, True)


def test_two_people_at_once_lose_nothing(patient: Running) -> None:
    record = write_suspects(patient, "TWO")

    def work(joints: list[str]) -> list[int]:
        with httpx.Client(base_url=patient.url, timeout=300) as client:
            url = "/v1/boards/TWO/decisions"
            return [client.post(url, json=[decision(ball, seen=None, note=joints[0])]).status_code for ball in joints]

    with ThreadPoolExecutor(2) as threads:
        done = [status for part in threads.map(work, (JOINTS, JOINTS[::-1])) for status in part]
    assert sorted(done) == [200] * 12 + [409] * 12
    decided = patient.get(f"/v1/records/{record}").json()["decisions"]
    assert sorted(d["ball"] for d in decided) == sorted(JOINTS)


def test_a_name_with_script_in_it_is_text_in_the_queue_and_the_board(patient: Running) -> None:
    serial = "<script>alert(1)</script>"
    write_suspects(patient, serial)
    for path, params in (("/v1/queue", {"search": serial}), ("/v1/audit", {})):
        answer = patient.get(path, params=params)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert patient.get("/v1/queue", params={"search": serial}).json()["boards"][0]["serial"] == serial


def test_a_service_without_users_and_tokens_is_open_to_this_machine(patient: Running) -> None:
    me = patient.get("/v1/me").json()
    assert (me["name"], me["role"], me["csrf"]) == ("local", "admin", "")
    assert httpx.get(f"{patient.url}/login").headers["location"] == "/"
    forged = httpx.get(f"{patient.url}/v1/queue", headers={"Origin": "https://evil.example"})
    assert forged.status_code == 403

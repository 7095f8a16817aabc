"""The service as the line sees it."""

import errno
import io
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.station.conftest import Running

Start = Callable[..., Running]


def test_answers_with_verdict_reason_and_record_of_each_kind_of_board(plain: Running) -> None:
    good = plain.post(plain.board("GOOD")).json()
    bad = plain.post(plain.board("BAD", defects={"U1.lower.A1": "bridged", "U1.lower.A2": "bridged"})).json()
    doubt = plain.post(plain.board("DOUBT", reviews={"U1.upper.B2": "unfamiliar"})).json()
    assert (good["serial"], good["verdict"], good["defects"], good["reason"]) == ("GOOD", "pass", [], "")
    assert (bad["verdict"], bad["reason"]) == ("fail", "2 bridged (U1.lower.A1, U1.lower.A2)")
    assert bad["defects"][0] == {"refdes": "U1", "interface": "lower", "ball": "A1", "label": "bridged", "p": 0.96}
    assert (doubt["verdict"], doubt["defects"], doubt["review"][0]["reason"]) == ("review", [], "unfamiliar")
    assert all(set(a) >= {"serial", "verdict", "reason", "defects", "record", "report", "elapsed_ms"} for a in (good, bad, doubt))


def test_the_record_is_in_the_store_with_its_messages_before_the_answer(plain: Running) -> None:
    answer = plain.post(plain.board("KEPT")).json()
    with plain.store() as store:
        assert [b.board.record for b in store.board("KEPT")] == [answer["record"]]
        kinds = [m.kind.rpartition(".")[2] for m in store.waiting()[1] if m.record == answer["record"]]
    assert kinds == ["WorkStarted", "UnitsInspected", "UnitsInspected", "WorkCompleted"]


def test_the_same_export_again_is_the_same_record(plain: Running) -> None:
    path = plain.board("TWICE")
    records = {plain.post(path).json()["record"] for _ in range(2)}
    board = plain.get("/v1/boards/TWICE").json()
    assert [r["record"] for r in board["records"]] == list(records)


def test_a_board_that_cannot_be_used_is_422_with_what_is_wrong_and_lies_in_quarantine(plain: Running) -> None:
    path = plain.board("ODD", refuse="nonsense")
    answer = plain.post(path)
    assert answer.status_code == 422
    assert answer.json()["verdict"] == "error"
    assert answer.json()["problem"] == {
        "about": "json",
        "thing": "export.json",
        "expected": "what the format says",
        "found": "nonsense",
        "remedy": "",
    }
    with plain.store() as store:
        assert [q.reason for q in store.list_quarantine() if q.path == path] == [answer.json()["reason"]]
        assert any(m.kind.endswith("FaultOccurred") and path in m.text for m in store.waiting()[1])


def test_a_path_may_be_relative_to_a_root(plain: Running) -> None:
    plain.board("RELATIVE")
    assert plain.post("boards/RELATIVE").json()["verdict"] == "pass"


def test_an_uploaded_zip_is_inspected_and_leaves_nothing(plain: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    packed = zipped({"recipes/r.json": b"{}", "boards/X/export.json": b'{"serial": "ZIPPED"}'})
    answer = httpx.post(f"{plain.url}/v1/inspections", files={"file": ("x.zip", packed)}, timeout=30)
    assert (answer.status_code, answer.json()["serial"], answer.json()["verdict"]) == (200, "ZIPPED", "pass")
    assert list(tmp_path.glob("inspect_pop-*")) == []


@pytest.mark.parametrize("serial", ["a/b", "Ω 基板", "x?y#z", "%2e%2e"])
def test_a_serial_of_any_alphabet_is_found_again(plain: Running, serial: str) -> None:
    plain.post(plain.board(serial, folder=f"any-{hash(serial)}"))
    answer = plain.get(f"/v1/boards/{quote(serial, safe='')}")
    assert answer.json()["records"][0]["serial"] == serial


def test_an_unknown_serial_is_404(plain: Running) -> None:
    assert plain.get("/v1/boards/NOBODY").status_code == 404


def test_healthy_ready_and_measured(plain: Running) -> None:
    plain.post(plain.board("MEASURED"))
    assert plain.get("/healthz").text == "ok"
    assert plain.get("/readyz").json() == {"status": "ready", "workers": 1, "waiting": 0, "model": "released"}
    text = plain.get("/metrics").text
    assert 'inspect_pop_verdicts_total{verdict="pass"}' in text
    assert "inspect_pop_inspection_seconds_bucket" in text
    assert 'route="/v1/inspections",status="200"' in text
    assert "/v1/inspections" in plain.get("/openapi.json").json()["paths"]


def test_whatever_an_inspector_prints_does_not_reach_the_answer(plain: Running) -> None:
    assert plain.post(plain.board("CHATTY", print='{"verdict": "pass"}\n')).json()["serial"] == "CHATTY"


def test_an_inspection_that_crashes_its_process_is_no_pass_and_the_next_board_is_inspected(plain: Running) -> None:
    for content in ({"die": True}, {"raise": "boom"}):
        path = plain.board(f"CRASH-{next(iter(content))}", **content)
        answer = plain.post(path)
        assert (answer.status_code, answer.json()["verdict"]) == (422, "error")
        with plain.store() as store:
            assert path in [q.path for q in store.list_quarantine()]
        assert plain.goes_on()


def test_an_inspection_that_hangs_is_killed_at_its_time_limit(service: Start) -> None:
    running = service(time_limit_s=3.0)
    path = running.board("HANGS", seconds=600)
    answer = running.post(path)
    assert (answer.status_code, answer.json()["verdict"]) == (504, "error")
    assert "3 s" in answer.json()["reason"]
    with running.store() as store:
        assert [q.path for q in store.list_quarantine()] == [path]
    assert any(running.goes_on() for _ in range(20))  # a fresh process on a machine with much to do may need more than the limit


def test_decisions_are_recorded_under_the_caller_and_sent_to_the_line(plain: Running) -> None:
    record = plain.post(plain.board("DECIDED", defects={"U1.lower.A1": "open"})).json()["record"]
    joint = {"refdes": "U1", "interface": "lower", "ball": "A1"}
    url = f"{plain.url}/v1/boards/DECIDED/decisions"
    answer = httpx.post(url, json=joint | {"state": "DefectRejected", "label": "good", "note": "shadow"})
    assert (answer.status_code, answer.json()["final"], answer.json()["decided_by"]) == (200, "pass", "local")
    with plain.store() as store:
        sent = [m for m in store.waiting()[1] if m.record == record and "DefectRejected" in m.text]
    assert len(sent) == 1
    assert httpx.post(url, json=joint | {"ball": "ZZ9", "state": "DefectRejected"}).status_code == 422
    assert httpx.post(url, json=joint | {"state": "Maybe"}).status_code == 422
    assert httpx.post(url.replace("DECIDED", "NOBODY"), json=joint | {"state": "DefectRejected"}).status_code == 404


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_the_page_for_people_needs_no_network(plain: Running) -> None:
    page = plain.get("/docs").text
    assert "POST /v1/inspections" in page
    assert "state: DefectConfirmed | DefectRejected |" in page
    assert "`" not in page and "<code>seen</code>" in page
    icon = re.search(r'rel="icon" href="([^"]+)"', page)
    assert icon is not None and plain.get(f"/{icon[1]}").status_code == 200
    assert "http://" not in page
    assert "https://" not in page


def test_an_upload_for_which_the_disk_has_no_room_is_to_come_again(plain: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    answer = httpx.post(f"{plain.url}/v1/inspections", files={"file": b"PK"}, timeout=60)
    assert (answer.status_code, answer.json()["verdict"]) == (503, "error")
    assert int(answer.headers["retry-after"]) > 0
    assert "No space left" in answer.json()["reason"]

"""Training and disagreements over HTTP: who may, what is answered, and what the station judges by afterwards."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from inspect_pop.classify.model import read_pointer
from inspect_pop.evaluate.promotion import promote
from inspect_pop.station import trainer as module
from tests.learn.models import make_model
from tests.station.conftest import Running

PASSWORD = "correct horse"
COMMAND = (sys.executable, str(Path(__file__).with_name("training.py")))


@pytest.fixture
def station(tmp_path: Path, service: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A station with people, whose trainings are those of the stand-in."""
    monkeypatch.setattr(module, "_EXTRA", ())
    monkeypatch.setattr(module, "LEAST_FREE_BYTES", 0)
    model = make_model(tmp_path / "models" / "present")
    (model / "digest").write_text("present")
    promote(model.parent, "present", at="2026-03-02T12:00:00+00:00", reason="first")
    running = service(model=model)
    running.server.station.trainer._command = COMMAND
    for name in ("operator", "engineer"):
        with running.store() as store:
            store.accounts.add_user(name, name, PASSWORD, by="test", now_us=0)
    yield running
    running.server.station.trainer.cancel()


@contextmanager
def log_in(station: Running, name: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=station.url, timeout=60, headers={"Origin": station.url}) as client:
        assert client.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303
        client.headers["X-CSRF-Token"] = client.get("/v1/me").json()["csrf"]
        yield client


def wish(tmp_path: Path, **content: Any) -> None:
    (tmp_path / "models" / "wish.json").write_text(json.dumps(content))


def wait(client: httpx.Client) -> dict[str, Any]:
    for _ in range(600):
        body: dict[str, Any] = client.get("/v1/training").json()
        if body["state"] != "running":
            return body
        time.sleep(0.05)
    raise AssertionError("the training does not end")


def test_train_promote_and_go_back(station: Running, tmp_path: Path) -> None:
    """One at a time, cancelled, not better, better: only the last can be promoted; going back is one call."""
    with log_in(station, "engineer") as client:
        wish(tmp_path, seconds=60)
        assert client.post("/v1/training/start").json()["can_cancel"]
        assert client.post("/v1/training/start").status_code == 409
        assert client.post("/v1/training/cancel").json()["state"] == "cancelled"
        wish(tmp_path)
        client.post("/v1/training/start")
        body = wait(client)
        assert (body["state"], body["can_promote"]) == ("not better", False)
        answer = client.post("/v1/training/promote")
        assert answer.status_code == 409 and "not better than what you have" in answer.json()["reason"]
        pool = station.server.station.pool
        assert pool.model == "present"
        wish(tmp_path, better=True)
        assert client.post("/v1/training/start").json()["state"] == "running"
        body = wait(client)
        assert (body["state"], body["started_by"], body["can_promote"]) == ("offered", "engineer", True)
        assert body["bias"] == "people looked at 9 of these joints"
        assert body["figures"]["new"]["escape"]["rate"] < body["figures"]["old"]["escape"]["rate"]
        body = client.post("/v1/training/promote").json()
        assert (body["state"], body["can_promote"], body["can_roll_back"]) == ("promoted", False, True)
        assert body["model"].startswith("station-") and pool.model == "trained"
        assert client.post("/v1/training/rollback").json()["model"] == "present"
        assert pool.model == "present"
        assert client.post("/v1/training/rollback").status_code == 409
    pointer = read_pointer(tmp_path / "models")
    assert pointer is not None and pointer.current == "present"
    with station.store() as store:
        actions = [entry.action for entry in store.list_audit() if entry.who == "engineer" and "log" not in entry.action]
    started = "training started"
    assert actions == [started, "training cancelled", started, started, "model promoted", "model rolled back"]


def test_who_may_not_train_and_what_another_site_sends_is_refused(station: Running) -> None:
    acts = ("start", "cancel", "promote", "rollback")
    with log_in(station, "operator") as client:
        assert client.get("/v1/training").status_code == 200
        assert [client.post(f"/v1/training/{act}").status_code for act in acts] == [403] * 4
    with log_in(station, "engineer") as client:
        del client.headers["X-CSRF-Token"]
        assert [client.post(f"/v1/training/{act}").status_code for act in acts] == [403] * 4
    assert {httpx.post(f"{station.url}/v1/training/{act}", timeout=60).status_code for act in acts} <= {401, 403}
    assert station.server.station.trainer.read_state().state == "idle"


def test_pages_disagreements_and_a_machine_that_cannot_train(station: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with log_in(station, "engineer") as client:
        record = station.post(station.board("B1", defects={"U1.lower.A1": "bridged"})).json()["record"]
        joint = {"refdes": "U1", "interface": "lower", "ball": "A1", "state": "DefectRejected", "record": record}
        assert client.post("/v1/boards/B1/decisions", json=joint).status_code == 200
        report = client.get("/v1/disagreements").json()["report"]
        for page in ("training", "disagreements"):
            assert f"/verify/static/{page}.js" in client.get(f"/{page}").text
            assert client.get(f"/verify/static/{page}.js").status_code == 200
        monkeypatch.setattr(module, "_EXTRA", ("no_such_package",))
        body = client.get("/v1/training").json()
        assert not body["can_start"] and "inspect_pop[training]" in body["missing"]
        answer = client.post("/v1/training/start")
        assert answer.status_code == 409 and "inspect_pop[training]" in answer.json()["reason"]
    assert (report["false_calls"], report["n_disagreements"]) == (1, 1)
    item = report["disagreements"][0]
    assert (item["serial"], item["joint"], item["kind"], item["decided_by"]) == ("B1", "U1.lower.A1", "false call", "engineer")

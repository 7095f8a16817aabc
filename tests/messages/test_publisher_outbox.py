"""The outbox: in order, each once by its identifier, and nothing lost while a receiver is away."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.messages import from_inspection
from inspect_pop.messages.publisher import NotDelivered, Postman, drain
from inspect_pop.messages.senders import Folder, Http, sender_for
from inspect_pop.store import Message, Store, open_store
from tests.factories import make_inspection
from tests.station.conftest import Running, running


class Away:
    """A receiver that confirms `patience` messages, then is gone."""

    def __init__(self, patience: int) -> None:
        self.patience, self.got, self.closed = patience, [], False
        self.got: list[Message]

    def send(self, message: Message) -> None:
        if len(self.got) >= self.patience:
            raise NotDelivered("receiver", found="gone")
        self.got.append(message)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "r.db") as opened:
        for i in range(20):
            inspection = make_inspection(f"S{i:02}", side={"lower": 2, "upper": 2})
            opened.write(inspection, messages=from_inspection(inspection, "H"))
        yield opened


def test_all_go_in_the_order_in_which_they_were_written(store: Store) -> None:
    expected = [m.id for m in store.waiting()[1]]
    receiver = Away(1000)
    assert drain(store, receiver, "me") == len(expected) == 80
    assert [m.id for m in receiver.got] == expected
    assert store.waiting()[0] == 0
    assert drain(store, receiver, "me") == 0


@pytest.mark.parametrize("patience", [0, 1, 31, 32, 33, 79])
def test_a_receiver_that_goes_away_loses_nothing_and_the_order_stays(store: Store, patience: int) -> None:
    expected = [m.id for m in store.waiting()[1]]
    first, second = Away(patience), Away(1000)
    with pytest.raises(NotDelivered):
        drain(store, first, "me")
    assert store.waiting()[0] == 80 - patience
    drain(store, second, "another")
    assert [m.id for m in first.got + second.got] == expected


def test_a_sender_that_died_leaves_its_claim_to_run_out(store: Store) -> None:
    store.claim(10, owner="dead", now_us=0, lease_s=60.0)
    receiver = Away(1000)
    drain(store, receiver, "me")
    assert len({m.id for m in receiver.got}) == 80


def test_a_folder_holds_each_message_once_in_order(store: Store, tmp_path: Path) -> None:
    messages = store.waiting()[1]
    sender = Folder(tmp_path / "out")
    for message in messages + messages[:5]:
        sender.send(message)
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == len(messages)
    told = [json.loads(f.read_text()) for f in files]
    of_one = [t["MessageName"].rpartition(".")[2] for t in told if "S00" in json.dumps(t)]
    assert of_one == ["WorkStarted", "UnitsInspected", "UnitsInspected"]
    assert {t["UniqueID"] for t in told} == {m.id for m in messages}


def test_a_folder_that_cannot_be_written_confirms_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotDelivered):
        drain(store, Folder(tmp_path / "file" / "out"), "me")
    assert store.waiting()[0] == 80


class Receiver(ThreadingHTTPServer):
    """An HTTP address that answers with the statuses it is told to, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.got: list[tuple[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = server.statuses.pop(0) if server.statuses else 204
        if status < 300:
            server.got.append((self.headers["Idempotency-Key"], body["UniqueID"]))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_http_address_confirms_with_2xx_alone(store: Store, receiver: Receiver) -> None:
    expected = [m.id for m in store.waiting()[1]]
    sender = Http(f"http://user:secret@127.0.0.1:{receiver.server_port}/cfx")
    for status in (500, 404, 302):
        receiver.statuses = [204, status]
        with pytest.raises(NotDelivered) as refused:
            drain(store, sender, "me")
        assert "secret" not in str(refused.value)
    drain(store, sender, "me")
    sender.close()
    assert receiver.got == [(i, i) for i in expected]


def test_an_http_address_that_is_not_there(store: Store) -> None:
    sender = Http("http://127.0.0.1:9/")
    with pytest.raises(NotDelivered):
        drain(store, sender, "me")
    sender.close()


@pytest.mark.parametrize("address", ["ftp://x/y", "amq://x", "mqtt://broker"])
def test_an_address_of_no_known_kind_is_refused(address: str) -> None:
    with pytest.raises(UsageFault, match="amqp://"):
        sender_for(address)


def test_an_address_may_be_kept_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path))
    assert isinstance(sender_for("env:WHERE")(), Folder)
    monkeypatch.delenv("WHERE")
    with pytest.raises(UsageFault, match="WHERE"):
        sender_for("env:WHERE")


def test_the_postman_delivers_what_waits_and_beats(store: Store) -> None:
    arrived = threading.Event()

    class Watched(Away):
        def send(self, message: Message) -> None:
            super().send(message)
            if len(self.got) > 80:
                arrived.set()

    receiver = Watched(1000)
    postman = Postman(store, lambda: receiver, handle="H", heartbeat_s=3600)
    postman.start()
    assert arrived.wait(30)
    postman.stop(10)
    assert receiver.got[0].kind == "CFX.Heartbeat"
    assert [m.kind for m in receiver.got].count("CFX.Heartbeat") == 1
    assert receiver.closed


def test_a_service_sends_what_it_records_to_a_folder(tmp_path: Path) -> None:
    with running(tmp_path, cfx=str(tmp_path / "cfx")) as here:
        record = here.post(here.board("SENT")).json()["record"]
        wait_until_empty(here)
    told = "".join(f.read_text() for f in (tmp_path / "cfx").iterdir())
    with open_store(tmp_path / "records.db") as kept:
        assert kept.record(record) is not None
    assert told.count("SENT") >= 3
    assert "CFX.Heartbeat" in told


def wait_until_empty(here: Running) -> None:
    pause = threading.Event()
    with here.store() as store:
        for _ in range(600):
            if store.waiting(0)[0] == 0:
                return
            pause.wait(0.05)
    raise AssertionError("messages wait")

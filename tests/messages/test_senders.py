"""Ways out: a folder, an HTTP address, and AMQP 1.0 against a real broker, RabbitMQ, started here."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.messages import Envelope, from_inspection
from inspect_pop.messages.publisher import AmqpSender, FolderSender, HttpSender, NotDelivered, drain, sender_for
from inspect_pop.store import Store, open_store
from tests.factories import make_inspection
from tests.station.broker import Broker, is_installed


def needs_broker(test: Callable[..., Any]) -> Callable[..., Any]:
    test = pytest.mark.broker(pytest.mark.filterwarnings("ignore::DeprecationWarning:proton")(test))
    test = pytest.mark.skipif(find_spec("proton") is None, reason="needs the extra cfx")(test)
    return pytest.mark.skipif(not is_installed(), reason="no RabbitMQ: apt-get install rabbitmq-server")(test)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "r.db") as opened:
        for i in range(5):
            inspection = make_inspection(f"S{i}", side={"lower": 2, "upper": 2}, defects={"U1.lower.A1": "open"})
            opened.write(inspection, messages=from_inspection(inspection, "H"))
        yield opened


def test_a_folder_holds_each_message_once_in_order(store: Store, tmp_path: Path) -> None:
    messages = store.waiting()[1]
    sender = FolderSender(tmp_path / "out")
    for message in messages + messages[:5]:
        sender.send(message)
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == len(messages)
    texts = [json.loads(f.read_text()) for f in files]
    of_one = [t["MessageName"].rpartition(".")[2] for t in texts if '"S0"' in json.dumps(t)]
    assert of_one == ["WorkStarted", "UnitsInspected", "UnitsInspected"]
    assert {t["UniqueID"] for t in texts} == {m.id for m in messages}


def test_a_folder_that_cannot_be_written_confirms_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotDelivered):
        drain(store, FolderSender(tmp_path / "file" / "out"), "me")
    assert store.waiting()[0] == 20


class HttpReceiver(ThreadingHTTPServer):
    """An HTTP address that answers with the given statuses, then 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.got: list[tuple[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, HttpReceiver)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = server.statuses.pop(0) if server.statuses else 204
        if status < 300:
            server.got.append((self.headers["Idempotency-Key"], body["UniqueID"]))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    server = HttpReceiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_http_address_confirms_with_2xx_alone(store: Store, receiver: HttpReceiver) -> None:
    expected = [m.id for m in store.waiting()[1]]
    sender = HttpSender(f"http://user:secret@127.0.0.1:{receiver.server_port}/cfx")
    for status in (500, 404, 302):
        receiver.statuses = [204, status]
        with pytest.raises(NotDelivered) as refused:
            drain(store, sender, "me")
        assert "secret" not in str(refused.value)
    drain(store, sender, "me")
    sender.close()
    assert receiver.got == [(i, i) for i in expected]


def test_an_http_address_that_is_not_there(store: Store) -> None:
    sender = HttpSender("http://127.0.0.1:9/")
    with pytest.raises(NotDelivered):
        drain(store, sender, "me")
    sender.close()


@pytest.mark.parametrize("address", ["ftp://x/y", "amq://x", "mqtt://broker"])
def test_an_address_of_no_known_kind_is_refused(address: str) -> None:
    with pytest.raises(UsageFault, match="amqp://"):
        sender_for(address)


def test_an_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHERE", str(tmp_path))
    assert isinstance(sender_for("env:WHERE")(), FolderSender)
    monkeypatch.delenv("WHERE")
    with pytest.raises(UsageFault, match="WHERE"):
        sender_for("env:WHERE")


def test_only_amqp_needs_proton(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "proton", None)
    assert isinstance(sender_for(str(tmp_path))(), FolderSender)
    with pytest.raises(UsageFault, match=r"inspect_pop\[cfx\]"):
        sender_for("amqp://localhost")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.close()


@needs_broker
def test_messages_arrive_in_order_and_valid(broker: Broker, store: Store) -> None:
    expected = [m.id for m in store.waiting()[1]]
    sender = sender_for(f"{broker.url}/queue/in-order")()
    assert drain(store, sender, "me") == 20
    sender.close()
    arrived = broker.everything_in("in-order")
    assert [m.id for m in arrived] == expected
    assert all(m.durable and m.content_type == "application/json" for m in arrived)
    assert [str(Envelope.model_validate(json.loads(m.body)).UniqueID) for m in arrived] == expected


@needs_broker
def test_by_default_each_kind_has_its_topic(broker: Broker, store: Store) -> None:
    from proton.reactor import DurableSubscription

    connection = broker.connect()
    receiver = connection.create_receiver("/topic/CFX.Production.TestAndInspection.#", credit=100, options=DurableSubscription())
    drain(store, AmqpSender(broker.url), "me")
    kinds = set()
    for _ in range(10):
        kinds.add(receiver.receive(timeout=10).subject)
        receiver.accept()
    connection.close()
    assert kinds == {"CFX.Production.TestAndInspection.UnitsInspected"}


@needs_broker
def test_a_broker_that_is_killed_and_comes_back_loses_nothing(broker: Broker, store: Store) -> None:
    address = f"{broker.url}/queue/killed"
    sender = AmqpSender(address)
    first = store.claim(7, owner="me", now_us=0)
    for message in first:
        sender.send(message)
    store.mark_delivered([m.id for m in first], at="2026-03-02T09:00:00+00:00")
    broker.kill()
    with pytest.raises(NotDelivered):
        drain(store, sender, "me")
    sender.close()
    with pytest.raises(NotDelivered):
        AmqpSender(address)
    broker.start()
    again = AmqpSender(address)
    drain(store, again, "me")
    again.close()
    arrived = [str(m.id) for m in broker.everything_in("killed")]
    assert len(set(arrived)) == 20
    assert store.waiting()[0] == 0


@needs_broker
def test_a_wrong_password_is_not_shown(broker: Broker) -> None:
    with pytest.raises(NotDelivered) as refused:
        AmqpSender(broker.url.replace("guest:guest", "guest:wrong-secret"))
    assert "wrong-secret" not in str(refused.value)

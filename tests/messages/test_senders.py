"""AMQP 1.0 against a real broker: RabbitMQ, started here."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("proton", reason="needs the extra cfx")

from proton.reactor import DurableSubscription

from inspect_pop.messages import Envelope, from_inspection
from inspect_pop.messages.publisher import NotDelivered, drain
from inspect_pop.messages.senders import Amqp, sender_for
from inspect_pop.store import Store, open_store
from tests.factories import make_inspection
from tests.station.broker import Broker, is_installed

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(not is_installed(), reason="no RabbitMQ: apt-get install rabbitmq-server"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:proton"),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "r.db") as opened:
        for i in range(5):
            inspection = make_inspection(f"S{i}", side={"lower": 2, "upper": 2}, defects={"U1.lower.A1": "open"})
            opened.write(inspection, messages=from_inspection(inspection, "H"))
        yield opened


def test_messages_arrive_in_order_and_valid(broker: Broker, store: Store) -> None:
    expected = [m.id for m in store.waiting()[1]]
    sender = sender_for(f"{broker.url}/queue/in-order")()
    assert drain(store, sender, "me") == 20
    sender.close()
    arrived = broker.everything_in("in-order")
    assert [m.id for m in arrived] == expected
    assert all(m.durable and m.content_type == "application/json" for m in arrived)
    assert [str(Envelope.model_validate(json.loads(m.body)).UniqueID) for m in arrived] == expected


def test_by_default_each_kind_has_its_topic(broker: Broker, store: Store) -> None:
    connection = broker.connect()
    receiver = connection.create_receiver("/topic/CFX.Production.TestAndInspection.#", credit=100, options=DurableSubscription())
    drain(store, Amqp(broker.url), "me")
    kinds = set()
    for _ in range(10):
        kinds.add(receiver.receive(timeout=10).subject)
        receiver.accept()
    connection.close()
    assert kinds == {"CFX.Production.TestAndInspection.UnitsInspected"}


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(broker: Broker, store: Store) -> None:
    address = f"{broker.url}/queue/killed"
    sender = Amqp(address)
    first = store.claim(7, owner="me", now_us=0)
    for message in first:
        sender.send(message)
    store.delivered([m.id for m in first], at="2026-03-02T09:00:00+00:00")
    broker.kill()
    with pytest.raises(NotDelivered):
        drain(store, sender, "me")
    sender.close()
    with pytest.raises(NotDelivered):
        Amqp(address)
    broker.start()
    again = Amqp(address)
    drain(store, again, "me")
    again.close()
    arrived = [str(m.id) for m in broker.everything_in("killed")]
    assert len(set(arrived)) == 20
    assert store.waiting()[0] == 0


def test_a_wrong_password_is_not_delivered_and_not_told(broker: Broker) -> None:
    with pytest.raises(NotDelivered) as refused:
        Amqp(broker.url.replace("guest:guest", "guest:wrong-secret"))
    assert "wrong-secret" not in str(refused.value)

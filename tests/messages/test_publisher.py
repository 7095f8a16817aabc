"""The outbox: each message once and in order, rendered when it is sent, and nothing lost while a receiver is away."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.messages import from_inspection, pending_messages
from inspect_pop.messages.publisher import MessageRefused, MessageRenderer, NotDelivered, OutboxPublisher, Refusals, drain
from inspect_pop.store import Message, Store, open_store
from tests.factories import make_inspection
from tests.station.conftest import Running, running

HANDLE = 'ACME "AXI" 1'
BAD: dict[str, Any] = {f"U1.lower.{row}{n}": "open" for row in "ABCDEFGHJKLM" for n in (1, 2, 9, 10, 11, 12)}
BOARDS: dict[str, dict[str, Any]] = {
    "good": {},
    "bad": {"defects": BAD, "side": {"lower": 12, "upper": 12}},
    "doubtful": {"reviews": {"U1.upper.A1": "unsure"}, "undecided": ["U1.upper.A2", "U1.lower.B1"]},
    "seen from above alone": {"defects": {"U1.lower.A1": "starved"}, "measures": {}, "pictures": True},
    "two packages": {"refdes": ("U7", "U10"), "defects": {"U7.lower.A1": "bridged", "U10.lower.A1": "bridged"}},
    "not measured": {"warpage_um": float("nan"), "offset_um": (float("nan"), float("nan"))},
    "of a panel": {"panel": "P-1", "position": 7, "software": "0.0.1", "serial": "S/ü 1"},
}


class Receiver:
    """A receiver that confirms `patience` messages, then is gone."""

    def __init__(self, patience: int = 1000) -> None:
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
    receiver = Receiver()
    assert drain(store, receiver, "me") == len(expected) == 80
    assert [m.id for m in receiver.got] == expected
    assert store.waiting()[0] == 0
    assert drain(store, receiver, "me") == 0


@pytest.mark.parametrize("patience", [0, 1, 31, 32, 33, 79])
def test_a_receiver_that_goes_away_loses_nothing_and_the_order_stays(store: Store, patience: int) -> None:
    expected = [m.id for m in store.waiting()[1]]
    first, second = Receiver(patience), Receiver()
    with pytest.raises(NotDelivered):
        drain(store, first, "me")
    assert store.waiting()[0] == 80 - patience
    drain(store, second, "another")
    assert [m.id for m in first.got + second.got] == expected


class Picky(Receiver):
    """A receiver that refuses some messages for ever."""

    def __init__(self, refused: set[str]) -> None:
        super().__init__()
        self.refused, self.tried = refused, 0

    def send(self, message: Message) -> None:
        if message.id in self.refused:
            self.tried += 1
            raise MessageRefused("receiver", expected="a confirmation", found="status 422")
        super().send(message)


def drain_again(store: Store, receiver: Receiver, refusals: Refusals, rounds: int) -> None:
    for _ in range(rounds):
        with suppress(NotDelivered):
            drain(store, receiver, "me", refusals)


def test_a_refused_message_is_set_aside_and_holds_up_no_other(store: Store) -> None:
    order = [m.id for m in store.waiting()[1]]
    poison = set(order[4:8])  # all messages of one board
    receiver, refusals = Picky(poison), Refusals()
    drain_again(store, receiver, refusals, 2)
    assert [m.id for m in receiver.got] == order[:4]  # a refusal may be a passing one: the order stays meanwhile
    drain_again(store, receiver, refusals, 12)
    assert [m.id for m in receiver.got] == [name for name in order if name not in poison]
    assert receiver.tried == 4 * Refusals.TRIES
    assert (store.waiting()[0], store.count_set_aside()) == (0, 4)
    entries = store.list_outbox()
    assert [e.message.id for e in entries] == order[4:8]
    assert all(e.set_aside_at and "422" in (e.last_error or "") for e in entries)
    assert store.retry_messages([order[4]]) == 1
    receiver.refused = set()
    assert drain(store, receiver, "me") == 1
    assert receiver.got[-1].id == order[4]


def test_a_receiver_that_refuses_everything_does_not_empty_the_outbox(store: Store) -> None:
    order = [m.id for m in store.waiting()[1]]
    receiver = Picky(set(order))
    drain_again(store, receiver, Refusals(), 200)
    assert store.count_set_aside() == Refusals.MAX_CONSECUTIVE
    assert store.waiting()[0] == 80 - Refusals.MAX_CONSECUTIVE


def test_a_sender_that_died_leaves_its_claim_to_run_out(store: Store) -> None:
    store.claim(10, owner="dead", now_us=0, lease_s=60.0)
    receiver = Receiver()
    drain(store, receiver, "me")
    assert len({m.id for m in receiver.got}) == 80


def test_the_publisher_delivers_what_waits_and_beats(store: Store) -> None:
    arrived = threading.Event()

    class Watched(Receiver):
        def send(self, message: Message) -> None:
            super().send(message)
            if len(self.got) > 80:
                arrived.set()

    receiver = Watched(1000)
    publisher = OutboxPublisher(store, lambda: receiver, handle="H", heartbeat_s=3600)
    publisher.start()
    assert arrived.wait(30)
    publisher.stop(10)
    assert receiver.got[0].kind == "CFX.Heartbeat"
    assert [m.kind for m in receiver.got].count("CFX.Heartbeat") == 1
    assert receiver.closed


def test_a_service_sends_what_it_records_to_a_folder(tmp_path: Path) -> None:
    with running(tmp_path, cfx=str(tmp_path / "cfx")) as here:
        record = here.post(here.board("SENT")).json()["record"]
        wait_until_empty(here)
    texts = "".join(f.read_text() for f in (tmp_path / "cfx").iterdir())
    with open_store(tmp_path / "records.db") as records:
        assert records.record(record) is not None
    assert texts.count("SENT") >= 3
    assert "CFX.Heartbeat" in texts


def wait_until_empty(here: Running) -> None:
    pause = threading.Event()
    with here.store() as store:
        for _ in range(600):
            if store.waiting(0)[0] == 0:
                return
            pause.wait(0.05)
    raise AssertionError("messages wait")


def board(what: str) -> Inspection:
    return make_inspection(record=what.encode().hex(), **BOARDS[what])


@pytest.mark.parametrize("what", BOARDS)
def test_what_is_sent_equals_what_the_inspection_gives(what: str, tmp_path: Path) -> None:
    inspection, receiver = board(what), Receiver()
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection, messages=pending_messages(inspection, HANDLE))
        drain(store, receiver, "me")
    whole = list(from_inspection(inspection, HANDLE))
    assert [(m.id, m.kind, m.created_at, m.record, m.text) for m in receiver.got] == [
        (m.id, m.kind, m.created_at, m.record, m.text) for m in whole
    ]


def test_a_note_is_short_for_any_number_of_bad_joints() -> None:
    assert max(len(n.text) for n in pending_messages(board("bad"), HANDLE)) < 100
    assert max(len(m.text) for m in from_inspection(board("bad"), HANDLE)) > 100_000


def test_rendering_again_gives_the_same(tmp_path: Path) -> None:
    """What was sent and not confirmed is sent again, by another process perhaps."""
    inspection = board("bad")
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection, messages=pending_messages(inspection, HANDLE))
        first, second = ([MessageRenderer(store).render(m) for m in store.waiting()[1]] for _ in range(2))
    assert first == second


def test_messages_of_two_records_are_not_mixed_up(tmp_path: Path) -> None:
    inspections, receiver = [board("bad"), board("good"), board("doubtful")], Receiver()
    with open_store(tmp_path / "r.db") as store:
        for inspection in inspections:
            store.write(inspection, messages=pending_messages(inspection, HANDLE))
        drain(store, receiver, "me")
    assert [m.text for m in receiver.got] == [m.text for i in inspections for m in from_inspection(i, HANDLE)]


def test_a_complete_message_stays_as_it_is(tmp_path: Path) -> None:
    whole = next(iter(from_inspection(board("good"), HANDLE)))
    with open_store(tmp_path / "r.db") as store:
        assert MessageRenderer(store).render(whole) is whole


def test_a_missing_record_is_an_error(tmp_path: Path) -> None:
    inspection = board("good")
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection, messages=pending_messages(inspection, HANDLE))
        with sqlite3.connect(tmp_path / "r.db") as raw:
            raw.execute("UPDATE boards SET record = 'another'")
        raw.close()
        with pytest.raises(StoreFault, match="record of a message"):
            drain(store, Receiver(), "me")
        assert store.waiting(0)[0] == 4

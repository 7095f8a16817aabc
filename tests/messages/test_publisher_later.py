"""Messages that are due: kept with the record in a few words, spelled out when they are sent, always the same."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.messages import from_inspection, notes
from inspect_pop.messages.publisher import Speller, drain
from inspect_pop.store import Message, open_store
from tests.factories import make_inspection

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


class Kept:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Message] = []

    def send(self, message: Message) -> None:
        self.got.append(message)

    def close(self) -> None:
        return


def board(what: str) -> Inspection:
    return make_inspection(record=what.encode().hex(), **BOARDS[what])


@pytest.mark.parametrize("what", BOARDS)
def test_what_is_sent_is_what_the_inspection_would_have_said(what: str, tmp_path: Path) -> None:
    inspection, receiver = board(what), Kept()
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection, messages=notes(inspection, HANDLE))
        drain(store, receiver, "me")
    whole = list(from_inspection(inspection, HANDLE))
    assert [(m.id, m.kind, m.created_at, m.record, m.text) for m in receiver.got] == [
        (m.id, m.kind, m.created_at, m.record, m.text) for m in whole
    ]


def test_a_note_is_short_however_many_joints_are_bad() -> None:
    assert max(len(n.text) for n in notes(board("bad"), HANDLE)) < 100
    assert max(len(m.text) for m in from_inspection(board("bad"), HANDLE)) > 100_000


def test_spelling_it_out_again_gives_the_same(tmp_path: Path) -> None:
    """What was sent and not confirmed is sent again, by another process perhaps."""
    inspection = board("bad")
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection, messages=notes(inspection, HANDLE))
        first, second = ([Speller(store).whole(m) for m in store.waiting()[1]] for _ in range(2))
    assert first == second


def test_messages_of_two_records_are_not_mixed_up(tmp_path: Path) -> None:
    inspections, receiver = [board("bad"), board("good"), board("doubtful")], Kept()
    with open_store(tmp_path / "r.db") as store:
        for inspection in inspections:
            store.write(inspection, messages=notes(inspection, HANDLE))
        drain(store, receiver, "me")
    assert [m.text for m in receiver.got] == [m.text for i in inspections for m in from_inspection(i, HANDLE)]


def test_a_message_that_is_whole_stays_as_it_is(tmp_path: Path) -> None:
    whole = next(iter(from_inspection(board("good"), HANDLE)))
    with open_store(tmp_path / "r.db") as store:
        assert Speller(store).whole(whole) is whole


def test_a_record_that_somebody_removed_is_told_not_guessed(tmp_path: Path) -> None:
    inspection = board("good")
    with open_store(tmp_path / "r.db") as store:
        store.write(inspection, messages=notes(inspection, HANDLE))
        with sqlite3.connect(tmp_path / "r.db") as raw:
            raw.execute("UPDATE boards SET record = 'another'")
        raw.close()
        with pytest.raises(StoreFault, match="record of a message"):
            drain(store, Kept(), "me")
        assert store.waiting(0)[0] == 4

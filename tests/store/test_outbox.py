"""A message stays until it arrived, and only one sender has it at a time."""

import json
from collections.abc import Callable

import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Message, Store
from tests.factories import make_inspection

AT = "2026-03-02T08:00:00+00:00"
SECOND = 1_000_000


def messages(*ids: str) -> list[Message]:
    return [Message(i, "Heartbeat", json.dumps({"n": i, "ü": [1, None]}), AT) for i in ids]


def ids(found: list[Message]) -> list[str]:
    return [m.id for m in found]


def test_a_message_is_queued_once_and_comes_back_whole(store: Store) -> None:
    assert store.queue(messages("a", "b")) == 2
    assert store.queue(messages("b", "c")) == 1
    count, found = store.waiting()
    assert count == 3
    assert found == messages("a", "b", "c")
    assert ids(store.waiting(2)[1]) == ["a", "b"]


def test_a_records_message_is_there_with_the_record(store: Store) -> None:
    one = make_inspection("S")
    store.write(one, messages=[Message("m", "UnitsInspected", "{}", AT, one.board.record)])
    assert store.waiting()[1][0].record == one.board.record


def test_two_senders_share_the_work(open_here: Callable[[], Store]) -> None:
    one, two = open_here(), open_here()
    one.queue(messages("a", "b", "c"))
    assert ids(one.claim(2, owner="one", now_us=0)) == ["a", "b"]
    assert ids(two.claim(2, owner="two", now_us=0)) == ["c"]
    assert two.claim(2, owner="two", now_us=0) == []


def test_a_claim_that_ran_out_is_taken_over(store: Store) -> None:
    store.queue(messages("a"))
    assert store.claim(1, owner="dead", now_us=0, lease_s=10)[0].attempts == 1
    assert store.claim(1, owner="next", now_us=9 * SECOND) == []
    assert store.claim(1, owner="next", now_us=10 * SECOND)[0].attempts == 2


def test_what_arrived_is_not_claimed_again(store: Store) -> None:
    store.queue(messages("a", "b"))
    store.claim(1, owner="one", now_us=0)
    store.delivered(["a"], at=AT)
    assert ids(store.claim(9, owner="one", now_us=99 * SECOND)) == ["b"]
    assert store.waiting()[0] == 1
    assert store.queue(messages("a")) == 0


def test_what_failed_waits_until_it_is_time(store: Store) -> None:
    store.queue(messages("a"))
    store.claim(1, owner="one", now_us=0)
    store.failed(["a"], error="broker away", retry_us=5 * SECOND)
    assert store.claim(1, owner="one", now_us=4 * SECOND) == []
    assert ids(store.claim(1, owner="one", now_us=5 * SECOND)) == ["a"]


def test_what_was_delivered_long_ago_can_be_forgotten_and_what_waits_cannot(store: Store) -> None:
    store.queue(messages("early", "late", "waits"))
    store.delivered(["early"], at="2026-02-28T23:59:59+00:00")
    store.delivered(["late"], at="2026-03-01T00:00:00+00:00")
    assert store.forget_delivered("2026-03-01") == 1
    assert ids(store.waiting()[1]) == ["waits"]
    assert store.queue(messages("late", "waits")) == 0
    assert store.forget_delivered("20260215") == 0  # the same day, written shorter, is not after every day of the year
    assert store.forget_delivered("20270101") == 1


def test_messages_before_what_is_no_day_stay(store: Store) -> None:
    store.queue(messages("a"))
    store.delivered(["a"], at=AT)
    with pytest.raises(UsageFault, match="a day such as"):
        store.forget_delivered("zebra")
    assert store.queue(messages("a")) == 0

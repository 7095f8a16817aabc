"""People's decisions: kept once, refused where they cannot be, and what the board then is."""

from dataclasses import replace

import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Decision, Message, Store
from tests.factories import again, make_inspection

BOARD = make_inspection("S", defects={"U1.lower.A1": "open"}, reviews={"U1.upper.B2": "near the threshold"})
AT = "2026-03-02T10:00:00+01:00"


def told(state: str, interface: str = "lower", ball: str = "A1", at: str = AT, **more: str) -> Decision:
    return Decision(BOARD.board.record, "U1", interface, ball, state, "kim", at, **more)


def test_a_board_is_final_when_every_call_and_doubt_is_decided(store: Store) -> None:
    store.write(BOARD)
    assert store.board("S")[0].final == "fail"
    assert store.add_decision(told("DefectRejected", label="good", note="shadow"))
    assert store.board("S")[0].final == "pending"
    assert store.add_decision(told("DefectRejected", "upper", "B2"))
    (found,) = store.board("S")
    assert found.final == "pass"
    assert found.decisions[0] == told("DefectRejected", label="good", note="shadow")
    lower, upper = found.interfaces
    assert (lower["n_false_calls"], lower["n_cleared"]) == (1, 0)
    assert (upper["n_false_calls"], upper["n_cleared"]) == (0, 1)


def test_the_same_decision_is_kept_once_with_its_message(store: Store) -> None:
    store.write(BOARD)
    message = Message("m", "UnitsInspected", "{}", AT, BOARD.board.record)
    assert store.add_decision(told("DefectConfirmed"), messages=[message])
    assert not store.add_decision(told("DefectConfirmed"), messages=[replace(message, id="n")])
    assert [m.id for m in store.waiting()[1]] == ["m"]
    assert len(store.board("S")[0].decisions) == 1


def test_decisions_count_in_the_order_of_their_time(store: Store) -> None:
    store.write(BOARD)
    store.add_decision(told("DefectRejected", at="2026-03-02T09:00:00+00:00"))
    store.add_decision(told("DefectConfirmed", at="2026-03-02T09:30:00+01:00"))  # half an hour earlier
    assert [d.state for d in store.board("S")[0].decisions] == ["DefectConfirmed", "DefectRejected"]
    assert store.board("S")[0].final == "pending"


def test_an_escape_is_a_defect_at_a_joint_that_passed(store: Store) -> None:
    store.write(BOARD)
    store.add_decision(told("DefectMissed", ball="D4", label="starved"))
    lower = store.board("S")[0].interfaces[0]
    assert lower["n_escapes"] == 1
    assert lower["final"] == "fail"


def test_a_decision_on_a_reinspection_settles_the_board(store: Store) -> None:
    store.write(BOARD)
    second = again(BOARD)
    store.write(second)
    for joint in (("lower", "A1"), ("upper", "B2")):
        store.add_decision(replace(told("DefectRejected", *joint), record=second.board.record))
    assert [b.final for b in store.board("S")] == ["pass", "pass"]
    assert store.board("S")[0].interfaces[0]["n_false_calls"] == 0  # the machine's score is that of the first inspection


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (replace(told("DefectConfirmed"), record="none"), "record none"),
        (told("Confirmed"), "state"),
        (told("DefectConfirmed", label="fine"), "label"),
        (replace(told("DefectConfirmed"), decided_by=""), "decided_by"),
        (told("DefectConfirmed", at="now"), "decided_at"),
        (told("DefectConfirmed", at="2026-03-02T10:00:00"), "decided_at"),
        (told("DefectConfirmed", ball="Z9"), "U1.lower.Z9"),
        (told("DefectConfirmed", "middle"), "U1.middle.A1"),
        (told("DefectConfirmed", ball="D4"), "DefectMissed is for a joint that passed"),
        (told("DefectMissed"), "DefectMissed is for a joint that passed"),
    ],
)
def test_what_cannot_be_is_refused_and_not_kept(store: Store, bad: Decision, says: str) -> None:
    store.write(BOARD)
    with pytest.raises(UsageFault, match=says):
        store.add_decision(bad)
    assert store.board("S")[0].decisions == ()

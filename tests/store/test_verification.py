"""Decisions of two stages and of several people: none lost, none overwritten unseen, all of a request or none."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from inspect_pop.core.errors import ConflictFault, StageFault, SupersededFault, UsageFault
from inspect_pop.store import UNCHECKED, Decision, Message, Store
from inspect_pop.store.engine import writing
from inspect_pop.store.verification import fill_added
from inspect_pop.yields import compute_yield
from tests.factories import again, make_inspection

AT = "2026-03-02T10:00:00+01:00"
SUSPECTS = {f"U1.lower.{row}{col}": "open" for row in "ABC" for col in range(1, 5)}


def decide(joint: str, state: str, who: str = "Ada", stage: str = "operator", **more: Any) -> Decision:
    return Decision("r", *joint.split("."), state, who, more.pop("at", AT), stage=stage, **more)


def add(store: Store, *given: Decision, seen: list[int | None] | None = None) -> list[int]:
    return [number for number, _ in store.add_decisions(given, seen or [UNCHECKED] * len(given), lambda *_: None)]


@pytest.fixture
def board(store: Store) -> Store:
    store.write(make_inspection("S", record="r", defects=SUSPECTS))
    return store


def list_states(store: Store) -> list[str]:
    return [d.state for d in store.board("S")[0].decisions]


def test_who_has_not_seen_the_latest_decision_does_not_overwrite_it(board: Store) -> None:
    (first,) = add(board, decide("U1.lower.A1", "DefectConfirmed"), seen=[None])
    for seen in (None, first - 1, first + 1):
        with pytest.raises(ConflictFault, match="DefectConfirmed by Ada"):
            add(board, decide("U1.lower.A1", "DefectRejected", "Bob"), seen=[seen])
    (second,) = add(board, decide("U1.lower.A1", "DefectRejected", "Bob"), seen=[first])
    assert second > first
    with pytest.raises(ConflictFault):
        add(board, decide("U1.lower.A2", "DefectRejected"), seen=[first])  # about another joint
    assert list_states(board) == ["DefectConfirmed", "DefectRejected"]


def test_who_has_not_seen_the_latest_inspection_does_not_decide_about_its_joints(board: Store) -> None:
    only_lower = make_inspection("S", defects=SUSPECTS, side={"lower": 4})
    board.write(again(only_lower, record="r2"))
    with pytest.raises(SupersededFault, match=r"record r2 of 2026.* Open that one"):
        add(board, decide("U1.lower.A1", "DefectRejected"), seen=[None])
    assert list_states(board) == []
    add(board, decide("U1.upper.A1", "PassConfirmed"), seen=[None])  # the later inspection did not see this interface
    add(board, decide("U1.lower.A1", "DefectRejected"))  # a machine, which says nothing of what it saw
    assert list_states(board) == ["PassConfirmed", "DefectRejected"]


def test_a_store_of_an_earlier_version_learns_which_boards_people_found_good(board: Store) -> None:
    board.write(make_inspection("T", record="t"))
    board.write(make_inspection("U", record="u", defects={"U1.lower.A1": "open"}))
    for joint in SUSPECTS:
        add(board, decide(joint, "DefectRejected"))
    before = [group.to_dict() for by in ((), ("interface",)) for group in compute_yield(board, by)]
    assert before[0]["verified_passed"] == 2
    with writing(board._engine) as connection:
        for table in ("boards", "interfaces", "rollups"):
            connection.execute(text(f"UPDATE {table} SET verified_passed = 0"))
        fill_added(connection, 2)
    assert [group.to_dict() for by in ((), ("interface",)) for group in compute_yield(board, by)] == before


def test_a_list_is_taken_whole_or_not_at_all(board: Store) -> None:
    def make_message(decision: Decision, before: str | None, after: str | None) -> Message:
        return Message(decision.ball, "kind", "{}", AT)

    good = [decide("U1.lower.A1", "DefectRejected"), decide("U1.lower.A2", "DefectRejected")]
    bad = decide("U1.lower.Z9", "DefectRejected")
    with pytest.raises(UsageFault, match="a joint of the record's recipe"):
        board.add_decisions([*good, bad], [UNCHECKED] * 3, make_message)
    with pytest.raises(UsageFault, match="different joints of one record"):
        board.add_decisions([good[0], good[0]], [UNCHECKED] * 2, make_message)
    assert (list_states(board), board.waiting()[0], board.queue_of("operator")[1][0]["n_undecided"]) == ([], 0, 12)
    board.add_decisions(good, [None, None], make_message)
    assert (len(list_states(board)), board.waiting()[0], board.queue_of("operator")[1][0]["n_undecided"]) == (2, 2, 10)


def test_the_repair_station_overrules_the_operator_and_not_the_other_way_round(board: Store) -> None:
    store = board
    for joint in SUSPECTS:
        add(store, decide(joint, "DefectConfirmed"))
    assert store.board("S")[0].final == "fail"
    add(store, *(decide(joint, "DefectRejected", "Rita", "repair") for joint in SUSPECTS))
    assert store.board("S")[0].final == "pass"
    with pytest.raises(StageFault, match="stage repair has not decided"):
        add(store, decide("U1.lower.A1", "DefectConfirmed", "Bob"))
    with pytest.raises(StageFault):
        add(store, decide("U1.lower.A1", "DefectWithdrawn"))
    assert store.board("S")[0].final == "pass"


def test_a_withdrawn_decision_stays_and_counts_no_more(board: Store) -> None:
    for joint in SUSPECTS:
        add(board, decide(joint, "DefectRejected"))
    assert board.board("S")[0].final == "pass"
    add(board, decide("U1.lower.A1", "DefectWithdrawn"))
    assert board.board("S")[0].final == "fail"
    assert list_states(board)[-2:] == ["DefectRejected", "DefectWithdrawn"]
    with pytest.raises(UsageFault, match="to withdraw"):
        add(board, decide("U1.lower.A1", "DefectWithdrawn", "Bob"))  # there is none any more
    trail = [(e.who, e.before["state"], e.after["state"]) for e in board.list_audit() if "A1 of" in e.subject]
    assert trail == [("Ada", None, "DefectRejected"), ("Ada", "DefectRejected", "DefectWithdrawn")]


def test_what_the_operator_decided_stands_again_after_the_repair_station_withdraws(board: Store) -> None:
    seen: list[tuple[str | None, str | None]] = []

    def note(decision: Decision, before: str | None, after: str | None) -> None:
        seen.append((before, after))

    for state, stage in (("DefectConfirmed", "operator"), ("DefectRejected", "repair"), ("DefectWithdrawn", "repair")):
        board.add_decisions([decide("U1.lower.A1", state, stage=stage)], [UNCHECKED], note)
    assert seen == [(None, "DefectConfirmed"), ("DefectConfirmed", "DefectRejected"), ("DefectRejected", "DefectConfirmed")]


@pytest.mark.parametrize(
    ("joint", "state"), [("U1.lower.A1", "PassConfirmed"), ("U1.lower.D4", "DefectConfirmed"), ("U1.lower.A1", "DefectMissed")]
)
def test_a_state_that_does_not_fit_the_joints_verdict_is_refused(board: Store, joint: str, state: str) -> None:
    with pytest.raises(UsageFault, match="a state for a joint whose verdict is"):
        add(board, decide(joint, state))
    with pytest.raises(UsageFault, match="one of operator, repair"):
        add(board, decide("U1.lower.A1", "DefectRejected", stage="king"))


def test_two_people_at_once_lose_nothing_and_overwrite_nothing_unseen(board: Store, open_here: Callable[[], Store]) -> None:
    """Each goes through all joints, in opposite order, and looks again where the other was first."""

    def work(who: str, joints: list[str]) -> tuple[int, int]:
        store, taken, conflicts = open_here(), 0, 0
        for joint in joints:
            try:
                add(store, decide(joint, "DefectConfirmed" if who == "Ada" else "DefectRejected", who), seen=[None])
                taken += 1
            except ConflictFault:
                conflicts += 1
        return taken, conflicts

    joints = list(SUSPECTS)
    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(work, ("Ada", "Bob"), (joints, joints[::-1])))
    taken, conflicts = (sum(part) for part in zip(*done, strict=True))
    stored = board.board("S")[0]
    assert (taken, conflicts) == (len(joints), len(joints))
    assert len({(d.refdes, d.interface, d.ball) for d in stored.decisions}) == len(stored.decisions) == len(joints)
    assert board.queue_of("operator")[1][0]["n_undecided"] == 0
    assert len([e for e in board.list_audit() if e.action == "decision"]) == len(joints)

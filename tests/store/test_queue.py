"""What waits for a decision, worked out by hand."""

import pytest
from sqlalchemy import text

from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Decision, Store
from inspect_pop.store.engine import writing
from inspect_pop.store.summaries import fill_queue
from tests.factories import again, make_inspection

AT = "2026-03-02T10:00:00+01:00"


def decide(record: str, joint: str, state: str, stage: str = "operator", at: str = AT) -> Decision:
    return Decision(record, *joint.split("."), state, "Ada", at, stage=stage)


def serials(store: Store, stage: str = "operator", **options: object) -> list[str]:
    return [row["serial"] for row in store.queue_of(stage, **options)[1]]  # type: ignore[arg-type]


def test_the_worst_board_comes_first(store: Store) -> None:
    boards = {
        "PASS": {},
        "REVIEW": {"reviews": {"U1.lower.A1": "?"}},
        "TWO": {"defects": {"U1.lower.A1": "open", "U1.lower.A2": "open"}},
        "ONE": {"defects": {"U1.lower.A1": "open"}},
        "REVIEWS": {"reviews": {"U1.lower.A1": "?", "U1.lower.A2": "?"}},
    }
    for serial, found in boards.items():
        store.write(make_inspection(serial, record=serial, **found))
    assert serials(store) == ["TWO", "ONE", "REVIEWS", "REVIEW", "PASS"]
    assert serials(store, limit=2, offset=1) == ["ONE", "REVIEWS"]
    waiting, rows = store.queue_of("operator")
    assert waiting == 5
    two = rows[0]
    assert [two[n] for n in ("n_fail", "n_review", "n_undecided", "n_sample", "n_sample_undecided")] == [2, 0, 2, 1, 1]
    assert (two["verdict"], two["final"], two["worst"] < 0.5, rows[4]["worst"]) == ("fail", "fail", True, 1.0)
    with pytest.raises(UsageFault, match="one of operator, repair"):
        store.queue_of("king")


def test_a_board_waits_until_suspects_and_sample_are_decided_and_again_after_an_undo(store: Store) -> None:
    store.write(make_inspection("S", record="r", defects={"U1.lower.A1": "open"}))
    (sample,) = [".".join(key) for key in store.sample("r")]
    store.add_decision(decide("r", "U1.lower.A1", "DefectRejected"))
    assert serials(store) == ["S"]
    store.add_decision(decide("r", sample, "PassConfirmed"))
    assert store.queue_of("operator") == (0, [])
    store.add_decision(decide("r", "U1.lower.A1", "DefectWithdrawn"))
    assert serials(store) == ["S"]


def test_a_confirmed_joint_waits_for_the_repair_station_until_it_says_what_became_of_it(store: Store) -> None:
    for state in ("DefectRepaired", "DefectAccepted", "DefectClosed", "DefectRejected"):
        store.write(make_inspection(state, record=state, defects={"U1.lower.A1": "open"}))
        assert serials(store, "repair") == []
        store.add_decision(decide(state, "U1.lower.A1", "DefectConfirmed"))
        assert serials(store, "repair") == [state]
        store.add_decision(decide(state, "U1.lower.A1", state, "repair"))
        assert serials(store, "repair") == []


def test_a_missed_defect_waits_for_the_repair_station(store: Store) -> None:
    store.write(make_inspection("S", record="r"))
    store.add_decision(decide("r", "U1.lower.A1", "DefectMissed"))
    assert serials(store, "repair") == ["S"]
    store.add_decision(decide("r", "U1.lower.A1", "PassConfirmed", "repair"))
    assert serials(store, "repair") == []


def test_only_the_latest_inspection_of_a_board_waits(store: Store) -> None:
    first = make_inspection("S", record="r1", defects={"U1.lower.A1": "open"})
    store.write(first)
    store.add_decision(decide("r1", "U1.lower.A1", "DefectConfirmed"))
    store.write(again(make_inspection("S", record="r1"), record="r2"))
    waiting, (row,) = store.queue_of("operator")
    assert (waiting, row["record"], row["n_undecided"], row["n_sample_undecided"]) == (1, "r2", 0, 1)
    assert serials(store, "repair") == []


def test_a_serial_is_found_exactly_first_then_by_its_beginning_also_if_it_does_not_wait(store: Store) -> None:
    for serial in ("PB-12", "PB-1", "XPB-1", "PB-13"):
        store.write(make_inspection(serial, record=serial))
        (sample,) = store.sample(serial)
        store.add_decision(decide(serial, ".".join(sample), "PassConfirmed"))
    assert serials(store) == []
    assert serials(store, search="PB-1") == ["PB-1", "PB-12", "PB-13"]
    assert serials(store, search="PB-13") == ["PB-13"]
    assert serials(store, search="%") == []


def test_a_store_without_a_queue_gets_one(store: Store) -> None:
    for k, found in enumerate(({"defects": {"U1.lower.A1": "open"}}, {"reviews": {"U1.lower.A1": "?"}}, {})):
        store.write(make_inspection(f"S{k}", record=f"r{k}", **found))
    store.write(again(make_inspection("S1", record="r1", defects={"U1.lower.A2": "open", "U1.lower.A3": "open"}), record="r1b"))
    store.add_decision(decide("r0", "U1.lower.A1", "DefectConfirmed"))
    before = store.queue_of("operator")[1]
    with writing(store._engine) as connection:
        connection.execute(text("DELETE FROM queue"))
        connection.execute(text("DELETE FROM samples"))
        fill_queue(connection, 2)
        assert connection.execute(text("SELECT count(*) FROM queue")).scalar_one() == 0
        fill_queue(connection, 1)
    rows = store.queue_of("operator")[1]
    assert [(r["serial"], r["record"], r["n_undecided"], r["worst"]) for r in rows] == [
        (r["serial"], r["record"], r["n_undecided"], r["worst"]) for r in before if r["n_undecided"]
    ]
    assert serials(store, "repair") == ["S0"]

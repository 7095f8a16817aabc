"""Records and joint files are deleted by age, whole boards at a time, and never what waits."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.store import Decision, Message, QuarantinedExport, Store
from inspect_pop.store import retention as module
from inspect_pop.store.joint_files import LocalFiles
from inspect_pop.store.schema import TABLES, boards, decisions
from inspect_pop.yields import compute_yield
from tests.factories import make_inspection

TODAY = "2026-06-30"


def make_old(serial: str, days: int, record: str = "", **fields: object) -> Inspection:
    """An inspection of so many days before TODAY."""
    day = (date.fromisoformat(TODAY) - timedelta(days=days)).isoformat()
    times = {
        "inspected_at": f"{day}T08:15:00+01:00",
        "started_at": f"{day}T07:15:01+00:00",
        "finished_at": f"{day}T07:15:02+00:00",
    }
    return make_inspection(serial, record=record or serial.lower() * 4, **(times | fields))


def list_records(store: Store) -> set[str]:
    with store.reading() as connection:
        return set(connection.scalars(select(boards.c.record)))


def count_rows(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        return {t.name: int(connection.scalar(select(func.count()).select_from(t)) or 0) for t in TABLES}


def list_files(folder: Path) -> set[str]:
    return {p.stem for p in (folder / "files/joints").rglob("*.parquet")}


def prune(store: Store, days: int = 30, **options: object) -> module.Pruned:
    return store.prune(who="me", records_days=days, today=TODAY, **options)[0]


def test_what_is_older_is_deleted_and_the_sums_of_its_days_stay(store: Store, tmp_path: Path) -> None:
    store.write(make_old("OLD", 31), messages=[Message("m", "k", "{}", "2026-05-30T08:00:00Z", "oldoldoldold")])
    store.mark_delivered(["m"], at="2026-05-30T08:01:00Z")
    store.write(make_old("NEW", 30))
    before = compute_yield(store, ("day",))
    done = prune(store)
    assert (done.records, done.joint_files, done.waiting) == (1, 1, 0)
    assert list_records(store) == list_files(tmp_path) == {"newnewnewnew"}
    rows = count_rows(store)
    assert (rows["boards"], rows["packages"], rows["interfaces"], rows["messages"]) == (1, 1, 2, 0)
    assert compute_yield(store, ("day",)) == before
    (entry,) = store.list_audit()
    assert (entry.who, entry.action, entry.subject) == ("me", "records deleted", "before 2026-05-31")
    assert entry.before == {"records": ["oldoldoldold"]}
    assert prune(store) == module.Pruned()


def test_a_board_is_kept_whole_while_one_of_its_inspections_is_new(store: Store) -> None:
    store.write(make_old("S", 300, "first"))
    store.write(make_old("S", 3, "second"))
    store.write(make_old("T", 300, "third"))
    store.write(make_old("T", 200, "fourth"))
    assert prune(store).records == 2
    assert list_records(store) == {"first", "second"}


@pytest.mark.parametrize(
    "fields",
    [{"inspected_at": "1970-01-01T00:00:00Z"}, {"inspected_at": "2036-01-01T00:00:00Z"}],
    ids=["a machine that lost its clock", "a machine that is ahead"],
)
def test_a_machines_wrong_clock_deletes_nothing(store: Store, fields: dict[str, str]) -> None:
    store.write(replace_board(make_old("S", 3), **fields))
    assert prune(store).records == 0


def replace_board(inspection: Inspection, **fields: object) -> Inspection:
    return replace(inspection, board=replace(inspection.board, **fields))


def test_this_computers_clock_that_is_ahead_deletes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(make_old("OLD", 31))
    store.write(make_old("NEW", 0))
    monkeypatch.setattr(module, "utc_now", lambda: "2036-01-01T00:00:00+00:00")
    assert store.find_first_day(40) == "2026-05-21"
    assert store.prune(who="me", records_days=40)[0].records == 0
    assert store.prune(who="me", records_days=30)[0].records == 1


def decide(state: str, record: str) -> Decision:
    return Decision(record, "U1", "lower", "A1", state, "rita", "2026-03-02T10:00:00+01:00")


def test_what_waits_for_a_person_or_a_receiver_stays(store: Store, tmp_path: Path) -> None:
    bad = {"defects": {"U1.lower.A1": "open"}}
    store.write(make_old("REVIEW", 90, "review", reviews={"U1.lower.A1": "near the threshold"}))
    store.write(make_old("FAIL", 90, "fail", **bad))
    store.write(make_old("REPAIR", 90, "repair", **bad))
    store.write(make_old("DONE", 90, "done", **bad))
    for record, states in (("repair", ("DefectConfirmed",)), ("done", ("DefectConfirmed", "DefectRepaired"))):
        for state in states:
            store.add_decision(decide(state, record))
    for record in ("unsent", "aside", "sent"):
        store.write(make_old(record, 90, record), messages=[Message(record, "k", "{}", "2026-03-02T08:00:00Z", record)])
    store.set_aside(["aside"], at="2026-03-02T08:00:00Z")
    store.mark_delivered(["sent"], at="2026-03-02T08:00:00Z")
    store.quarantine(QuarantinedExport("boards/Q", "cut", "2026-03-02T08:00:00Z"))
    for bound in ("joints_days", "records_days"):
        done = store.prune(who="me", today=TODAY, **{bound: 30})[bound == "joints_days"]
        assert (done.records, done.waiting) == (2, 5)
        assert list_files(tmp_path) == {"review", "fail", "repair", "unsent", "aside"}
    assert list_records(store) == {"review", "fail", "repair", "unsent", "aside"}
    assert len(store.list_quarantine()) == 1
    assert [m.id for m in store.waiting()[1]] == ["unsent"]
    assert count_rows(store)["decisions"] == 1
    with store.reading() as connection:
        assert connection.scalar(select(decisions.c.state)) == "DefectConfirmed"


def test_joint_files_go_before_their_records(store: Store, tmp_path: Path) -> None:
    for k in range(3):
        store.write(make_old(f"S{k}", 90, f"s{k}"))
    store.write(make_old("NEW", 0, "new"))
    store.compact()
    _, done = store.prune(who="me", joints_days=30, today=TODAY)
    assert (done.records, done.joint_files) == (3, 1)
    assert list_files(tmp_path) == {"new"}
    assert list_records(store) == {"s0", "s1", "s2", "new"}
    with pytest.raises(StoreFault, match="deleted by age"):
        store.joints(record="s0")
    assert store.joints(record="new").num_rows == 25
    assert [e.action for e in store.list_audit()] == ["joints deleted"]
    assert store.prune(who="me", joints_days=30, today=TODAY)[1] == module.Pruned()


def test_a_merged_file_stays_until_its_last_record_goes(store: Store, tmp_path: Path) -> None:
    store.write(make_old("S", 90, "s"))
    store.write(make_old("R", 90, "r", reviews={"U1.lower.A1": "near the threshold"}))
    store.compact()
    assert prune(store).joint_files == 0
    assert store.joints(record="r").num_rows == 25
    store.add_decision(decide("DefectRejected", "r"))
    assert prune(store).joint_files == 1
    assert list_files(tmp_path) == set()


def test_a_dry_run_deletes_nothing(store: Store, tmp_path: Path) -> None:
    store.write(make_old("OLD", 31))
    before = count_rows(store)
    pages: list[str] = []
    done, joints = store.prune(who="me", records_days=30, joints_days=30, today=TODAY, dry_run=True, remove_page=pages.append)
    assert done.records == joints.records == 1
    assert count_rows(store) == before
    assert list_files(tmp_path) == {"oldoldoldold"}
    assert pages == []


class Interruption(BaseException):
    """The process is killed here."""


def test_an_interruption_at_any_moment_leaves_a_whole_store_and_the_next_call_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BOARDS_PER_STEP", 2)
    left_steps = [0]

    def interrupt_at(name: str, target: object) -> None:
        original = getattr(target, name)

        def call(*arguments: object, **options: object) -> object:
            left_steps[0] -= 1
            if left_steps[0] == 0:
                raise Interruption
            return original(*arguments, **options)

        monkeypatch.setattr(target, name, call)

    for name in ("_release_files", "_delete_rows", "add_audit", "_remove_files"):
        interrupt_at(name, module)
    interrupt_at("remove", LocalFiles)
    store.write(make_old("NEW", 0, "new"))
    moments = range(1, 16)
    for moment in moments:
        records = {f"{moment}x{k}" for k in range(3)}
        for record in records:
            store.write(make_old(record, 90, record))
        left_steps[0] = moment
        if moment < max(moments):
            with pytest.raises(Interruption):
                prune(store)
        left_steps[0] = 0
        left = list_records(store) - {"new"}
        assert left <= list_files(tmp_path)  # each record has its joints
        trail = {r for e in store.list_audit() for r in e.before["records"]}
        assert trail & records == records - left
        prune(store)
        store.repair(older_than_s=-60)
        assert list_records(store) == list_files(tmp_path) == {"new"}


def test_what_cannot_be_removed_keeps_its_record(store: Store) -> None:
    store.write(make_old("OLD", 31))

    def refuse(record: str) -> None:
        raise StoreFault(record, found="a read-only folder")

    with pytest.raises(StoreFault, match="read-only"):
        prune(store, remove_page=refuse)
    assert list_records(store) == {"oldoldoldold"}


@pytest.mark.parametrize("options", [{"records_days": -1}, {"joints_days": 3, "today": "yesterday"}])
def test_a_bound_that_is_none_is_refused(store: Store, options: dict[str, object]) -> None:
    with pytest.raises(UsageFault):
        store.prune(who="me", **options)

"""Opening a store, its runs, its quarantine and its outbox; what is refused, and how."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Message, QuarantinedExport, RunRecord, Store, open_store
from inspect_pop.store.engine import database_url, hide_password
from tests.factories import make_inspection

AT = "2026-03-02T08:00:00+00:00"


def test_quarantine_keeps_each_reason_of_a_path_once(store: Store) -> None:
    assert store.quarantine(QuarantinedExport("b", "no slices", AT))
    assert store.quarantine(QuarantinedExport("a\udcff\0", "cut short", AT))
    assert not store.quarantine(QuarantinedExport("b", "no slices", "2026-03-03T08:00:00+00:00"))
    assert store.quarantine(QuarantinedExport("b", "wrong checksum", AT))
    assert [(q.path, q.reason) for q in store.list_quarantine()] == [
        ("a\\udcff\\x00", "cut short"),
        ("b", "no slices"),
        ("b", "wrong checksum"),
    ]
    assert store.list_quarantine()[1].seen_at == AT


def test_quarantine_keeps_every_board_that_a_machine_exports_into_one_folder(store: Store) -> None:
    for serial, content in (("S1", "c1"), ("S2", "c2"), ("S1", "c1")):
        store.quarantine(QuarantinedExport("current", "no slices", AT, serial=serial, content=content))
    assert [q.serial for q in store.list_quarantine()] == ["S1", "S2"]
    (found,) = store.list_quarantine(serial="S2")
    assert found.reason == "serial S2: no slices"
    moved = QuarantinedExport("elsewhere", "no slices", AT, serial="S2", content="c2")
    assert not store.quarantine(moved)  # the same content is the same board


def test_an_entry_of_the_quarantine_is_closed_by_a_person_and_opened_when_it_is_seen_again(store: Store) -> None:
    entry = QuarantinedExport("b", "no slices", AT)
    store.quarantine(entry)
    number = store.list_quarantine()[0].number
    for by, name in (("", number), ("kim", "none")):
        with pytest.raises(UsageFault):
            store.close_quarantine(name, by=by, at=AT)
    store.close_quarantine(number, by="kim", at=AT, note="exported again")
    (closed,) = store.list_quarantine()
    assert (closed.closed_by, closed.closed_at, closed.note) == ("kim", AT, "exported again")
    assert not store.quarantine(entry)
    assert store.list_quarantine()[0].closed_at is None


def test_a_run_is_kept_with_its_end_and_its_records(store: Store) -> None:
    run = RunRecord("r1", "run", "0.1.0", AT, {"jobs": 2, "batch": Path("b")})
    store.begin_run(run)
    store.begin_run(run)
    store.write(make_inspection("S"), run="r1")
    assert store.runs() == [RunRecord("r1", "run", "0.1.0", AT, {"jobs": 2, "batch": "b"})]
    store.end_run("r1", finished_at=AT, outcome="done")
    assert store.runs()[0].outcome == "done"


def test_a_record_of_an_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(StoreFault):
        store.write(make_inspection("S"), run="never begun")
    assert store.board("S") == []


def test_what_is_not_there_is_empty_or_says_so(store: Store) -> None:
    assert store.board("none") == []
    assert store.record("none") is None
    assert not store.has("none")
    assert store.joints(day="2026-01-01").num_rows == 0
    with pytest.raises(StoreFault, match="record none"):
        store.inspection("none")


def test_a_plain_path_is_a_sqlite_file_with_its_files_beside_it(tmp_path: Path) -> None:
    with open_store(tmp_path / "new" / "records.db") as store:
        store.write(make_inspection("S", lot="L", record="r"))
    assert (tmp_path / "new/records-files/joints/day=2026-03-02/lot=L/r.parquet").is_file()
    with open_store(f"sqlite:///{tmp_path}/new/records.db", must_exist=True) as store:
        assert store.joints().num_rows == 25


def test_files_can_be_given_in_the_url(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/records.db?files={tmp_path}/there") as store:
        store.write(make_inspection("S"))
    assert list((tmp_path / "there").rglob("*.parquet"))


def test_without_a_place_for_files_the_joints_are_asked_for_in_vain(tmp_path: Path, postgresql_server: str) -> None:
    del postgresql_server  # only where PostgreSQL's driver is there
    one = make_inspection("S")
    with open_store(tmp_path / "records.db") as store:
        store._files = None
        store.write(one)
        with pytest.raises(StoreFault, match="a place for the joints' files"):
            store.joints()
    with open_store(tmp_path / "records.db") as store:
        with pytest.raises(StoreFault, match="1 records without one"):
            store.joints()
        with pytest.raises(StoreFault, match="a file of its joints"):
            store.inspection(one.board.record)
        assert store.joint_files() == []
        assert store.compact().merged == 0


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("mysql://x/y", "sqlite:/// or postgresql://"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("postgresql://host:port/x", "an address that cannot be read"),
    ],
)
def test_an_address_that_cannot_be_is_refused(where: str, says: str) -> None:
    with pytest.raises(StoreFault, match=says):
        open_store(where)


def test_a_store_that_should_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="no such file"):
        open_store(tmp_path / "records.db", must_exist=True)
    assert not list(tmp_path.iterdir())


def test_a_folder_a_foreign_file_and_a_foreign_database_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="a folder"):
        open_store(tmp_path)
    (tmp_path / "note.txt").write_text("not a database" * 100)
    with pytest.raises(StoreFault, match="this one is not a store"):
        open_store(tmp_path / "note.txt")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE boards (x)")
    other.close()
    with pytest.raises(StoreFault, match="tables of another software"):
        open_store(tmp_path / "other.db")


def test_a_server_that_is_away_is_a_store_fault_without_the_password(tmp_path: Path, postgresql_server: str) -> None:
    del postgresql_server
    with pytest.raises(StoreFault, match="database server") as caught:
        open_store(f"postgresql://me:secret@/x?host={tmp_path}")
    assert "secret" not in str(caught.value)


def test_addresses_are_shown_without_password() -> None:
    url = database_url("postgresql://me:secret@host/x")
    assert url.drivername == "postgresql+psycopg"
    assert hide_password(url) == "postgresql+psycopg://me:***@host/x"


def test_a_full_disk_is_a_store_fault_with_what_to_do(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as store:
        store.write(make_inspection("S0"))
        with store._engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

        def limit(raw: sqlite3.Connection, *_: object) -> None:
            raw.execute(f"PRAGMA max_page_count={pages}")

        from sqlalchemy import event

        store.close()
        event.listen(store._engine, "connect", limit)
        with pytest.raises(StoreFault, match=r"full.*Make room"):
            for k in range(1, 500):
                store.write(make_inspection(f"S{k}"))
        assert store.board(f"S{k}") == []


def test_a_checkpoint_moves_the_log_into_the_database(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as store:
        record = store.write(make_inspection("S")).record
        store.checkpoint()
        shutil.copyfile(tmp_path / "records.db", tmp_path / "copy.db")  # without its log
    with open_store(tmp_path / "copy.db") as copy:
        assert copy.has(record)


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


def test_a_sender_does_not_overtake_another_one(open_here: Callable[[], Store]) -> None:
    one, two = open_here(), open_here()
    one.queue(messages("a", "b", "c"))
    assert ids(one.claim(2, owner="one", now_us=0)) == ["a", "b"]
    assert two.claim(2, owner="two", now_us=0) == []  # c is behind what the first one sends
    one.mark_delivered(["a", "b"], at=AT)
    assert ids(two.claim(2, owner="two", now_us=0)) == ["c"]


def test_a_claim_that_ran_out_is_taken_over(store: Store) -> None:
    store.queue(messages("a"))
    assert store.claim(1, owner="dead", now_us=0, lease_s=10)[0].attempts == 1
    assert store.claim(1, owner="next", now_us=9 * SECOND) == []
    assert store.claim(1, owner="next", now_us=10 * SECOND)[0].attempts == 2


def test_a_claim_of_a_clock_that_was_ahead_is_void(store: Store) -> None:
    store.queue(messages("a", "b"))
    day = 86_400 * SECOND
    store.claim(2, owner="dead", now_us=400 * day, lease_s=120)
    assert ids(store.claim(2, owner="next", now_us=0, lease_s=120)) == ["a", "b"]


def test_what_arrived_is_not_claimed_again(store: Store) -> None:
    store.queue(messages("a", "b"))
    store.claim(1, owner="one", now_us=0)
    store.mark_delivered(["a"], at=AT)
    assert ids(store.claim(9, owner="one", now_us=99 * SECOND)) == ["b"]
    assert store.waiting()[0] == 1
    assert store.queue(messages("a")) == 0


def test_what_failed_waits_until_it_is_time(store: Store) -> None:
    store.queue(messages("a"))
    store.claim(1, owner="one", now_us=0)
    store.mark_failed(["a"], error="broker away", retry_us=5 * SECOND)
    assert store.claim(1, owner="one", now_us=4 * SECOND) == []
    assert ids(store.claim(1, owner="one", now_us=5 * SECOND)) == ["a"]


def test_what_was_delivered_long_ago_can_be_forgotten_and_what_waits_cannot(store: Store) -> None:
    store.queue(messages("early", "late", "waits"))
    store.mark_delivered(["early"], at="2026-02-28T23:59:59+00:00")
    store.mark_delivered(["late"], at="2026-03-01T00:00:00+00:00")
    assert store.forget_delivered("2026-03-01") == 1
    assert ids(store.waiting()[1]) == ["waits"]
    assert store.queue(messages("late", "waits")) == 0
    assert store.forget_delivered("20260215") == 0  # the same day, written shorter, is not after every day of the year
    assert store.forget_delivered("20270101") == 1


def test_messages_before_what_is_no_day_stay(store: Store) -> None:
    store.queue(messages("a"))
    store.mark_delivered(["a"], at=AT)
    with pytest.raises(UsageFault, match="a day such as"):
        store.forget_delivered("zebra")
    assert store.queue(messages("a")) == 0

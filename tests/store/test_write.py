"""One inspection is one record, and one decision is kept once, whoever writes it and however often."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event, func, select

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Decision, Message, RunRecord, Store
from inspect_pop.store.joint_files import LocalFiles
from inspect_pop.store.schema import TABLES, boards
from inspect_pop.yields.selection import Selection, sum_groups
from tests.factories import again, make_inspection

BAD = make_inspection(
    "Bü/ü..\\ 1",
    defects={"U1.lower.A1": "bridged", "U1.lower.A2": "bridged", "U1.upper.C1": "open"},
    reviews={"U1.upper.B2": "near the threshold"},
    undecided=["U1.upper.A3"],
    missing=("U1/pre_stack",),
    lot="L/24 ü%",
)


def dump(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, in a settled order."""
    with store.reading() as connection:
        return {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in TABLES}


def test_a_record_comes_back_as_it_was_written(store: Store) -> None:
    written = store.write(BAD)
    assert written.new
    assert written.sequence.inspection_no == 1
    (found,) = store.board(BAD.board.serial)
    assert found.board == BAD.board
    assert found.packages == BAD.packages
    assert store.record(BAD.board.record) == found


def test_an_inspection_comes_back_with_all_its_joints(store: Store) -> None:
    store.write(BAD)
    found = store.inspection(BAD.board.record)
    assert (found.board, found.packages) == (BAD.board, BAD.packages)
    assert found.joints.names == BAD.joints.names
    for name in BAD.joints.names:
        np.testing.assert_array_equal(found.joints[name], BAD.joints[name], err_msg=name)


def test_every_joint_that_is_not_good_and_pass_is_a_defect(store: Store) -> None:
    store.write(BAD)
    found = {(d.interface, d.ball): d for d in store.board(BAD.board.serial)[0].defects}
    assert sorted(found) == [("lower", "A1"), ("lower", "A2"), ("upper", "A3"), ("upper", "B2"), ("upper", "C1")]
    assert found["upper", "B2"].label == "good"
    assert found["upper", "B2"].reason == "near the threshold"
    assert found["upper", "A3"].label is None
    assert found["upper", "A3"].measured["p_good"] is None
    assert found["lower", "A1"].measured["p_bridged"] == pytest.approx(0.96)


def test_interfaces_hold_means_and_extremes_of_their_joints(store: Store) -> None:
    store.write(make_inspection("S", measures={"U1.lower.A1": {"void_fraction": 0.5, "volume_ratio": 0.1, "clearance_um": 3.0}}))
    lower = next(i for i in store.board("S")[0].interfaces if i["interface"] == "lower")
    assert lower["void_fraction_max"] == pytest.approx(0.5)
    assert lower["volume_ratio_min"] == pytest.approx(0.1)
    assert lower["clearance_um_min"] == pytest.approx(3.0)
    assert lower["n_good"] == 16
    assert lower["passed"] == 1


def test_a_value_that_no_joint_has_is_null(store: Store) -> None:
    one = make_inspection("S")
    store.write(replace(one, joints=one.joints.replace(standoff_um=np.full(25, np.nan))))
    assert [i["standoff_um"] for i in store.board("S")[0].interfaces] == [None, None]


def test_writing_again_changes_nothing(store: Store) -> None:
    first = store.write(BAD, messages=[Message("m1", "k", '{"a": 1}', "2026-03-02T08:00:00+00:00")])
    before = dump(store)
    second = store.write(BAD, messages=[Message("m2", "k", '{"a": 2}', "2026-03-02T08:00:00+00:00")])
    assert second == replace(first, new=False)
    assert dump(store) == before


def test_a_reinspection_is_a_second_record_that_knows_the_first(store: Store) -> None:
    store.write(BAD)
    better = again(replace(make_inspection(BAD.board.serial)), lot=BAD.board.lot)
    written = store.write(better)
    assert written.sequence.inspection_no == 2
    assert written.sequence.first_record == BAD.board.record
    assert written.sequence.fpy == 0.0
    assert [b.board.record for b in store.board(BAD.board.serial)] == [BAD.board.record, better.board.record]


def test_inspections_are_numbered_as_they_arrive_whatever_the_clocks_say(store: Store) -> None:
    times = ["2036-01-01T08:00:00+01:00", "2026-03-02T07:30:00+00:00", "2026-03-01T09:00:00+01:00"]
    records = [make_inspection("S", inspected_at=t, defects={"U1.lower.A1": "open"}) for t in times[:2]]
    records.append(make_inspection("S", inspected_at=times[2]))
    for one in records:
        store.write(one)
    sequences = store.find_sequences([r.board.record for r in records])
    assert [sequences[r.board.record].inspection_no for r in records] == [1, 2, 3]
    assert {s.first_record for s in sequences.values()} == {records[0].board.record}
    assert {b.final for b in store.board("S")} == {"pass"}  # the last one to arrive decides


def test_within_a_run_whose_boards_come_in_any_order_their_times_decide(store: Store) -> None:
    store.begin_run(RunRecord("r", "run", "0", AT))
    times = ["2026-03-02T08:00:00+01:00", "2026-03-02T07:30:00+00:00", "2026-03-02T09:00:00+01:00"]  # 07:00, 07:30, 08:00 UTC
    records = [make_inspection("S", inspected_at=t) for t in times]
    for k in (2, 0, 1):
        store.write(records[k], run="r")
    sequences = store.find_sequences([r.board.record for r in records])
    assert [sequences[r.board.record].inspection_no for r in records] == [1, 2, 3]
    assert {s.first_record for s in sequences.values()} == {records[0].board.record}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_within_a_run_a_time_in_the_future_decides_nothing(store: Store, order: tuple[int, int]) -> None:
    store.begin_run(RunRecord("r", "run", "0", AT))
    ahead = make_inspection("S", inspected_at="2036-01-01T08:00:00+01:00")
    right = make_inspection("S", inspected_at="2026-03-01T08:00:00+01:00", defects={"U1.lower.A1": "open"})
    for k in order:
        store.write((ahead, right)[k], run="r")
    assert {b.final for b in store.board("S")} == {"fail"}
    assert [b.board.record for b in store.board("S")] == [ahead.board.record, right.board.record]


def count_boards(store: Store) -> tuple[int, int, int]:
    """Boards, passed boards and re-inspected boards of the yield table."""
    with store.reading() as connection:
        (row,) = sum_groups(connection, (), Selection())
    return row["boards"], row["passed"], row["reinspected"]


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ({"panel": "S", "position": 1}, {"panel": "S", "position": 2}, False),  # the panel's barcode as the serial
        ({"panel": None, "position": 1}, {"panel": None, "position": 2}, False),
        ({"panel": "P", "position": 1}, {"panel": "P", "position": 2}, True),  # a serial of its own
        ({"panel": "P", "position": 1}, {"panel": "Q", "position": 1}, False),
        ({"panel": "P", "position": 1}, {"panel": None, "position": None}, True),  # a machine that does not read them
        ({"panel": "S", "position": 1}, {"panel": "", "position": None}, True),
        ({"panel": "P", "position": 1}, {"panel": "  ", "position": 1}, True),  # blanks are no panel
        ({"panel": " ", "position": 1}, {"panel": " ", "position": 2}, False),
        ({"product": "X"}, {"product": "Y"}, False),
    ],
)
def test_a_board_is_known_by_serial_product_panel_and_position(store: Store, first: dict, second: dict, is_one: bool) -> None:
    store.write(make_inspection("S", defects={"U1.lower.A1": "open"}, record="1" * 32, **first))
    store.write(make_inspection("S", record="2" * 32, **second))
    assert count_boards(store) == ((1, 0, 1) if is_one else (2, 1, 0))
    assert [b.final for b in store.board("S")] == (["pass", "pass"] if is_one else ["fail", "pass"])


@pytest.mark.parametrize(
    "serial",
    [
        " ",
        "\u3000 ",
        "NOREAD",
        "No Read",
        "<NO_READ>",
        "N/A",
        "n.a.",
        "null",
        "Unknown",
        "0000",
        "???",
        "---",
        "\u2800",
        "\u3164",
    ],
)
def test_a_serial_of_blanks_names_no_board(store: Store, serial: str) -> None:
    for record, defects in (("1" * 32, {"U1.lower.A1": "open"}), ("2" * 32, {})):
        store.write(make_inspection(serial, record=record, defects=defects))
    assert count_boards(store) == (2, 1, 0)
    assert [b.final for b in store.board(serial)] == ["fail", "pass"]


@pytest.mark.parametrize("serial", ["0001", "NA1", "READ", "ERROR-7", "板", "null-3"])
def test_a_serial_that_only_looks_like_none_names_its_board(store: Store, serial: str) -> None:
    for record in ("1" * 32, "2" * 32):
        store.write(make_inspection(serial, record=record))
    assert count_boards(store)[0] == 1


def test_a_record_that_fits_two_boards_is_a_third_one(store: Store) -> None:
    for position in (1, 2, None):
        store.write(make_inspection("S", panel="S", position=position, record=f"{position}" * 8))
    assert count_boards(store)[0] == 3


UNSEEN = {"missing": ("U1/lower slices", "U1/upper slices"), "verdict": "review"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_height_map_alone_is_no_inspection_that_counts(store: Store, order: tuple[int, int]) -> None:
    bad = make_inspection("S", defects={"U1.lower.A1": "open"}, record="1" * 32, station="AXI")
    n = bad.board.n_joints
    aoi = replace(bad.board, record="2" * 32, station="AOI", n_undecided=n, n_good=0, n_open=0, **UNSEEN)
    both = [bad, replace(bad, board=aoi)]
    for k in order:
        store.write(both[k])
    assert count_boards(store) == (1, 0, 0)
    sequences = store.find_sequences(["1" * 32, "2" * 32])
    assert (sequences["1" * 32].inspection_no, sequences["2" * 32].inspection_no) == (1, 2)
    assert {b.final for b in store.board("S")} == {"fail"}


def test_a_board_without_any_picture_stays_in_the_figures_as_it_is(store: Store) -> None:
    one = make_inspection("S", record="2" * 32)
    store.write(replace(one, board=replace(one.board, n_undecided=one.board.n_joints, **UNSEEN)))
    assert count_boards(store) == (1, 0, 0)


@pytest.mark.parametrize(
    "make_time",
    [
        lambda i: "2026-03-02T08:15:00+01:00",
        lambda i: f"2026-03-{30 - i:02d}T08:15:00+01:00",  # files of before, the newest first
        lambda i: f"2036-03-{1 + i:02d}T08:15:00+01:00",  # a machine's clock that is ahead
    ],
    ids=["one time", "backwards", "ahead"],
)
def test_a_serial_that_is_inspected_often_takes_no_more_statements(store: Store, make_time: Callable[[int], str]) -> None:
    """A reference board, inspected at each start of shift. The rows that change are counted, too."""
    work: list[int] = []

    def count(i: int) -> tuple[int, int]:
        work.clear()
        store.write(make_inspection("GOLD", record=f"{i:032d}", inspected_at=make_time(i)))
        return len(work), sum(work)

    event.listen(store._engine, "after_cursor_execute", lambda *a: work.append(max(a[1].rowcount, 0)))
    counts = [count(i) for i in range(30)]
    statements, rows = (sorted(n[k] for n in counts[5:]) for k in (0, 1))
    assert statements[-1] - statements[0] <= 2  # another day is another row
    assert rows[-1] - rows[0] <= 50
    assert store.board("GOLD")[-1].sequence.inspection_no == 30


def test_of_two_records_of_one_export_the_one_written_first_stays_first(store: Store) -> None:
    one = make_inspection("S", record="z")
    store.write(one)
    assert store.write(replace(one, board=replace(one.board, record="a"))).sequence.first_record == "z"


def test_a_time_without_its_offset_is_refused(store: Store) -> None:
    for bad in ("2026-03-02T08:00:00", "yesterday"):
        with pytest.raises(StoreFault, match="inspected_at"):
            store.write(make_inspection("S", inspected_at=bad, record="r"))
    assert not store.has("r")


def test_a_field_without_a_column_of_its_own_is_kept(store: Store) -> None:
    one = make_inspection("S", operating_point="fail above 1.5, follows the machine")
    store.write(one)
    assert store.board("S")[0].board.operating_point == "fail above 1.5, follows the machine"


def test_positions_are_filled_in_by_later_boards(store: Store) -> None:
    one = make_inspection("S1")
    hidden = one.joints["x_um"].copy()
    hidden[3] = np.nan
    store.write(replace(one, joints=one.joints.replace(x_um=hidden)))
    store.write(make_inspection("S2"))
    with store.reading() as connection:
        from inspect_pop.store.schema import positions

        rows = connection.execute(select(positions.c.ball, positions.c.x_um).where(positions.c.interface == "lower")).all()
    assert len(rows) == 16
    assert dict(rows)["A4"] == pytest.approx(600.0, abs=0.1)


def test_when_the_rows_cannot_be_written_the_file_is_gone_too(store: Store, tmp_path: Path) -> None:
    bad = make_inspection("S")
    broken = replace(bad, packages=(*bad.packages, *bad.packages))  # one package twice: a row that cannot be
    with pytest.raises(StoreFault):
        store.write(broken)
    assert store.board("S") == []
    assert not [p for p in (tmp_path / "files").rglob("*") if p.is_file() and p.name != "store.json"]
    assert store.write(bad).new


def test_when_the_file_cannot_be_put_in_place_there_is_no_row(store: Store, tmp_path: Path) -> None:
    one = make_inspection("S", record="r")
    (tmp_path / "files/joints/day=2026-03-02/lot=L-2411/r.parquet").mkdir(parents=True)
    with pytest.raises(StoreFault):
        store.write(one)
    assert store.board("S") == []
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(boards)) == 0


def test_text_of_any_kind_stays_as_it_is(store: Store) -> None:
    for k, serial in enumerate(["'; DROP TABLE boards; --", "a%20b", "..", "日本語" * 40, "A\\B", " lead"]):
        store.write(make_inspection(serial, record=f"r{k}", lot=serial))
        assert [b.board.serial for b in store.board(serial)] == [serial]
        assert store.joints(lot=serial).num_rows == 25


def test_text_that_no_encoding_holds_is_refused(store: Store) -> None:
    with pytest.raises(StoreFault, match="UTF-8"):
        store.write(make_inspection("S", lot="\ud800", record="r"))
    assert not store.has("r")


def test_any_number_of_records_can_be_asked_for(store: Store) -> None:
    store.write(BAD)
    assert list(store.find_sequences([*(f"none{k}" for k in range(70_000)), BAD.board.record])) == [BAD.board.record]


def test_a_record_that_is_there_is_known_though_the_disk_is_full(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.write(BAD)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFiles, "write", full)
    assert store.write(BAD) == replace(first, new=False)
    with pytest.raises(StoreFault, match="No space"):
        store.write(make_inspection("ANOTHER"))
    assert store.board("ANOTHER") == []


BOARD = make_inspection("S", defects={"U1.lower.A1": "open"}, reviews={"U1.upper.B2": "near the threshold"})
AT = "2026-03-02T10:00:00+01:00"


def decide(state: str, interface: str = "lower", ball: str = "A1", at: str = AT, **more: str) -> Decision:
    return Decision(BOARD.board.record, "U1", interface, ball, state, "kim", at, **more)


def test_a_board_is_final_when_every_call_and_doubt_is_decided(store: Store) -> None:
    store.write(BOARD)
    assert store.board("S")[0].final == "fail"
    assert store.add_decision(decide("DefectRejected", label="good", note="shadow"))
    assert store.board("S")[0].final == "pending"
    assert store.add_decision(decide("DefectRejected", "upper", "B2"))
    (found,) = store.board("S")
    assert found.final == "pass"
    assert found.decisions[0] == decide("DefectRejected", label="good", note="shadow")
    lower, upper = found.interfaces
    assert (lower["n_false_calls"], lower["n_cleared"]) == (1, 0)
    assert (upper["n_false_calls"], upper["n_cleared"]) == (0, 1)


def test_the_same_decision_is_kept_once_with_its_message(store: Store) -> None:
    store.write(BOARD)
    message = Message("m", "UnitsInspected", "{}", AT, BOARD.board.record)
    assert store.add_decision(decide("DefectConfirmed"), messages=[message])
    assert not store.add_decision(decide("DefectConfirmed"), messages=[replace(message, id="n")])
    assert [m.id for m in store.waiting()[1]] == ["m"]
    assert len(store.board("S")[0].decisions) == 1


def test_decisions_count_in_the_order_of_their_arrival_though_a_clock_was_set_back(store: Store) -> None:
    store.write(BOARD)
    store.add_decision(decide("DefectRejected", at="2026-03-02T09:00:00+00:00"))
    store.add_decision(decide("DefectConfirmed", at="2026-03-02T09:30:00+01:00"))  # half an hour earlier
    assert [d.state for d in store.board("S")[0].decisions] == ["DefectRejected", "DefectConfirmed"]
    assert store.board("S")[0].final == "fail"


def test_a_decision_that_is_sent_again_later_is_kept_once(store: Store) -> None:
    store.write(BOARD)
    assert store.add_decision(decide("DefectRejected", at="2026-03-02T09:00:00+00:00"))
    assert not store.add_decision(decide("DefectRejected", at="2026-03-02T09:00:30+00:00"))  # no answer came
    assert store.add_decision(decide("DefectConfirmed", at="2026-03-02T09:01:00+00:00"))
    assert store.add_decision(decide("DefectRejected", at="2026-03-02T09:02:00+00:00"))  # another opinion, again
    assert len(store.board("S")[0].decisions) == 3


def test_an_escape_is_a_defect_at_a_joint_that_passed(store: Store) -> None:
    store.write(BOARD)
    store.add_decision(decide("DefectMissed", ball="D4", label="starved"))
    lower = store.board("S")[0].interfaces[0]
    assert lower["n_escapes"] == 1
    assert lower["final"] == "fail"


def test_a_decision_on_a_reinspection_settles_the_board(store: Store) -> None:
    store.write(BOARD)
    second = again(BOARD)
    store.write(second)
    for joint in (("lower", "A1"), ("upper", "B2")):
        store.add_decision(replace(decide("DefectRejected", *joint), record=second.board.record))
    assert [b.final for b in store.board("S")] == ["pass", "pass"]
    assert store.board("S")[0].interfaces[0]["n_false_calls"] == 0  # the machine's score is that of the first inspection


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (replace(decide("DefectConfirmed"), record="none"), "record none"),
        (decide("Confirmed"), "state"),
        (decide("DefectConfirmed", label="fine"), "label"),
        (replace(decide("DefectConfirmed"), decided_by=""), "decided_by"),
        (decide("DefectConfirmed", at="now"), "decided_at"),
        (decide("DefectConfirmed", at="2026-03-02T10:00:00"), "decided_at"),
        (decide("DefectConfirmed", ball="Z9"), "U1.lower.Z9"),
        (decide("DefectConfirmed", "middle"), "U1.middle.A1"),
        (decide("DefectConfirmed", ball="D4"), "DefectMissed is for a joint that passed"),
        (decide("DefectMissed"), "DefectMissed is for a joint that passed"),
    ],
)
def test_what_cannot_be_is_refused_and_not_kept(store: Store, bad: Decision, says: str) -> None:
    store.write(BOARD)
    with pytest.raises(UsageFault, match=says):
        store.add_decision(bad)
    assert store.board("S")[0].decisions == ()

"""One inspection is one record, and one decision is kept once, whoever writes it and however often."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Decision, Message, Store
from inspect_pop.store.joint_files import LocalFiles
from inspect_pop.store.schema import TABLES, boards
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


def test_the_first_inspection_is_the_earliest_in_whatever_order_they_arrive(open_here: Callable[[], Store]) -> None:
    store = open_here()
    times = ["2026-03-02T08:00:00+01:00", "2026-03-02T07:30:00+00:00", "2026-03-02T09:00:00+01:00"]  # 07:00, 07:30, 08:00 UTC
    records = [make_inspection("S", inspected_at=t) for t in times]
    for k in (2, 0, 1):
        store.write(records[k])
    sequences = store.find_sequences([r.board.record for r in records])
    assert [sequences[r.board.record].inspection_no for r in records] == [1, 2, 3]
    assert {s.first_record for s in sequences.values()} == {records[0].board.record}


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
    assert not [p for p in (tmp_path / "files").rglob("*") if p.is_file()]
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


def test_decisions_count_in_the_order_of_their_time(store: Store) -> None:
    store.write(BOARD)
    store.add_decision(decide("DefectRejected", at="2026-03-02T09:00:00+00:00"))
    store.add_decision(decide("DefectConfirmed", at="2026-03-02T09:30:00+01:00"))  # half an hour earlier
    assert [d.state for d in store.board("S")[0].decisions] == ["DefectConfirmed", "DefectRejected"]
    assert store.board("S")[0].final == "pending"


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

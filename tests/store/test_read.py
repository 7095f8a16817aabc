"""Records and joints as they are read back."""

import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.store import Store
from inspect_pop.store.joint_files import RECORD_SCHEMA, LocalFiles
from inspect_pop.store.rows import find_joint_paths, read_boards, read_joints
from tests.factories import again, make_inspection

LATER = "2026-03-03T08:00:00+01:00"


def test_records_of_a_serial_come_in_order_of_inspection(store: Store) -> None:
    first = make_inspection("S", defects={"U1.lower.A1": "open"})
    second = again(make_inspection("S"), inspected_at=LATER)
    for one in (first, second):
        store.write(one)
    with store.reading() as connection:
        found = read_boards(connection, serial="S")
        assert [b.board for b in found] == [first.board, second.board]
        assert [b.sequence.inspection_no for b in found] == [1, 2]
        assert read_boards(connection, record="none") == []


def test_paths_are_found_by_day_lot_and_record(store: Store) -> None:
    store.write(make_inspection("S1", record="r1", lot="L1"))
    store.write(make_inspection("S2", record="r2", lot="L2", inspected_at=LATER))
    with store.reading() as connection:
        assert find_joint_paths(connection, lot="L1") == [("r1", "joints/day=2026-03-02/lot=L1/r1.parquet")]
        assert find_joint_paths(connection, day="2026-03-03") == [("r2", "joints/day=2026-03-03/lot=L2/r2.parquet")]
        assert [r for r, _ in find_joint_paths(connection)] == ["r1", "r2"]
        assert find_joint_paths(connection, record="none") == []


def test_joints_come_in_the_order_of_the_records(store: Store, tmp_path) -> None:
    for k in (1, 2):
        store.write(make_inspection(f"S{k}", record=f"r{k}"))
    with store.reading() as connection:
        located = find_joint_paths(connection)
    table = read_joints(LocalFiles(tmp_path / "files"), located[::-1])
    assert table["record"].to_pylist() == ["r2"] * 25 + ["r1"] * 25
    assert read_joints(LocalFiles(tmp_path / "files"), []).schema == RECORD_SCHEMA
    with pytest.raises(StoreFault, match="1 records without one, such as r9"):
        read_joints(LocalFiles(tmp_path / "files"), [("r9", "")])

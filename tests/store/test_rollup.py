"""Sums by context and level follow every write. tests/yields compares them with sums over all boards."""

from sqlalchemy import select

from inspect_pop.store import Store
from inspect_pop.store.engine import writing
from inspect_pop.store.schema import SUM_COLUMNS, boards, rollups
from inspect_pop.store.summaries import LEVELS, add_contribution, select_sums
from tests.factories import again, make_inspection


def sums(store: Store, level: str) -> list[tuple[int, ...]]:
    query = select(rollups.c.boards, rollups.c.passed, rollups.c.n_open, rollups.c.opportunities, rollups.c.reinspected)
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(query.where(rollups.c.level == level).order_by(rollups.c.interface))]


def test_a_board_counts_once_per_row(store: Store) -> None:
    store.write(make_inspection("S1", defects={"U1.lower.A1": "open"}))
    store.write(make_inspection("S2"))
    assert sums(store, "board") == sums(store, "package") == [(2, 1, 1, 2 * (25 + 4), 0)]
    assert sums(store, "interface") == [(2, 1, 1, 2 * (16 + 2), 0), (2, 2, 0, 2 * (9 + 2), 0)]


def test_a_reinspection_adds_no_board(store: Store) -> None:
    store.write(make_inspection("S1", defects={"U1.lower.A1": "open"}))
    store.write(again(make_inspection("S1")))
    assert sums(store, "board") == [(1, 0, 1, 29, 1)]


def test_what_is_added_can_be_subtracted_again(store: Store) -> None:
    store.write(make_inspection("S1", defects={"U1.lower.A1": "open"}))
    with writing(store._engine) as connection:
        add_contribution(connection, connection.execute(select(boards.c.id)).scalar_one(), -1)
    with store.reading() as connection:
        rows = connection.execute(select(*(rollups.c[n] for n in SUM_COLUMNS))).all()
    assert len(rows) >= len(LEVELS)
    assert all(not any(row) for row in rows)


def test_sums_can_be_computed_from_some_boards(store: Store) -> None:
    for k in (1, 2, 3):
        store.write(make_inspection(f"S{k}"))
    with store.reading() as connection:
        for level in LEVELS:
            rows = connection.execute(select_sums(level, boards.c.serial.in_(["S1", "S3"]))).all()
            assert {row.boards for row in rows} == {2}

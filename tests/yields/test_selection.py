"""What a user gives becomes bounds on days or on instants."""

import pytest
from sqlalchemy import select

from inspect_pop.core.errors import UsageFault
from inspect_pop.store import Store
from inspect_pop.store.schema import boards as board_table
from inspect_pop.yields.selection import KEYS, check_group_keys, make_selection, sum_groups


def test_a_day_bounds_days_and_a_time_bounds_instants() -> None:
    days = make_selection("2026-03-02", "2026-03-04")
    assert (days.first_day, days.last_day, days.from_us, days.before_us) == ("2026-03-02", "2026-03-04", None, None)
    times = make_selection("1970-01-01T01:00:01+01:00", "1970-01-01T00:00:02+00:00", {"lot": None})
    assert (times.first_day, times.last_day, times.from_us, times.before_us) == (None, None, 1_000_000, 2_000_000)
    assert times.only == {"lot": None}


@pytest.mark.parametrize("bad", ["2026-3-2", "2026-02-30", "2026-03-02T06:00:00"])
def test_other_bounds_are_refused(bad: str) -> None:
    with pytest.raises(UsageFault, match="--until"):
        make_selection(until=bad)


def test_each_key_is_taken_once_and_an_unknown_one_is_refused() -> None:
    assert check_group_keys(("lot", "day", "lot")) == ("lot", "day")
    assert check_group_keys(KEYS) == KEYS
    with pytest.raises(UsageFault, match="label"):
        check_group_keys(("label",))


def test_a_query_is_limited_to_first_inspections(store: Store) -> None:
    query = make_selection(only={"lot": "L1"}).limit(select(board_table.c.serial).order_by(board_table.c.serial))
    with store.reading() as connection:
        assert list(connection.scalars(query)) == ["S1", "S2", "S3"]


def test_days_that_an_instant_cuts_are_summed_from_their_boards(store: Store) -> None:
    """A bound in the evening of 4 March, UTC, lies within that day everywhere."""
    whole, cut = make_selection(), make_selection("2026-03-01T00:00:00Z", "2026-03-04T20:00:00Z")
    with store.reading() as connection:
        assert [(r["day"], r["boards"]) for r in sum_groups(connection, ("day",), whole)] == [
            ("2026-03-02", 3),
            ("2026-03-04", 3),
        ]
        assert [(r["day"], r["boards"]) for r in sum_groups(connection, ("day",), cut)] == [("2026-03-02", 3), ("2026-03-04", 2)]

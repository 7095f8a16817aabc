"""The table of columns: what must hold for every column that is added to it."""

import pytest

from inspect_pop.core.columns import AGGREGATES, COLUMNS, KEY, Column, column, list_measured_columns, list_stored_columns


def test_names_are_given_once_and_looked_up() -> None:
    assert len({c.name for c in COLUMNS}) == len(COLUMNS)
    assert all(column(c.name) is c for c in COLUMNS)
    assert set(KEY) < {c.name for c in COLUMNS}
    with pytest.raises(KeyError):
        column("colour")


@pytest.mark.parametrize("c", COLUMNS, ids=lambda c: c.name)
def test_every_column_is_complete(c: Column) -> None:
    assert c.kind in ("text", "float32", "int64")
    assert c.meaning
    assert c.unit == ("um" if c.name.endswith("_um") else "1" if c.kind == "float32" else "")
    assert set(c.aggregates) <= {"mean", "min", "max"}
    if c.measured or c.stored or c.aggregates or c.cfx or c.truth or c.repeated or c.display:
        assert c.kind == "float32"
    if c.nullable:
        assert c.kind == "text"


def test_selections_follow_from_the_table() -> None:
    assert list_measured_columns() == tuple(c.name for c in COLUMNS if c.measured)
    assert list_stored_columns() == tuple(c.name for c in COLUMNS if c.stored)
    assert {"x_um", "void_fraction", "z_mid"} <= set(list_measured_columns())
    assert "standoff_um" not in list_measured_columns()


def test_an_aggregate_says_column_and_figure() -> None:
    found = {a.name: (a.column, a.how) for a in AGGREGATES}
    assert found["volume_ratio"] == ("volume_ratio", "mean")
    assert found["volume_ratio_min"] == ("volume_ratio", "min")
    assert len(found) == len(AGGREGATES)

"""The joint table: checked columns, and rows by name, mask, integers, slice and number."""

import sys

import numpy as np
import pytest

from inspect_pop.core.columns import JointTable, concat
from inspect_pop.core.errors import UsageFault


@pytest.fixture
def table() -> JointTable:
    return JointTable(
        {
            "verdict": ["pass", "fail", "review", "pass"],
            "ball": ["A1", "A2", "B1", "B2"],
            "label": ["good", "open", None, "good"],
            "void_fraction": [0.1, 0.2, np.nan, 0.0],
            "flags": [0, 0, 1, 0],
        }
    )


def test_columns_have_their_declared_order_and_type(table: JointTable) -> None:
    assert table.names == ("ball", "label", "verdict", "void_fraction", "flags")
    assert [table[name].dtype for name in table.names] == [object, object, object, np.float32, np.int64]
    assert "flags" in table and "x_um" not in table
    assert list(table.to_dict()) == list(table.names)


def test_a_column_by_name(table: JointTable) -> None:
    np.testing.assert_array_equal(table["void_fraction"], np.array([0.1, 0.2, np.nan, 0.0], np.float32))
    with pytest.raises(KeyError):
        table["colour"]


@pytest.mark.parametrize(
    ("key", "balls"),
    [
        (np.array([True, False, True, False]), ["A1", "B1"]),
        ([False, False, False, True], ["B2"]),
        (np.array([3, 0, 0]), ["B2", "A1", "A1"]),
        ([-1, 1], ["B2", "A2"]),
        ([], []),
        (slice(1, 3), ["A2", "B1"]),
        (slice(None, None, -1), ["B2", "B1", "A2", "A1"]),
    ],
)
def test_rows_as_a_table(table: JointTable, key: object, balls: list[str]) -> None:
    rows = table[key]  # type: ignore[call-overload]
    assert isinstance(rows, JointTable)
    assert list(rows["ball"]) == balls
    assert rows.names == table.names


def test_rows_by_a_condition_on_a_column(table: JointTable) -> None:
    assert list(table[table["verdict"] != "pass"]["ball"]) == ["A2", "B1"]


@pytest.mark.parametrize("number", [2, -2, np.int64(2)])
def test_one_row_as_a_dict(table: JointTable, number: int) -> None:
    row = table[number]
    assert (row["ball"], row["label"], row["flags"]) == ("B1", None, 1)
    assert np.isnan(row["void_fraction"])


def test_a_row_beyond_the_end_is_refused(table: JointTable) -> None:
    with pytest.raises(IndexError):
        table[4]


def test_iteration_gives_rows(table: JointTable) -> None:
    assert [row["ball"] for row in table] == ["A1", "A2", "B1", "B2"]


def test_replace_and_concat_give_new_tables(table: JointTable) -> None:
    changed = table.replace(verdict=["pass"] * 4, p_good=[1.0] * 4)
    assert set(changed["verdict"]) == {"pass"}
    assert "p_good" not in table
    assert list(concat([table, table[:1]])["ball"]) == ["A1", "A2", "B1", "B2", "A1"]
    assert len(concat([])) == 0


def test_what_is_not_declared_or_not_parallel_is_refused() -> None:
    with pytest.raises(ValueError, match="undeclared columns"):
        JointTable({"colour": ["red"]})
    with pytest.raises(ValueError, match="unequal length"):
        JointTable({"ball": ["A1"], "flags": [0, 0]})
    with pytest.raises(ValueError, match="ball must not hold null"):
        JointTable({"ball": [None]})


def test_a_repr_counts_the_verdicts(table: JointTable) -> None:
    assert repr(table) == "<JointTable of 4 joints, 5 columns: 2 pass, 1 fail, 1 review>"
    assert repr(JointTable({"ball": ["A1"]})) == "<JointTable of 1 joints, 1 columns>"


def test_html_escapes_what_it_shows() -> None:
    html = JointTable({"ball": ["<A1>"], "p_good": [0.12345]})._repr_html_()
    assert "&lt;A1&gt;" in html and "<A1>" not in html
    assert "<td>0.123</td>" in html


def test_pandas_is_needed_for_a_data_frame_alone(table: JointTable, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.query("verdict != 'pass'")["ball"]) == ["A2", "B1"]
    assert frame["label"].isna().sum() == 1
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageFault, match="expected pandas"):
        table.to_pandas()

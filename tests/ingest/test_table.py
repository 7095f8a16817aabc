"""Comma-separated tables."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_pop.core.errors import RecipeFault
from inspect_pop.ingest.table import number, rows

PATH = Path("U1_lower.csv")


def read(text: str) -> list[tuple[int, list[str]]]:
    return list(rows(PATH, text, ("ball", "x_um"), ("note",), RecipeFault))


def test_columns_are_found_by_name() -> None:
    assert read("x_um,colour,ball\n1,red,A1\n") == [(2, ["A1", "1", ""])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_and_blank_lines(end: str) -> None:
    assert read(end.join(["ball,x_um", "A1,1", "", "A2,2", ",", ""])) == [(2, ["A1", "1", ""]), (4, ["A2", "2", ""])]


def test_the_last_line_needs_no_end() -> None:
    assert read("ball,x_um\nA1,1") == [(2, ["A1", "1", ""])]


def test_a_row_is_named_by_the_line_on_which_it_begins() -> None:
    assert read('ball,x_um,note\nA1,1,"two\nlines"\nA2,2,\n') == [(2, ["A1", "1", "two\nlines"]), (4, ["A2", "2", ""])]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1.*no line at all"),
        ("ball;x_um\nA1;1,5\n", "line 1.*decimal point"),
        ("ball\nA1\n", "line 1.*x_um"),
        ("ball,x_um,ball\n", "line 1.*ball twice"),
        ("ball,x_um,note,note\n", "line 1.*note twice"),
        ("ball,x_um\nA1\n", "line 2.*expected 2 values, found 1"),
        ("ball,x_um\nA1,1,5\n", "line 2.*expected 2 values, found 3.*decimal point"),
        ('ball,x_um\nA1,1\n"A2,2\n', "line 3"),
        ('ball,x_um\nA1,"1"5\n', "line 2"),
        ("ball,x_um\nA1," + "9" * 200_000 + "\n", "line 2.*field larger"),
    ],
)
def test_a_table_that_is_not_as_it_must_be_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(RecipeFault, match=f"U1_lower.csv: (?s:{said})"):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("\x1c750\x1f", 750.0), ("-400.25", -400.25), ("+.5", 0.5), ("5.", 5.0), (" 1e3 ", 1000.0), ("-0", 0.0)],
)
def test_numbers(text: str, value: float) -> None:
    assert number(PATH, 2, "x_um", text, RecipeFault) == value


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-Infinity", "1_000", "1,5", "0x10", "１２", "1e999", "1e9999", "five", "1 2", "--1", "1\n2"]
)
def test_what_is_no_number_is_refused_with_line_and_column(text: str) -> None:
    with pytest.raises(RecipeFault, match="line 2: x_um: expected a number"):
        number(PATH, 2, "x_um", text, RecipeFault)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_writes_is_read_back(value: float) -> None:
    assert number(PATH, 2, "x_um", repr(value), RecipeFault) == value


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert all(len(values) == 3 for _, values in read(text))
    except RecipeFault as fault:
        assert "line" in str(fault)

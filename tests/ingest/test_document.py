"""Strict JSON with every fault of a document at once, and comma-separated tables."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from inspect_pop.core.errors import ManifestFault, RecipeFault
from inspect_pop.ingest.document import (
    FieldFault,
    StrictModel,
    format_value,
    parse_json,
    parse_number,
    read_rows,
    to_fault,
    to_faults,
    validate,
)

PATH = Path("export.json")


class Point(StrictModel):
    x_um: float
    names: list[str] = Field(default=[], min_length=0)


def test_an_object_is_read() -> None:
    assert parse_json(PATH, b'\xef\xbb\xbf{"a": [1, 2.5, null, "\xc3\xa4"]}', ManifestFault) == {"a": [1, 2.5, None, "ä"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "JSON"),
        (b"[1]", "object"),
        (b"null", "object"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' given twice"),
        (b'{"b": {"a": 1, "a": 3}}', "'a' given twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a":' * 100_000, "nesting"),
        (b'{"a": 1} trailing', "Extra data"),
        (b'{"a": 0x10}', "JSON"),
        (b"{'a': 1}", "JSON"),
    ],
)
def test_what_is_no_strict_json_object_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ManifestFault, match=said):
        parse_json(PATH, data, ManifestFault)


def test_a_million_doubled_names_take_no_time() -> None:
    data = b"{" + b",".join(b'"n%d":1' % (k % 300_000) for k in range(300_001)) + b"}"
    with pytest.raises(ManifestFault, match="'n0' given twice"):
        parse_json(PATH, data, ManifestFault)


def test_problems_name_field_expectation_and_finding() -> None:
    value, problems = validate(Point, {"x_um": "5", "names": ["a", 2]}, "points[3]")
    assert value is None
    assert problems == [
        FieldFault("points[3].x_um", "a valid number", "'5'"),
        FieldFault("points[3].names[1]", "a valid string", "2"),
    ]


def test_a_missing_field_is_told() -> None:
    assert validate(Point, {})[1] == [FieldFault("x_um", "a value", "nothing")]


@pytest.mark.parametrize("value", [True, "1", None, [1.0], float("nan"), float("inf")])
def test_a_number_is_a_finite_number(value: object) -> None:
    assert validate(Point, {"x_um": value})[0] is None


def test_a_number_may_be_whole_and_unknown_fields_are_left_alone() -> None:
    point, problems = validate(Point, {"x_um": 3, "z": object()})
    assert point == Point(x_um=3.0)
    assert problems == []


def test_one_error_tells_all_problems() -> None:
    problems = [FieldFault("a", "a number", "'1'"), FieldFault("b", "text", "2")]
    assert (
        str(to_fault(PATH, problems, ManifestFault)) == "export.json: a: expected a number, found '1'; b: expected text, found 2"
    )
    assert str(to_fault(PATH, problems[:1], ManifestFault)) == "export.json: a: expected a number, found '1'"
    assert [f.thing for f in to_faults(PATH, problems, ManifestFault)] == ["export.json: a", "export.json: b"]


def test_one_error_of_very_many_problems_stays_short() -> None:
    fault = to_fault(PATH, [FieldFault(f"z_um[{k}]", "a number", "'1'") for k in range(1000)], ManifestFault)
    assert len(str(fault)) < 1500
    assert str(fault).endswith("and 980 more")


def test_shown_values_are_short_and_printable() -> None:
    assert format_value(None) == "null"
    assert len(format_value("x" * 10_000)) < 100
    assert len(format_value([[["x" * 1000] * 1000] * 1000] * 1000)) < 1000
    assert format_value("\ud800\n").isprintable()


TABLE = Path("U1_lower.csv")


def read(text: str) -> list[tuple[int, list[str]]]:
    return list(read_rows(TABLE, text, ("ball", "x_um"), ("note",), RecipeFault))


def test_columns_are_found_by_name() -> None:
    assert read("x_um,colour,ball\n1,red,A1\n") == [(2, ["A1", "1", ""])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_and_blank_lines(end: str) -> None:
    assert read(end.join(["ball,x_um", "A1,1", "", "A2,2", ",", ""])) == [(2, ["A1", "1", ""]), (4, ["A2", "2", ""])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("sign", [";", "\t"])
def test_semicolons_and_tabs_of_spreadsheets(sign: str, end: str) -> None:
    table = end.join([sign.join(row) for row in (('"ball"', "size, mm", " x_um"), ("A1", "1,5", "1.5"), ("", "", ""))])
    assert read(table) == [(2, ["A1", "1.5", ""])]


def test_a_decimal_comma_is_no_number_in_a_spreadsheet_s_table() -> None:
    """1.234,5 is another number in another country: nobody guesses."""
    ((line, (_, x_um, _)),) = read("ball;x_um\nA1;-1,5\n")
    with pytest.raises(RecipeFault, match="line 2: x_um: expected a number, found '-1,5'"):
        parse_number(TABLE, line, "x_um", x_um, RecipeFault)


def test_the_last_line_needs_no_end() -> None:
    assert read("ball,x_um\nA1,1") == [(2, ["A1", "1", ""])]


def test_a_row_is_named_by_the_line_on_which_it_begins() -> None:
    assert read('ball,x_um,note\nA1,1,"two\nlines"\nA2,2,\n') == [(2, ["A1", "1", "two\nlines"]), (4, ["A2", "2", ""])]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1.*no line at all"),
        ("ball;x_um,note\nA1;1,5\n", "line 1.*decimal point"),
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
    assert parse_number(TABLE, 2, "x_um", text, RecipeFault) == value


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-Infinity", "1_000", "1,5", "0x10", "１２", "1e999", "1e9999", "five", "1 2", "--1", "1\n2"]
)
def test_what_is_no_number_is_refused_with_line_and_column(text: str) -> None:
    with pytest.raises(RecipeFault, match="line 2: x_um: expected a number"):
        parse_number(TABLE, 2, "x_um", text, RecipeFault)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_writes_is_read_back(value: float) -> None:
    assert parse_number(TABLE, 2, "x_um", repr(value), RecipeFault) == value


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert all(len(values) == 3 for _, values in read(text))
    except RecipeFault as fault:
        assert "line" in str(fault)

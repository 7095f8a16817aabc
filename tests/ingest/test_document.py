"""Strict JSON, and every fault of a document at once."""

from pathlib import Path

import pytest
from pydantic import Field

from inspect_pop.core.errors import ManifestFault
from inspect_pop.ingest.document import Problem, Strict, as_faults, as_one, parse_json, show, validated

PATH = Path("export.json")


class Point(Strict):
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
    value, problems = validated(Point, {"x_um": "5", "names": ["a", 2]}, "points[3]")
    assert value is None
    assert problems == [Problem("points[3].x_um", "a valid number", "'5'"), Problem("points[3].names[1]", "a valid string", "2")]


def test_a_missing_field_is_told() -> None:
    assert validated(Point, {})[1] == [Problem("x_um", "a value", "nothing")]


@pytest.mark.parametrize("value", [True, "1", None, [1.0], float("nan"), float("inf")])
def test_a_number_is_a_finite_number(value: object) -> None:
    assert validated(Point, {"x_um": value})[0] is None


def test_a_number_may_be_whole_and_unknown_fields_are_left_alone() -> None:
    point, problems = validated(Point, {"x_um": 3, "z": object()})
    assert point == Point(x_um=3.0)
    assert problems == []


def test_one_error_tells_all_problems() -> None:
    problems = [Problem("a", "a number", "'1'"), Problem("b", "text", "2")]
    assert str(as_one(PATH, problems, ManifestFault)) == "export.json: a: expected a number, found '1'; b: expected text, found 2"
    assert str(as_one(PATH, problems[:1], ManifestFault)) == "export.json: a: expected a number, found '1'"
    assert [f.thing for f in as_faults(PATH, problems, ManifestFault)] == ["export.json: a", "export.json: b"]


def test_one_error_of_very_many_problems_stays_short() -> None:
    fault = as_one(PATH, [Problem(f"z_um[{k}]", "a number", "'1'") for k in range(1000)], ManifestFault)
    assert len(str(fault)) < 1500
    assert str(fault).endswith("and 980 more")


def test_shown_values_are_short_and_printable() -> None:
    assert show(None) == "null"
    assert len(show("x" * 10_000)) < 100
    assert len(show([[["x" * 1000] * 1000] * 1000] * 1000)) < 1000
    assert show("\ud800\n").isprintable()

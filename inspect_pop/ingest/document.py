"""Strict readers of documents: JSON against a declared model, and comma-separated tables.

A faulty JSON document gives all of its faults at once; a faulty table gives the line of the first one.
"""

import csv
import io
import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest.files import decode_text

__all__ = [
    "FieldFault",
    "StrictModel",
    "expectation",
    "format_value",
    "parse_json",
    "parse_number",
    "read_rows",
    "to_fault",
    "to_faults",
    "validate",
]

_MOST_LISTED = 20  # a damaged list has one fault per entry, and a person reads the message
_PADDING = re.compile(r"^(Input|String|List) should (be |have |match )?| after validation, not .*$")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)  # float() also takes nan, inf and 1_000
_DELIMITERS = (",", ";", "\t")
_LINE = re.compile(r"[^\r\n]*")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 2

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """A model without conversions: text is text, numbers are finite numbers. Fields unknown to this version are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class FieldFault:
    """One fault of a document: the field, what was expected there, and what was found."""

    field: str
    expected: str
    found: str


def parse_json(path: Path, data: bytes, fault: type[InputFault]) -> dict[str, Any]:
    """Parse the bytes of the file `path` as one JSON object, in UTF-8 with or without a byte order mark.

    Raises `fault` for what is not JSON, NaN and Infinity, a name that occurs twice in one object, text that is not UTF-8,
    and excessive nesting.
    """

    def build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
            raise ValueError(f"{format_value(twice)} given twice in one object")
        return value

    def refuse_constant(name: str) -> Never:
        raise ValueError(f"{name}, which is not a JSON number")

    try:
        value = json.loads(decode_text(path, data, fault), object_pairs_hook=build_object, parse_constant=refuse_constant)
    except RecursionError as error:
        raise fault(str(path), expected="a JSON object", found="nesting that is too deep") from error
    except ValueError as error:  # also numbers of more digits than Python converts
        raise fault(str(path), expected="JSON", found=str(error), remedy="Have the machine export the board again.") from error
    if not isinstance(value, dict):
        raise fault(str(path), expected="a JSON object", found=format_value(value))
    return value


def validate(model: type[Model], value: object, at: str = "") -> tuple[Model | None, list[FieldFault]]:
    """Validate a value against a model: return the model, or None and every fault.

    `at` is the place of the value in its document, such as `images[0]`.
    """
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        faults = []
        for e in error.errors(include_url=False):
            field = at
            for part in e["loc"]:
                field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else str(part)
            if e["type"] == "missing":
                faults.append(FieldFault(field, "a value", "nothing"))
            else:
                faults.append(FieldFault(field or "document", _PADDING.sub("", e["msg"]), format_value(e["input"])))
        return None, faults


def expectation(what: str) -> PydanticCustomError:
    """Return the error that a validator raises: it says what was expected, and `validate` adds what was found."""
    return PydanticCustomError("expected", "{what}", {"what": what})


def format_value(value: object) -> str:
    """Format a value for a message: shortened, with characters that do not print escaped."""
    return "null" if value is None else _SHORT.repr(value)


def to_faults(path: Path, problems: Sequence[FieldFault], fault: type[InputFault]) -> list[InputFault]:
    """Convert the faults of a document into one error each."""
    return [fault(f"{path}: {p.field}", expected=p.expected, found=p.found) for p in problems]


def to_fault(path: Path, problems: Sequence[FieldFault], fault: type[InputFault]) -> InputFault:
    """Convert the faults of a document into one error that lists each field, what was expected and what was found."""
    if len(problems) == 1:
        return to_faults(path, problems, fault)[0]
    listed = [f"{p.field}: expected {p.expected}, found {p.found}" for p in problems[:_MOST_LISTED]]
    more = f"; and {len(problems) - _MOST_LISTED} more" if len(problems) > _MOST_LISTED else ""
    return fault(f"{path}: {'; '.join(listed)}{more}")


def read_rows(
    path: Path, text: str, required: Sequence[str], optional: Sequence[str], fault: type[InputFault]
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, values of `required` then `optional`) of each row of a table that is not blank.

    Commas separate values; or semicolons or tabs, as spreadsheets write them, where these separate the header's names. Values
    are kept exactly. Columns are found by name; others are ignored, and a missing optional column gives empty text.
    Raises `fault` for a missing or doubled column, a row that is shorter or longer than the header, and quotation marks
    that do not close.
    """
    delimiter = _find_delimiter(text, required)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        index = _find_columns(path, header, required, optional, fault)
        while True:
            line = reader.line_num + 1  # where the row starts: a quoted value may span several lines
            row = next(reader, None)
            if row is None:
                return
            if not any(row):
                continue
            if len(row) != len(header):
                remedy = "Write numbers with a decimal point, not a comma." if len(row) > len(header) else ""
                raise fault(f"{path}: line {line}", expected=f"{len(header)} values", found=str(len(row)), remedy=remedy)
            yield line, ["" if k is None else row[k] for k in index]
    except csv.Error as error:
        expect = {",": "comma", ";": "semicolon", "\t": "tab"}[delimiter]
        raise fault(f"{path}: line {line}", expected=f"{expect}-separated values", found=str(error)) from error


def _find_delimiter(text: str, required: Sequence[str]) -> str:
    """Return the sign that separates the required names in the text's first line; a comma where none does."""
    first = _LINE.match(text)
    header = first.group() if first else ""
    for sign in _DELIMITERS:
        names = {name.strip().strip('"') for name in header.split(sign)}
        if names.issuperset(required):
            return sign
    return ","


def _find_columns(
    path: Path, header: list[str], required: Sequence[str], optional: Sequence[str], fault: type[InputFault]
) -> list[int | None]:
    """Return the index in the header of each required, then each optional column; None for one that is not there."""
    if any(name not in header for name in required):
        remedy = ""
        if any(";" in name for name in header):
            remedy = "Separate the columns with commas, and write numbers with a decimal point."
        found = format_value(",".join(header)) if header else "no line at all"
        raise fault(f"{path}: line 1", expected=f"the columns {', '.join(required)}", found=found, remedy=remedy)
    doubled = [name for name in (*required, *optional) if header.count(name) > 1]
    if doubled:
        raise fault(f"{path}: line 1", expected="each column once", found=f"{doubled[0]} twice")
    return [header.index(name) if name in header else None for name in (*required, *optional)]


def parse_number(path: Path, line: int, column: str, text: str, fault: type[InputFault]) -> float:
    """Parse a finite decimal number with a point. Raises `fault`, naming the line and the column."""
    digits = text.strip()  # strips more than float() does: also the separators U+001C to U+001F
    if _NUMBER.fullmatch(digits) is None or not math.isfinite(float(digits)):
        remedy = "Write numbers with a decimal point." if "," in text else ""
        raise fault(f"{path}: line {line}: {column}", expected="a number", found=format_value(text), remedy=remedy)
    return float(digits)

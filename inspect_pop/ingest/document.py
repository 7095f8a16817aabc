"""Documents of an export, read strictly: JSON and comma-separated tables, and the fields of `export.json`, version 1.

A faulty JSON document gives all of its faults at once; a faulty table gives the line of the first one.
"""

import csv
import io
import json
import math
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Never, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest.files import BOUNDS, decode_text

__all__ = [
    "MOST_SLICES",
    "FieldFault",
    "HeightEntry",
    "ImageEntry",
    "Manifest",
    "ParsedManifest",
    "SliceEntry",
    "StrictModel",
    "Text",
    "expectation",
    "format_value",
    "parse_json",
    "parse_manifest",
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


# The fields of `export.json`, version 1, and the check that returns every fault of one at once.
#
# Each image is checked by itself, so that a faulty one does not hide the faults of another.


_JOINERS = "\u200c\u200d"  # in words of Persian and Indic scripts and in joined emoji; Python calls them not printable
_COORDINATE_UM = 1e6  # a metre: no board is larger
_PIXEL_UM = (0.1, 1000.0)  # the finest inspection X-ray has 0.25 um; below 0.1 the value is in mm
_STRETCH = 10.0  # of one side of a pixel over the other; line profilers have 1 to 4
MOST_SLICES = 64


def _plain(text: str) -> str:
    if any(unicodedata.category(c) == "Cc" for c in text):
        raise expectation("text without control characters")
    return text


def _printable(text: str) -> str:
    if not all(c.isprintable() or c in _JOINERS for c in text):
        raise expectation("1 to 128 printable characters")
    return text


def _offset_time(text: str) -> str:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise expectation("a time in ISO 8601 with an offset, such as 2026-11-22T08:27:51+01:00") from error
    if time.tzinfo is None:
        raise expectation("a time with its offset, such as 2026-11-22T08:27:51+01:00")
    if not 1970 <= time.year <= 9998:  # beyond these it has no UTC form everywhere
        raise expectation("a time from 1970 on")
    return text


def _pixel_sides(value: object) -> tuple[float, float]:
    given = value if isinstance(value, list) else [value, value]
    low_um, high_um = _PIXEL_UM
    sides = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool) and low_um <= v <= high_um]
    if len(given) != 2 or len(sides) != 2:
        raise expectation(f"a finite {low_um:g} to {high_um:g} um, or a list of two such sides: along a row, and along a column")
    if max(sides) > _STRETCH * min(sides):
        raise expectation(f"sides of which neither is more than {_STRETCH:g} times the other")
    return float(sides[0]), float(sides[1])


Text = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
Note = Annotated[str, Field(max_length=256), AfterValidator(_plain)]  # an optional field may be left empty
Serial = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Time = Annotated[str, Field(max_length=64), AfterValidator(_offset_time)]
Assumption = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
PathText = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
Coordinate = Annotated[float, Field(ge=-_COORDINATE_UM, le=_COORDINATE_UM)]
PixelSides = Annotated[tuple[float, float], PlainValidator(_pixel_sides)]  # along a row, along a column


class Manifest(StrictModel):
    """All of export.json but its images, which are checked one by one."""

    schema_: Literal["pop-export/1"] = Field(alias="schema")
    serial: Serial
    panel: Note | None = None
    position: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    product: Text
    lot: Note | None = None
    work_order: Note | None = None
    line: Text
    station: Text
    operator: Note | None = None
    recipe: PathText
    inspected_at: Time
    images: Annotated[list[Any], Field(max_length=BOUNDS.export_images)]
    assumed: list[Assumption] = Field(default_factory=list, max_length=BOUNDS.export_assumed)


class _Entry(StrictModel):
    refdes: Text
    file: PathText
    sha256: Digest | None = None
    pixel_um: PixelSides
    origin_um: Annotated[list[Coordinate], Field(min_length=2, max_length=2)]


class SliceEntry(_Entry):
    """An image of kind `xray_slices`."""

    kind: Literal["xray_slices"]
    interface: Literal["lower", "upper"]
    polarity: Literal["solder_bright", "solder_dark"]
    method: Literal["laminography", "ct", "transmission"]
    z_um: list[Coordinate]

    @field_validator("z_um")
    @classmethod
    def _rising(cls, z_um: list[float], info: ValidationInfo) -> list[float]:
        if info.data.get("method") == "transmission":
            if len(z_um) != 1:
                raise expectation("one value for a transmission picture")
        elif not 1 <= len(z_um) <= MOST_SLICES:
            raise expectation(f"1 to {MOST_SLICES} values, one per slice")
        if any(low >= high for low, high in pairwise(z_um)):
            raise expectation("rising values")
        return z_um

    @property
    def key(self) -> tuple[str, str]:
        """Package and interface that it shows."""
        return self.refdes, self.interface


class HeightEntry(_Entry):
    """An image of kind `height_map`. Only uint16 needs a scale; the type is known once the file is read."""

    kind: Literal["height_map"]
    stage: Literal["pre_stack", "post_reflow"]
    scale_um: Annotated[float, Field(gt=0, le=1000.0)] | None = None
    offset_um: Coordinate = 0.0
    no_data: Annotated[int, Field(ge=-(2**31), lt=2**32)] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Package and stage that it shows."""
        return self.refdes, self.stage


ImageEntry = SliceEntry | HeightEntry
_KINDS: dict[str, type[SliceEntry] | type[HeightEntry]] = {"xray_slices": SliceEntry, "height_map": HeightEntry}


@dataclass(frozen=True)
class ParsedManifest:
    """The usable part of an export.json, and its faults. `images` leaves out the faulty entries.

    `index` gives the place of each image in the document's list. `manifest` is None if its own fields are faulty.
    """

    manifest: Manifest | None
    images: tuple[ImageEntry, ...]
    index: tuple[int, ...]
    problems: tuple[FieldFault, ...]

    @property
    def entries(self) -> list[tuple[ImageEntry, int]]:
        """(image, place in the document's list) of each usable image."""
        return list(zip(self.images, self.index, strict=True))


def parse_manifest(document: dict[str, Any]) -> ParsedManifest:
    """Check the document of an export.json field by field."""
    manifest, problems = validate(Manifest, document)
    listed = document.get("images")
    entries: list[ImageEntry] = []
    index: list[int] = []
    for i, value in enumerate(listed[: BOUNDS.export_images] if isinstance(listed, list) else ()):
        entry, wrong = _validate_image(value, f"images[{i}]")
        problems += wrong
        if entry is not None:
            entries.append(entry)
            index.append(i)
    problems += _find_conflicts(entries, index)
    return ParsedManifest(manifest, tuple(entries), tuple(index), tuple(problems))


def _validate_image(value: object, at: str) -> tuple[ImageEntry | None, list[FieldFault]]:
    if not isinstance(value, dict):
        return None, [FieldFault(at, "an object", format_value(value))]
    kind = value.get("kind")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        return None, [
            FieldFault(f"{at}.kind", "'xray_slices' or 'height_map'", format_value(kind) if "kind" in value else "nothing")
        ]
    return validate(model, value, at)


def _find_conflicts(entries: Sequence[ImageEntry], index: Sequence[int]) -> list[FieldFault]:
    """Find two images of the same thing, and two things that the same file shows."""
    problems: list[FieldFault] = []
    by_key: dict[tuple[str, str], int] = {}
    by_file: dict[str, ImageEntry] = {}
    for i, entry in zip(index, entries, strict=True):
        first = by_key.setdefault(entry.key, i)
        if first != i:
            problems.append(FieldFault(f"images[{i}]", f"one image of {'/'.join(entry.key)}", f"another one, images[{first}]"))
        other = by_file.setdefault(entry.file, entry)
        # One transmission picture shows both interfaces; so does one stack of slices at the same heights. A map has one stage.
        may_share = False
        if isinstance(other, SliceEntry) and isinstance(entry, SliceEntry):
            may_share = other.method == entry.method == "transmission" or other.z_um == entry.z_um
        if first == i and other is not entry and not may_share:
            found = f"the file of {'/'.join(other.key)}"
            problems.append(
                FieldFault(
                    f"images[{i}].file", f"a file that shows {'/'.join(entry.key)}", f"{format_value(entry.file)}, {found}"
                )
            )
    return problems

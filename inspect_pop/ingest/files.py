"""Read files of unknown origin, and documents in them: JSON and comma-separated tables, strictly.

Bytes are read into memory and never mapped. A file that is truncated while it is mapped kills the process; one that is
truncated while it is read gives an error.
"""

import codecs
import csv
import hashlib
import io
import json
import math
import os
import re
import reprlib
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Never, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from inspect_pop.core.errors import FileFault, InputFault, PathFault, describe_error

__all__ = [
    "BOUNDS",
    "Bounds",
    "FieldFault",
    "StrictModel",
    "decode_text",
    "expectation",
    "fold_name",
    "format_value",
    "hash_file",
    "measure_file",
    "parse_json",
    "parse_number",
    "read_bytes",
    "read_rows",
    "resolve_inside",
    "to_fault",
    "to_faults",
    "validate",
]

_MIB = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """Sizes in bytes, pixels and counts above which an input is refused, before it is parsed or decoded.

    A board at full size (nine slices of 3,000 x 3,000 pixels, float32) needs 324 MB decoded, which these bounds allow. File
    and decoded pixels together stay under 1 GB, the most that a worker needs for one image.
    """

    manifest_bytes: int = 4 * _MIB  # 64 images need 30 KB
    recipe_bytes: int = 4 * _MIB
    table_bytes: int = 16 * _MIB  # 20 bytes per joint
    table_joints: int = 50_000  # the largest arrays in use have 1,200
    cad_bytes: int = 64 * _MIB  # a board of 1,000 parts in KiCad or IPC-2581 has 4 MB
    labels_bytes: int = 256 * _MIB  # 80 bytes per joint: 4,000 boards of 820
    image_bytes: int = 384 * _MIB
    image_pixels: int = 200_000_000  # all pages together
    decoded_bytes: int = 512 * _MIB  # all pages together
    image_side_px: int = 65_535  # also the limit of OpenCV's remap
    image_least_px: int = 8  # per side: less cannot show one ball
    image_tag_bytes: int = 4 * _MIB  # one TIFF tag: the offsets of 500,000 strips
    image_tags: int = 65_536  # of all pages together: 64 slices, each with seven reduced pictures, at 100 tags a page
    export_images: int = 256
    export_assumed: int = 4096  # values that a converter found or guessed, some for each image


BOUNDS = Bounds()

_REMEDY = "Check that it exists and can be read."
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def resolve_inside(name: str, start: Path, folder: Path, thing: str) -> Path:
    """Resolve `name`, relative to the folder `start`, to a path that lies in `folder` after all links are followed.

    A backslash separates folders, as on Windows, unless a file of that very name exists. A name that no file has stands for the
    one file whose name differs in case or in Unicode's form alone, as on Windows and macOS. Raises `PathFault`, which names
    `thing`, for an absolute path, of Windows too, one that leaves by `..` or by a link, and one that is no valid path.
    """
    windows = PureWindowsPath(name)
    if Path(name).is_absolute() or windows.drive or windows.root:
        raise PathFault(
            thing, expected=f"a path relative to {start}", found=repr(name), remedy="Name the file relative to its export."
        )
    if "\\" in name and not os.path.lexists(start / name.replace("\0", "")):
        name = name.replace("\\", "/")
    try:
        target, limit = (start / name).resolve(), folder.resolve()
        if target.is_relative_to(limit):
            target = _find_spelling(target, limit).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links before Python 3.13; a NUL in the name
        raise PathFault(thing, expected="a path to a file", found=f"{name!r}: {describe_error(error)}") from error
    # A target that is still a link leads in a circle, for which Python 3.13 no longer raises.
    if os.path.islink(target):  # noqa: PTH114 - the method raises for a name that is too long
        raise PathFault(thing, expected="a path to a file", found=f"{name!r}: a circle of links")
    if not target.is_relative_to(limit):
        raise PathFault(
            thing, expected=f"a file inside {limit}", found=f"{name!r}, which leads to {target}", remedy="Put the file inside."
        )
    return target


def fold_name(name: str) -> str:
    """Return what names have in common that differ in case or in Unicode's form alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _find_spelling(path: Path, limit: Path) -> Path:
    """Return a path in `limit` as it is spelt on the disk, where exactly one name there differs in case or form alone."""
    if os.path.lexists(path) or path == limit:
        return path
    parent = _find_spelling(path.parent, limit)
    try:
        same = [entry.name for entry in os.scandir(parent) if fold_name(entry.name) == fold_name(path.name)]
    except OSError:
        return path
    return parent / (same[0] if len(same) == 1 else path.name)


def measure_file(path: Path, fault: type[InputFault] = FileFault) -> int:
    """Return the size in bytes of a regular file, without opening it: opening a device can already have an effect.

    Raises `fault` for what is missing, out of reach, a folder, pipe, socket or device.
    """
    try:
        info = path.stat()
    except (OSError, ValueError) as error:  # a ValueError where the name holds a NUL
        raise fault(str(path), expected="a readable file", found=describe_error(error), remedy=_REMEDY) from error
    if not stat.S_ISREG(info.st_mode):
        kind = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe, socket or device"
        raise fault(str(path), expected="a file", found=kind)
    return info.st_size


def read_bytes(path: Path, limit_bytes: int, fault: type[InputFault] = FileFault) -> bytes:
    """Read a regular file of at most `limit_bytes`, once; never wait for a pipe or a device.

    Raises `fault` for what is missing, unreadable, not a regular file, empty, too large, or changes its size meanwhile.
    """
    size = measure_file(path, fault)
    if size > limit_bytes:
        raise fault(str(path), expected=f"at most {limit_bytes:,} bytes", found=f"{size:,}", remedy="Nothing was read.")
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb", buffering=0) as file:
            parts: list[bytes] = []
            left = size + 1  # one byte more shows that the file grows
            while left > 0 and (part := os.read(file.fileno(), left)):
                parts.append(part)
                left -= len(part)
    except OSError as error:
        raise fault(str(path), expected="a readable file", found=describe_error(error), remedy=_REMEDY) from error
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(data) != size:
        found = f"{len(data):,} or more" if len(data) > size else f"{len(data):,}"
        raise fault(
            str(path),
            expected=f"{size:,} bytes",
            found=found,
            remedy="It changed while it was read: try again when it is complete.",
        )
    if not data:
        raise fault(str(path), expected="content", found="an empty file", remedy="It was never completed: write it again.")
    return data


def decode_text(path: Path, data: bytes, fault: type[InputFault]) -> str:
    """Decode the bytes of the file `path` as UTF-8, with or without a byte order mark, or as UTF-16 with one. Raises `fault`."""
    try:
        return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at {error.start}"
        raise fault(str(path), expected="UTF-8 text", found=found, remedy="Save it as UTF-8.") from error


def hash_file(path: Path, limit_bytes: int) -> str:
    """Return the sha256 of a file, in hexadecimal. Raises `FileFault` as `read_bytes` does."""
    return hashlib.sha256(read_bytes(path, limit_bytes)).hexdigest()


# Strict readers of documents: JSON against a declared model, and comma-separated tables.
#
# A faulty JSON document gives all of its faults at once; a faulty table gives the line of the first one.


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

"""Comma-separated tables, as strict as a table that is trusted must be, and naming the line where one is not."""

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest.document import show

__all__ = ["number", "rows"]

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)  # float() also takes nan, inf and 1_000


def rows(
    path: Path, text: str, required: Sequence[str], optional: Sequence[str], fault: type[InputFault]
) -> Iterator[tuple[int, list[str]]]:
    """(line number, values of `required` then `optional`) of each row that is not blank, kept exactly.

    Columns are found by name; others are left alone, a missing optional one gives empty text. Raises `fault` for a
    missing or doubled column, a row that is shorter or longer than the head, and quotation marks that do not close.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        head = [name.strip() for name in next(reader, [])]
        place = _places(path, head, required, optional, fault)
        while True:
            line = reader.line_num + 1  # of the row's beginning: a quoted value may run over several
            row = next(reader, None)
            if row is None:
                return
            if any(row):
                yield line, _picked(path, line, row, head, place, fault)
    except csv.Error as error:
        raise fault(f"{path}: line {line}", expected="comma-separated values", found=str(error)) from error


def number(path: Path, line: int, column: str, text: str, fault: type[InputFault]) -> float:
    """A decimal number with a point. Raises `fault` naming the line and column."""
    digits = text.strip()  # more than float() itself takes off: the separators U+001C to U+001F too
    if _NUMBER.fullmatch(digits) is None or not math.isfinite(float(digits)):
        remedy = "Write numbers with a decimal point." if "," in text else ""
        raise fault(f"{path}: line {line}: {column}", expected="a number", found=show(text), remedy=remedy)
    return float(digits)


def _places(
    path: Path, head: list[str], required: Sequence[str], optional: Sequence[str], fault: type[InputFault]
) -> list[int | None]:
    missing = [name for name in required if name not in head]
    if missing:
        remedy = (
            "Separate the columns with commas, and write numbers with a decimal point."
            if any(";" in name for name in head)
            else ""
        )
        found = show(",".join(head)) if head else "no line at all"
        raise fault(f"{path}: line 1", expected=f"the columns {', '.join(required)}", found=found, remedy=remedy)
    doubled = [name for name in (*required, *optional) if head.count(name) > 1]
    if doubled:
        raise fault(f"{path}: line 1", expected="each column once", found=f"{doubled[0]} twice")
    return [head.index(name) if name in head else None for name in (*required, *optional)]


def _picked(
    path: Path, line: int, row: list[str], head: list[str], place: list[int | None], fault: type[InputFault]
) -> list[str]:
    if len(row) != len(head):
        remedy = "Write numbers with a decimal point, not a comma." if len(row) > len(head) else ""
        raise fault(f"{path}: line {line}", expected=f"{len(head)} values", found=str(len(row)), remedy=remedy)
    return ["" if at is None else row[at] for at in place]

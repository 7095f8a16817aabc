"""Tables as CSV that a spreadsheet can open: no cell of it is computed."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["defuse_cell", "format_csv"]

_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_STRIPPED = " \t\r\n\v\f\xa0\ufeff"  # what a spreadsheet may drop before it looks at the first sign


def defuse_cell(value: Any) -> Any:
    """Return a cell that a spreadsheet shows and does not compute (OWASP, CSV injection).

    A text that a formula could begin with gets an apostrophe before it. Numbers stay numbers, negative ones too.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip(_STRIPPED).startswith(_FORMULA_STARTS) or value.startswith(("\t", "\r", "\n")):
        return f"'{value}"
    return value


def format_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV with lines that end in a line feed; None is empty.

    Texts are quoted where one holds a semicolon or a tab: a spreadsheet that separates there must not cut a formula out of it.
    """
    cells = [[defuse_cell(value) for value in row] for row in (header, *rows)]
    is_cut = any(isinstance(value, str) and (";" in value or "\t" in value) for row in cells for value in row)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if is_cut else csv.QUOTE_MINIMAL)
    writer.writerows(cells)
    return text.getvalue()

"""Make an array from a list of ball names (CSV or XLSX) and its pitch: JEDEC names say row and column."""

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from inspect_pop.core.errors import RecipeFault, UsageFault
from inspect_pop.ingest.files import BOUNDS, decode_text, read_bytes
from inspect_pop.recipes.ball_names import name_ball, parse_ball
from inspect_pop.recipes.cad_part import read_sizes
from inspect_pop.recipes.draft import ArrayDraft

__all__ = ["read_ball_list"]

_SHEET_BYTES = 256 << 20  # a workbook's sheets, unpacked
_LEAST_SHARE = 0.9  # of a column's entries that are ball names
_ENDS = "xlsx", "xlsm"


def read_ball_list(
    path: Path, pitch_um: float, pitch_y_um: float | None = None, refdes: str = "U1", *, complete: bool = False
) -> ArrayDraft:
    """Return the array of the names in the column that holds the most of them.

    Parameters
    ----------
    path
        A CSV with any of the separators comma, semicolon and tab, or the first sheet of a workbook.
    pitch_um, pitch_y_um
        Distance of columns, and of rows where it is another.
    complete
        Also make the places between that the list does not name: for lists of signals without power balls.

    Raises
    ------
    FileFault, RecipeFault
        The file cannot be read, holds no ball names, or one twice.
    UsageFault
        openpyxl is not installed.
    """
    if path.suffix.lower().lstrip(".") in _ENDS:
        rows = _read_sheet(path)
    else:
        text = decode_text(path, read_bytes(path, BOUNDS.table_bytes, RecipeFault), RecipeFault)
        separator = max(",;\t", key=text.partition("\n")[0].count)
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
        except csv.Error as error:
            raise RecipeFault(str(path), expected="comma-separated values", found=str(error)) from error
    if len(rows) > BOUNDS.table_joints + 100 or max((len(row) for row in rows), default=0) > 1000:
        raise RecipeFault(str(path), expected=f"at most {BOUNDS.table_joints:,} rows and 1,000 columns", found="more")
    if not rows:
        raise RecipeFault(str(path), expected="ball names", found="no rows")
    names, notes = _choose_column(path, rows)
    if complete:
        places = np.array([parse_ball(name) for name in names])
        grid = np.mgrid[: places[:, 0].max() + 1, : places[:, 1].max() + 1].reshape(2, -1).T
        more = [name for row, column in grid if (name := name_ball(int(row), int(column))) not in set(names)]
        notes.append(f"{len(more)} balls that the list does not name were added: every place of the grid")
        names += more
    row, column = np.array([parse_ball(name) for name in names], dtype=float).T
    x_um, y_um = column * pitch_um, -row * (pitch_y_um or pitch_um)
    x_um, y_um = (axis - (axis.max() + axis.min()) / 2 for axis in (x_um, y_um))
    sizes = read_sizes(path.stem)
    n_grid = int((row.max() + 1) * (column.max() + 1))
    expected = sizes.balls
    if expected is not None and expected != len(names):
        remedy = ": --complete adds those that are not listed" if expected == n_grid else ""
        notes.append(f"{len(names)} balls, where the name {path.stem} says {expected}{remedy}")
    if row.min() > 0 or column.min() > 0:
        notes.append("no ball in row A or in column 1: names begin further inside, and the middle is that of the listed balls")
    nearest_um = min(pitch_um, pitch_y_um or pitch_um)
    return ArrayDraft(refdes, tuple(names), x_um, y_um, nearest_um, ball_um=sizes.ball_um, notes=tuple(notes))


def _choose_column(path: Path, rows: Iterable[Sequence[Any]]) -> tuple[list[str], list[str]]:
    """Return the ball names of the column that has the most, and what is odd about it."""
    best: tuple[int, list[str]] = (0, [])
    for column in zip_longest(*rows, fillvalue=""):
        texts = [str(value).strip() for value in column if value is not None and str(value).strip()]
        count = sum(parse_ball(text) is not None for text in texts)
        if count > best[0]:
            best = (count, texts)
    count, texts = best
    if count < 2 or count < _LEAST_SHARE * (len(texts) - 1):
        raise RecipeFault(
            str(path), expected="a column of ball names such as A1", found=f"at most {count} of {len(texts)} entries"
        )
    names = [text.upper() for text in texts if parse_ball(text) is not None]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise RecipeFault(f"{path}: {doubled}", expected="each ball once", found=f"{names.count(doubled)} times")
    others = [text for text in texts[1:] if parse_ball(text) is None]
    notes = [f"{len(others)} entries are no JEDEC names and were left out, such as {others[0]!r:.40}"] if others else []
    return names, notes


def _read_sheet(path: Path) -> list[list[Any]]:
    """Read the first sheet of a workbook, its size checked before it is unpacked."""
    data = read_bytes(path, BOUNDS.table_bytes, RecipeFault)
    try:
        import openpyxl
    except ImportError as error:
        remedy = "Install inspect_pop[recipes], or save the list as CSV."
        raise UsageFault(str(path), expected="openpyxl, which reads workbooks", found="none", remedy=remedy) from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _SHEET_BYTES:
            raise RecipeFault(str(path), expected=f"at most {_SHEET_BYTES:,} bytes unpacked", found=f"{size:,}")
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        rows = []
        for row in book.worksheets[0].iter_rows(values_only=True):
            rows.append(list(row))
            if len(rows) > BOUNDS.table_joints + 100:
                break
        book.close()
    except RecipeFault:
        raise
    except Exception as error:
        raise RecipeFault(str(path), expected="a workbook", found=f"a damaged one: {error!s:.80}") from error
    return rows

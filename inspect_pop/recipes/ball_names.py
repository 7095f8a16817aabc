"""Ball names by JEDEC JEP95: rows A, B, ... without I, O, Q, S, X, Z, then AA, AB, ...; columns from 1, seen from the top."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["CORNERS", "find_a1_corner", "list_names", "name_ball", "parse_ball", "turn_to_a1"]

LETTERS = "ABCDEFGHJKLMNPRTUVWY"
CORNERS = ("upper_left", "upper_right", "lower_right", "lower_left")  # clockwise: each a quarter turn from the one before
_NAME = re.compile(r"([A-Za-z]{1,3})(\d{1,3})")


def name_ball(row: int, column: int) -> str:
    """Return the name of the ball at a row and a column, both from 0: `A1`, `Y20`, `AA1`."""
    letters = ""
    left = row + 1
    while left:
        left, digit = divmod(left - 1, len(LETTERS))
        letters = LETTERS[digit] + letters
    return f"{letters}{column + 1}"


def parse_ball(name: str) -> tuple[int, int] | None:
    """Return row and column, both from 0, of a JEDEC name; None for any other name, also one with a skipped letter."""
    match = _NAME.fullmatch(name.strip())
    if match is None or int(match[2]) == 0 or any(letter not in LETTERS for letter in match[1].upper()):
        return None
    row = 0
    for letter in match[1].upper():
        row = row * len(LETTERS) + LETTERS.index(letter) + 1
    return row - 1, int(match[2]) - 1


def turn_to_a1(column: NDArray[np.intp], row: NDArray[np.intp], corner: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (row, column) of names, from 0, for places of a picture counted from its upper left corner.

    `column` counts to the right and `row` downwards, both from 0. A package whose A1 lies at another corner is turned, not
    mirrored: rows and columns of its names turn with it.
    """
    turns = CORNERS.index(corner)
    for _ in range(turns):  # take the package back by a quarter turn counter-clockwise: the right edge becomes the upper one
        column, row = row, column.max(initial=0) - column
    return row, column


def list_names(column: NDArray[np.intp], row: NDArray[np.intp], corner: str) -> tuple[str, ...]:
    """Return the JEDEC names of places counted from the picture's upper left corner; `corner` is where A1 lies."""
    named_row, named_column = turn_to_a1(column, row, corner)
    return tuple(name_ball(int(r), int(c)) for r, c in zip(named_row, named_column, strict=True))


def find_a1_corner(ball: Sequence[str], x_um: NDArray[np.float64], y_um: NDArray[np.float64]) -> str | None:
    """Return the corner at which row A and column 1 meet, x to the right and y up; None where the names do not tell.

    None also where names and places are mirrored, so that no turn brings A1 to the upper left with rows going down.
    """
    places = [parse_ball(name) for name in ball]
    if any(place is None for place in places) or len(ball) < 3:
        return None
    number = np.array(places, dtype=float)
    design = np.column_stack([x_um - x_um.mean(), y_um - y_um.mean()])
    if np.linalg.matrix_rank(design) < 2:
        return None
    down, along = np.linalg.lstsq(design, number - number.mean(axis=0), rcond=None)[0].T  # where rows and columns rise
    if along[0] * down[1] - along[1] * down[0] >= 0:
        return None
    a1 = -(down / np.linalg.norm(down) + along / np.linalg.norm(along))
    return f"{'upper' if a1[1] > 0 else 'lower'}_{'left' if a1[0] < 0 else 'right'}"

"""Recognise mistakes in a table of joints that leave a plausible array: another unit of length, a mirrored axis."""

import re

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["explain_mirror", "guess_unit"]

_UNITS_UM = {"nanometres": 0.001, "mils": 25.4, "millimetres": 1000.0, "inches": 25400.0, "metres": 1e6}
_UNIT_TOLERANCE = 0.2  # of the ratio of the pitch to the distance found; a unit is off by 25 times and more
_LINEAR = 0.9  # share of the variance of rows, or of columns, that a straight axis explains
_CORNERS = {(-1, 1): "upper_left", (1, 1): "upper_right", (-1, -1): "lower_left", (1, -1): "lower_right"}
_JEDEC_NAME = re.compile(r"([A-Z]+)(\d+)", re.IGNORECASE)


def guess_unit(x_um: NDArray[np.float64], y_um: NDArray[np.float64], pitch_um: float) -> str | None:
    """Guess the unit of coordinates that are not micrometres from the distance of neighbours; None where they may be."""
    if len(x_um) < 2:
        return None
    places = np.column_stack([x_um, y_um])
    typical = float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))
    for name, unit_um in _UNITS_UM.items():
        if abs(typical * unit_um / pitch_um - 1) <= _UNIT_TOLERANCE:
            return name
    return None


def explain_mirror(ball: tuple[str, ...], x_um: NDArray[np.float64], y_um: NDArray[np.float64], a1_corner: str) -> str | None:
    """Return the likely cause where names and places are mirrored, seen from the top; None where they are not, or cannot tell.

    Seen from the top, columns (1, 2, …) and rows (A, B, …) of JEDEC names turn clockwise from one into the other, however the
    package is turned; mirrored, they turn the other way.
    """
    names = [_JEDEC_NAME.fullmatch(name) for name in ball]
    if any(name is None for name in names):
        return None
    letters = [name[1].upper() for name in names if name is not None]
    order = {row: k for k, row in enumerate(sorted(set(letters), key=lambda row: (len(row), row)))}
    row = _find_direction(np.array([order[r] for r in letters], float), x_um, y_um)
    column = _find_direction(np.array([int(name[2]) for name in names if name is not None], float), x_um, y_um)
    if row is None or column is None or column[0] * row[1] - column[1] * row[0] < _LINEAR:
        return None
    towards_a1 = -(row + column)
    corner = (1 if towards_a1[0] > 0 else -1, 1 if towards_a1[1] > 0 else -1)
    if _CORNERS[corner[0], -corner[1]] == a1_corner:
        return "its y axis points down, so that row A lies opposite to the a1_corner"
    if _CORNERS[-corner[0], corner[1]] == a1_corner:
        return "it is seen from below, or its x axis points left"
    return "one of its axes points the wrong way, or it is seen from below"


def _find_direction(
    number: NDArray[np.float64], x_um: NDArray[np.float64], y_um: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the unit vector along which the numbers rise; None where they do not rise along one straight axis."""
    number = number - number.mean()
    places = np.column_stack([x_um - x_um.mean(), y_um - y_um.mean()])
    if np.linalg.matrix_rank(places) < 2 or not number.any():
        return None
    slope = np.linalg.lstsq(places, number, rcond=None)[0]
    left = number - places @ slope
    if left @ left > (1 - _LINEAR) * (number @ number):
        return None
    direction: NDArray[np.float64] = slope / np.linalg.norm(slope)
    return direction

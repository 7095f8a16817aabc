"""The slices of the joints that a page shows, all on one sheet: a picture of its own for each costs twice the time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.inspection import Crops
from inspect_pop.report.pictures import jpeg_address

__all__ = ["Sheet", "sheet_of"]

# A page stays under 3 MB: the sheet takes at most this, the maps and their figures need the rest.
_BYTES = 1_700_000
_ACROSS = 4  # joints beside each other: browsers cut pictures that are much longer than wide


@dataclass(frozen=True)
class Sheet:
    """`address` is a `data:` address of all slices, `places` where a row of the joint table lies on it.

    A joint takes `channels` squares of `size` samples beside each other, from the lower pad to the upper. `references` names
    the row of the good joint that a joint is compared with; it is on the sheet, too.
    """

    address: str
    places: dict[int, int]
    references: dict[int, int]
    channels: int
    size: int

    @property
    def width(self) -> int:
        """Of the whole sheet, in samples."""
        return min(_ACROSS, len(self.places)) * self.channels * self.size

    @property
    def height(self) -> int:
        """Of the whole sheet, in samples."""
        return math.ceil(len(self.places) / _ACROSS) * self.size

    def at(self, row: int) -> tuple[int, int]:
        """Where on the sheet a joint's slices begin: x, y in samples."""
        down, across = divmod(self.places[row], _ACROSS)
        return across * self.channels * self.size, down * self.size


def sheet_of(crops: Crops | None, rows: Sequence[int], budget: int = _BYTES) -> Sheet:
    """The slices of these rows of the joint table and of their references: of the first ones, where not all fit the budget."""
    nothing = Sheet("", {}, {}, 0, 0)
    if crops is None:
        return nothing
    crop = {int(row): k for k, row in enumerate(crops.row)}
    shown = [row for row in rows if row in crop]
    while shown:
        references = {row: r for row in shown if (r := int(crops.reference[crop[row]])) in crop}
        on_it = list(dict.fromkeys(r for row in shown for r in (row, references.get(row, row))))
        address = jpeg_address(_drawn(crops.pixels[[crop[row] for row in on_it]]))
        if len(address) <= budget:
            places = {row: k for k, row in enumerate(on_it)}
            return Sheet(address, places, references, crops.pixels.shape[1], crops.pixels.shape[2])
        shown = shown[: min(len(shown) - 1, int(len(shown) * budget / len(address)))]
    return nothing


def _drawn(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, channels, size, size) as one picture, `_ACROSS` joints in a row; black where the last row is not full."""
    n, channels, size = pixels.shape[:3]
    across, down = min(_ACROSS, n), math.ceil(n / _ACROSS)
    whole = np.zeros((down * across, channels, size, size), np.uint8)
    whole[:n] = pixels
    picture = whole.reshape(down, across, channels, size, size).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(picture.reshape(down * size, across * channels * size))

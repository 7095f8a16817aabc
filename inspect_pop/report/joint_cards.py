"""The slices of the joints that a page shows, all on one sheet: a picture of its own for each costs twice the time.

A joint's main figures, each as a mark on a line among its nearest passing neighbours.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from inspect_pop.core.inspection import Crops
from inspect_pop.core.joint_table import JointTable
from inspect_pop.report.page import jpeg_address, number
from inspect_pop.report.style import MEASURES, Measure

__all__ = ["STRIP_WIDTH", "Sheet", "Strip", "drawn_strips", "sheet_of", "strips_of"]

# ---- report/sheet
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


# ---- report/strips
_SHOWN = (
    "volume_ratio",
    "diameter_um",
    "diameter_low_um",
    "diameter_high_um",
    "void_fraction",
    "standoff_um",
    "clearance_um",
    "waist",
)
_NEIGHBOURS = 24
_ENOUGH = 8  # known neighbours, for their scatter to say something
STRIP_WIDTH = 120
_BETWEEN = "\x1f"  # a unit separator: no figure holds it


class Strip(NamedTuple):
    """One figure of a joint among its nearest passing neighbours, on a line `STRIP_WIDTH` long.

    `ticks` is an SVG path with a tick a neighbour, `at` the joint's own place on the line (None where it was not
    measured), `sigma` its distance from the neighbours' median in robust standard deviations.
    """

    words: str
    value: str
    ticks: str
    at: float | None
    low: str
    high: str
    sigma: str


def strips_of(joints: JointTable, rows: Sequence[int], place_um: NDArray[np.float64]) -> list[tuple[Strip, ...]]:
    """Of each of these rows of the joint table, the main figures among those of its nearest passing neighbours in its interface.

    `place_um` (n, 2) are the designed places of all joints. A figure that neither the joint nor any neighbour has is left
    out. `sigma` is the distance from the neighbours' median over 1.4826 times their median absolute deviation, which equals
    a standard deviation where they scatter normally.
    """
    measures = [m for m in MEASURES if m.column in _SHOWN and m.column in joints]
    if not rows:
        return []
    values = np.array([joints[m.column] for m in measures], np.float64).reshape(len(measures), len(joints))
    near = _neighbours(joints, np.asarray(rows), place_um)
    # (measures, rows, neighbours); where a joint has fewer neighbours than others, NaN stands for the rest.
    others = np.where(near >= 0, values[:, np.maximum(near, 0)], np.nan)
    own = values[:, list(rows)]
    strips = [_strips(m, o, n) for m, o, n in zip(measures, own, others, strict=True)]
    return [tuple(strip for strip in of_row if strip is not None) for of_row in zip(*strips, strict=True)]


def _neighbours(joints: JointTable, rows: NDArray[np.int64], place_um: NDArray[np.float64]) -> NDArray[np.int64]:
    """(rows, up to 24) rows of the nearest joints that passed in the same interface, in any order; -1 where there are fewer."""
    interface = _numbered(zip(joints["refdes"], joints["interface"], strict=True))
    passed = joints["verdict"] == "pass"
    near = np.full((len(rows), _NEIGHBOURS), -1, np.int64)
    for one in np.unique(interface[rows]):
        mine, there = np.flatnonzero(interface[rows] == one), np.flatnonzero(passed & (interface == one))
        away = np.hypot(*(place_um[rows[mine], None] - place_um[None, there]).transpose(2, 0, 1))
        if len(there) > _NEIGHBOURS:
            near[mine] = there[np.argpartition(away, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]]
        else:
            near[mine, : len(there)] = there
    return near


def _numbered(keys: Iterator[tuple[str, str]]) -> NDArray[np.int64]:
    numbers: dict[tuple[str, str], int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _strips(measure: Measure, own: NDArray[np.float64], others: NDArray[np.float64]) -> list[Strip | None]:
    """One measure's strip of each row, (rows,) among (rows, neighbours); None where nothing is known."""
    middle = _medians(others)
    spread = 1.4826 * _medians(np.abs(others - middle[:, None]))
    enough = (np.isfinite(others).sum(axis=1) >= _ENOUGH) & (spread > 0)
    sigma = np.where(enough, (own - middle) / np.where(spread > 0, spread, 1.0), np.nan)
    both = np.column_stack([others, own])
    low, high = np.fmin.reduce(both, axis=1), np.fmax.reduce(both, axis=1)
    margin = 0.05 * np.where(high > low, high - low, 1.0)
    low, high = low - margin, high + margin
    place = np.rint((both - low[:, None]) / (high - low)[:, None] * STRIP_WIDTH)
    place = np.where(np.isfinite(place), place, -1).astype(np.int64)  # places lie within the line, in its middle nine tenths
    columns = (a.tolist() for a in (own, low, high, sigma, place))
    return [_strip(measure, *of_row) for of_row in zip(*columns, strict=True)]


def _strip(measure: Measure, own: float, low: float, high: float, sigma: float, place: Sequence[int]) -> Strip | None:
    *others, at = place
    ticks = sorted({x for x in others if x >= 0})
    if at < 0 and not ticks:
        return None
    return Strip(
        words=measure.short,
        value=number(own, measure.decimals, measure.unit, measure.signed),
        ticks="".join([f"M{x} 4v8" for x in ticks]),
        at=at if at >= 0 else None,
        low=number(low, measure.decimals),
        high=number(high, measure.decimals),
        sigma=number(sigma, 1, "σ", signed=True) if math.isfinite(sigma) else "",
    )


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of what is known in each row, NaN where nothing is; for many short rows, where `np.nanmedian` takes long."""
    count = np.isfinite(values).sum(axis=1)
    ranked = np.column_stack([np.sort(values, axis=1), np.full(len(values), np.nan)])  # NaN last
    row = np.arange(len(values))
    low, high = np.where(count > 0, (count - 1) // 2, -1), np.where(count > 0, count // 2, -1)
    medians: NDArray[np.float64] = (ranked[row, low] + ranked[row, high]) / 2
    return medians


def drawn_strips(strips: Sequence[Strip]) -> Markup:
    """The strips as rows of a table; a template's loop over hundreds of them would cost a page a tenth of its time."""
    rows = "\n".join(map(_row, strips))
    return Markup(rows)  # noqa: S704 (`_row` escapes every text, the rest are numbers)


def _row(strip: Strip) -> str:
    texts = _BETWEEN.join((strip.words, strip.value, strip.sigma, strip.low, strip.high))
    words, value, sigma, low, high = str(escape(texts)).split(_BETWEEN)  # at once: each call costs more than it does
    own = (
        "" if strip.at is None else f'<path class="own" d="M{strip.at} 8m-4 -6h8l-4 6z"/><path class="own" d="M{strip.at} 8v6"/>'
    )
    said = f"{words}: this joint {value}, neighbours and joint from {low} to {high}"
    return (
        f'<tr><th scope="row">{words}</th><td class="n">{value}</td><td class="n sigma">{sigma}</td>\n'
        f'<td><svg class="strip" viewBox="-4 0 128 16" role="img" aria-label="{said}"><path class="base" d="M0 8H120"/>'
        f'<path class="ticks" d="{strip.ticks}"/>{own}</svg></td></tr>'
    )

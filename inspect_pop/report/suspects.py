"""The joints that did not pass: their figures among their neighbours', and their slices beside a good joint's."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from inspect_pop.flags import FLAGS
from inspect_pop.inspection import Crops
from inspect_pop.joints import CLASSES, JointTable
from inspect_pop.report.look import MEASURES, Measure
from inspect_pop.report.page import number
from inspect_pop.report.pictures import png_address

__all__ = ["Pictures", "Strip", "Suspect", "choose", "drawn_strips", "pictures_of", "strips_of", "suspect_of"]

_STRIPS = (
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
STRIP_WIDTH = 120
# A page stays under 3 MB: pictures take at most this, the maps and their figures need the rest.
_PICTURE_BYTES = 1_700_000
_MOST = 160


@dataclass(frozen=True)
class Strip:
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


@dataclass(frozen=True)
class Suspect:
    """One card. `picture` and `reference` name entries of `Pictures.addresses`; None where there is none."""

    row: int
    refdes: str
    interface: str
    ball: str
    label: str | None
    p: str
    verdict: str
    reason: str
    flags: tuple[str, ...]
    strips: tuple[Strip, ...]
    picture: int | None
    reference: int | None
    reference_ball: str


@dataclass(frozen=True)
class Pictures:
    """Slices side by side as `data:` addresses, by row of the joint table; `channels` pictures of `size` samples each."""

    addresses: dict[int, str]
    channels: int
    size: int


def choose(joints: JointTable, limit: int = _MOST) -> tuple[list[int], int]:
    """Rows of the joints to show, and how many more did not pass.

    The first of every class in every interface are taken first, failures before reviews, so that a cap leaves no class
    unseen; what was taken is given in the table's order, failures before reviews.
    """
    rows = [int(r) for r in np.flatnonzero(joints["verdict"] != "pass")]
    turn: dict[tuple[str, str, str | None], int] = {}
    order = []
    for row in rows:
        key = (joints["refdes"][row], joints["interface"][row], joints["label"][row])
        order.append((joints["verdict"][row] != "fail", turn.setdefault(key, 0), row))
        turn[key] += 1
    kept = sorted(order)[:limit]
    return [row for _, row in sorted((later, row) for later, _, row in kept)], len(rows) - len(kept)


def pictures_of(crops: Crops | None, rows: Sequence[int], budget: int = _PICTURE_BYTES) -> tuple[Pictures, dict[int, int]]:
    """Pictures of these rows and of their references while the budget lasts; and each row's reference."""
    if crops is None or not len(crops.row):
        return Pictures({}, 0, 0), {}
    place = {int(row): k for k, row in enumerate(crops.row)}
    addresses: dict[int, str] = {}
    references: dict[int, int] = {}
    for row in rows:
        if row not in place:
            continue
        reference = int(crops.reference[place[row]])
        wanted = {r: _strip_of_slices(crops, place[r]) for r in (row, reference) if r in place and r not in addresses}
        budget -= sum(len(a) for a in wanted.values())
        if budget < 0:
            break
        addresses |= wanted
        if reference in place:
            references[row] = reference
    return Pictures(addresses, crops.pixels.shape[1], crops.pixels.shape[2]), references


def _strip_of_slices(crops: Crops, k: int) -> str:
    return png_address(np.ascontiguousarray(np.concatenate(list(crops.pixels[k]), axis=1)))


def suspect_of(
    joints: JointTable, row: int, pictures: Pictures, references: dict[int, int], place_um: NDArray[np.float64]
) -> Suspect:
    """The card of one joint; `place_um` (n, 2) are the designed places of all joints."""
    label = joints["label"][row]
    reference = references.get(row)
    return Suspect(
        row=row,
        refdes=joints["refdes"][row],
        interface=joints["interface"][row],
        ball=joints["ball"][row],
        label=label,
        p=number(float(joints[f"p_{label}"][row]), 3) if label in CLASSES else "–",
        verdict=joints["verdict"][row],
        reason=joints["reason"][row],
        flags=tuple(flag.meaning for flag in FLAGS if int(joints["flags"][row]) & flag.value),
        strips=strips_of(joints, row, place_um),
        picture=row if row in pictures.addresses else None,
        reference=reference,
        reference_ball="" if reference is None else joints["ball"][reference],
    )


def strips_of(joints: JointTable, row: int, place_um: NDArray[np.float64]) -> tuple[Strip, ...]:
    """The joint's main figures among those of its nearest passing neighbours in the same interface.

    A figure that neither the joint nor any neighbour has is left out. `sigma` is the distance from the neighbours' median
    over 1.4826 times their median absolute deviation, which equals a standard deviation where they scatter normally.
    """
    near = _neighbours(joints, row, place_um)
    measures = [m for m in MEASURES if m.column in _STRIPS and m.column in joints]
    own = np.array([joints[m.column][row] for m in measures], float)
    others = np.array([joints[m.column][near] for m in measures], float).reshape(len(measures), len(near))
    known = np.isfinite(own) | np.isfinite(others).any(axis=1)
    middle = _medians(others)
    spread = 1.4826 * _medians(np.abs(others - middle[:, None]))
    enough = (np.isfinite(others).sum(axis=1) >= 8) & (spread > 0)
    sigma = np.where(enough, (own - middle) / np.where(spread > 0, spread, 1.0), np.nan)
    shown = np.flatnonzero(known)
    return tuple(_strips([measures[k] for k in shown], own[shown], others[shown], sigma[shown]))


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of what is known in each row, NaN where nothing is; for many short rows, where `np.nanmedian` takes long."""
    count = np.isfinite(values).sum(axis=1)
    ranked = np.column_stack([np.sort(values, axis=1), np.full(len(values), np.nan)])  # NaN last
    row = np.arange(len(values))
    low, high = np.where(count > 0, (count - 1) // 2, -1), np.where(count > 0, count // 2, -1)
    medians: NDArray[np.float64] = (ranked[row, low] + ranked[row, high]) / 2
    return medians


def _neighbours(joints: JointTable, row: int, place_um: NDArray[np.float64]) -> NDArray[np.int64]:
    same = (joints["refdes"] == joints["refdes"][row]) & (joints["interface"] == joints["interface"][row])
    rows = np.flatnonzero(same & (joints["verdict"] == "pass"))
    distance = np.hypot(*(place_um[rows] - place_um[row]).T)
    return rows[np.argsort(distance, kind="stable")][:_NEIGHBOURS]


def _strips(
    measures: Sequence[Measure], own: NDArray[np.float64], others: NDArray[np.float64], sigma: NDArray[np.float64]
) -> Iterator[Strip]:
    """A strip a measure; each has at least one known value in its row of `others` (m, neighbours) or in `own` (m,)."""
    both = np.column_stack([others, own])
    low, high = np.fmin.reduce(both, axis=1), np.fmax.reduce(both, axis=1)
    margin = 0.05 * np.where(high > low, high - low, 1.0)
    low, high = low - margin, high + margin
    places = np.rint((both - low[:, None]) / (high - low)[:, None] * STRIP_WIDTH)
    for k, measure in enumerate(measures):
        *ticks, at = places[k].tolist()
        yield Strip(
            words=measure.short,
            value=number(float(own[k]), measure.decimals, measure.unit, measure.signed),
            ticks="".join(f"M{x:.0f} 4v8" for x in sorted({x for x in ticks if math.isfinite(x)})),
            at=at if math.isfinite(at) else None,
            low=number(float(low[k]), measure.decimals),
            high=number(float(high[k]), measure.decimals),
            sigma=number(float(sigma[k]), 1, "σ", signed=True) if np.isfinite(sigma[k]) else "",
        )


def drawn_strips(strips: Sequence[Strip]) -> Markup:
    """The strips as rows of a table; a template's loop over hundreds of them would cost a page a tenth of its time."""
    return Markup("\n").join(map(_row, strips))


def _row(strip: Strip) -> Markup:
    words, value, sigma, low, high = map(escape, (strip.words, strip.value, strip.sigma, strip.low, strip.high))
    own = (
        "" if strip.at is None else f'<path class="own" d="M{strip.at} 8m-4 -6h8l-4 6z"/><path class="own" d="M{strip.at} 8v6"/>'
    )
    said = f"{words}: this joint {value}, neighbours and joint from {low} to {high}"
    return Markup(  # noqa: S704 (every text is escaped above, the rest are numbers)
        f'<tr><th scope="row">{words}</th><td class="n">{value}</td><td class="n sigma">{sigma}</td>\n'
        f'<td><svg class="strip" viewBox="-4 0 128 16" role="img" aria-label="{said}"><path class="base" d="M0 8H120"/>'
        f'<path class="ticks" d="{strip.ticks}"/>{own}</svg></td></tr>'
    )

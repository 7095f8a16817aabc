"""The joints that did not pass: their figures among their neighbours', and their slices beside a good joint's."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.flags import FLAGS
from inspect_pop.inspection import Crops
from inspect_pop.joints import CLASSES, JointTable
from inspect_pop.report.look import MEASURES, Measure
from inspect_pop.report.page import number
from inspect_pop.report.pictures import png_address

__all__ = ["Pictures", "Strip", "Suspect", "choose", "pictures_of", "strips_of", "suspect_of"]

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a figure without neighbours has no median: NaN is meant
        middle = np.nanmedian(others, axis=1)
        spread = 1.4826 * np.nanmedian(np.abs(others - middle[:, None]), axis=1)
    enough = (np.isfinite(others).sum(axis=1) >= 8) & (spread > 0)
    sigma = np.where(enough, (own - middle) / np.where(spread > 0, spread, 1.0), np.nan)
    return tuple(_strip(measures[k], own[k], others[k], sigma[k]) for k in np.flatnonzero(known))


def _neighbours(joints: JointTable, row: int, place_um: NDArray[np.float64]) -> NDArray[np.int64]:
    same = (joints["refdes"] == joints["refdes"][row]) & (joints["interface"] == joints["interface"][row])
    rows = np.flatnonzero(same & (joints["verdict"] == "pass"))
    distance = np.hypot(*(place_um[rows] - place_um[row]).T)
    return rows[np.argsort(distance, kind="stable")][:_NEIGHBOURS]


def _strip(measure: Measure, value: float, others: NDArray[np.float64], sigma: float) -> Strip:
    both = np.append(others, value)
    low, high = float(np.nanmin(both)), float(np.nanmax(both))
    margin = 0.05 * ((high - low) or 1.0)
    low, high = low - margin, high + margin
    at = np.rint((both - low) / (high - low) * STRIP_WIDTH)
    places = np.unique(at[:-1][np.isfinite(at[:-1])])
    return Strip(
        words=measure.short,
        value=number(value, measure.decimals, measure.unit, measure.signed),
        ticks="".join(f"M{x:.0f} 4v8" for x in places),
        at=float(at[-1]) if np.isfinite(value) else None,
        low=number(low, measure.decimals),
        high=number(high, measure.decimals),
        sigma=number(sigma, 1, "σ", signed=True) if np.isfinite(sigma) else "",
    )

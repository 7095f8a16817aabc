"""Ball maps: every expected joint of an interface at its designed place, seen from the top."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.report.style import MARK_RADIUS

__all__ = ["AxisLabel", "BallMap", "Marker", "ball_map", "designed_um", "drawn", "kind_of"]

# One map unit is 10 um: coordinates stay short in the page.
_UM_PER_UNIT = 10.0
_RADIUS_OF_PITCH = 0.34
_BALL_NAME = re.compile(r"^([A-Za-z]+)(\d+)$")


class Marker(NamedTuple):
    """One joint on a map: its row in the joint table, its place in map units, its look and its verdict."""

    row: int
    ball: str
    x: int
    y: int
    kind: str
    verdict: str


@dataclass(frozen=True)
class AxisLabel:
    """The letter of a row of balls, or the number of a column, and where along the edge it stands."""

    text: str
    at: int


@dataclass(frozen=True)
class BallMap:
    """One interface as a picture: map units are 10 um, y downwards as SVG wants it; `scale` brings a mark to its size.

    `letters` is the size of the rows' and columns' names: as large as the pitch lets them be.
    """

    refdes: str
    interface: str
    half_width: int
    half_height: int
    margin: int
    letters: float
    scale: float
    pitch_um: float
    corner: tuple[int, int]
    markers: tuple[Marker, ...]
    rows: tuple[AxisLabel, ...]
    columns: tuple[AxisLabel, ...]
    counts: dict[str, int]


def kind_of(label: str | None, verdict: str) -> str:
    """Name of the look of a joint: its class, or `undecided` for a good or unlabelled one that waits for a person."""
    if label is None or (label == "good" and verdict == "review"):
        return "undecided"
    return label


def ball_map(joints: JointTable, package: Package, interface: Interface) -> BallMap:
    """The map of one interface; a ball that the table does not hold (never, by contract) would be left out."""
    rows = np.flatnonzero((joints["refdes"] == package.refdes) & (joints["interface"] == interface.name))
    markers = tuple(_markers(joints, rows, interface))
    kinds = Counter(m.kind for m in markers)
    width, height = package.body_um
    reach_x = max(width / 2, float(np.abs(interface.x_um).max(initial=0)) + interface.pitch_um / 2)
    reach_y = max(height / 2, float(np.abs(interface.y_um).max(initial=0)) + interface.pitch_um / 2)
    margin = max(_unit(0.07 * max(reach_x, reach_y) * 2), 20)
    return BallMap(
        refdes=package.refdes,
        interface=interface.name,
        half_width=_unit(reach_x),
        half_height=_unit(reach_y),
        margin=margin,
        letters=round(min(0.5 * margin, 0.62 * interface.pitch_um / _UM_PER_UNIT), 1),
        scale=round(_RADIUS_OF_PITCH * interface.pitch_um / _UM_PER_UNIT / MARK_RADIUS, 3),
        pitch_um=interface.pitch_um,
        corner=_corner(package.a1_corner),
        markers=markers,
        rows=_labels(interface, interface.y_um, group=1, sign=-1),
        columns=_labels(interface, interface.x_um, group=2, sign=1),
        counts=dict(kinds),
    )


def drawn(ball_map: BallMap) -> Markup:
    """The map's markers as SVG; a template's loop over a thousand of them would cost a page half its time."""
    start = {pair: _start(*pair) for pair in {(m.kind, m.verdict) for m in ball_map.markers}}
    end = f')scale({ball_map.scale})" data-j="'
    places = (f'{start[m.kind, m.verdict]}{m.x} {m.y}{end}{m.row}"/>' for m in ball_map.markers)
    return Markup("".join(places))  # noqa: S704 (whole numbers between parts that are escaped)


def _start(kind: str, verdict: str) -> str:
    return f'<use href="#mark-{escape(kind)}" class="j k-{escape(kind)} v-{escape(verdict)}" transform="translate('


def designed_um(joints: JointTable, recipe: Recipe) -> NDArray[np.float64]:
    """(n, 2) float64 designed places in um, package frame, in the table's order; NaN for a joint that the recipe has not."""
    place = {
        (p.refdes, i.name, ball): (float(x), float(y))
        for p in recipe.packages
        for i in p.interfaces
        for ball, x, y in zip(i.ball, i.x_um, i.y_um, strict=True)
    }
    keys = zip(joints["refdes"], joints["interface"], joints["ball"], strict=True)
    return np.array([place.get(key, (np.nan, np.nan)) for key in keys], float).reshape(-1, 2)


def _unit(um: float) -> int:
    return round(um / _UM_PER_UNIT)


def _markers(joints: JointTable, rows: NDArray[np.int64], interface: Interface) -> Iterator[Marker]:
    x = np.rint(interface.x_um / _UM_PER_UNIT).astype(int).tolist()
    y = np.rint(-interface.y_um / _UM_PER_UNIT).astype(int).tolist()
    place = {ball: k for k, ball in enumerate(interface.ball)}
    told = (joints[name][rows].tolist() for name in ("ball", "label", "verdict"))
    for row, ball, label, verdict in zip(rows.tolist(), *told, strict=True):
        k = place.get(ball)
        if k is not None:
            yield Marker(row, ball, x[k], y[k], kind_of(label, verdict), verdict)


def _corner(name: str) -> tuple[int, int]:
    """Signs of the pin-1 corner in map units, where y points down."""
    return (-1 if name.endswith("left") else 1, -1 if name.startswith("upper") else 1)


def _labels(interface: Interface, at_um: NDArray[np.float64], *, group: int, sign: int) -> tuple[AxisLabel, ...]:
    """Letters or numbers of ball names along an edge, where the names run with the place; none where they do not."""
    found = [_BALL_NAME.match(ball) for ball in interface.ball]
    if not all(found):
        return ()
    places: dict[str, list[float]] = {}
    for match, um in zip(found, at_um.tolist(), strict=True):
        if match is not None:
            places.setdefault(match.group(group), []).append(um)
    if any(max(v) - min(v) > interface.pitch_um / 2 for v in places.values()):
        return ()
    labels = [AxisLabel(text, sign * _unit(sum(v) / len(v))) for text, v in places.items()]
    return tuple(sorted(labels, key=lambda label: label.at))

"""Ball maps: every expected joint of an interface at its designed place, seen from the top."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from inspect_pop.core.classes import GOOD
from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.report.style import MARK_RADIUS

__all__ = ["AxisLabel", "BallMap", "Marker", "choose_mark", "find_places_um", "make_ball_map", "render_markers"]

# One map unit is 10 um: coordinates stay short in the page.
_UM_PER_UNIT = 10.0
_RADIUS_OF_PITCH = 0.34
_BALL_NAME = re.compile(r"^([A-Za-z]+)(\d+)$")


class Marker(NamedTuple):
    """One joint on a map: its row in the joint table, its place in map units, its kind of mark and its verdict."""

    row: int
    ball: str
    x: int
    y: int
    kind: str
    verdict: str


@dataclass(frozen=True)
class AxisLabel:
    """The letter of a row of balls, or the number of a column, and its place along the edge in map units."""

    text: str
    at: int


@dataclass(frozen=True)
class BallMap:
    """One interface as a picture. Map units are 10 um; y points down, as in SVG.

    Attributes:
        refdes, interface: The interface.
        half_width, half_height: Half the size of the body, or of the joints where they reach further.
        margin: The space around the body, which holds the names of rows and columns.
        letters: The size of these names: as large as the pitch allows.
        scale: The factor that brings a mark of radius `MARK_RADIUS` to its size on the map.
        pitch_um: The pitch.
        corner: The signs of x and y of the pin-1 corner.
        markers: The joints.
        rows, columns: The names of rows and columns; empty where ball names do not run with the places.
        counts: The number of joints by kind of mark.
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


def choose_mark(label: str | None, verdict: str) -> str:
    """Return the kind of a joint's mark: its class, or `undecided` for a good or unlabelled joint in review."""
    if label is None or (label == GOOD and verdict == "review"):
        return "undecided"
    return label


def make_ball_map(joints: JointTable, package: Package, interface: Interface) -> BallMap:
    """Make the map of one interface. A ball without a row in the table would be left out; the table has all, by contract."""
    rows = np.flatnonzero((joints["refdes"] == package.refdes) & (joints["interface"] == interface.name))
    x = np.rint(interface.x_um / _UM_PER_UNIT).astype(int).tolist()
    y = np.rint(-interface.y_um / _UM_PER_UNIT).astype(int).tolist()
    place = dict(zip(interface.ball, zip(x, y, strict=True), strict=True))
    columns = (joints[name][rows].tolist() for name in ("ball", "label", "verdict"))
    markers = tuple(
        Marker(row, ball, *place[ball], choose_mark(label, verdict), verdict)
        for row, ball, label, verdict in zip(rows.tolist(), *columns, strict=True)
        if ball in place
    )
    width, height = package.body_um
    reach_x = max(width / 2, float(np.abs(interface.x_um).max(initial=0)) + interface.pitch_um / 2)
    reach_y = max(height / 2, float(np.abs(interface.y_um).max(initial=0)) + interface.pitch_um / 2)
    margin = max(_to_unit(0.07 * max(reach_x, reach_y) * 2), 20)
    a1 = package.a1_corner
    return BallMap(
        refdes=package.refdes,
        interface=interface.name,
        half_width=_to_unit(reach_x),
        half_height=_to_unit(reach_y),
        margin=margin,
        letters=round(min(0.5 * margin, 0.62 * interface.pitch_um / _UM_PER_UNIT), 1),
        scale=round(_RADIUS_OF_PITCH * interface.pitch_um / _UM_PER_UNIT / MARK_RADIUS, 3),
        pitch_um=interface.pitch_um,
        corner=(-1 if a1.endswith("left") else 1, -1 if a1.startswith("upper") else 1),
        markers=markers,
        rows=_label_axis(interface, interface.y_um, group=1, sign=-1),
        columns=_label_axis(interface, interface.x_um, group=2, sign=1),
        counts=dict(Counter(m.kind for m in markers)),
    )


def render_markers(ball_map: BallMap) -> Markup:
    """Render the map's markers as SVG. A template's loop over a thousand markers would take half of a page's time."""
    start = {
        (kind, verdict): f'<use href="#mark-{escape(kind)}" class="j k-{escape(kind)} v-{escape(verdict)}" transform="translate('
        for kind, verdict in {(m.kind, m.verdict) for m in ball_map.markers}
    }
    end = f')scale({ball_map.scale})" data-j="'
    places = (f'{start[m.kind, m.verdict]}{m.x} {m.y}{end}{m.row}"/>' for m in ball_map.markers)
    return Markup("".join(places))  # noqa: S704 (whole numbers between parts that are escaped)


def find_places_um(joints: JointTable, recipe: Recipe) -> NDArray[np.float64]:
    """Return the designed places of joints.

    Returns:
        (n, 2) float64, um in the package frame, in the table's order; NaN for a joint that the recipe does not have.
    """
    place = {
        (p.refdes, i.name, ball): (float(x), float(y))
        for p in recipe.packages
        for i in p.interfaces
        for ball, x, y in zip(i.ball, i.x_um, i.y_um, strict=True)
    }
    keys = zip(joints["refdes"], joints["interface"], joints["ball"], strict=True)
    return np.array([place.get(key, (np.nan, np.nan)) for key in keys], float).reshape(-1, 2)


def _label_axis(interface: Interface, at_um: NDArray[np.float64], *, group: int, sign: int) -> tuple[AxisLabel, ...]:
    """Return the letters or numbers of ball names along an edge; empty where the names do not run with the places."""
    matches = [match for ball in interface.ball if (match := _BALL_NAME.match(ball))]
    if len(matches) < len(interface.ball):
        return ()
    places: dict[str, list[float]] = {}
    for match, um in zip(matches, at_um.tolist(), strict=True):
        places.setdefault(match.group(group), []).append(um)
    if any(max(v) - min(v) > interface.pitch_um / 2 for v in places.values()):
        return ()
    labels = [AxisLabel(text, sign * _to_unit(sum(v) / len(v))) for text, v in places.items()]
    return tuple(sorted(labels, key=lambda label: label.at))


def _to_unit(um: float) -> int:
    return round(um / _UM_PER_UNIT)

"""Maps of a package: its joints, and the heights of its top."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from contourpy import LineType, contour_generator
from markupsafe import Markup, escape
from numpy.typing import NDArray

from inspect_pop.core.classes import GOOD
from inspect_pop.core.columns import JointTable
from inspect_pop.core.geometry import Grid, HeightMap, Placement
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.core.robust import mad_sigma
from inspect_pop.report.page import MARK_RADIUS, encode_png_url

__all__ = [
    "AxisLabel",
    "BallMap",
    "HeightContour",
    "HeightPicture",
    "Marker",
    "choose_mark",
    "draw_height_picture",
    "find_places_um",
    "make_ball_map",
    "render_markers",
    "round_up_step",
]

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


# The height map of a package's top as a picture: distance from its best plane, with contours.


# Samples across the longer side of the body: enough for a screen, small in the page.
_SAMPLES = 120
# The body's edge is left out: there a map mixes top and board.
_EDGE = 0.97
# A Gaussian of this share of the body smooths texture and marking away and bridges dropouts.
_SMOOTH = 0.02
# Blue below the plane, white on it, orange above: two hues that readers of every colour vision tell apart.
_BELOW, _LEVEL, _ABOVE = np.array([(26, 95, 160), (250, 250, 250), (201, 92, 0)], float)
_NO_DATA = 215
_SHADES = 48  # per side: few shades compress well, and the eye does not see the steps
_SHARE = np.arange(-_SHADES, _SHADES + 1)[:, None] / _SHADES
# (2 _SHADES + 2, 3) RGB: from the lowest to the highest, then the colour of samples without data.
_COLOURS = np.concatenate(
    [
        _LEVEL + np.clip(-_SHARE, 0, 1) * (_BELOW - _LEVEL) + np.clip(_SHARE, 0, 1) * (_ABOVE - _LEVEL),
        np.full((1, 3), _NO_DATA),
    ]
).astype(np.uint8)
# A flat top must look flat: texture and lettering are some um.
_LEAST_REACH_UM, _LEAST_CONTOUR_UM = 20.0, 5.0
# Samples further from the median height than this share of the stack height are the board, or a part beside the package.
_NOT_THE_TOP = 0.25


@dataclass(frozen=True)
class HeightContour:
    """The lines of one level as an SVG path in samples, with the place of the label."""

    level: str
    path: str
    x: float
    y: float


@dataclass(frozen=True)
class HeightPicture:
    """A height map as a picture.

    Attributes:
        stage: `post_reflow` or `pre_stack`.
        url: A PNG of `width` x `height` samples as a `data:` URL.
        width, height: Its size in samples.
        step_um: The distance of samples, um.
        low_um, high_um: The range of heights from the best plane (0.2 and 99.8 % quantiles), um.
        reach_um: The colours reach from `-reach_um` to `reach_um`.
        contour_um: The step between contours, um.
        contours: The contours, from the lowest up.
    """

    stage: str
    url: str
    width: int
    height: int
    step_um: float
    low_um: float
    high_um: float
    reach_um: float
    contour_um: float
    contours: tuple[HeightContour, ...]


def draw_height_picture(height: HeightMap, package: Package, placement: Placement | None) -> HeightPicture | None:
    """Draw the package's top in its own frame, north up.

    Args:
        height: The height map.
        package: The package on it.
        placement: Where the package lies on the map; None for the designed place.

    Returns:
        The picture; None where fewer than 100 samples of the top hold data.
    """
    surface, step_um = _sample_top(height, package, placement or Placement(0.0, 0.0, 0.0, 0.0))
    known = np.isfinite(surface)
    if known.sum() < 100:
        return None
    flat = _subtract_plane(surface, known)
    low, high = (float(v) for v in np.nanpercentile(flat, (0.2, 99.8)))
    reach = max(-low, high, _LEAST_REACH_UM)
    contour_um = max(round_up_step((high - low) / 8), _LEAST_CONTOUR_UM)
    shade = np.rint(np.clip(flat * (_SHADES / reach), -_SHADES, _SHADES)) + _SHADES
    pixels = _COLOURS[np.where(known, shade, len(_COLOURS) - 1).astype(np.int64)]
    return HeightPicture(
        stage=height.stage,
        url=encode_png_url(pixels),
        width=flat.shape[1],
        height=flat.shape[0],
        step_um=step_um,
        low_um=low,
        high_um=high,
        reach_um=reach,
        contour_um=contour_um,
        contours=_trace_contours(flat, np.arange(np.ceil(low / contour_um), np.floor(high / contour_um) + 1) * contour_um),
    )


def _sample_top(height: HeightMap, package: Package, placement: Placement) -> tuple[NDArray[np.float64], float]:
    """Return smoothed heights over the body in the package frame, NaN without data, and the distance of samples in um."""
    width, depth = (side * _EDGE for side in package.body_um)
    step = max(width, depth) / _SAMPLES
    x = np.arange(round(width / step) + 1) * step - width / 2
    y = depth / 2 - np.arange(round(depth / step) + 1) * step
    coarse, grid = _coarsen(height, step)
    row, col = (a.astype(np.float32) for a in grid.to_pixel(*placement.apply(*np.meshgrid(x, y))))
    z = cv2.remap(coarse, col, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=np.nan)
    seen = np.isfinite(z)
    if not seen.any():
        return z.astype(np.float64), step
    base = np.float32(np.median(z[seen]))
    with np.errstate(invalid="ignore"):
        known = (np.abs(z - base) < _NOT_THE_TOP * package.stack_height_um).astype(np.float32)
    if height.stage == "pre_stack":  # within the openings for the memory's joints is no top, but solder lower down
        for upper in (i for i in package.interfaces if i.name == "upper"):
            reach = np.array([-0.5, 0.5]) * upper.pitch_um
            columns, rows = np.searchsorted(x, upper.x_um[:, None] + reach), np.searchsorted(-y, -upper.y_um[:, None] + reach)
            for (left, right), (top, bottom) in zip(columns.tolist(), rows.tolist(), strict=True):
                known[top:bottom, left:right] = 0
    filled = np.where(known > 0, z - base, np.float32(0)).astype(np.float32)
    total, weight = (cv2.GaussianBlur(a, (0, 0), _SMOOTH * _SAMPLES) for a in (filled, known))
    weight = np.where((known > 0) | (height.stage != "pre_stack"), weight, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        surface: NDArray[np.float64] = np.where(weight > 0.2, total / weight, np.nan).astype(np.float64) + float(base)
    return surface, step


def _coarsen(height: HeightMap, step_um: float) -> tuple[NDArray[np.float32], Grid]:
    """Return heights on pixels about as large as a sample, each the mean of the map's pixels with data, and their grid."""
    pixel_um, origin_um = height.grid.pixel_um, height.grid.origin_um
    factor = max(int(step_um / pixel_um), 1)
    if factor == 1:
        return height.height_um, height.grid
    rows, cols = (n // factor for n in height.grid.shape)
    fine = height.height_um[: rows * factor, : cols * factor]
    known = np.isfinite(fine)
    total = cv2.resize(np.where(known, fine, np.float32(0)), (cols, rows), interpolation=cv2.INTER_AREA)
    weight = cv2.resize(known.astype(np.float32), (cols, rows), interpolation=cv2.INTER_AREA)
    with np.errstate(invalid="ignore", divide="ignore"):
        coarse: NDArray[np.float32] = np.where(weight > 0, total / weight, np.nan).astype(np.float32)
    shift = (factor - 1) / 2 * pixel_um  # of the first pixel's centre
    return coarse, Grid((rows, cols), pixel_um * factor, (origin_um[0] + shift, origin_um[1] - shift))


def _subtract_plane(surface: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Subtract the least-squares plane, fitted once more without what lies far off it (marks, particles)."""
    row, col = np.nonzero(known)
    design: NDArray[np.float64] = np.stack([row, col, np.ones(row.size)])
    values: NDArray[np.float64] = surface[known]
    used, fitted, rest = design, values, values
    for _ in range(2):
        rest = values - np.linalg.solve(used @ used.T, used @ fitted) @ design
        away = rest - np.median(rest)
        near = np.abs(away) <= max(6 * mad_sigma(away), 1.0)
        used, fitted = design[:, near], values[near]
    flat = np.full(surface.shape, np.nan)
    flat[known] = rest
    return flat


def round_up_step(raw_um: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, 50 … 500,000 um; a larger step stays as it is."""
    for power in range(6):
        for digit in (1, 2, 5):
            if digit * 10**power >= raw_um:
                return float(digit * 10**power)
    return raw_um


def _trace_contours(flat: NDArray[np.float64], levels: NDArray[np.float64]) -> tuple[HeightContour, ...]:
    generator = contour_generator(z=np.ma.masked_invalid(flat), line_type=LineType.Separate)
    contours = []
    for level in levels:
        lines = [np.asarray(line) for line in generator.lines(float(level))]
        lines = [cv2.approxPolyDP(line.astype(np.float32)[:, None], 0.25, closed=False)[:, 0] for line in lines if len(line) > 12]
        if lines:
            longest = max(lines, key=len)
            x, y = longest[len(longest) // 2]
            path = "".join("M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in line) for line in lines)
            contours.append(HeightContour(f"{level:+.0f}".replace("-", "\N{MINUS SIGN}"), path, float(x), float(y)))
    return tuple(contours)

"""The height map of a package's top as a picture: distance from its best plane, with contours."""

from dataclasses import dataclass

import cv2
import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray

from inspect_pop.core.geometry import FloatArray, Grid, HeightMap, Placement
from inspect_pop.core.recipe import Package
from inspect_pop.report.page import png_address

__all__ = ["HeightContour", "HeightPicture", "height_picture"]

# Samples across the longer side of the body: enough for a screen, small in the page.
_SAMPLES = 120
# The body's edge is left out: there a map mixes top and board.
_EDGE = 0.97
# Texture and marking are smoothed away with a Gaussian of this share of the body, dropouts are bridged by it.
_SMOOTH = 0.02
# Blue below the plane, white on it, orange above: two hues that readers of every colour vision tell apart.
_BELOW, _LEVEL, _ABOVE = (26, 95, 160), (250, 250, 250), (201, 92, 0)
_NO_DATA = 215
_SHADES = 48  # a side
# A flat top must look flat: texture and lettering are some um.
_LEAST_REACH_UM, _LEAST_CONTOUR_UM = 20.0, 5.0
# Further from the middle of the top than this share of the stack height lies the board, or a part beside the package.
_NOT_THE_TOP = 0.25


def _colours() -> NDArray[np.uint8]:
    """(2 _SHADES + 2, 3) RGB: from the lowest to the highest, and where there is no data."""
    share = np.arange(-_SHADES, _SHADES + 1)[:, None] / _SHADES
    level = np.array(_LEVEL, float)
    rgb = level + np.clip(-share, 0, 1) * (np.array(_BELOW) - level) + np.clip(share, 0, 1) * (np.array(_ABOVE) - level)
    return np.concatenate([rgb, np.full((1, 3), _NO_DATA)]).astype(np.uint8)


_COLOURS = _colours()


@dataclass(frozen=True)
class HeightContour:
    """Lines of one level as an SVG path in samples, and where its label stands."""

    level: str
    path: str
    x: float
    y: float


@dataclass(frozen=True)
class HeightPicture:
    """`address` is a PNG of `width` x `height` samples, `step_um` apart.

    Heights from the best plane reach from `low_um` to `high_um`; the colours from `-reach_um` to `reach_um`.
    """

    stage: str
    address: str
    width: int
    height: int
    step_um: float
    low_um: float
    high_um: float
    reach_um: float
    contour_um: float
    contours: tuple[HeightContour, ...]


def height_picture(height: HeightMap, package: Package, placement: Placement | None) -> HeightPicture | None:
    """The package's top in its own frame, north up; None where fewer than 100 samples of it hold data."""
    surface, step_um = _surface(height, package, placement or Placement(0.0, 0.0, 0.0, 0.0))
    known = np.isfinite(surface)
    if known.sum() < 100:
        return None
    flat = _without_plane(surface, known)
    low, high = (float(v) for v in np.nanpercentile(flat, (0.2, 99.8)))
    reach = max(-low, high, _LEAST_REACH_UM)
    contour_um = max(_round_step((high - low) / 8), _LEAST_CONTOUR_UM)
    return HeightPicture(
        stage=height.stage,
        address=png_address(_coloured(flat, reach)),
        width=flat.shape[1],
        height=flat.shape[0],
        step_um=step_um,
        low_um=low,
        high_um=high,
        reach_um=reach,
        contour_um=contour_um,
        contours=_contours(flat, low, high, contour_um),
    )


def _surface(height: HeightMap, package: Package, placement: Placement) -> tuple[NDArray[np.float64], float]:
    """Smoothed heights over the body in the package frame, NaN where there is no data, and the distance of samples."""
    width, depth = (side * _EDGE for side in package.body_um)
    step = max(width, depth) / _SAMPLES
    x = np.arange(round(width / step) + 1) * step - width / 2
    y = depth / 2 - np.arange(round(depth / step) + 1) * step
    coarse, pixel_um, shift = _coarse(height, step)
    grid = Grid(
        (coarse.shape[0], coarse.shape[1]), pixel_um, (height.grid.origin_um[0] + shift, height.grid.origin_um[1] - shift)
    )
    row, col = grid.to_pixel(*placement.apply(*np.meshgrid(x, y)))
    z = _sampled(coarse, row, col)
    seen = np.isfinite(z)
    if not seen.any():
        return z.astype(np.float64), step
    base = np.float32(np.median(z[seen]))
    with np.errstate(invalid="ignore"):
        known = (np.abs(z - base) < _NOT_THE_TOP * package.stack_height_um).astype(np.float32)
    if height.stage == "pre_stack":
        known[_openings(package, x, y)] = 0
    filled = np.where(known > 0, z - base, np.float32(0)).astype(np.float32)
    total, weight = (cv2.GaussianBlur(a, (0, 0), _SMOOTH * _SAMPLES) for a in (filled, known))
    weight = np.where((known > 0) | (height.stage != "pre_stack"), weight, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        surface: NDArray[np.float64] = np.where(weight > 0.2, total / weight, np.nan).astype(np.float64) + float(base)
    return surface, step


def _openings(package: Package, x_um: FloatArray, y_um: FloatArray) -> NDArray[np.bool_]:
    """Samples (rows, cols) within the openings for the memory's joints: no top there, but solder lower down."""
    inside = np.zeros((len(y_um), len(x_um)), bool)
    for upper in (i for i in package.interfaces if i.name == "upper"):
        reach = np.array([-0.5, 0.5]) * upper.pitch_um
        columns, rows = (np.searchsorted(a, at[:, None] + reach).tolist() for a, at in ((x_um, upper.x_um), (-y_um, -upper.y_um)))
        for (left, right), (top, bottom) in zip(columns, rows, strict=True):
            inside[top:bottom, left:right] = True
    return inside


def _coarse(height: HeightMap, step_um: float) -> tuple[NDArray[np.float32], float, float]:
    """Heights on pixels about as large as a sample, the mean of those with data; their pitch, and the shift of the first one."""
    factor = max(int(step_um / height.grid.pixel_um), 1)
    if factor == 1:
        return height.height_um, height.grid.pixel_um, 0.0
    rows, cols = (n // factor for n in height.grid.shape)
    cut = height.height_um[: rows * factor, : cols * factor]
    known = np.isfinite(cut)
    size = (cols, rows)
    total = cv2.resize(np.where(known, cut, np.float32(0)), size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    with np.errstate(invalid="ignore", divide="ignore"):
        coarse: NDArray[np.float32] = np.where(weight > 0, total / weight, np.nan).astype(np.float32)
    return coarse, height.grid.pixel_um * factor, (factor - 1) / 2 * height.grid.pixel_um


def _sampled(values: NDArray[np.float32], row: NDArray[np.floating], col: NDArray[np.floating]) -> NDArray[np.float32]:
    """The nearest pixel of each place; NaN outside."""
    out: NDArray[np.float32] = cv2.remap(
        values,
        col.astype(np.float32),
        row.astype(np.float32),
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=np.nan,
    )
    return out


def _without_plane(surface: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Least-squares plane taken off; refitted once without what lies far off it (marks, particles)."""
    row, col = np.nonzero(known)
    design: NDArray[np.float64] = np.stack([row, col, np.ones(row.size)])
    values: NDArray[np.float64] = surface[known]
    used, fitted, rest = design, values, values
    for _ in range(2):
        rest = values - np.linalg.solve(used @ used.T, used @ fitted) @ design
        away = np.abs(rest - np.median(rest))
        near = away <= max(6 * 1.4826 * float(np.median(away)), 1.0)
        used, fitted = design[:, near], values[near]
    flat = np.full(surface.shape, np.nan)
    flat[known] = rest
    return flat


def _round_step(raw_um: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 … um."""
    for power in range(6):
        for digit in (1, 2, 5):
            if digit * 10**power >= raw_um:
                return float(digit * 10**power)
    return raw_um


def _coloured(flat: NDArray[np.float64], reach_um: float) -> NDArray[np.uint8]:
    """(rows, cols, 3) RGB; in some shades a side, which compresses well and the eye does not see."""
    shade = np.rint(np.clip(flat * (_SHADES / reach_um), -_SHADES, _SHADES)) + _SHADES
    pixels: NDArray[np.uint8] = _COLOURS[np.where(np.isfinite(flat), shade, len(_COLOURS) - 1).astype(np.int64)]
    return pixels


def _contours(flat: NDArray[np.float64], low: float, high: float, step: float) -> tuple[HeightContour, ...]:
    generator = contour_generator(z=np.ma.masked_invalid(flat), line_type=LineType.Separate)
    found = []
    for level in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step:
        lines = [np.asarray(line) for line in generator.lines(float(level))]
        lines = [cv2.approxPolyDP(line.astype(np.float32)[:, None], 0.25, closed=False)[:, 0] for line in lines if len(line) > 12]
        if lines:
            longest = max(lines, key=len)
            x, y = longest[len(longest) // 2]
            found.append(
                HeightContour(f"{level:+.0f}".replace("-", "\N{MINUS SIGN}"), "".join(map(_path, lines)), float(x), float(y))
            )
    return tuple(found)


def _path(line: NDArray[np.float32]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line)

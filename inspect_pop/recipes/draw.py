"""Draw a recipe: balls with their names, as PNG or SVG, over the picture that it was made from or on white."""

from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import Package, Recipe
from inspect_pop.core.system import write_bytes, write_text
from inspect_pop.recipes.from_image import ImageArray
from inspect_pop.segment.balls import make_solder_bright

__all__ = ["draw_array", "draw_recipe"]

SURE, DOUBT, EMPTY, INK, EDGE = (80, 170, 0), (0, 120, 255), (190, 120, 60), (30, 30, 30), (150, 150, 150)  # blue, green, red
_PITCH_PX = 46.0  # of a ball's neighbour in a drawing: its name is legible
_MOST_PX = 8000  # side of a drawing
_FONT = cv2.FONT_HERSHEY_SIMPLEX
Picture = NDArray[np.uint8]


def draw_array(path: Path, image: NDArray[np.generic], array: ImageArray) -> None:
    """Write a PNG of the picture with each ball's outline and name; doubtful ones and empty places in other colours."""
    grey = make_solder_bright(image, "solder_bright")
    low, high = np.percentile(grey, [0.5, 99.5])
    shown = np.clip((grey - low) / max(float(high - low), 1e-6) * 200 + 30, 0, 255).astype(np.uint8)
    pitch_px = array.draft.pitch_um / array.pixel_um
    factor = min(max(_PITCH_PX / pitch_px, 1.0), _MOST_PX / max(grey.shape))
    size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
    canvas = cv2.cvtColor(cv2.resize(shown, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2BGR)
    radius = 0.5 * array.diameter_px * factor
    for row, col in (array.empty_px + 0.5) * factor - 0.5:
        cv2.drawMarker(canvas, (round(col), round(row)), EMPTY, cv2.MARKER_TILTED_CROSS, max(round(radius / 2), 4), 1)
    for name, row, col in zip(array.draft.ball, array.row_px, array.col_px, strict=True):
        at = ((col + 0.5) * factor - 0.5, (row + 0.5) * factor - 0.5)
        _draw_ball(canvas, name, at, radius, DOUBT if name in array.draft.doubts else SURE)
    _write_png(path, canvas)


def draw_recipe(path: Path, recipe: Recipe) -> None:
    """Write a drawing of all interfaces of a recipe, side by side, as PNG or SVG by the file's ending.

    Raises `UsageFault` for another ending.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise UsageFault(str(path), expected="a file that ends in .png or .svg")
    panels = [(package, interface.name) for package in recipe.packages for interface in package.interfaces]
    if path.suffix.lower() == ".svg":
        write_text(path, _build_svg(panels))
        return
    pictures = []
    for package, name in panels:
        scale, (width, height), balls = _place_balls(package, name)
        canvas: Picture = np.full((round(height), round(width), 3), 255, dtype=np.uint8)
        cv2.putText(canvas, _describe(package, name), (20, 24), _FONT, 0.5, INK, 1, cv2.LINE_AA)
        cv2.rectangle(canvas, (20, 40), (round(width) - 20, round(height) - 20), EDGE, 1)
        left, upper = "left" in package.a1_corner, "upper" in package.a1_corner
        mark = (20 + 8 if left else round(width) - 28, 40 + 8 if upper else round(height) - 28)
        cv2.circle(canvas, mark, 4, DOUBT, cv2.FILLED)
        radius = 0.5 * package.interface(name).ball_diameter_um * scale
        for ball, x, y in balls:
            _draw_ball(canvas, ball, (x, y), radius, SURE)
        pictures.append(canvas)
    tallest = max(p.shape[0] for p in pictures)
    padded = [np.pad(p, ((0, tallest - p.shape[0]), (0, 20), (0, 0)), constant_values=255) for p in pictures]
    _write_png(path, np.hstack(padded)[:, :65_000])


def _place_balls(package: Package, name: str) -> tuple[float, tuple[float, float], list[tuple[str, float, float]]]:
    """Return the scale (px per um), the panel's size and each ball's name and place in pixels."""
    interface = package.interface(name)
    scale = min(_PITCH_PX / interface.pitch_um, _MOST_PX / max(package.body_um))
    width, height = ((side * scale + 40) for side in package.body_um)
    balls = [
        (ball, width / 2 + x * scale, height / 2 - y * scale + 20)
        for ball, x, y in zip(interface.ball, interface.x_um, interface.y_um, strict=True)
    ]
    return scale, (width, height + 40), balls


def _draw_ball(canvas: Picture, name: str, at: tuple[float, float], radius: float, colour: tuple[int, int, int]) -> None:
    centre = (round(at[0]), round(at[1]))
    cv2.circle(canvas, centre, max(round(radius), 2), colour, 1, cv2.LINE_AA)
    size = min(0.32, 0.045 * radius)
    (width, height), _ = cv2.getTextSize(name, _FONT, size, 1)
    corner = (centre[0] - width // 2, centre[1] + height // 2)
    cv2.putText(canvas, name, corner, _FONT, size, colour, 1, cv2.LINE_AA)


def _build_svg(panels: list[tuple[Package, str]]) -> str:
    body, left, tallest = [], 0.0, 0.0
    for package, name in panels:
        scale, (width, height), balls = _place_balls(package, name)
        interface = package.interface(name)
        radius = 0.5 * interface.ball_diameter_um * scale
        title = escape(_describe(package, name).replace("_", " "))
        body.append(f'<g transform="translate({left:.1f},0)"><text x="20" y="24" font-size="14">{title}</text>')
        body.append(f'<rect x="20" y="40" width="{width - 40:.1f}" height="{height - 60:.1f}" class="body"/>')
        for ball, x, y in balls:
            body.append(
                f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"/><text x="{x:.2f}" y="{y:.2f}">{escape(ball)}</text>'
            )
        body.append("</g>")
        left, tallest = left + width + 20, max(tallest, height)
    style = "text{font:11px sans-serif;fill:#1e1e1e}circle{fill:#e9f5e9;stroke:#00aa50}.body{fill:none;stroke:#969696}"
    style += "circle+text{text-anchor:middle;dominant-baseline:central}"
    size = f'width="{left:.0f}" height="{tallest:.0f}" viewBox="0 0 {left:.0f} {tallest:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return f"{head}<style>{style}</style>\n" + "\n".join(body) + "\n</svg>\n"


def _describe(package: Package, name: str) -> str:
    interface = package.interface(name)
    return f"{package.refdes} {name}: {len(interface.ball)} balls, pitch {interface.pitch_um:g} um, A1 {package.a1_corner}"


def _write_png(path: Path, canvas: NDArray[Any]) -> None:
    _, data = cv2.imencode(".png", canvas)
    write_bytes(path, data.tobytes())

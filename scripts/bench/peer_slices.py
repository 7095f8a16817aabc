"""What the peer measures in X-ray slices, with scikit-image, scipy and OpenCV as a notebook would use them.

Every slice is scaled between background and solder by Otsu's threshold, its bodies are labelled at half grey, and
`regionprops_table` measures them. Where a body holds several joints, a Hough circle is taken per joint. Centres are matched
to the design, nearest to nearest, until offset and rotation are stable.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.filters import threshold_otsu
from skimage.measure import label, profile_line, regionprops_table
from skimage.transform import EuclideanTransform

__all__ = [
    "CROP",
    "PAGES",
    "Bodies",
    "Design",
    "Stack",
    "bodies_of",
    "clearance_um",
    "crops",
    "find_package",
    "measure",
    "scale_grey",
]
__all__ += ["void_fraction", "volume_ratio"]

Array = NDArray[np.float64]
CROP = 64
PAGES = 5
_LEAST_AREA = 20  # pixels; less is noise
_CIRCLE_GREY = 60  # a ball's 8-bit grey for Hough: at 180 it takes four times as long and finds ghosts
_FOUND = 0.8  # a package of which fewer joints are found is not found
_VOID = 0.12  # how much darker than its surroundings a void is, of a ball's grey
_PROPERTIES = ("label", "centroid", "area", "equivalent_diameter_area", "perimeter")


@dataclass(frozen=True, eq=False)
class Design:
    """One interface as designed: places (n, 2) as (x, y) in um, and its sizes in um."""

    places: Array
    pitch: float
    pad: float
    pads_z: tuple[float, float]

    @property
    def gap(self) -> float:
        """Nominal distance between the pads."""
        return self.pads_z[1] - self.pads_z[0]

    @property
    def volume(self) -> float:
        """Nominal volume in um^3, as the export format defines it."""
        a, h = self.pad / 2, self.gap
        return float(np.pi * h * (6 * a * a + h * h) / 6)


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one interface: pages (s, rows, cols) float32 with background 0 and solder 1, and where they lie."""

    pages: NDArray[np.float32]
    z_um: Array
    pixel_um: float
    origin_um: tuple[float, float]

    @property
    def middle(self) -> int:
        """The page in the middle."""
        return len(self.pages) // 2

    def to_um(self, row: Array, col: Array) -> Array:
        """(n, 2) as (x, y) in um."""
        return np.column_stack([self.origin_um[0] + col * self.pixel_um, self.origin_um[1] - row * self.pixel_um])

    def to_pixel(self, places: Array) -> Array:
        """(n, 2) as (row, column)."""
        return np.column_stack([self.origin_um[1] - places[:, 1], places[:, 0] - self.origin_um[0]]) / self.pixel_um


@dataclass(frozen=True, eq=False)
class Bodies:
    """The bright bodies of one page: the label image, their properties, and circles (m, 3) as (x, y, radius) in pixels."""

    labels: NDArray[np.int32]
    table: dict[str, NDArray[Any]]
    circles: Array


def scale_grey(pages: NDArray[Any], dark: bool) -> NDArray[np.float32]:
    """Each page with its background at 0 and its solder at 1."""
    out = pages.astype(np.float32)
    if dark:
        out = -out
    for page in out:
        solder = page > threshold_otsu(page)
        low, high = page[~solder].mean(), page[solder].mean()
        page[:] = (page - low) / (high - low)
    return out


def bodies_of(page: NDArray[np.float32], ball_pixels: float) -> Bodies:
    """Bodies at half grey and round outlines of about a ball's size."""
    labels = label(page > 0.5)
    table = regionprops_table(labels, properties=_PROPERTIES)
    eight_bit = np.clip(page * _CIRCLE_GREY, 0, 255).astype(np.uint8)
    least, most = round(0.3 * ball_pixels), round(0.85 * ball_pixels)
    found = cv2.HoughCircles(eight_bit, cv2.HOUGH_GRADIENT, 1, ball_pixels, param1=80, param2=12, minRadius=least, maxRadius=most)
    return Bodies(labels, table, np.zeros((0, 3)) if found is None else found[0].astype(float))


def find_package(bodies: Bodies, stack: Stack, design: Design) -> EuclideanTransform:
    """From designed places to where the joints lie in this stack, in um. Raises ValueError where they are not found."""
    found = stack.to_um(bodies.circles[:, 1], bodies.circles[:, 0])
    tree = cKDTree(found)
    _, near = tree.query(design.places)
    move = EuclideanTransform(translation=np.median(found[near] - design.places, axis=0))
    for _ in range(10):
        away, near = tree.query(move(design.places))
        close = away < 0.35 * design.pitch
        if close.mean() < _FOUND:
            raise ValueError("the package is not where it should be")
        move = EuclideanTransform.from_estimate(design.places[close], found[near[close]])
    return move


def crops(stack: Stack, move: EuclideanTransform, design: Design) -> NDArray[np.float32]:
    """(n, PAGES, CROP, CROP): each joint where the package was found, in slices spread evenly over the stack."""
    half = CROP // 2
    chosen = stack.pages[np.linspace(0, len(stack.pages) - 1, PAGES).round().astype(int)]
    padded = np.pad(chosen, ((0, 0), (half, half), (half, half)), mode="edge")
    places = np.rint(stack.to_pixel(move(design.places))).astype(int)
    places = np.clip(places, 0, np.array(stack.pages.shape[1:]) - 1)
    return np.stack([padded[:, r : r + CROP, c : c + CROP] for r, c in places])


def measure(stack: Stack, bodies: list[Bodies], move: EuclideanTransform, design: Design) -> dict[str, Array]:
    """Of each joint (n) in each slice (s): `diameter` um (n, s), `offset` um (n, s, 2), `roundness` (n, s), `grey` (n, s)."""
    places = move(design.places)
    pixels = stack.to_pixel(places)
    columns = [_measure_page(page, body, stack, places, pixels, design) for page, body in zip(stack.pages, bodies, strict=True)]
    return {name: np.stack([c[name] for c in columns], axis=1) for name in columns[0]}


def _measure_page(
    page: NDArray[np.float32], bodies: Bodies, stack: Stack, places: Array, pixels: Array, design: Design
) -> dict[str, Array]:
    table = bodies.table
    centres = stack.to_um(table["centroid-0"], table["centroid-1"])
    body = _body_of_each(bodies, centres, places, pixels, design)
    there = body >= 0
    diameter = np.where(there, table["equivalent_diameter_area"][body] * stack.pixel_um, 0.0)
    offset = np.where(there[:, None], centres[body] - places, np.nan)
    round_ = 4 * np.pi * table["area"][body] / np.maximum(table["perimeter"][body], 1) ** 2
    shared = there & (np.bincount(body[there], minlength=len(centres))[body] > 1)
    if shared.any() and len(bodies.circles):
        circles = stack.to_um(bodies.circles[:, 1], bodies.circles[:, 0])
        away, near = cKDTree(circles).query(places[shared])
        inside = away < 0.4 * design.pitch
        joints = np.flatnonzero(shared)[inside]
        diameter[joints] = 2 * bodies.circles[near[inside], 2] * stack.pixel_um
        offset[joints] = circles[near[inside]] - places[joints]
    row, col = _whole(pixels, page.shape)
    return {
        "diameter": diameter,
        "offset": offset,
        "roundness": np.where(there, np.minimum(round_, 1), np.nan),
        "grey": cv2.blur(page, (5, 5))[row, col].astype(float),
    }


def _body_of_each(bodies: Bodies, centres: Array, places: Array, pixels: Array, design: Design) -> NDArray[np.int64]:
    """The body that covers each joint's place, or whose centre is near; -1 where there is none."""
    row, col = _whole(pixels, bodies.labels.shape)
    body = bodies.labels[row, col].astype(np.int64) - 1
    away, near = cKDTree(centres).query(places)
    body = np.where((body < 0) & (away < 0.3 * design.pitch), near, body)
    return np.where((body >= 0) & (bodies.table["area"][body] > _LEAST_AREA), body, -1)


def _whole(pixels: Array, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    whole = np.clip(np.rint(pixels).astype(np.int64), 0, np.array(shape) - 1)
    return whole[:, 0], whole[:, 1]


def void_fraction(stack: Stack, bodies: list[Bodies], move: EuclideanTransform, design: Design) -> Array:
    """Dark spots inside each joint's body in any inner slice over the body's area in the middle one, (n,)."""
    size = round(0.5 * design.pad / stack.pixel_um) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    inner = stack.pages[1:-1] if len(stack.pages) > 2 else stack.pages
    dark = np.zeros(stack.pages.shape[1:], bool)
    for page in inner:
        smooth = cv2.GaussianBlur(page, (0, 0), 1)
        dark |= cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, kernel) - smooth > _VOID
    middle = bodies[stack.middle]
    solid = cv2.morphologyEx((middle.labels > 0).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    core = cv2.erode(solid, np.ones((3, 3), np.uint8)) > 0
    row, col = _whole(stack.to_pixel(move(design.places)), dark.shape)
    reach = round(design.pad / 2 / stack.pixel_um)
    owner = np.zeros(dark.shape, np.int32)
    for joint, (r, c) in enumerate(zip(row, col, strict=True), start=1):
        cv2.circle(owner, (int(c), int(r)), reach, joint, -1)
    area = np.bincount(owner[solid > 0], minlength=len(row) + 1)[1:]
    voids = np.bincount(owner[dark & core], minlength=len(row) + 1)[1:]
    return np.where(area > 0, voids / np.maximum(area, 1), np.nan)


def clearance_um(stack: Stack, move: EuclideanTransform, design: Design) -> Array:
    """Narrowest length under half grey on the straight line to a neighbour, in any inner slice, (n,) um."""
    inner = stack.pages[1:-1] if len(stack.pages) > 2 else stack.pages  # at the pads, ghosts of other joints fill the space
    together = np.moveaxis(inner, 0, -1)
    pixels = stack.to_pixel(move(design.places))
    clearance = np.full(len(pixels), np.inf)
    for a, b in cKDTree(design.places).query_pairs(1.2 * design.pitch):
        profile = profile_line(together, pixels[a], pixels[b], mode="nearest")
        free = (profile < 0.5).sum(axis=0).min() * stack.pixel_um
        clearance[[a, b]] = np.minimum(clearance[[a, b]], free)
    return np.where(np.isfinite(clearance), clearance, np.nan)


def volume_ratio(diameter: Array, stack: Stack, design: Design, standoff: Array) -> Array:
    """Areas of the slices, integrated from pad to pad and stretched to the stand-off, over the nominal volume, (n,)."""
    area = np.pi / 4 * diameter**2
    low, high = design.pads_z
    place = np.r_[0, np.clip((stack.z_um - low) / (high - low), 0, 1), 1]
    area = np.column_stack([area[:, :1], area, area[:, -1:]])
    return np.trapezoid(area, place, axis=1) * np.where(np.isfinite(standoff), standoff, design.gap) / design.volume

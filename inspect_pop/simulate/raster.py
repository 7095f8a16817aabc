"""Anti-aliased discs, capsules and rectangles on a pixel grid: the only thing that the X-ray simulator draws.

Coordinates are (row, col) in pixels, pixel centres at whole numbers. Coverage of a pixel is approximated by a ramp one
pixel wide across the edge, exact for a straight edge along an axis and good to 2 % of the area for a disc of radius 1.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_capsules", "add_discs", "add_rectangles"]

Floats = NDArray[np.floating]
_CHUNK = 400_000  # pixels evaluated at once: keeps the temporaries inside the cache


def add_discs(image: NDArray[np.float32], row: Floats, col: Floats, radius: Floats, weight: Floats) -> None:
    """Add discs to `image` (rows, cols) in place; `row`, `col`, `radius` (n,) in pixels, `weight` (n,) is added inside."""
    half = np.ceil(radius + 1.0).astype(int)
    for size in np.unique(half[(radius > 0) & (weight != 0)]):
        index = np.flatnonzero((half == size) & (radius > 0) & (weight != 0))
        step = max(1, _CHUNK // (2 * int(size) + 1) ** 2)
        for start in range(0, len(index), step):
            part = index[start : start + step]
            _discs_of_one_size(image, row[part], col[part], radius[part], weight[part], int(size))


def _discs_of_one_size(image: NDArray[np.float32], row: Floats, col: Floats, radius: Floats, weight: Floats, half: int) -> None:
    offsets = np.arange(-half, half + 1)
    r0, c0 = np.rint(row).astype(int), np.rint(col).astype(int)
    dr = (offsets[None, :] + (r0 - row)[:, None]).astype(np.float32)
    dc = (offsets[None, :] + (c0 - col)[:, None]).astype(np.float32)
    distance = np.sqrt(dr[:, :, None] ** 2 + dc[:, None, :] ** 2)
    # below a radius of half a pixel the ramp would overstate the area: scale the weight down to the true one
    small = np.minimum(1.0, (np.asarray(radius) / 0.5) ** 2 * 0.75 + 0.25)
    cover = np.clip(np.asarray(radius, np.float32)[:, None, None] + 0.5 - distance, 0.0, 1.0)
    cover *= (np.asarray(weight) * small).astype(np.float32)[:, None, None]
    _scatter(image, r0[:, None, None] + offsets[None, :, None], c0[:, None, None] + offsets[None, None, :], cover)


def _scatter(image: NDArray[np.float32], rows: NDArray[np.int_], cols: NDArray[np.int_], values: NDArray[np.float32]) -> None:
    inside = (rows >= 0) & (rows < image.shape[0]) & (cols >= 0) & (cols < image.shape[1])
    if inside.all():
        np.add.at(image.reshape(-1), (rows * image.shape[1] + cols).ravel(), values.ravel())
    else:
        flat = np.broadcast_to(rows * image.shape[1] + cols, values.shape)[inside]
        np.add.at(image.reshape(-1), flat, values[inside])


def add_capsules(image: NDArray[np.float32], ends: Floats, half_width: Floats, weight: Floats) -> None:
    """Add thick segments: `ends` (n, 4) = row0, col0, row1, col1; `half_width` and `weight` (n,), in pixels."""
    for (r0, c0, r1, c1), half, w in zip(ends, half_width, weight, strict=True):
        margin = half + 1.5
        box = _window(image, min(r0, r1) - margin, max(r0, r1) + margin, min(c0, c1) - margin, max(c0, c1) + margin)
        if box is None:
            continue
        rr, cc = np.mgrid[box].astype(np.float32)
        length2 = max((r1 - r0) ** 2 + (c1 - c0) ** 2, 1e-9)
        along = np.clip(((rr - r0) * (r1 - r0) + (cc - c0) * (c1 - c0)) / length2, 0.0, 1.0)
        distance = np.hypot(rr - r0 - along * (r1 - r0), cc - c0 - along * (c1 - c0))
        thin = min(1.0, 2 * half)  # a line thinner than a pixel covers only so much of it
        image[box] += w * thin * np.clip(max(half, 0.5) + 0.5 - distance, 0.0, 1.0)


def add_rectangles(image: NDArray[np.float32], centre: Floats, size: Floats, angle_rad: Floats, weight: Floats) -> None:
    """Add turned rectangles: `centre` (n, 2) row, col; `size` (n, 2) along row and col before turning; pixels."""
    for (r, c), (height, width), angle, w in zip(centre, size, angle_rad, weight, strict=True):
        reach = 0.5 * np.hypot(height, width) + 1.5
        box = _window(image, r - reach, r + reach, c - reach, c + reach)
        if box is None:
            continue
        rr, cc = np.mgrid[box].astype(np.float32)
        cos, sin = np.cos(angle), np.sin(angle)
        across = np.abs(cos * (rr - r) + sin * (cc - c))
        along = np.abs(cos * (cc - c) - sin * (rr - r))
        cover = np.clip(height / 2 + 0.5 - across, 0, min(1.0, height)) * np.clip(width / 2 + 0.5 - along, 0, min(1.0, width))
        image[box] += w * cover


def _window(image: NDArray[np.float32], top: float, bottom: float, left: float, right: float) -> tuple[slice, slice] | None:
    r0, r1 = max(0, int(np.floor(top))), min(image.shape[0], int(np.ceil(bottom)) + 1)
    c0, c1 = max(0, int(np.floor(left))), min(image.shape[1], int(np.ceil(right)) + 1)
    return (slice(r0, r1), slice(c0, c1)) if r1 > r0 and c1 > c0 else None

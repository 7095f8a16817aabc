"""From the joints' own middles to one rotation and offset that a few bad joints cannot pull away."""

import math

import numpy as np
from numpy.typing import NDArray

from inspect_pop.geometry import FloatArray, Grid, Placement

__all__ = ["centroids", "robust_rigid"]


def centroids(
    response: NDArray[np.float32], grid: Grid, x_um: FloatArray, y_um: FloatArray, radius_um: float
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Middle of the solder near each place: (x, y, found), each (n,); all joints at once.

    The weight of a pixel is the square of its response above 0.3 of the highest within the radius: a weight that fades
    out smoothly does not depend on where the pixels' grid lies (0.1 um at 40 um pixels). Not found: outside the image,
    or no response of at least 0.3 of a typical joint's.
    """
    row, col = grid.to_pixel(x_um, y_um)
    r0, c0 = np.rint(row).astype(np.intp), np.rint(col).astype(np.intp)
    k = math.ceil(radius_um / grid.pixel_um)
    dr, dc = (v.ravel() for v in np.mgrid[-k : k + 1, -k : k + 1])
    disc = np.hypot(dr, dc) <= radius_um / grid.pixel_um
    dr, dc = dr[disc], dc[disc]
    inside = (r0 >= k) & (r0 < grid.shape[0] - k) & (c0 >= k) & (c0 < grid.shape[1] - k)
    r0, c0 = np.where(inside, r0, k), np.where(inside, c0, k)
    value = response[r0[:, None] + dr, c0[:, None] + dc].astype(np.float64)
    peak = value.max(axis=1)
    weight = np.square(np.clip(value - 0.3 * peak[:, None], 0, None))
    total = np.maximum(weight.sum(axis=1), 1e-12)
    x, y = grid.to_um(r0 + weight @ dr / total, c0 + weight @ dc / total)
    found: NDArray[np.bool_] = inside & (peak > 0.3)
    return x, y, found


def robust_rigid(design: FloatArray, found: FloatArray, rounds: int = 6) -> tuple[Placement, NDArray[np.bool_]]:
    """Rotation and offset that carry `design` (n, 2) onto `found` (n, 2), and which joints agree.

    Iteratively reweighted least squares with Tukey's biweight at 4.685 times the residuals' robust sigma (Huber and
    Ronchetti, Robust Statistics, 2009), closed form in each round. The residual is the rms over the joints that agree.
    """
    weight = np.ones(len(design))
    for _ in range(rounds):
        placement = _weighted_rigid(design, found, weight)
        x, y = placement.apply(design[:, 0], design[:, 1])
        distance = np.hypot(found[:, 0] - x, found[:, 1] - y)
        sigma = max(float(np.median(distance)) / 1.1774, 1e-3)  # the median of a Rayleigh distribution is 1.1774 sigma
        weight = np.clip(1 - (distance / (4.685 * sigma)) ** 2, 0, None) ** 2
        if not weight.any():
            weight = np.ones(len(design))
    agree = weight > 0
    rms = float(np.sqrt(np.mean(distance[agree] ** 2)))
    return Placement(placement.offset_x_um, placement.offset_y_um, placement.rotation_deg, rms), agree


def _weighted_rigid(design: FloatArray, found: FloatArray, weight: FloatArray) -> Placement:
    mean_d, mean_f = weight @ design / weight.sum(), weight @ found / weight.sum()
    a, b = (design - mean_d) * weight[:, None], found - mean_f
    angle = math.atan2(float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()), float((a * b).sum()))
    c, s = math.cos(angle), math.sin(angle)
    offset = mean_f - np.array([c * mean_d[0] - s * mean_d[1], s * mean_d[0] + c * mean_d[1]])
    return Placement(float(offset[0]), float(offset[1]), math.degrees(angle), 0.0)

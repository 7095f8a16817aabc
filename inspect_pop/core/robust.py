"""Robust statistics: medians, scatter by median absolute deviation, Tukey's biweight, a rigid fit.

Sorting short rows is several times as fast as `np.median` and `np.nanmedian`; the results are the same.
"""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import FloatArray, Placement

__all__ = ["MAD_TO_SIGMA", "biweight", "fit_rigid", "group_median", "mad_sigma", "nan_median", "root_biweight", "row_median"]

F = TypeVar("F", np.float32, np.float64)

# The standard deviation of a normal distribution over its median absolute deviation.
MAD_TO_SIGMA = 1.4826
# Where Tukey's biweight ends, in standard deviations: 95 % efficient on normal errors.
_CUT_OFF = 4.685


def row_median(values: NDArray[F]) -> NDArray[F]:
    """Return the median along the last axis, in the precision of `values`. No value may be NaN."""
    ranked, k = np.sort(values, axis=-1), values.shape[-1]
    median: NDArray[F] = (ranked[..., (k - 1) // 2] + ranked[..., k // 2]) / values.dtype.type(2)
    return median


def nan_median(values: NDArray[F], axis: int = -1) -> NDArray[F]:
    """Return the median of the finite values along `axis`; NaN where there is none. No value may be infinite."""
    ranked, known = np.sort(values, axis=axis), np.isfinite(values).sum(axis=axis)  # NaN last
    low, high = (
        np.take_along_axis(ranked, np.expand_dims(k, axis), axis=axis).squeeze(axis)
        for k in (np.maximum(known - 1, 0) // 2, np.minimum(known // 2, values.shape[axis] - 1))
    )
    median: NDArray[F] = np.where(known > 0, (low + high) / values.dtype.type(2), values.dtype.type(np.nan))
    return median


def group_median(group: NDArray[np.intp], values: NDArray[F]) -> tuple[NDArray[np.intp], NDArray[F]]:
    """Return the groups that occur, rising, and the median of each; `group` (n,) holds numbers below 65,536."""
    order = np.argsort(values)
    order = order[np.argsort(group[order].astype(np.uint16), kind="stable")]  # few bits sort in one pass each
    found, first, count = np.unique(group[order], return_index=True, return_counts=True)
    ranked = values[order]
    median: NDArray[F] = (ranked[first + (count - 1) // 2] + ranked[first + count // 2]) / values.dtype.type(2)
    return found, median


def mad_sigma(deviation: NDArray[np.floating]) -> float:
    """Return the standard deviation that the median of |deviation| stands for (normal distribution); NaN without values."""
    return MAD_TO_SIGMA * float(np.median(np.abs(deviation))) if deviation.size else float("nan")


def biweight(scaled: NDArray[F]) -> NDArray[F]:
    """Return Tukey's biweight, (1 - u^2)^2 for |u| < 1 and 0 beyond; `scaled` is the residual over its cut-off."""
    weight: NDArray[F] = root_biweight(scaled) ** 2
    return weight


def root_biweight(scaled: NDArray[F]) -> NDArray[F]:
    """Return the square root of Tukey's biweight: the factor of an equation in weighted least squares."""
    root: NDArray[F] = np.clip(1 - scaled**2, 0, None)
    return root


def fit_rigid(design: FloatArray, found: FloatArray, rounds: int = 6) -> tuple[Placement, NDArray[np.bool_]]:
    """Fit the rotation and offset that carry `design` (n, 2) onto `found` (n, 2), in um, in spite of a few wrong points.

    Iteratively reweighted least squares with Tukey's biweight at 4.685 times the residuals' robust sigma (Huber and
    Ronchetti, Robust Statistics, 2009), in closed form in each round.

    Returns
    -------
    placement
        Its residual is the rms distance over the points that agree.
    agree
        (n,) bool: points of positive weight.
    """
    weight = np.ones(len(design))
    for _ in range(rounds):
        mean_design, mean_found = weight @ design / weight.sum(), weight @ found / weight.sum()
        a, b = (design - mean_design) * weight[:, None], found - mean_found
        angle = math.atan2(float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()), float((a * b).sum()))
        c, s = math.cos(angle), math.sin(angle)
        offset = mean_found - np.array([c * mean_design[0] - s * mean_design[1], s * mean_design[0] + c * mean_design[1]])
        placement = Placement(float(offset[0]), float(offset[1]), math.degrees(angle), 0.0)
        x, y = placement.apply(design[:, 0], design[:, 1])
        distance = np.hypot(found[:, 0] - x, found[:, 1] - y)
        sigma = max(float(np.median(distance)) / 1.1774, 1e-3)  # the median of a Rayleigh distribution is 1.1774 sigma
        weight = biweight(distance / (_CUT_OFF * sigma))
        if not weight.any():
            weight = np.ones(len(design))
    agree = weight > 0
    rms = float(np.sqrt(np.mean(distance[agree] ** 2)))
    return Placement(placement.offset_x_um, placement.offset_y_um, placement.rotation_deg, rms), agree

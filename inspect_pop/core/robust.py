"""Robust statistics: medians, scatter by median absolute deviation, Tukey's biweight.

Sorting short rows is several times as fast as `np.median` and `np.nanmedian`; the results are the same.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAD_TO_SIGMA", "biweight", "group_median", "mad_sigma", "nan_median", "row_median"]

F = TypeVar("F", np.float32, np.float64)

# The standard deviation of a normal distribution over its median absolute deviation.
MAD_TO_SIGMA = 1.4826


def row_median(values: NDArray[F]) -> NDArray[F]:
    """Return the median along the last axis, in the precision of `values`. No value may be NaN."""
    ranked, k = np.sort(values, axis=-1), values.shape[-1]
    median: NDArray[F] = (ranked[..., (k - 1) // 2] + ranked[..., k // 2]) / values.dtype.type(2)
    return median


def nan_median(values: NDArray[F], axis: int = -1) -> NDArray[F]:
    """Return the median of the finite values along `axis`; NaN where there is none."""
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
    weight: NDArray[F] = np.clip(1 - scaled**2, 0, None) ** 2
    return weight

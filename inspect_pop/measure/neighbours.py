"""Each joint against its neighbours of the same pad class, with what varies smoothly over the package taken out.

On production machines this is what tells head-in-pillow: the pad slice smaller, the middle slice larger than the
neighbours' by three sigma (Feng et al., SMT Magazine, May 2014).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.geometry import FloatArray
from inspect_pop.core.recipe import Interface

__all__ = ["NEIGHBOURS", "against_neighbours", "robust_z"]

NEIGHBOURS = 12
LEAST_NEIGHBOURS = 4
PARABOLOID_FROM = 24  # joints; with fewer, only a plane is taken out


def robust_z(
    values: NDArray[np.float32], interface: Interface, floor: float, pad_class: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Distance of each joint's value from its neighbours' median, in robust standard deviations, (n,); NaN where unknown.

    Parameters
    ----------
    values
        (n,) one measurement of each joint; NaN where it failed.
    floor
        Smallest standard deviation taken for real, in the unit of `values`: the measurement's own repeatability.
    pad_class
        (n,) joints of different pads are not compared; None: all are alike.

    Notes
    -----
    sigma is 1.4826 times the median absolute deviation of the neighbours, pooled with that of all joints of the class:
    twelve values alone give a sigma that is off by a third.
    """
    deviation, spread = against_neighbours(values, interface, pad_class)
    return (deviation / np.maximum(spread, floor)).astype(np.float32)


def against_neighbours(
    values: NDArray[np.float32], interface: Interface, pad_class: NDArray[np.intp] | None = None
) -> tuple[FloatArray, FloatArray]:
    """(deviation from the neighbours' median, robust sigma), each (n,), in the unit of `values`; NaN where unknown."""
    deviation, spread = np.full(len(values), np.nan), np.full(len(values), np.nan)
    classes = np.zeros(len(values), dtype=np.intp) if pad_class is None else pad_class
    for one in np.unique(classes):
        rows = np.flatnonzero((classes == one) & np.isfinite(values))
        if len(rows) > LEAST_NEIGHBOURS:
            x, y = interface.x_um[rows], interface.y_um[rows]
            flat = _flattened(values[rows].astype(np.float64), x, y)
            deviation[rows], spread[rows] = _local(flat, _nearest(interface, rows.tobytes()))
    return deviation, spread


def _flattened(values: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Less the robust plane or paraboloid over the package (warpage and tilt)."""
    x, y = (x - x.mean()) / max(np.ptp(x), 1.0), (y - y.mean()) / max(np.ptp(y), 1.0)
    terms = [np.ones_like(x), x, y]
    if len(values) >= PARABOLOID_FROM:
        terms += [x * x, x * y, y * y]
    basis = np.column_stack(terms)
    weight = np.ones(len(values))
    error = values - np.median(values)
    for _ in range(4):
        weighted = basis * weight[:, None]
        # Joints in one row have no slope across: hence least squares rather than a solution.
        solution = np.linalg.lstsq(weighted.T @ basis, weighted.T @ values, rcond=None)[0]
        error = values - basis @ solution
        sigma = max(1.4826 * float(np.median(np.abs(error))), 1e-9)
        weight = np.clip(1 - (error / (4.685 * sigma)) ** 2, 1e-6, None)
    return error


@lru_cache(maxsize=32)
def _nearest(interface: Interface, rows: bytes) -> NDArray[np.intp]:
    """(n, k) each joint's nearest neighbours among `rows`, the bytes of n row numbers; places in that list."""
    some = np.frombuffer(rows, dtype=np.intp)
    points = np.column_stack([interface.x_um, interface.y_um])[some]
    nearest: NDArray[np.intp] = cKDTree(points).query(points, k=min(NEIGHBOURS + 1, len(points)))[1][:, 1:]
    return nearest


def _local(flat: FloatArray, near: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    around = flat[near]
    median = _medians(around)
    deviation = flat - median
    local = _medians(np.abs(around - median[:, None]))
    everyone = np.median(np.abs(deviation))
    return deviation, 1.4826 * (local + everyone) / 2


def _medians(values: FloatArray) -> FloatArray:
    """Median of each row, (n,); rows are short, and sorted faster than `np.median` looks them up."""
    ranked = np.sort(values, axis=1)
    k = values.shape[1]
    median: FloatArray = (ranked[:, (k - 1) // 2] + ranked[:, k // 2]) / 2
    return median

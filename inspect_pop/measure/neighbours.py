"""Compare each joint with its neighbours of the same pad class, without what varies smoothly over the package.

On production machines this is what tells head-in-pillow: the pad slice smaller, the middle slice larger than the
neighbours' by three sigma (Feng et al., SMT Magazine, May 2014).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.geometry import FloatArray
from inspect_pop.core.recipe import Interface
from inspect_pop.core.robust import MAD_TO_SIGMA, mad_sigma, root_biweight, row_median

__all__ = ["NEIGHBOURS", "compare_with_neighbours", "find_neighbours", "remove_trend", "robust_z"]

NEIGHBOURS = 12
LEAST_NEIGHBOURS = 4
PARABOLOID_FROM = 24  # joints; with fewer, only a plane is taken out


def robust_z(
    values: NDArray[np.float32], interface: Interface, floor: float, pad_class: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Return the distance of each joint's value from its neighbours' median, in robust standard deviations, (n,).

    Parameters
    ----------
    values
        (n,) one measurement of each joint; NaN where it failed.
    floor
        Smallest standard deviation taken for real, in the unit of `values`: the measurement's own repeatability.
    pad_class
        (n,) joints of different pads are not compared; None: all are alike.

    Returns
    -------
    z
        (n,) float32; NaN where the value is NaN or the class has too few joints.

    Notes
    -----
    sigma is 1.4826 times the median absolute deviation of the neighbours, pooled with that of all joints of the class:
    twelve values alone give a sigma that is off by a third.
    """
    deviation, spread = compare_with_neighbours(values, interface, pad_class)
    return (deviation / np.maximum(spread, floor)).astype(np.float32)


def compare_with_neighbours(
    values: NDArray[np.float32], interface: Interface, pad_class: NDArray[np.intp] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return (deviation from the neighbours' median, robust sigma), each (n,), in the unit of `values`; NaN where unknown."""
    deviation, spread = np.full(len(values), np.nan), np.full(len(values), np.nan)
    classes = np.zeros(len(values), dtype=np.intp) if pad_class is None else pad_class
    for one in np.unique(classes):
        rows = np.flatnonzero((classes == one) & np.isfinite(values))
        if len(rows) > LEAST_NEIGHBOURS:
            flat = remove_trend(values[rows].astype(np.float64), interface.x_um[rows], interface.y_um[rows])
            around = flat[find_neighbours(interface, rows.tobytes())]
            median = row_median(around)
            deviation[rows] = flat - median
            local = row_median(np.abs(around - median[:, None]))
            everyone = np.median(np.abs(flat - median))
            spread[rows] = MAD_TO_SIGMA * (local + everyone) / 2
    return deviation, spread


def remove_trend(values: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Subtract the robust plane or paraboloid over the package, warpage and tilt, from values (n,) at places in um."""
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
        weight = np.maximum(root_biweight(error / (4.685 * max(mad_sigma(error), 1e-9))), 1e-6)
    return error


@lru_cache(maxsize=32)
def find_neighbours(interface: Interface, rows: bytes | None = None) -> NDArray[np.intp]:
    """Find each joint's nearest neighbours, (n, k): `NEIGHBOURS` of them, or all others where there are fewer.

    `rows` restricts the search to some joints: the bytes of n row numbers (intp), so that results can be cached. The
    result then counts places in that list. An interface must have two joints or more.
    """
    points = np.column_stack([interface.x_um, interface.y_um])
    if rows is not None:
        points = points[np.frombuffer(rows, dtype=np.intp)]
    nearest: NDArray[np.intp] = cKDTree(points).query(points, k=min(NEIGHBOURS + 1, len(points)))[1][:, 1:]
    return nearest

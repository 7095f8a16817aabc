"""Measure every joint from slices and height maps, and against its neighbours; measure the package's own shape."""

from inspect_pop.measure.height_maps import (
    Bulge,
    TopShape,
    find_bulge,
    level_windows,
    measure_domes,
    measure_standoff,
    measure_top,
)
from inspect_pop.measure.joints import is_turned, measure_joints

__all__ = [
    "Bulge",
    "TopShape",
    "find_bulge",
    "is_turned",
    "level_windows",
    "measure_domes",
    "measure_joints",
    "measure_standoff",
    "measure_top",
]

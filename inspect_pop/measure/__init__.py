"""Every joint measured from slices and height maps, and against its neighbours; the package's own shape."""

from inspect_pop.measure.height_maps import Top, measure_domes, measure_top, standoff_um, upright
from inspect_pop.measure.joints import MEASURED, is_turned, measure_joints

__all__ = ["MEASURED", "Top", "is_turned", "measure_domes", "measure_joints", "measure_top", "standoff_um", "upright"]

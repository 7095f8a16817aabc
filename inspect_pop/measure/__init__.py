"""Every joint measured from slices and height maps, and against its neighbours; the package's own shape."""

from inspect_pop.measure.package import MEASURED, measure_package
from inspect_pop.measure.values import HeightView, Measured, SliceView

__all__ = ["MEASURED", "HeightView", "Measured", "SliceView", "measure_package"]

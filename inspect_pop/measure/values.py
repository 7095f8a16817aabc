"""What goes into the measurement of a package, and what comes out."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from inspect_pop.geometry import HeightMap, Placement, SliceStack
from inspect_pop.measure.height import Top
from inspect_pop.segment.windows import Windows

__all__ = ["HeightView", "Measured", "SliceView"]


@dataclass(frozen=True)
class SliceView:
    """One interface's slices, where the package sits in them, and the windows cut there."""

    stack: SliceStack
    placement: Placement
    windows: Windows


@dataclass(frozen=True)
class HeightView:
    """One height map and where the package sits in it."""

    heights: HeightMap
    placement: Placement


@dataclass(frozen=True)
class Measured:
    """One package's measurements; NaN where a value could not be measured.

    `columns` gives, by interface, the measured columns of `joints.COLUMNS`, each (n,) in the order of the interface:
    float32, and `flags` int64. `offset_x_um`, `offset_y_um`, `rotation_deg` tell where the package sits (by the lower
    interface's slices where there are any, else the upper one's, else the finished stack's height map). `tilt_deg` is the
    top's against the board. `top`, `bottom_top`: shapes of the finished stack's and the bottom package's top, None unseen.
    """

    columns: dict[str, dict[str, NDArray[Any]]]
    offset_x_um: float
    offset_y_um: float
    rotation_deg: float
    warpage_um: float
    stack_height_um: float
    tilt_deg: float
    bulge_um: float
    top: Top | None
    bottom_top: Top | None

"""The segmentation step: what is solder and what is not, for all joints of an interface."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Interface
from inspect_pop.segment.outlines import Outlines, find_outlines
from inspect_pop.segment.voids import find_void_fraction
from inspect_pop.segment.webs import Webs, find_webs
from inspect_pop.segment.windows import Windows

__all__ = ["SegmentedJoints", "segment_joints"]


@dataclass(frozen=True, eq=False)
class SegmentedJoints:
    """The segmented joints of one interface, in its order: what `inspect_pop.measure.measure_joints` takes.

    Attributes:
        windows: The pictures that were segmented.
        interface: The joints as designed.
        method: `laminography`, `ct` or `transmission`, as the machine states it; measuring corrects for it.
        outlines: The ball's outline in every slice.
        void_fraction: (n,) float32 projected void area over projected ball area; NaN where there is no ball in any slice.
        webs: Solder-free space between neighbours in every slice.
    """

    windows: Windows
    interface: Interface
    method: str
    outlines: Outlines
    void_fraction: NDArray[np.float32]
    webs: Webs


def segment_joints(windows: Windows, interface: Interface, method: str) -> SegmentedJoints:
    """Find outlines, voids and webs of all joints of one interface.

    Parameters
    ----------
    windows
        From `cut_slices`, in the order of `interface`.
    interface
        The joints as designed.
    method
        `laminography`, `ct` or `transmission`, as the machine states it.
    """
    outlines = find_outlines(windows)
    return SegmentedJoints(
        windows=windows,
        interface=interface,
        method=method,
        outlines=outlines,
        void_fraction=find_void_fraction(outlines),
        webs=find_webs(windows, interface),
    )

"""Find the package's own offset and rotation in each image, with a residual; refuse rather than guess."""

from inspect_pop.align.height_map import align_height, find_pin1_corner
from inspect_pop.align.slices import align_slices

__all__ = ["align_height", "align_slices", "find_pin1_corner"]

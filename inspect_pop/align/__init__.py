"""The package's own offset and rotation in each image, with a residual; refuses rather than guesses."""

from inspect_pop.align.height_map import align_height
from inspect_pop.align.pin1_mark import pin1_corner
from inspect_pop.align.slices import align_slices

__all__ = ["align_height", "align_slices", "pin1_corner"]

"""The package's own offset and rotation in each image, with a residual; refuses rather than guesses."""

from inspect_pop.align.heights import align_height
from inspect_pop.align.mark import pin1_corner
from inspect_pop.align.slices import align_slices

__all__ = ["align_height", "align_slices", "pin1_corner"]

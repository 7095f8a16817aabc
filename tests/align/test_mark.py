"""What the four corners share drops out, whatever is missing of them."""

import numpy as np

from inspect_pop.align.mark import _medians


def test_the_median_corner_passes_over_what_is_not_known() -> None:
    patches = np.array([[[1, 5, np.nan, np.nan]], [[2, 6, np.nan, 4]], [[9, np.nan, np.nan, np.nan]], [[3, 8, np.nan, np.nan]]])
    assert _medians(patches.astype(np.float32)).tolist() == [[2.5, 6.0, 0.0, 4.0]]

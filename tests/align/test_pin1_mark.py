"""What the four corners share drops out, whatever is missing of them."""

import numpy as np
import pytest

from inspect_pop.align.pin1_mark import _medians, pin1_corner
from tests.scenes import HOME, make_package, map_of


def test_the_median_corner_passes_over_what_is_not_known() -> None:
    patches = np.array([[[1, 5, np.nan, np.nan]], [[2, 6, np.nan, 4]], [[9, np.nan, np.nan, np.nan]], [[3, 8, np.nan, np.nan]]])
    assert _medians(patches.astype(np.float32)).tolist() == [[2.5, 6.0, 0.0, 4.0]]


@pytest.mark.parametrize("corner", ["upper_left", "lower_right"])
def test_a_leaning_top_with_a_part_unseen_shows_its_mark(corner: str) -> None:
    package = make_package()
    heights = map_of(package, mark=corner, lean=(0.02, -0.03), dropouts=0.2)
    assert pin1_corner(heights, HOME, package) == corner
    assert pin1_corner(map_of(package, mark=None, lean=(0.02, -0.03)), HOME, package) is None

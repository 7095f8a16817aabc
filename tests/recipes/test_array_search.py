"""The search of an array in a picture."""

import numpy as np

from inspect_pop.recipes.lattice import find_array
from tests.recipes.samples import grid, picture


def test_ghosts_of_another_interface_are_no_balls() -> None:
    """A fainter, wider and blurred array at another pitch lies over the picture, as the stack's other interface does."""
    image = picture(grid(10, 8, pitch=30.0, at=(80.0, 80.0)), (360, 430), radius=10.0).astype(float)
    ghosts = picture(grid(12, 10, pitch=37.0, at=(20.0, 22.0)), (360, 430), radius=14.0, noise=0.0).astype(float) - 50
    found = find_array(np.clip(image + 0.25 * ghosts, 0, 255).astype(np.uint8))
    assert len(found.column) == 80
    assert found.seen.all()
    assert found.empty_evidence.max() < 0.3


def test_touching_balls_keep_their_places() -> None:
    places = grid(8, 8, pitch=30.0)
    image = picture(places, radius=9.0)
    row, col = 60 + 30 * 3, slice(60 + 30 * 2, 60 + 30 * 3)
    image[row - 4 : row + 5, col] = 200
    found = find_array(image)
    assert len(found.column) == 64
    assert np.sort(found.place[:, 0]).min() > 55

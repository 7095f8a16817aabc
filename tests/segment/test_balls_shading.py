"""Background off, whatever the polarity; areas without data left out."""

import numpy as np
import pytest

from inspect_pop.segment.balls import flatten, no_data, solder_bright


def slanted(dark: bool) -> np.ndarray:
    row, col = np.indices((240, 300))
    grey = 100 + 0.2 * col + 0.1 * row
    for r in range(40, 240, 50):
        for c in range(40, 300, 50):
            grey[np.hypot(row - r, col - c) < 12] += 80
    return 400 - grey if dark else grey


@pytest.mark.parametrize("dark", [False, True])
def test_background_becomes_zero_and_balls_stay(dark: bool) -> None:
    flat = flatten(slanted(dark), "solder_dark" if dark else "solder_bright", 24)
    assert flat.valid.all()
    assert flat.values[65, 65] == pytest.approx(0, abs=3)
    assert flat.values[[40, 190], [40, 240]] == pytest.approx(80, abs=6)


def test_the_same_picture_on_another_scale_is_the_same_but_for_scale() -> None:
    image = slanted(False)
    one, other = flatten(image, "solder_bright", 24), flatten(image * 30 + 7000, "solder_bright", 24)
    assert other.values == pytest.approx(30 * one.values, abs=1.0)


def test_seams_of_a_mosaic_are_no_data() -> None:
    image = (slanted(True) / 2).astype(np.uint8)
    image[:, 130:160] = 0
    image[100:105, 20:25] = 0  # dark, but inside: an object
    empty = no_data(image)
    assert empty[:, 130:160].all()
    assert not empty[:, :120].any()
    assert (flatten(image, "solder_dark", 24).values[empty] == 0).all()


def test_one_grey_everywhere_is_not_missing_data() -> None:
    assert not no_data(np.full((50, 50), 9, dtype=np.uint16)).any()


def test_nan_becomes_the_median() -> None:
    image = np.array([[1.0, np.nan], [3.0, 2.0]], dtype=np.float32)
    assert solder_bright(image, "solder_bright").tolist() == [[1.0, 2.0], [3.0, 2.0]]
    assert solder_bright(image, "solder_dark").tolist() == [[-1.0, -2.0], [-3.0, -2.0]]

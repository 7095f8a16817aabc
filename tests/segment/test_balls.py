"""Balls in pictures that come without a recipe, drawn and real."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspect_pop.core.geometry import Grid
from inspect_pop.segment.balls import find_balls, find_no_data, flatten, make_solder_bright
from tests.scenes import discs

CENTRES = np.array([(x, y) for y in range(60, 340, 60) for x in range(60, 460, 60)], dtype=float)


def picture(radius: float = 18.0, *, dark: bool = True, shading: float = 30.0) -> np.ndarray:
    """8-bit picture of 35 balls, 400 rows by 520 columns, on a slanted background."""
    grid = Grid((400, 520), 1.0, (0.0, 0.0))
    cover = discs(grid, CENTRES[:, 0], -CENTRES[:, 1], radius, blur_um=1.5)
    slant = np.linspace(0, shading, 520)[None]
    grey = 200 - slant - 120 * cover if dark else 40 + slant + 120 * cover
    return np.clip(grey + np.random.default_rng(0).normal(0, 2, grey.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("radius", [12.0, 18.0, 23.0])
def test_every_ball_with_its_place_and_size(dark: bool, radius: float) -> None:
    balls = find_balls(picture(radius, dark=dark), "solder_dark" if dark else "solder_bright", 2 * radius)
    assert len(balls) == 35
    order = np.lexsort((np.rint(balls.col / 60), np.rint(balls.row / 60)))
    assert np.column_stack([balls.col, balls.row])[order] == pytest.approx(CENTRES, abs=0.5)
    assert balls.diameter_px == pytest.approx(2 * radius, abs=1.5)
    assert balls.roundness == pytest.approx(1.0, abs=0.06)
    assert balls.grey == pytest.approx(1.0, abs=0.05)
    assert balls.void_fraction.max() < 0.03
    assert not balls.touching.any()


def test_labels_are_the_balls() -> None:
    balls = find_balls(picture(), "solder_dark", 36)
    assert balls.labels.dtype == np.int32
    assert np.unique(balls.labels).tolist() == list(range(36))
    row, col = np.nonzero(balls.labels == 7)
    assert (row.mean(), col.mean()) == pytest.approx((balls.row[6], balls.col[6]))


def test_touching_balls_are_cut_apart() -> None:
    image = picture()
    image[115:126, 120:180] = 75
    balls = find_balls(image, "solder_dark", 36)
    assert len(balls) == 35
    assert balls.touching.sum() == 2


@pytest.mark.parametrize("at", [(0, 0), (8, 0), (12, 5)])
def test_voids_inside_and_through_the_edge(at: tuple[int, int]) -> None:
    image = picture()
    cv2.circle(image, (120 + at[0], 120 + at[1]), 7, 170, cv2.FILLED)
    balls = find_balls(image, "solder_dark", 36)
    worst = int(np.argmax(balls.void_fraction))
    assert len(balls) == 35
    assert np.hypot(balls.col[worst] - 120, balls.row[worst] - 120) < 3
    assert balls.void_fraction[worst] > 0.06
    assert np.sort(balls.void_fraction)[-2] < 0.03


def test_splashes_and_components_are_no_balls() -> None:
    image = picture()
    cv2.circle(image, (500, 200), 5, 80, cv2.FILLED)
    cv2.rectangle(image, (470, 300), (515, 390), 60, cv2.FILLED)
    assert len(find_balls(image, "solder_dark", 36)) == 35


def test_nothing_found_is_an_empty_result() -> None:
    balls = find_balls(np.full((200, 200), 128, dtype=np.uint8), "solder_dark", 36)
    assert len(balls) == 0
    assert balls.labels.max() == 0


@pytest.mark.parametrize(("name", "voided"), [("good_image", 1), ("not_good_image", 16)])
def test_real_mosaics(shared: Path, name: str, voided: int) -> None:
    """Two hundred balls each; the voided ones are as many as people counted, and stand out."""
    image = cv2.imread(str(shared / "real" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE)
    balls = find_balls(image, "solder_dark", 36)
    assert len(balls) == 200
    assert balls.diameter_px == pytest.approx(36.5, abs=6)
    fractions = np.sort(balls.void_fraction)[::-1]
    assert int((fractions > 0.08).sum()) == voided
    assert fractions[voided - 1] > 4 * np.median(fractions)
    assert np.median(fractions) < 0.02


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
    empty = find_no_data(image)
    assert empty[:, 130:160].all()
    assert not empty[:, :120].any()
    assert (flatten(image, "solder_dark", 24).values[empty] == 0).all()


def test_one_grey_everywhere_is_not_missing_data() -> None:
    assert not find_no_data(np.full((50, 50), 9, dtype=np.uint16)).any()


def test_nan_becomes_the_median() -> None:
    image = np.array([[1.0, np.nan], [3.0, 2.0]], dtype=np.float32)
    assert make_solder_bright(image, "solder_bright").tolist() == [[1.0, 2.0], [3.0, 2.0]]
    assert make_solder_bright(image, "solder_dark").tolist() == [[-1.0, -2.0], [-3.0, -2.0]]

"""Recipes from pictures: every ball once, with its name; and what is not sure is said."""

import numpy as np
import pytest

from inspect_pop.core.errors import FrameFault, UsageFault
from inspect_pop.recipes.draft import name_ball
from inspect_pop.recipes.from_image import ImageArray, read_array, read_picture
from inspect_pop.recipes.lattice import find_array
from tests.recipes.samples import grid, picture, shared

NAMES = [name_ball(r, c) for r in range(9) for c in range(11)]


def words(found: ImageArray) -> str:
    return "\n".join(found.draft.notes)


@pytest.mark.parametrize("dark", [False, True])
def test_every_ball_once_with_its_name_and_place(dark: bool) -> None:
    places = grid(11, 9, turn_deg=2.5)
    keep = np.array([k not in (0, 17, 40, 51) for k in range(99)])
    found = read_array(picture(places[keep], (320, 360), dark=dark), pitch_um=500.0)
    assert list(found.draft.ball) == [name for name, k in zip(NAMES, keep, strict=True) if k]
    assert found.polarity == ("solder_dark" if dark else "solder_bright")
    assert found.angle_deg == pytest.approx(-2.5, abs=0.05)
    assert found.pixel_um == pytest.approx(500 / 26, rel=0.001)
    assert np.column_stack([found.col_px, found.row_px]) == pytest.approx(places[keep], abs=0.1)
    here = dict(zip(found.draft.ball, zip(found.draft.x_um, found.draft.y_um, strict=True), strict=True))
    assert here["B1"] == pytest.approx((-2500.0, 1500.0))
    assert here["J11"] == pytest.approx((2500.0, -2000.0))
    assert "4 empty places" in words(found)
    assert found.draft.doubts == {}


def test_the_scale_by_pixels_takes_the_usual_pitch_and_says_so() -> None:
    image = picture(grid(11, 9))
    found = read_array(image, pixel_um=500.4 / 26)
    assert found.draft.pitch_um == 500.0
    assert "500 um taken" in words(found)
    odd = read_array(image, pixel_um=473.0 / 26)
    assert odd.draft.pitch_um == pytest.approx(473.0, rel=0.001)
    assert "no usual pitch" in words(odd)


def test_a_corner_that_is_assumed_is_noted_and_one_that_is_given_turns_the_names() -> None:
    image = picture(grid(11, 9))
    assert "A1 is assumed" in words(read_array(image, pitch_um=500.0))
    turned = read_array(image, pitch_um=500.0, a1_corner="lower_left")
    assert "A1 is assumed" not in words(turned)
    assert turned.draft.ball[0] == "A1"
    assert (turned.draft.x_um[0], turned.draft.y_um[0]) == pytest.approx((-2500.0, -2000.0))


def test_a_ball_that_is_hardly_seen_is_found_and_doubted() -> None:
    places = grid(11, 9)
    image = picture(places)
    col, row = np.rint(places[30]).astype(int)
    area = np.s_[row - 13 : row + 14, col - 13 : col + 14]
    image[area] = 50 + ((image[area].astype(float) - 50) * 0.5).astype(np.uint8)
    found = read_array(image, pitch_um=500.0)
    assert list(found.draft.ball) == NAMES
    assert set(found.draft.doubts) == {NAMES[30]}


def test_a_body_outside_the_array_is_doubted() -> None:
    """One round body a step outside, such as a component's end, would shift all names by one."""
    places = np.vstack([grid(11, 9), [[60 - 26.0, 60 + 26 * 4.0]]])
    found = read_array(picture(places), pitch_um=500.0)
    assert "outermost column (left) has 1 ball" in words(found)
    assert set(found.draft.doubts) == {"E1"}


def test_fields_off_one_grid_are_doubted() -> None:
    left = grid(5, 9, at=(40.0, 60.0))
    found = read_array(picture(np.vstack([left, left + np.array([26 * 7.5, 0])]), (290, 380)), pitch_um=500.0)
    assert len(found.draft.ball) == len(set(found.draft.ball)) == 90
    assert "off the grid of the others" in words(found)
    assert len(found.draft.doubts) == 45


def test_what_is_no_array_is_refused() -> None:
    noise = np.random.default_rng(0).normal(100, 20, (200, 200)).astype(np.uint8)
    with pytest.raises(FrameFault, match="a lattice of at least"):
        find_array(noise)


def test_options_that_cannot_be_used() -> None:
    image = picture(grid(11, 9))
    with pytest.raises(UsageFault, match="--pitch-um or --pixel-um"):
        read_array(image)
    with pytest.raises(UsageFault, match="upper_left"):
        read_array(image, pitch_um=500.0, a1_corner="north")
    with pytest.raises(UsageFault, match="solder_dark"):
        read_array(image, pitch_um=500.0, polarity="bright")
    with pytest.raises(UsageFault, match="um apart at"):
        read_array(image, pitch_um=500.0, pixel_um=10.0)


@pytest.mark.parametrize("name", ["good_image.jpg", "not_good_image.jpg"])
def test_a_real_mosaic_of_four_fields(name: str) -> None:
    """200 balls: 5 x 10 in each quadrant, at pitches of 0.80 x 0.65 mm, as KiCad's BGA-200 has them."""
    found = read_array(read_picture(shared(f"real/{name}")), pitch_um=650.0)
    rows = [*range(10), *range(12, 22)]
    columns = [*range(5), *range(7, 12)]
    assert list(found.draft.ball) == [name_ball(r, c) for r in rows for c in columns]
    assert float(np.diff(np.unique(found.draft.x_um)).min()) == pytest.approx(800.0)

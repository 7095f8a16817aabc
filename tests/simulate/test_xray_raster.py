import numpy as np
import pytest

from inspect_pop.simulate.xray import add_capsules, add_discs, add_rectangles


def blank() -> np.ndarray:
    return np.zeros((60, 80), np.float32)


def disc(radius: float, row: float = 30.3, col: float = 40.7) -> np.ndarray:
    image = blank()
    add_discs(image, np.array([row]), np.array([col]), np.array([radius]), np.ones(1))
    return image


@pytest.mark.parametrize("radius", [1.0, 2.5, 7.0, 14.3])
def test_a_disc_has_its_area_and_its_centre(radius):
    image = disc(radius)
    rows, cols = np.indices(image.shape)
    assert image.sum() == pytest.approx(np.pi * radius**2, rel=0.09 if radius < 2 else 0.02)
    assert (rows * image).sum() / image.sum() == pytest.approx(30.3, abs=0.05)
    assert (cols * image).sum() / image.sum() == pytest.approx(40.7, abs=0.05)


def test_a_disc_over_the_border_is_cut():
    assert 0 < disc(10.0, row=2.0, col=0.0).sum() < np.pi * 100 / 2 + 40


def test_a_void_takes_away_what_a_disc_put_there():
    image = disc(10.0)
    add_discs(image, np.array([30.3]), np.array([40.7]), np.array([10.0]), -np.ones(1))
    assert np.abs(image).max() < 1e-6


def test_a_capsule_has_its_width_whatever_its_direction():
    for ends in ((30.0, 10.0, 30.0, 70.0), (5.0, 40.0, 55.0, 40.0), (10.0, 15.0, 50.0, 65.0)):
        image = blank()
        add_capsules(image, np.array([ends]), np.array([3.0]), np.ones(1))
        length = np.hypot(ends[2] - ends[0], ends[3] - ends[1])
        assert image.sum() == pytest.approx(6.0 * length + np.pi * 9.0, rel=0.03)


def test_a_line_thinner_than_a_pixel_weighs_what_it_should():
    image = blank()
    add_capsules(image, np.array([(30.0, 10.0, 30.0, 70.0)]), np.array([0.2]), np.ones(1))
    assert image.sum() / 60 == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 2])
def test_a_rectangle_has_its_area_at_any_turn(angle):
    image = blank()
    add_rectangles(image, np.array([(30.0, 40.0)]), np.array([(12.0, 20.0)]), np.array([angle]), np.ones(1))
    assert image.sum() == pytest.approx(240.0, rel=0.03)


def test_shapes_outside_the_picture_draw_nothing():
    image = blank()
    add_capsules(image, np.array([(-30.0, -40.0, -20.0, -40.0)]), np.array([2.0]), np.ones(1))
    add_rectangles(image, np.array([(300.0, 40.0)]), np.array([(12.0, 20.0)]), np.array([0.1]), np.ones(1))
    assert image.sum() == 0

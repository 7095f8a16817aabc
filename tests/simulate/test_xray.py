import math
from dataclasses import replace

import numpy as np
import pytest

from inspect_pop.core.geometry import Grid, Placement
from inspect_pop.simulate.catalog import MACHINES
from inspect_pop.simulate.pictures import add_capsules, add_discs, add_rectangles, reconstruct, to_grey_values
from inspect_pop.simulate.scene import Capsules, Discs, Scene, SolderLayers

STILL = replace(MACHINES["line_a"], noise=0.0, views=12, unsharp=0.0, crisp=0.0, hardening=0.0)
GRID = Grid((160, 160), 12.0, (-960.0, 960.0))
CENTRED = Placement(0.0, 0.0, 0.0, 0.0)


def ball(x_um: float, y_um: float, z_um: float, radius_um: float) -> Discs:
    layers = np.arange(int((z_um - radius_um) // 10), int((z_um + radius_um) // 10) + 1)
    half = np.sqrt(np.maximum(radius_um**2 - ((layers + 0.5) * 10 - z_um) ** 2, 0))
    n = len(layers)
    return Discs(layers, np.full(n, x_um), np.full(n, y_um), half, np.ones(n))


NO_WEBS = Capsules(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0))
NO_VOIDS = ball(0, 0, 0, 0)


def scene(*balls: Discs, voids: Discs = NO_VOIDS) -> Scene:
    joined = Discs(*(np.concatenate([getattr(b, f) for b in balls]) for f in ("layer", "x_um", "y_um", "radius_um", "weight")))
    return Scene(SolderLayers(joined, NO_WEBS, voids), ())


def slices(content: Scene, z_um: tuple[float, ...], machine=STILL, placement: Placement = CENTRED, phase: float = 0.0):
    return reconstruct(np.random.default_rng(1), content, GRID, placement, z_um, machine, phase)


def at(image: np.ndarray, x_um: float, y_um: float) -> float:
    row, col = GRID.to_pixel(np.array(x_um), np.array(y_um))
    return float(image[round(float(row)), round(float(col))])


def test_a_ball_is_where_the_placement_puts_it():
    moved = Placement(60.0, -36.0, 0.5, 0.0)
    (image,) = slices(scene(ball(240, 120, 100, 80)), (100.0,), placement=moved)
    rows, cols = np.indices(image.shape)
    weight = np.where(image > 0.5 * image.max(), image, 0)
    x, y = GRID.to_um((rows * weight).sum() / weight.sum(), (cols * weight).sum() / weight.sum())
    assert (x, y) == pytest.approx(moved.apply(240.0, 120.0), abs=2.0)


def test_ghosts_of_another_height_lie_on_the_ring_that_the_tilt_gives():
    (image,) = slices(scene(ball(0, 0, 500, 60)), (100.0,))
    ring = 400 * math.tan(math.radians(STILL.tilt_deg))
    for view in range(STILL.views):
        angle = 2 * math.pi * view / STILL.views
        assert at(image, ring * math.cos(angle), ring * math.sin(angle)) > 5 * abs(at(image, 0, 0)) + 0.02


def test_the_first_views_angle_turns_the_ring():
    (image,) = slices(scene(ball(0, 0, 500, 60)), (100.0,), phase=math.pi / STILL.views)
    ring = 400 * math.tan(math.radians(STILL.tilt_deg))
    between = (ring * math.cos(math.pi / STILL.views), ring * math.sin(math.pi / STILL.views))
    assert at(image, *between) > 2 * at(image, ring, 0)


def test_a_void_shows_at_its_own_height_most():
    voids = ball(0, 0, 120, 25)
    with_void, without = (slices(scene(ball(0, 0, 85, 140), voids=v), (20.0, 120.0)) for v in (voids, NO_VOIDS))
    lost = [at(b, 0, 0) - at(a, 0, 0) for a, b in zip(with_void, without, strict=True)]
    assert lost[1] > 2 * lost[0] > 0


def test_the_signal_saturates_with_hardening():
    straight, bent = (slices(scene(ball(0, 0, 85, 140)), (85.0,), replace(STILL, hardening=c)) for c in (0.0, 1.0))
    assert at(bent[0], 0, 0) < 0.8 * at(straight[0], 0, 0)


def test_noise_is_stronger_behind_solder():
    noisy = replace(STILL, noise=0.05)
    content = scene(ball(0, 0, 85, 140))
    grain = slices(content, (85.0,), noisy)[0] - slices(content, (85.0,))[0]
    row, col = (round(float(v)) for v in GRID.to_pixel(np.array(0.0), np.array(0.0)))
    behind, beside = grain[row - 5 : row + 6, col - 5 : col + 6].std(), grain[10:40, 10:40].std()
    assert behind > 1.3 * beside > 0


def test_tomography_shows_no_ghosts_and_fills_solder_with_one():
    ct = replace(MACHINES["ct9"], noise=0.0, rings=0.0, hardening=0.0)
    near, far = slices(scene(ball(0, 0, 100, 80)), (100.0, 300.0), ct)
    assert at(near, 0, 0) == pytest.approx(1.0, abs=0.03)
    assert np.abs(far).max() < 0.01


def test_transmission_sums_everything_in_the_beams_way():
    straight = replace(MACHINES["transmission"], noise=0.0, hardening=0.0)
    (both,) = slices(scene(ball(0, 0, 100, 80), ball(0, 0, 600, 80)), (100.0,), straight)
    (one,) = slices(scene(ball(0, 0, 100, 80)), (100.0,), straight)
    assert at(both, 0, 0) == pytest.approx(2 * at(one, 0, 0), rel=0.02)


def test_the_same_generator_gives_the_same_picture():
    noisy = replace(STILL, noise=0.05)
    content = scene(ball(0, 0, 85, 140))
    assert (slices(content, (85.0,), noisy) == slices(content, (85.0,), noisy)).all()


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


SLICES = np.linspace(0, 1, 400, dtype=np.float32).reshape(2, 10, 20)


def grey_values(**changes):
    return to_grey_values(np.random.default_rng(1), SLICES, replace(MACHINES["line_a"], shading=0.0, **changes), (1.0, 1.0))


def test_solder_is_bright_or_dark_as_the_polarity_says():
    bright, dark = grey_values(), grey_values(polarity="solder_dark")
    assert bright[1, -1, -1] > bright[0, 0, 0]
    assert dark[1, -1, -1] < dark[0, 0, 0]


def test_dtype_is_the_machines_and_values_stay_inside():
    assert grey_values().dtype == np.uint16
    assert grey_values(dtype="float32").dtype == np.float32
    clipped = grey_values(dtype="uint8", level=200.0, span=300.0)
    assert clipped.dtype == np.uint8
    assert clipped.max() == 255


def test_a_response_that_is_not_straight_keeps_the_order():
    bent = grey_values(dtype="float32", gamma=1.4).ravel()
    assert (np.diff(bent) > 0).all()
    assert abs(bent[0] - grey_values(dtype="float32").ravel()[0]) < 0.01


def test_a_dead_row_is_one_value_in_every_page():
    dead = grey_values(dead_row=True)
    constant = [r for r in range(10) if len(np.unique(dead[:, r])) == 1]
    assert len(constant) == 1


def test_drift_scales_gain():
    base = grey_values(dtype="float32")
    moved = to_grey_values(
        np.random.default_rng(1), SLICES, replace(MACHINES["line_a"], shading=0.0, dtype="float32"), (1.1, 1.0)
    )
    assert np.allclose(np.ptp(moved), 1.1 * np.ptp(base))

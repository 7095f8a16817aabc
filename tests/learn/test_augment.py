import numpy as np
import pytest

from inspect_pop.classify.inputs import CHANNELS
from inspect_pop.evaluate.samples import Samples
from inspect_pop.learn.augment import augmented
from inspect_pop.segment.windows import SIZE
from tests.learn.sets import make_samples

pytestmark = pytest.mark.training
pytest.importorskip("albumentations")


def with_a_ball(n: int = 24) -> Samples:
    """Balls of radius 12 samples, 1 bright; the neighbours' are 13; a dome 0.2 high."""
    samples = make_samples(1, n)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    r = np.hypot(axis[:, None], axis[None])
    image = np.zeros((CHANNELS, SIZE, SIZE), np.float32)
    image[:5] = r <= 12
    image[5:10] = image[:5] - (r <= 13)
    image[10] = 0.2 * (r <= 12)
    return samples.replace(images=np.repeat(image[None], n, axis=0).astype(np.float16))


def test_copies_keep_everything_but_the_picture() -> None:
    samples = make_samples(2, 10)
    more = augmented(samples, 2, seed=1)
    assert len(more) == 60
    np.testing.assert_array_equal(more.label, np.tile(samples.label, 3))
    np.testing.assert_array_equal(more.images[:20], samples.images)
    assert more.boards == samples.boards
    assert more.weight.sum() == pytest.approx(samples.weight.sum())


def test_the_same_seed_makes_the_same_copies() -> None:
    samples = with_a_ball(6)
    a, b, c = (augmented(samples, 1, seed=s).images for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_solder_keeps_its_area_and_stays_in_the_middle() -> None:
    copies = augmented(with_a_ball(), 1, seed=3).images[24:].astype(np.float32)
    area = (copies[:, :5] > 0.5).sum(axis=(2, 3)) / (np.pi * 12**2)
    assert np.abs(area - 1).max() < 0.03
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    solder = np.clip(copies[:, 2], 0.3, None) - 0.3
    at = (solder * axis).sum(axis=(1, 2)) / solder.sum(axis=(1, 2))
    assert np.abs(at).max() < 1.6
    assert np.abs(at).max() > 0.3


def test_the_difference_stays_that_of_the_neighbours() -> None:
    """Noise is the joint's own; grey and sharpness are the machine's and cancel in the difference."""
    copies = augmented(with_a_ball(), 1, seed=3).images[24:].astype(np.float32)
    neighbours = copies[:, :5] - copies[:, 5:10]
    assert np.abs(neighbours[:, :, 20:28, 20:28] - neighbours[:, :1, 20:28, 20:28]).max() < 0.01
    assert 0.9 < neighbours[:, :, 20:28, 20:28].mean() < 1.1
    area = (neighbours > 0.5).sum(axis=(2, 3)) / (np.pi * 13**2)
    assert np.abs(area - 1).max() < 0.03


def test_a_dome_is_turned_with_its_joint_and_not_changed() -> None:
    copies = augmented(with_a_ball(), 1, seed=3).images[24:].astype(np.float32)
    assert copies[:, 10].max() == pytest.approx(0.2, abs=0.01)
    assert copies[:, 10].min() == pytest.approx(0.0, abs=0.01)

"""What a joint's inputs may undergo in training."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("albumentations")
from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.learn.augment import Augmentation, AugmentConfig
from inspect_pop.segment.windows import SIZE

pytestmark = pytest.mark.training
NONE = AugmentConfig(gain=0, offset=0, noise=0, shift=0, blur=0, lose_slice=0, lose_height=0, lose_numbers=0, volume=0)
AXIS = np.arange(SIZE) - (SIZE - 1) / 2


def make_balls(n: int = 24) -> np.ndarray:
    """(n, CHANNELS, SIZE, SIZE): balls of radius 12 samples, 1 bright; the neighbours' are 13; a dome 0.2 high."""
    r = np.hypot(AXIS[:, None], AXIS[None])
    image = np.zeros((CHANNELS, SIZE, SIZE), np.float32)
    image[:5] = r <= 12
    image[5:10] = image[:5] - (r <= 13)
    image[10] = 0.2 * (r <= 12)
    return np.repeat(image[None], n, axis=0).astype(np.float16)


def make_blobs(n: int = 64) -> np.ndarray:
    """(n, CHANNELS, SIZE, SIZE) float32: a round blob in the middle."""
    blob = np.exp(-(AXIS[:, None] ** 2 + AXIS[None] ** 2) / 18).astype(np.float32)
    return np.repeat(np.repeat(blob[None, None], CHANNELS, axis=1), n, axis=0)


def change(images: np.ndarray, config: AugmentConfig | None = None, seed: int = 3) -> np.ndarray:
    return Augmentation(config or AugmentConfig(), seed)(images, np.zeros((len(images), len(SCALARS)), np.float32))[0]


def find_middles(images: np.ndarray) -> np.ndarray:
    """(n, 2): where the blobs of the first channel lie, in samples from the middle."""
    whole = images[:, 0].sum((1, 2))
    return np.stack([images[:, 0].sum(2) @ AXIS / whole, images[:, 0].sum(1) @ AXIS / whole], axis=1)


def test_the_same_seed_makes_the_same_changes() -> None:
    a, b, c = (change(make_balls(20), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert a.dtype == np.float32 and a.shape == make_balls(20).shape


def test_one_pipeline_changes_each_batch_differently() -> None:
    pipeline, scalars = Augmentation(AugmentConfig(), 1), np.zeros((20, len(SCALARS)), np.float32)
    first, second = (pipeline(make_balls(20), scalars)[0] for _ in range(2))
    assert (first != second).any()


def test_the_batch_that_was_handed_in_stays_as_it_was() -> None:
    for n in (3, 64):  # one group and several
        images, scalars = make_blobs(n), np.ones((n, len(SCALARS)), np.float32)
        Augmentation(AugmentConfig(lose_height=0.5, lose_numbers=0.5), 2)(images, scalars)
        np.testing.assert_array_equal(images, make_blobs(n))
        np.testing.assert_array_equal(scalars, 1)


def test_without_any_change_a_round_blob_stays_as_it_is() -> None:
    np.testing.assert_allclose(change(make_blobs(), NONE), make_blobs(), atol=1e-6)


def test_solder_keeps_its_area_and_stays_in_the_middle() -> None:
    images = change(make_balls(), AugmentConfig(lose_slice=0, gain=0.02, offset=0))
    area = (images[:, :5] > 0.5).sum(axis=(2, 3)) / (np.pi * 12**2)
    assert np.abs(area - 1).max() < 0.03
    solder = np.clip(images[:, 2], 0.3, None) - 0.3
    at = (solder * AXIS).sum(axis=(1, 2)) / solder.sum(axis=(1, 2))
    assert np.abs(at).max() < 1.6
    assert np.abs(at).max() > 0.3


def test_the_difference_stays_that_of_the_neighbours() -> None:
    """Noise and offset are the joint's alone; gain and sharpness are the machine's and cancel in the difference."""
    images = change(make_balls(), AugmentConfig(gain=0, offset=0, lose_slice=0))
    neighbours = images[:, :5] - images[:, 5:10]
    assert np.abs(neighbours[:, :, 20:28, 20:28] - 1).max() < 0.01
    area = (neighbours > 0.5).sum(axis=(2, 3)) / (np.pi * 13**2)
    assert np.abs(area - 1).max() < 0.03


def test_slices_and_differences_change_in_step() -> None:
    images = np.random.default_rng(1).random((16, CHANNELS, SIZE, SIZE), np.float32)
    images[:, 5:10] = images[:, :5] - 0.5
    changed = change(images, AugmentConfig(gain=0, offset=0, noise=0.1, shift=2, blur=0, lose_slice=0.5, lose_height=0))
    np.testing.assert_allclose(changed[:, :5] - changed[:, 5:10], 0.5, atol=1e-5)
    assert not np.allclose(changed, images)


def test_a_lost_slice_is_replaced_by_the_one_beside_it() -> None:
    images = make_blobs(16) * (1 + np.arange(CHANNELS, dtype=np.float32))[None, :, None, None]
    changed = change(images, replace(NONE, lose_slice=1))
    tops = np.rint(changed.max((2, 3)) / images[0, 0].max()).astype(int)
    for row in tops:
        (lost,) = np.flatnonzero(row[:5] != np.arange(1, 6))
        assert row[lost] == (2 if lost == 0 else lost)
        assert row[lost + 5] == row[lost] + 5


def test_a_dome_is_turned_with_its_joint_and_not_changed() -> None:
    images = change(make_balls(), AugmentConfig(lose_height=0))
    assert images[:, 10].max() == pytest.approx(0.2, abs=0.01)
    assert images[:, 10].min() == pytest.approx(0.0, abs=0.01)
    uneven = make_blobs(128)
    uneven[:, :, :20] = 0
    turned = change(uneven, NONE)
    np.testing.assert_allclose(turned[:, 10], turned[:, 0], atol=1e-6)
    assert len(np.unique(turned[:, 0].round(4), axis=0)) >= 3  # one side is dark: which one


def test_pictures_move_by_parts_of_a_sample_and_no_further_than_they_may() -> None:
    pipeline, scalars = Augmentation(replace(NONE, shift=2), 4), np.zeros((8, len(SCALARS)), np.float32)
    moved = np.concatenate([find_middles(pipeline(make_blobs(8), scalars)[0]) for _ in range(40)])
    assert np.abs(moved).max() <= 2.01
    assert np.abs(moved).max() > 1.5
    assert (np.abs(moved - np.rint(moved)) > 0.1).any()
    assert abs(moved.mean()) < 0.3


def test_blurs_differ_from_joint_to_joint_and_none_goes_beyond_a_mean_of_three() -> None:
    changed = change(make_blobs(), replace(NONE, blur=1.0))
    tops, sharp = changed[:, 0].max((1, 2)), make_blobs(1)[0, 0]
    padded = np.pad(sharp, 1, mode="edge")
    mean = sum(padded[i : i + SIZE, j : j + SIZE] for i in range(3) for j in range(3)).max() / 9
    assert mean - 1e-6 <= tops.min() < tops.max() <= sharp.max() + 1e-6
    assert tops.std() > 0.2 * (sharp.max() - mean)
    np.testing.assert_allclose(changed[:, -1], make_blobs()[:, -1], atol=1e-6)  # a height map has a blur of its own


def test_a_lost_height_map_says_so() -> None:
    images, scalars = np.ones((8, CHANNELS, SIZE, SIZE), np.float32), np.ones((8, len(SCALARS)), np.float32)
    after, numbers = Augmentation(AugmentConfig(lose_height=1.0), 1)(images, scalars)
    assert np.abs(after[:, -1]).max() == 0
    assert numbers[:, SCALARS.index("dome_known")].max() == 0
    assert numbers[:, SCALARS.index("standoff_known")].max() == 0
    assert numbers[:, SCALARS.index("standoff_deviation")].max() == 0


def test_numbers_of_another_machine_are_biased_together_or_not_there() -> None:
    images, scalars = np.ones((64, CHANNELS, SIZE, SIZE), np.float32), np.ones((64, len(SCALARS)), np.float32)
    scalars[:8, SCALARS.index("measured")] = 0
    _, biased = Augmentation(AugmentConfig(volume=0.5, lose_numbers=0.0), 1)(images, scalars)
    volume, typical = (biased[:, SCALARS.index(name)] for name in ("volume", "volume_typical"))
    np.testing.assert_array_equal(volume, typical)
    assert volume[8:].std() > 0.3
    assert volume[:8].std() == 0  # nothing was measured there
    deviation = SCALARS.index("volume_deviation")
    np.testing.assert_array_equal(biased[:, deviation], scalars[:, deviation])
    _, lost = Augmentation(AugmentConfig(lose_numbers=1.0), 1)(images, scalars)
    assert np.abs(lost[:, SCALARS.index("measured") :]).max() == 0

"""What a joint's picture may undergo in training."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.inputs import CHANNELS, SCALARS  # noqa: E402
from inspect_pop.learn.augment import Jitter, jitter  # noqa: E402

pytestmark = pytest.mark.training
STILL = Jitter(gain=0, offset=0, noise=0, shift=0, blur=0, lose_slice=0, lose_height=0, lose_numbers=0, volume=0)


def blobs(n: int = 64, size: int = 24) -> "torch.Tensor":
    """(n, CHANNELS, size, size): a round blob in the middle."""
    axis = torch.arange(size) - (size - 1) / 2
    blob = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / 18)
    return blob.expand(n, CHANNELS, size, size).clone()


def middles(images: "torch.Tensor") -> np.ndarray:
    """(n, 2): where the blobs of the first channel lie, in samples from the middle."""
    axis = torch.arange(images.shape[-1]) - (images.shape[-1] - 1) / 2
    whole = images[:, 0].sum((1, 2))
    return np.stack([(images[:, 0].sum(2) @ axis / whole).numpy(), (images[:, 0].sum(1) @ axis / whole).numpy()], axis=1)


def test_pictures_move_by_parts_of_a_sample_and_no_further_than_they_may() -> None:
    random = torch.Generator().manual_seed(4)
    how = Jitter(**{**vars(STILL), "shift": 2})
    moved = np.concatenate([middles(jitter(blobs(8), torch.zeros(8, len(SCALARS)), how, random)[0]) for _ in range(40)])
    assert np.abs(moved).max() <= 2.01
    assert np.abs(moved).max() > 1.5
    assert (np.abs(moved - np.rint(moved)) > 0.1).any()
    assert abs(moved.mean()) < 0.3


def test_without_any_change_a_round_blob_stays_as_it_is() -> None:
    images = blobs()
    changed, _ = jitter(images, torch.zeros(len(images), len(SCALARS)), STILL, torch.Generator().manual_seed(1))
    torch.testing.assert_close(changed, images)


def test_the_batch_that_was_handed_in_stays_as_it_was() -> None:
    images, scalars = blobs(), torch.ones(64, len(SCALARS))
    jitter(images, scalars, Jitter(), torch.Generator().manual_seed(2))
    torch.testing.assert_close(images, blobs())
    torch.testing.assert_close(scalars, torch.ones(64, len(SCALARS)))


def test_blurs_differ_from_joint_to_joint_and_none_goes_beyond_a_mean_of_three() -> None:
    how = Jitter(**{**vars(STILL), "blur": 1.0})
    changed, _ = jitter(blobs(), torch.zeros(64, len(SCALARS)), how, torch.Generator().manual_seed(3))
    tops = changed[:, 0].amax((1, 2))
    sharp = blobs(1)
    mean = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1, count_include_pad=False)[0, 0].max()
    assert mean - 1e-6 <= tops.min() < tops.max() <= sharp.max() + 1e-6
    assert tops.std() > 0.2 * (sharp.max() - mean)
    torch.testing.assert_close(changed[:, -1], blobs()[:, -1])  # a height map has a blur of its own

"""More of few: copies of a user's labelled joints as the same machine might have shown them another time.

`jitter` changes every batch a little while it is trained on; this makes whole new joints beforehand, with interpolated
shifts and true blur, which costs 0.3 ms each and pays where there are hundreds of joints, not hundred thousands.
What is done cannot change a label: joints are turned, mirrored and moved within the error of alignment, their grey, noise
and sharpness vary; nothing is scaled or stretched, because volume and webs are what the classes are told apart by.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.inputs import HEIGHTS
from inspect_pop.learn.samples import Samples, concat

__all__ = ["augmented"]

_SLICES = len(HEIGHTS)
# The library clips float pictures to 0..1. Slices (0 background, 1 core, overshoots beyond) and domes (-3..3) go there and back.
_SLICE_LOW, _SLICE_SPAN = -1.0, 4.0
_DOME_LOW, _DOME_SPAN = -3.0, 6.0
# Alignment is good to a sixth of a pixel; what moves in a window is the joint's own offset, a sample or so of 48.
_SHIFT = 0.025


def augmented(samples: Samples, copies: int, *, seed: int) -> Samples:
    """The joints themselves and `copies` changed versions of each, in the same order, with the same labels.

    Weights are shared out, so that a joint with copies counts as much as one without.
    """
    chain = _Chain(seed)
    sets = [samples]
    for _ in range(copies):
        images = np.empty_like(samples.images)
        for k, image in enumerate(samples.images):
            images[k] = chain.change(np.asarray(image, np.float32))
        sets.append(samples.replace(images=images))
    return concat([s.replace(weight=s.weight / np.float32(copies + 1)) for s in sets])


class _Chain:
    """The steps, each on the channels that it may touch: `[slices, what the neighbours look like, dome]`."""

    def __init__(self, seed: int) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its version otherwise
        import albumentations as alb
        import cv2

        shift = {"x": (-_SHIFT, _SHIFT), "y": (-_SHIFT, _SHIFT)}
        place: list[Any] = [alb.D4(p=1), alb.Affine(translate_percent=shift, border_mode=cv2.BORDER_REPLICATE, p=0.8)]
        grey: list[Any] = [
            alb.GaussianBlur(blur_limit=0, sigma_limit=(0.2, 0.7), p=0.3),
            alb.MultiplicativeNoise(multiplier=(0.96, 1.04), per_channel=False, elementwise=False, p=0.8),
        ]
        grain: list[Any] = [alb.GaussNoise(std_range=(0.001, 0.006), per_channel=True, p=0.5)]
        self._place, self._grey, self._grain = (alb.Compose(steps, seed=seed + k) for k, steps in enumerate((place, grey, grain)))

    def change(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """A changed copy of one joint's (CHANNELS, SIZE, SIZE) picture."""
        slices, dome = image[:_SLICES], image[-1:]
        neighbours = slices - image[_SLICES : 2 * _SLICES]
        xray = (np.concatenate([slices, neighbours]) - _SLICE_LOW) / _SLICE_SPAN
        stack = np.concatenate([xray, (dome - _DOME_LOW) / _DOME_SPAN]).transpose(1, 2, 0)
        stack = self._place(image=np.ascontiguousarray(stack, np.float32))["image"]
        xray = self._grey(image=np.ascontiguousarray(stack[..., :-1]))["image"] * _SLICE_SPAN + _SLICE_LOW
        # Noise is the joint's own: the mean of its neighbours has hardly any.
        noisy = (xray[..., :_SLICES] - _SLICE_LOW) / _SLICE_SPAN
        slices = self._grain(image=np.ascontiguousarray(noisy))["image"] * _SLICE_SPAN + _SLICE_LOW
        dome = stack[..., -1:] * _DOME_SPAN + _DOME_LOW
        out = np.concatenate([slices, slices - xray[..., _SLICES:], dome], axis=2)
        return np.asarray(out.transpose(2, 0, 1), np.float32)

"""More of few: copies of a user's labelled joints as the same machine might have shown them another time.

`jitter` changes every batch a little while it is trained on; this makes whole new joints beforehand, with interpolated
shifts and true blur, which costs 0.3 ms each and pays where there are hundreds of joints, not hundred thousands.
What is done cannot change a label: joints are turned, mirrored and moved within the error of alignment, their grey, noise
and sharpness vary; nothing is scaled or stretched, because volume and webs are what the classes are told apart by.

What a joint's picture may undergo without becoming another joint: turned, shifted, brighter, noisier, blurred, a slice lost.

Works on whole batches of tensors, so that it costs a small part of a training step. All randomness comes from the
generator that is handed in.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inspect_pop.classify.inputs import HEIGHTS, SCALARS
from inspect_pop.evaluate.samples import Samples, concat

__all__ = ["Jitter", "augmented", "jitter"]

# ---- learn/augment
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


# ---- learn/jitter
_DOME_KNOWN = SCALARS.index("dome_known")
_STANDOFF = SCALARS.index("standoff_deviation")
_STANDOFF_KNOWN = SCALARS.index("standoff_known")
_NUMBERS = slice(SCALARS.index("measured"), SCALARS.index("z_high") + 1)
_VOLUMES = [SCALARS.index("volume"), SCALARS.index("volume_typical")]


@dataclass(frozen=True)
class Jitter:
    """How much, as standard deviations or probabilities.

    `gain` and `offset` of each slice's grey, `noise` in units of the ball's contrast, `shift` in samples (largest),
    `blur` chance of a blur, up to a 3 x 3 mean, `lose_slice` chance that one slice is replaced by its neighbour,
    `lose_height` chance that no height map was there, `lose_numbers` chance that nothing was measured; `volume` of the bias
    that all volumes of a machine have, in the network's unit (five times the ratio).
    """

    gain: float = 0.05
    offset: float = 0.03
    noise: float = 0.02
    shift: int = 1
    blur: float = 0.1
    lose_slice: float = 0.05
    lose_height: float = 0.1
    lose_numbers: float = 0.1
    volume: float = 0.1


def jitter(images: Tensor, scalars: Tensor, how: Jitter, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A changed copy of a batch: (n, channels, s, s) and (n, k) float32."""
    images, scalars = images.clone(), scalars.clone()
    images = _turn(images, random)
    images = _shift(images, how.shift, random)
    _grey(images, how, random)
    _lose_slice(images, how.lose_slice, random)
    _lose_height(images, scalars, how.lose_height, random)
    _bend_numbers(scalars, how, random)
    return images, scalars


def _uniform(n: int, random: torch.Generator) -> Tensor:
    return torch.rand(n, generator=random)


def _turn(images: Tensor, random: torch.Generator) -> Tensor:
    """One of the eight symmetries of the square for each eighth of the batch; joints know no preferred direction."""
    order = torch.randperm(len(images), generator=random)
    for k, part in enumerate(torch.tensor_split(order, 8)):
        turned = torch.rot90(images[part], k % 4, (2, 3))
        images[part] = torch.flip(turned, (3,)) if k >= 4 else turned
    return images


def _shift(images: Tensor, most: int, random: torch.Generator) -> Tensor:
    """Shifts by parts of a sample, a quarter of the batch each way drawn anew; edges repeat.

    Between samples lies a mean of two: as much blur as a picture gets that is resampled once more.
    """
    if most == 0:
        return images
    order = torch.randperm(len(images), generator=random)
    size = images.shape[-1]
    for part in torch.tensor_split(order, 4):
        moved = torch.nn.functional.pad(images[part], (most,) * 4, mode="replicate")
        for axis, by in zip((2, 3), (2 * most * torch.rand(2, generator=random)).tolist(), strict=True):
            whole = min(int(by), 2 * most - 1)
            share = by - whole
            moved = (1 - share) * moved.narrow(axis, whole, size) + share * moved.narrow(axis, whole + 1, size)
        images[part] = moved
    return images


def _grey(images: Tensor, how: Jitter, random: torch.Generator) -> None:
    n = len(images)
    xray = images[:, : 2 * _SLICES]
    gain = 1 + how.gain * (torch.randn(n, 1, generator=random) + torch.randn(n, _SLICES, generator=random)) / 2**0.5
    xray *= torch.cat([gain, gain], dim=1)[:, :, None, None]
    xray[:, :_SLICES] += how.offset * torch.randn(n, _SLICES, generator=random)[:, :, None, None]
    blurred = torch.nonzero(_uniform(n, random) < how.blur).flatten()
    if len(blurred):
        mean = torch.nn.functional.avg_pool2d(xray[blurred], 3, 1, 1, count_include_pad=False)
        xray[blurred] = torch.lerp(xray[blurred], mean, _uniform(len(blurred), random)[:, None, None, None])
    strength = how.noise * _uniform(n, random)[:, None, None, None]
    grain = strength * torch.randn((n, _SLICES, *images.shape[2:]), generator=random)
    xray[:, :_SLICES] += grain
    xray[:, _SLICES:] += grain


def _lose_slice(images: Tensor, chance: float, random: torch.Generator) -> None:
    lost = torch.nonzero(_uniform(len(images), random) < chance).flatten()
    which = torch.randint(0, _SLICES, (len(lost),), generator=random)
    stand_in = torch.where(which == 0, which + 1, which - 1)
    images[lost, which] = images[lost, stand_in]
    images[lost, which + _SLICES] = images[lost, stand_in + _SLICES]


def _lose_height(images: Tensor, scalars: Tensor, chance: float, random: torch.Generator) -> None:
    no_dome = _uniform(len(images), random) < chance
    images[no_dome, -1] = 0
    scalars[no_dome, _DOME_KNOWN] = 0
    no_standoff = _uniform(len(images), random) < chance
    scalars[no_standoff, _STANDOFF] = 0
    scalars[no_standoff, _STANDOFF_KNOWN] = 0


def _bend_numbers(scalars: Tensor, how: Jitter, random: torch.Generator) -> None:
    """Another machine's bias of the volume, or nothing measured at all."""
    n = len(scalars)
    bias = how.volume * torch.randn(n, 1, generator=random)
    scalars[:, _VOLUMES] += bias * scalars[:, _NUMBERS.start, None]  # unmeasured joints have none
    scalars[_uniform(n, random) < how.lose_numbers, _NUMBERS] = 0

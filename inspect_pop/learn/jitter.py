"""What a joint's picture may undergo without becoming another joint: turned, shifted, brighter, noisier, blurred, a slice lost.

Works on whole batches of tensors, so that it costs a small part of a training step. All randomness comes from the
generator that is handed in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from inspect_pop.classify.inputs import HEIGHTS, SCALARS

__all__ = ["Jitter", "jitter"]

_SLICES = len(HEIGHTS)
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

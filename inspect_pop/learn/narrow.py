"""A network with fewer channels, begun with the weights that matter most of a wider one.

The runtime's time follows the first layers, where pictures are large. What is left behind has to be learnt again; for the
released network ten epochs were enough (docs/benchmarks.md).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from inspect_pop.errors import ModelFault
from inspect_pop.learn.network import JointNet

__all__ = ["narrowed"]

_STEM = 3  # layers before the first block: convolution, norm, ReLU


@torch.no_grad()
def narrowed(network: JointNet, widths: tuple[int, ...], first: int) -> JointNet:
    """A copy with `widths` channels in its stages and a first kernel of `first` x `first`, the middle of the old one.

    Of `network` (residual) those channels are kept whose weights in the layers after them weigh most; the last stage stays as
    wide as it is. The copy has to be trained again before it is of use.

    Raises
    ------
    ModelFault
        `widths` or `first` exceed those of `network`, or it is of another kind.
    """
    shape = network.shape
    fits = len(widths) == len(shape.widths) and widths[-1] == shape.widths[-1]
    fits = fits and all(0 < width <= of for width, of in zip(widths, shape.widths, strict=True))
    if shape.body != "residual" or not fits or not (0 < first <= shape.first and first % 2 == shape.first % 2):
        raise ModelFault(
            "network to begin with",
            expected=f"a residual one with at least {widths} channels and a first layer of at least {first} x {first}",
            found=str(shape),
            remedy="Ask for no more than it has, leave the last stage as it is, or begin without it.",
        )
    small = JointNet(replace(shape, widths=widths, first=first))
    small.load_state_dict(_kept(network, widths, first))
    return small.eval()


def _kept(network: JointNet, widths: tuple[int, ...], first: int) -> dict[str, Tensor]:
    """The weights of the narrower network."""
    layers, stages = _layers(network), _stages(network)
    outer = [_outer(layers, stages, stage, width) for stage, width in enumerate(widths)]
    weights = dict(network.state_dict())
    rim = (network.shape.first - first) // 2
    weights["features.0.weight"] = layers[0].weight[outer[0]][:, :, rim : rim + first, rim : rim + first]
    _take(weights, "features.1.", outer[0])
    for stage, blocks in enumerate(stages):
        for number in blocks:
            block, name = layers[number], f"features.{number}."
            inside = outer[stage - 1] if stage > 0 and number == blocks[0] else outer[stage]
            inner = _heaviest([block.path[3].weight], [block.path[1]], widths[stage])
            weights[f"{name}path.0.weight"] = block.path[0].weight[inner][:, inside]
            weights[f"{name}path.3.weight"] = block.path[3].weight[outer[stage]][:, inner]
            _take(weights, f"{name}path.1.", inner)
            _take(weights, f"{name}path.4.", outer[stage])
            if stage > 0 and number == blocks[0]:
                weights[f"{name}skip.1.weight"] = block.skip[1].weight[outer[stage]][:, inside]
                _take(weights, f"{name}skip.2.", outer[stage])
    return weights


def _layers(network: JointNet) -> Any:  # torch's containers say nothing of what they hold
    return network.features


def _stages(network: JointNet) -> list[list[int]]:
    """The numbers of the blocks among the network's layers, stage by stage."""
    numbers = iter(range(_STEM, _STEM + sum(network.shape.blocks)))
    return [[next(numbers) for _ in range(blocks)] for blocks in network.shape.blocks]


def _outer(layers: Any, stages: list[list[int]], stage: int, width: int) -> Tensor:
    """The channels that a stage hands on."""
    if stage == len(stages) - 1:
        return torch.arange(width)
    here, after = [layers[number] for number in stages[stage]], layers[stages[stage + 1][0]]
    norms = [block.path[4] for block in here]
    norms += [layers[1]] if stage == 0 else [here[0].skip[2]]
    takers = [block.path[0].weight for block in (here if stage == 0 else here[1:])]
    return _heaviest([*takers, after.path[0].weight, after.skip[1].weight], norms, width)


def _heaviest(takers: Iterable[Tensor], norms: Iterable[nn.BatchNorm2d], width: int) -> Tensor:
    """The channels, in order, whose spread by `norms` weighs most in the layers that take them in."""
    spread = torch.stack([norm.weight**2 for norm in norms]).sum(0)
    weight = torch.stack([(taker**2).sum((0, 2, 3)) for taker in takers]).sum(0)
    return torch.sort(torch.topk(weight * spread, width).indices).values


def _take(weights: dict[str, Tensor], norm: str, channels: Tensor) -> None:
    for name in [name for name in weights if name.startswith(norm) and weights[name].ndim]:
        weights[name] = weights[name][channels]

"""A network with fewer channels where most of its time goes, begun with the weights that matter most of a wider one.

The runtime's time follows pictures of full size: the first layer and the first stage. What is left behind is learnt again in
a few epochs; a network begun with random weights takes ten times as many.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from inspect_pop.learn.network import JointNet

__all__ = ["narrowed"]


@torch.no_grad()
def narrowed(network: JointNet, width: int, first: int) -> JointNet:
    """A copy with `width` channels in the first stage and a first kernel of `first` x `first`, the middle of the old one.

    Of `network` (residual, one block in its first stage) those channels are kept whose weights in the layers after them weigh
    most. It has to be trained again before it is of use.

    Raises
    ------
    ValueError
        `width` or `first` exceed those of `network`, or it is of another kind.
    """
    shape = network.shape
    if shape.body != "residual" or shape.blocks[0] != 1 or len(shape.widths) < 2:
        raise ValueError(f"a residual network with one block in the first of several stages expected, found {shape}")
    if not (0 < width <= shape.widths[0] and 0 < first <= shape.first and first % 2 == shape.first % 2):
        raise ValueError(f"at most {shape.widths[0]} channels and an odd kernel of at most {shape.first} expected")
    small = JointNet(replace(shape, widths=(width, *shape.widths[1:]), first=first))
    small.load_state_dict(_kept(network, width, first))
    return small.eval()


def _kept(network: JointNet, width: int, first: int) -> dict[str, Tensor]:
    layers: Any = network.features
    block, after = layers[3], layers[4]
    outer = _heaviest([block.path[0].weight, after.path[0].weight, after.skip[1].weight], layers[1], width)
    inner = _heaviest([block.path[3].weight], block.path[1], width)
    rim = (network.shape.first - first) // 2
    weights = dict(network.state_dict())
    middle = weights["features.0.weight"][outer]
    weights["features.0.weight"] = middle[:, :, rim : rim + first, rim : rim + first]
    for name in [name for name in weights if name.startswith("features.1.") and weights[name].ndim]:
        weights[name] = weights[name][outer]
    for layer, channels in (("path.1", inner), ("path.4", outer)):
        for name in [n for n in weights if n.startswith(f"features.3.{layer}.") and weights[n].ndim]:
            weights[name] = weights[name][channels]
    weights["features.3.path.0.weight"] = block.path[0].weight[inner][:, outer]
    weights["features.3.path.3.weight"] = block.path[3].weight[outer][:, inner]
    weights["features.4.path.0.weight"] = after.path[0].weight[:, outer]
    weights["features.4.skip.1.weight"] = after.skip[1].weight[:, outer]
    return weights


def _heaviest(consumers: list[Tensor], norm: nn.BatchNorm2d, width: int) -> Tensor:
    """The channels, in order, whose spread by `norm` weighs most in the layers that take them in."""
    weight = sum(((c * norm.weight[:, None, None]) ** 2).sum((0, 2, 3)) for c in consumers)
    return torch.sort(torch.topk(torch.as_tensor(weight), width).indices).values

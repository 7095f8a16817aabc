"""The network: a small residual net over a joint's window, joined with a few numbers, that answers in classes.

Beside the five classes it learns what the simulator knows and a label does not say (the variety of a defect, the volume,
the width of a web, the gap): those heads steer the features in training and are left out of the exported model.

The trained network as a file that training can begin from: safetensors, its shape and varieties in the header.

The line runs `model.onnx`; `network.safetensors` lies beside it, so that a retraining starts where the release ended.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.core.errors import ModelFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.learn.torchvision_import import import_torchvision

__all__ = [
    "EMBEDDING",
    "LIMIT",
    "NETWORK",
    "REGRESSIONS",
    "Body",
    "JointNet",
    "Outputs",
    "Shape",
    "between",
    "load_network",
    "save_network",
]

# ---- learn/network
Body = Literal["residual", "mobilenet_v3_small"]
EMBEDDING = 32
REGRESSIONS = ("volume_ratio", "web_um", "gap_um")
# What lies beyond, in units of a ball's contrast or in tenths of a millimetre, is a dead pixel or the rim of the package. One
# dead pixel of -30 moved log-odds by up to 9; cut, it moves them by as much as 8-bit numbers would.
LIMIT = 2.0
# Told the size of the pixels, a network answers otherwise to the same picture on other pixels (docs/exports.md); untold, it
# errs no more.
_NOT_TOLD = SCALARS.index("pixel_per_sample")


@dataclass(frozen=True)
class Shape:
    """What the network is built like.

    `body` "residual" is ours: channels of each stage (the first at half the window's resolution, each next one at half
    again) and blocks in each; `first` is the side of the first layer's kernel, odd. "mobilenet_v3_small" is torchvision's
    (Howard et al., 2019), without its classifier and with our channels; `widths`, `blocks` and `first` do not count then.
    """

    widths: tuple[int, ...] = (16, 32, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    varieties: int = 1
    body: Body = "residual"
    first: int = 3


@dataclass(frozen=True)
class Outputs:
    """`logits` (n, 5), `embedding` (n, EMBEDDING), `varieties` (n, v), `regressions` (n, 3)."""

    logits: Tensor
    embedding: Tensor
    varieties: Tensor
    regressions: Tensor


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            pool: nn.Module = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
            self.skip = nn.Sequential(pool, nn.Conv2d(inside, outside, 1, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.path(x) + self.skip(x))
        return out


class JointNet(nn.Module):
    """(n, CHANNELS, 48, 48) images and (n, len(SCALARS)) scalars to `Outputs`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.told: Tensor
        self.shape = shape
        features, inside = _mobilenet() if shape.body == "mobilenet_v3_small" else _residual(shape)
        self.features: nn.Module = features
        self.limit: nn.Module = nn.Hardtanh(-LIMIT, LIMIT)
        # Mean says how much, maximum says whether anywhere: a thin web is a few samples of the window.
        self.join = nn.Sequential(nn.Linear(2 * inside + len(SCALARS), 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, EMBEDDING))
        told = torch.ones(len(SCALARS))
        told[_NOT_TOLD] = 0
        self.register_buffer("told", told, persistent=False)
        self.classes = nn.Linear(EMBEDDING, len(CLASSES))
        self.varieties = nn.Linear(EMBEDDING, shape.varieties)
        self.regressions = nn.Linear(EMBEDDING, len(REGRESSIONS))

    def embed(self, images: Tensor, scalars: Tensor) -> Tensor:
        """(n, EMBEDDING): what the classes are told apart by."""
        seen = self.features(self.limit(images))
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3)), scalars * self.told], dim=1)
        out: Tensor = torch.relu(self.join(pooled))
        return out

    def forward(self, images: Tensor, scalars: Tensor) -> Outputs:
        """All heads, for training; the exported model keeps the first two."""
        embedding = self.embed(images, scalars)
        return Outputs(self.classes(embedding), embedding, self.varieties(embedding), self.regressions(embedding))


def _residual(shape: Shape) -> tuple[nn.Module, int]:
    """(layers, channels that come out) of our own body."""
    inside = shape.widths[0]
    layers: list[nn.Module] = [
        nn.Conv2d(CHANNELS, inside, shape.first, 2, shape.first // 2, bias=False),
        nn.BatchNorm2d(inside),
        nn.ReLU(),
    ]
    for stage, (width, blocks) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
        for block in range(blocks):
            layers.append(_Block(inside, width, 2 if block == 0 and stage > 0 else 1))
            inside = width
    return nn.Sequential(*layers), inside


def _mobilenet() -> tuple[nn.Module, int]:
    """(layers, channels that come out) of torchvision's, not trained beforehand: our pictures are unlike photographs."""
    layers: nn.Sequential = import_torchvision("torchvision.models").mobilenet_v3_small(weights=None).features
    layers[0] = nn.Sequential(nn.Conv2d(CHANNELS, 16, 3, 2, 1, bias=False), *list(layers[0].children())[1:])
    return layers, 576


# ---- learn/weights
NETWORK = "network.safetensors"


def save_network(network: JointNet, varieties: tuple[str, ...], path: Path) -> None:
    """Write all weights; `varieties` are the names behind the network's fine labels, in order."""
    about = json.dumps({"shape": asdict(network.shape), "varieties": varieties})
    # One entry: several would be written in an order that changes, and the same training must give the same file.
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    path.write_bytes(save(tensors, {"about": about}))  # save_file would keep it from other users


def load_network(path: Path) -> tuple[JointNet, tuple[str, ...]]:
    """The network, in evaluation mode, and its varieties.

    One that was told fewer numbers of a joint than today's takes no notice of the new ones until it is trained again. Raises
    `ModelFault` where the file cannot be what it should.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
        shape = about["shape"]
        widths, blocks = tuple(shape["widths"]), tuple(shape["blocks"])
        body, first = shape.get("body", "residual"), int(shape.get("first", 5))
        network = JointNet(Shape(widths, blocks, int(shape["varieties"]), body, first))
        network.load_state_dict(_grown(load_file(path), network))
        return network.eval(), tuple(about["varieties"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:  # torch names misfits RuntimeError
        raise ModelFault(
            str(path),
            expected="weights of a joint network",
            found=str(error),
            remedy="Take the model again, or train from scratch.",
        ) from error


def _grown(tensors: dict[str, Tensor], network: JointNet) -> dict[str, Tensor]:
    """The weights with zeros for numbers that were added since: they come last."""
    first, wanted = tensors["join.0.weight"], network.state_dict()["join.0.weight"].shape[1]
    missing = max(0, wanted - first.shape[1])
    return {**tensors, "join.0.weight": torch.nn.functional.pad(first, (0, missing))}


def between(old: JointNet, new: JointNet, share: float) -> JointNet:
    """A network `share` of the way from the old weights to the new ones (0 old, 1 new), of the same shape.

    What a short training added mostly lies on the straight line between both, and what the old network knew of other
    machines is lost only towards its end (Wortsman et al., 2022: robust fine-tuning).
    """
    mixed = JointNet(new.shape)
    theirs = old.state_dict()
    weights = {}
    for name, mine in new.state_dict().items():
        weights[name] = torch.lerp(theirs[name].to(mine), mine, share) if mine.dtype.is_floating_point else mine
    mixed.load_state_dict(weights)
    return mixed.eval()

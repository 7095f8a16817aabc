"""The network: a small residual net over a joint's window, joined with a few numbers, and its file.

Besides the classes it learns what a simulator knows and a label does not say: the variety of a defect, the volume, the
width of a web, the gap. Those heads steer the features during training and are left out of the ONNX model.

`network.safetensors` holds the trained weights, with shape and varieties in its header. It lies beside `model.onnx`, which
the line runs, so that a retraining can start from it.
"""

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import ModelFault, describe_error

__all__ = [
    "EMBEDDING",
    "LIMIT",
    "NETWORK",
    "REGRESSIONS",
    "Body",
    "JointNet",
    "Outputs",
    "Shape",
    "import_torchvision",
    "interpolate",
    "load_network",
    "save_network",
]

NETWORK = "network.safetensors"
Body = Literal["residual", "mobilenet_v3_small"]
EMBEDDING = 32
REGRESSIONS = ("volume_ratio", "web_um", "gap_um")
# Inputs are clipped to this, in units of a ball's contrast or in tenths of a millimetre. What lies beyond is a dead pixel or
# the rim of the package. One dead pixel of -30 moved log-odds by up to 9; clipped, by as much as 8-bit numbers do.
LIMIT = 2.0
# A network that is given the pixel size answers differently to the same picture on other pixels (docs/lab/pictures.md). Without
# it, it makes no more errors.
_UNUSED_SCALAR = SCALARS.index("pixel_per_sample")
# Operators that are declared for torchvision last as long as this list holds their library.
_TORCHVISION_LIBRARIES: list[Any] = []


@dataclass(frozen=True)
class Shape:
    """The architecture.

    Attributes
    ----------
    widths, blocks
        Channels and number of blocks of each stage. The first stage has half the window's resolution, each next one half of
        the one before.
    varieties
        Number of fine labels.
    body
        `residual` is this project's. `mobilenet_v3_small` is torchvision's (Howard et al., 2019), without its classifier and
        with this project's input channels; `widths`, `blocks` and `first` do not apply to it.
    first
        Side of the first layer's kernel, odd.
    """

    widths: tuple[int, ...] = (16, 32, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    varieties: int = 1
    body: Body = "residual"
    first: int = 3


@dataclass(frozen=True)
class Outputs:
    """`logits` (n, classes), `embedding` (n, EMBEDDING), `varieties` (n, v), `regressions` (n, 3)."""

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
    """Network from (n, CHANNELS, 48, 48) images and (n, len(SCALARS)) scalars to `Outputs`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.scalar_mask: Tensor
        self.shape = shape
        self.features: nn.Module
        if shape.body == "mobilenet_v3_small":  # not pretrained: slices of joints are unlike photographs
            layers = import_torchvision("torchvision.models").mobilenet_v3_small(weights=None).features
            layers[0] = nn.Sequential(nn.Conv2d(CHANNELS, 16, 3, 2, 1, bias=False), *list(layers[0].children())[1:])
            self.features, inside = layers, 576
        else:
            self.features, inside = _make_residual(shape)
        self.limit: nn.Module = nn.Hardtanh(-LIMIT, LIMIT)
        # Pooled by mean and by maximum: a thin web is a few samples of the window.
        self.join = nn.Sequential(nn.Linear(2 * inside + len(SCALARS), 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, EMBEDDING))
        scalar_mask = torch.ones(len(SCALARS))
        scalar_mask[_UNUSED_SCALAR] = 0
        self.register_buffer("scalar_mask", scalar_mask, persistent=False)
        self.classes = nn.Linear(EMBEDDING, len(CLASSES))
        self.varieties = nn.Linear(EMBEDDING, shape.varieties)
        self.regressions = nn.Linear(EMBEDDING, len(REGRESSIONS))

    def embed(self, images: Tensor, scalars: Tensor) -> Tensor:
        """Return the (n, EMBEDDING) features that the classes are computed from."""
        maps = self.features(self.limit(images))
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3)), scalars * self.scalar_mask], dim=1)
        out: Tensor = torch.relu(self.join(pooled))
        return out

    def forward(self, images: Tensor, scalars: Tensor) -> Outputs:
        """Return the outputs of all heads. The ONNX model keeps the first two."""
        embedding = self.embed(images, scalars)
        return Outputs(self.classes(embedding), embedding, self.varieties(embedding), self.regressions(embedding))


def _make_residual(shape: Shape) -> tuple[nn.Module, int]:
    """Return the layers of the residual body and its number of output channels."""
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


def import_torchvision(name: str = "torchvision") -> ModuleType:
    """Import a module of torchvision, such as `torchvision.models`, beside the CPU build of torch.

    The package index has torchvision's CUDA build only. Beside the CPU build of torch its import fails with `operator
    torchvision::nms does not exist` (pytorch/vision issue 9085): it registers a fake for operators whose native library did
    not load. Declaring the operators first lets the import through. Models, `transforms.v2` and `torch.export` then work;
    `ops.nms` and the detection models do not, and are not used here. Any other error of the import is raised as it is.

    Import torchvision directly once the index has one whose plain import works beside the CPU build of torch:
    `tests/learn/test_network.py` fails on that day.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for half_loaded in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[half_loaded]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _TORCHVISION_LIBRARIES.append(library)
    return importlib.import_module(name)


def save_network(network: JointNet, varieties: tuple[str, ...], path: Path) -> None:
    """Write all weights to `path`; `varieties` are the names of the network's fine labels, in order."""
    about = json.dumps({"shape": asdict(network.shape), "varieties": varieties})
    # One header entry: several are written in an order that changes, and the same training must give the same file.
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    path.write_bytes(save(tensors, {"about": about}))  # save_file makes a file that only its user can read


def load_network(path: Path) -> tuple[JointNet, tuple[str, ...]]:
    """Read a network, in evaluation mode, and the names of its fine labels.

    A network that was trained with fewer scalars than there are now ignores the new ones until it is trained again. Raises
    `ModelFault` if the file does not hold the weights of a joint network.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
        shape = about["shape"]
        widths, blocks = tuple(shape["widths"]), tuple(shape["blocks"])
        body, first = shape.get("body", "residual"), int(shape.get("first", 5))
        network = JointNet(Shape(widths, blocks, int(shape["varieties"]), body, first))
        tensors = load_file(path)
        weight, wanted = tensors["join.0.weight"], network.state_dict()["join.0.weight"].shape[1]
        missing = max(0, wanted - weight.shape[1])  # scalars that were added since: they come last
        tensors["join.0.weight"] = torch.nn.functional.pad(weight, (0, missing))
        network.load_state_dict(tensors)
        return network.eval(), tuple(about["varieties"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:  # torch: RuntimeError for misfits
        raise ModelFault(
            str(path),
            expected="weights of a joint network",
            found=describe_error(error),
            remedy="Copy the model again, or train from scratch.",
        ) from error


def interpolate(old: JointNet, new: JointNet, share: float) -> JointNet:
    """Return a network `share` of the way from the old weights to the new ones (0: old, 1: new), of the same shape.

    What a short training adds mostly lies on the straight line between both, and what the old network knows of other
    machines is lost only towards its end (Wortsman et al., 2022: robust fine-tuning).
    """
    network = JointNet(new.shape)
    start = old.state_dict()
    weights = {}
    for name, value in new.state_dict().items():
        weights[name] = torch.lerp(start[name].to(value), value, share) if value.dtype.is_floating_point else value
    network.load_state_dict(weights)
    return network.eval()

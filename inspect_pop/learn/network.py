"""The network: a small residual net over a joint's window, joined with a few numbers, that answers in classes.

Beside the five classes it learns what the simulator knows and a label does not say (the variety of a defect, the volume,
the width of a web, the gap): those heads steer the features in training and are left out of the exported model.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.joints import CLASSES

__all__ = ["EMBEDDING", "REGRESSIONS", "JointNet", "Outputs", "Shape"]

EMBEDDING = 32
REGRESSIONS = ("volume_ratio", "web_um", "gap_um")


@dataclass(frozen=True)
class Shape:
    """Channels of each stage (the first at half the window's resolution, each next one at half again) and blocks in each."""

    widths: tuple[int, ...] = (24, 48, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    varieties: int = 1


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
        self.shape = shape
        layers: list[nn.Module] = [
            nn.Conv2d(CHANNELS, shape.widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(shape.widths[0]),
            nn.ReLU(),
        ]
        inside = shape.widths[0]
        for stage, (width, blocks) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
            for block in range(blocks):
                layers.append(_Block(inside, width, 2 if block == 0 and stage > 0 else 1))
                inside = width
        self.features = nn.Sequential(*layers)
        # Mean says how much, maximum says whether anywhere: a thin web is a few samples of the window.
        self.join = nn.Sequential(nn.Linear(2 * inside + len(SCALARS), 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, EMBEDDING))
        self.classes = nn.Linear(EMBEDDING, len(CLASSES))
        self.varieties = nn.Linear(EMBEDDING, shape.varieties)
        self.regressions = nn.Linear(EMBEDDING, len(REGRESSIONS))

    def embed(self, images: Tensor, scalars: Tensor) -> Tensor:
        """(n, EMBEDDING): what the classes are told apart by."""
        seen = self.features(images)
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3)), scalars], dim=1)
        out: Tensor = torch.relu(self.join(pooled))
        return out

    def forward(self, images: Tensor, scalars: Tensor) -> Outputs:
        """All heads, for training; the exported model keeps the first two."""
        embedding = self.embed(images, scalars)
        return Outputs(self.classes(embedding), embedding, self.varieties(embedding), self.regressions(embedding))

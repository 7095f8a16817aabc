"""What each process does that `torchrun` starts for the tests of training together.

    torchrun … -m tests.learn.together OUT [--stop-after EPOCHS]

Fits a small set and leaves what came out as OUT/<rank>.npz; with --stop-after the leading process dies on the way.
"""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from inspect_pop.learn.fit import DistributedContext, FitConfig, fit, join_processes
from tests.learn.sets import make_samples

# A loss of zero leaves a head without a gradient, which the processes must not wait for.
CONFIG = FitConfig(
    widths=(8, 8),
    blocks=(1, 1),
    epochs=5,
    samples_per_epoch=64,
    batch=16,
    variety_loss=0,
    mixed_precision=False,
    average_decay=0.5,
)


@dataclass(frozen=True)
class Watched(DistributedContext):
    """Remembers its shares, and what this process had learnt before it was given the leading one's network."""

    trained: dict[str, np.ndarray] = field(default_factory=dict)
    shares: list[int] = field(default_factory=list)

    def share(self, index: np.ndarray) -> np.ndarray:
        mine = super().share(index)
        self.shares.append(len(mine))
        return mine

    def synchronise(self, module: nn.Module) -> None:
        self.trained.update({k: v.detach().numpy().copy() for k, v in module.named_parameters()})
        super().synchronise(module)


def count_gloo_threads() -> int:
    return sum("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))


def main() -> None:
    out = Path(sys.argv[1])
    last = int(sys.argv[3]) if "--stop-after" in sys.argv else 0
    seen: list[str] = []

    def note(said: str) -> None:
        seen.append(said)
        if last and said.startswith(f"epoch {last} "):
            os._exit(3)

    with join_processes() as context:
        told = context.broadcast(lambda: f"process {context.rank} of {context.world_size}")
        mean = context.mean(torch.tensor(float(context.rank)))
        watched = Watched(context.rank, context.world_size)
        fitted = fit(make_samples(4, 20), CONFIG, work=out / "work", context=watched, varieties=5, progress=note)
    given = {f"given {k}": v.numpy() for k, v in fitted.network.state_dict().items()}
    trained = {f"trained {k}": v for k, v in watched.trained.items()}
    losses = [one["loss"] for one in fitted.history]
    counts = {"said": len(seen), "taught": sum(watched.shares), "threads": count_gloo_threads()}
    np.savez(out / f"{context.rank}.npz", told=told, mean=float(mean), losses=losses, **counts, **given, **trained)


if __name__ == "__main__":
    main()

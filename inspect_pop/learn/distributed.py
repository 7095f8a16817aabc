"""Processes that train together: those that torch's own launcher, `torchrun`, starts, on one host or on many.

Each works on its share of every batch and they agree on the mean gradient (torch's DistributedDataParallel), so that all hold
the same network after each step. The leading one alone writes, and does what is done once. A training that nobody launched
this way is one process that leads.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from inspect_pop.core.errors import UsageFault

__all__ = ["ALONE", "Ranks", "device_for", "joined"]

Made = TypeVar("Made")
# The others wait while the leading one reads the boards and simulates: longer than torch's own half an hour.
_PATIENCE = timedelta(hours=24)
# Each process normalises by the joints of its own share of a batch; of fewer than these they say too little.
_LEAST_SHARE = 8


@dataclass(frozen=True)
class Ranks:
    """This process's number among `world` that train together."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def check(self, batch: int) -> None:
        """Raise `UsageFault` where batches of so many joints are too small to be shared among so many processes."""
        if self.world > 1 and batch < _LEAST_SHARE * self.world:
            raise UsageFault(
                "torchrun",
                expected=f"at most {batch // _LEAST_SHARE} processes for batches of {batch} ({_LEAST_SHARE} joints for each)",
                found=f"{self.world}",
                remedy="Start fewer, or set a larger fit.batch in the recipe.",
            )

    def share(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of a batch."""
        return index[self.rank :: self.world]

    def told(self, make: Callable[[], Made]) -> Made:
        """What `make` makes in the leading process, in all of them."""
        if self.world == 1:
            return make()
        box = [make() if self.leads else None]
        distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        made: Made = box[0]  # type: ignore[assignment]
        return made

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leading process goes through the block alone; then the others do, and find what it left on disk."""
        if not self.leads:
            distributed.barrier()
        yield
        if self.leads and self.world > 1:
            distributed.barrier()

    def together(self, module: nn.Module) -> nn.Module:
        """The module, whose gradients are then the mean over all processes; a batch may say nothing of some of its heads."""
        return DistributedDataParallel(module, find_unused_parameters=True) if self.world > 1 else module

    def mean(self, value: Tensor) -> Tensor:
        """Of one number each, over all processes."""
        if self.world == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.world

    def agree(self, module: nn.Module) -> None:
        """Give all processes the leading one's weights and running means."""
        if self.world > 1:
            for value in module.state_dict().values():
                distributed.broadcast(value, src=0)


ALONE = Ranks()


def device_for(asked: str | None) -> str:
    """The device that was asked for; not told, the GPU where there is one. Raises `UsageFault` for a GPU that is not there."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UsageFault("device cuda", expected="a GPU that torch can use", found="none", remedy="Leave out --device.")
    return asked or ("cuda" if there else "cpu")


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """The processes that `torchrun` started with this one, found by what it leaves in the environment; else `ALONE`.

    With `device` cuda each takes the GPU of its number on its host. Raises `UsageFault` in those that are left when one ends.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    except RuntimeError as error:
        if not _is_of_another(error):
            raise
        expect, found = "all processes that train together to go on", "one that ended"
        remedy = "It says why itself; started again, they go on after the last whole epoch."
        raise UsageFault("torchrun", expected=expect, found=found, remedy=remedy) from error
    finally:
        distributed.destroy_process_group()


def _is_of_another(error: RuntimeError) -> bool:
    """Whether an error says that another process cannot be reached: gloo has no type of its own for that."""
    return isinstance(error, distributed.DistError) or "gloo/transport" in str(error)

"""Distributed training: the processes that torch's launcher, `torchrun`, starts on one host or on many.

Each process works on its share of every batch. All of them apply the mean gradient (torch's `DistributedDataParallel`), so
they hold the same network after each step. The leader (rank 0) alone writes files and does what is done once. Training
without `torchrun` is one process, which is the leader.
"""

import gc
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch

# Imported before any process group exists. Its functions have the default group as a default argument, evaluated on import,
# and `DistributedDataParallel` imports it. Imported later, it keeps the group, and gloo's threads with it, alive until the
# interpreter ends: a process that had finished its work then aborted now and then ("terminate called without an active
# exception").
import torch.distributed.nn.functional
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from inspect_pop.core.errors import UsageFault

__all__ = ["SINGLE_PROCESS", "DistributedContext", "join_processes", "select_device"]

Value = TypeVar("Value")
# The other processes wait while the leader reads boards and simulates: torch's default of half an hour is too short.
_TIMEOUT = timedelta(hours=24)
# Batch normalisation uses the joints of a process's share of the batch. Fewer than this give poor statistics.
_MIN_SHARE = 8


@dataclass(frozen=True)
class DistributedContext:
    """This process's rank among the `world_size` processes that train together."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def check_batch(self, batch: int) -> None:
        """Raise `UsageFault` if batches of `batch` joints are too small to be shared among the processes."""
        if self.world_size > 1 and batch < _MIN_SHARE * self.world_size:
            raise UsageFault(
                "torchrun",
                expected=f"at most {batch // _MIN_SHARE} processes for batches of {batch} ({_MIN_SHARE} joints for each)",
                found=f"{self.world_size}",
                remedy="Start fewer, or set a larger fit.batch in the configuration.",
            )

    def share(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of a batch."""
        return index[self.rank :: self.world_size]

    def broadcast(self, make: Callable[[], Value]) -> Value:
        """Call `make` in the leader and return its result in every process."""
        if self.world_size == 1:
            return make()
        box = [make() if self.is_leader else None]
        distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        value: Value = box[0]  # type: ignore[assignment]
        return value

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the block in the leader first, then in the other processes, which find its files on disk."""
        if not self.is_leader:
            distributed.barrier()
        yield
        if self.is_leader and self.world_size > 1:
            distributed.barrier()

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients averaged over all processes. Some heads may get no gradient from a batch."""
        return DistributedDataParallel(module, find_unused_parameters=True) if self.world_size > 1 else module

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a scalar tensor over all processes."""
        if self.world_size == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.world_size

    def synchronise(self, module: nn.Module) -> None:
        """Copy the leader's weights and running statistics to every process."""
        if self.world_size > 1:
            for value in module.state_dict().values():
                distributed.broadcast(value, src=0)


SINGLE_PROCESS = DistributedContext()


def select_device(name: str | None) -> str:
    """Return the device `name`; for None, `cuda` if torch finds a GPU, else `cpu`.

    Raises `UsageFault` for `cuda` without a GPU.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise UsageFault("device cuda", expected="a GPU that torch can use", found="none", remedy="Leave out --device.")
    return name or ("cuda" if has_gpu else "cpu")


@contextmanager
def join_processes(device: str = "cpu") -> Iterator[DistributedContext]:
    """Join the processes that `torchrun` started, found by its environment variables; yield `SINGLE_PROCESS` without it.

    With `device` `cuda`, each process uses the GPU of its number on its host. All threads of the group have ended when the
    block is left. Raises `UsageFault` in the remaining processes if one ends early.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield DistributedContext(distributed.get_rank(), distributed.get_world_size())
    except RuntimeError as error:
        # gloo has no exception type of its own for a peer that cannot be reached.
        if not (isinstance(error, distributed.DistError) or "gloo/transport" in str(error)):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the wrapped network, and that the group
        raise UsageFault(
            "torchrun",
            expected="all processes of the training to go on",
            found="one that ended",
            remedy="Read its own message. Start all again: they resume after the last whole epoch.",
        ) from error
    finally:
        gc.collect()  # wrapped networks refer to the group
        distributed.destroy_process_group()

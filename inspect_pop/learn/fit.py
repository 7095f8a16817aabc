"""The training loop, in one process or in several.

Each process works on its share of every batch. All of them apply the mean gradient (torch's `DistributedDataParallel`), so
they hold the same network after each step. The leader (rank 0) alone writes files and does what is done once. Training
without `torchrun` is one process, which is the leader.
"""

import gc
import json
import math
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed.nn.functional
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from inspect_pop.core import system
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import UsageFault
from inspect_pop.learn.augment import Augmentation, AugmentConfig
from inspect_pop.learn.network import REGRESSIONS, Body, JointNet, Outputs, Shape

__all__ = [
    "SINGLE_PROCESS",
    "DistributedContext",
    "FitConfig",
    "FitResult",
    "FitState",
    "Images",
    "TrainingSet",
    "fit",
    "join_processes",
    "predict",
    "select_device",
]

# Imported before any process group exists. Its functions have the default group as a default argument, evaluated on import,
# and `DistributedDataParallel` imports it. Imported later, it keeps the group, and gloo's threads with it, alive until the
# interpreter ends: a process that had finished its work then aborted now and then ("terminate called without an active
# exception").


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


# The training loop: what it is given, one epoch, and the state that lets an interrupted training resume.
#
# All randomness follows from the configuration's seed and the epoch's number, and all state is saved after each epoch: an
# interrupted training ends with the same network as an uninterrupted one. Several processes can share each batch
# (`inspect_pop.learn.fit`).


Progress = Callable[[str], None]
_GOOD = CLASSES.index(GOOD)
# Regressions are divided by what counts as much: a volume ratio of 1, a web or a gap of 100 um.
_REGRESSION_SCALE = np.array([1.0, 100.0, 100.0], np.float32)


class Images(Protocol):
    """(n, channels, s, s) float16 images that can be indexed by joint numbers."""

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.float16]: ...


class TrainingSet(Protocol):
    """Labelled joints as parallel arrays of length n; `samples.Samples` and `samples.Mixture` are training sets.

    `images` (n, channels, s, s) float16; `scalars` (n, k) float32; `label` (n,) index into `CLASSES`; `variety` (n,)
    int, -1 if unknown; `volume_ratio`, `web_um`, `gap_um` (n,) float32, NaN if unknown; `weight` (n,) float32.
    """

    @property
    def images(self) -> Images: ...  # noqa: D102
    @property
    def scalars(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def label(self) -> NDArray[np.integer]: ...  # noqa: D102
    @property
    def variety(self) -> NDArray[np.integer]: ...  # noqa: D102
    @property
    def volume_ratio(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def web_um(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def gap_um(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def weight(self) -> NDArray[np.float32]: ...  # noqa: D102


class FitConfig(BaseModel):
    """The `[fit]` table of a training configuration (`training/configs/*.toml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body: Body = Field("residual", description="of the network: this project's, or torchvision's mobilenet_v3_small")
    widths: tuple[int, ...] = (16, 32, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    first: Literal[3, 5] = Field(3, description="side of the first layer's kernel")
    epochs: int = Field(30, ge=1)
    samples_per_epoch: int = Field(100_000, ge=1, description="drawn without replacement; fewer if there are fewer")
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warm_up: float = Field(0.05, ge=0, le=1, description="share of all steps in which the learning rate rises")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    good_share: float = Field(0.6, gt=0, lt=1, description="share of good joints among those drawn")
    variety_loss: float = Field(0.2, ge=0, description="weight of the loss on fine labels")
    regression_loss: float = Field(0.2, ge=0, description="weight of the loss on volume, web and gap")
    average_decay: float = Field(0.998, ge=0, lt=1, description="of the running average of the weights, which is the result")
    mixed_precision: bool = True
    seed: int = 1


@dataclass
class FitResult:
    """A trained network (the running average, in evaluation mode, on the CPU) and the loss of each epoch."""

    network: JointNet
    history: list[dict[str, float]]


class FitState:
    """Network, running average and optimiser, saved in the folder `work` after each epoch."""

    def __init__(self, network: JointNet, average: JointNet, optimiser: torch.optim.Optimizer, work: Path) -> None:
        self.network, self.average, self.optimiser, self.work = network, average, optimiser, work
        self.steps = 0

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the running average towards the network, faster during the first steps."""
        self.steps += 1
        decay = min(decay, (1 + self.steps) / (10 + self.steps))
        for average, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if average.dtype.is_floating_point:
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    def save(self, config: BaseModel, history: list[dict[str, float]]) -> None:
        """Write all state. `state.json`, which names the tensors' file, is written last and atomically."""
        self.work.mkdir(parents=True, exist_ok=True)
        tensors = {f"network.{k}": v.contiguous() for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v.contiguous().clone() for k, v in self.average.state_dict().items()}
        for k, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{k}.{name}": torch.as_tensor(value).contiguous() for name, value in moments.items()}
        name = f"epoch-{len(history):04d}.safetensors"
        save_file({k: v.cpu() for k, v in tensors.items()}, self.work / name)
        state = {"config": config.model_dump(mode="json"), "history": history, "steps": self.steps, "tensors": name}
        system.write_text(self.work / "state.json", json.dumps(state))
        for old in self.work.glob("epoch-*.safetensors"):
            if old.name != name:
                old.unlink()

    def resume(self, config: BaseModel, context: DistributedContext) -> list[dict[str, float]]:
        """Load the state that the leader's folder has for this configuration, if any; return the history so far."""
        state, tensors = context.broadcast(lambda: self._read(config))
        if not state:
            return []
        self.network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
        self.average.load_state_dict({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")})
        groups = self.optimiser.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for k, v in tensors.items():
            if k.startswith("optimiser."):
                _, number, name = k.split(".")
                moments.setdefault(int(number), {})[name] = v
        self.optimiser.load_state_dict({**groups, "state": moments})
        self.steps = int(state["steps"])
        return list(state["history"])

    def _read(self, config: BaseModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the saved state and tensors; both empty if there are none, or those of another configuration."""
        try:
            state = json.loads((self.work / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, {}
        if state.get("config") != config.model_dump(mode="json"):
            return {}, {}
        return state, load_file(self.work / state["tensors"])


def fit(
    train: TrainingSet,
    config: FitConfig,
    *,
    work: Path,
    start: JointNet | None = None,
    varieties: int = 1,
    augment: AugmentConfig | None = None,
    device: str = "cpu",
    context: DistributedContext = SINGLE_PROCESS,
    progress: Progress = lambda _: None,
) -> FitResult:
    """Train a network, resuming from `work` if it holds an interrupted training of the same configuration.

    Parameters
    ----------
    train
        The labelled joints.
    config
        How to train.
    work
        Folder for the state after each epoch (created if missing).
    start
        A network to start from, whose shape is kept; None starts from random weights.
    varieties
        Number of fine labels, for a network that starts from random weights.
    augment
        Strength of the augmentation; None for the defaults.
    context
        The processes that train together. Each must be given the same joints; each gets the same network back.

    Raises
    ------
    UsageFault
        Batches are too small to be shared among the processes.
    """
    context.check_batch(config.batch)
    torch.manual_seed(config.seed)
    shape = start.shape if start is not None else Shape(config.widths, config.blocks, varieties, config.body, config.first)
    network, average = JointNet(shape).to(device), JointNet(shape).to(device)
    if start is not None:
        network.load_state_dict(start.state_dict())
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    state = FitState(network, average, optimiser, work)
    history = state.resume(config, context)
    model = context.wrap(_NetworkWithLoss(network, train, config, device))
    for epoch in range(len(history), config.epochs):
        loss = _run_epoch(epoch, model, train, config, augment or AugmentConfig(), state, context, device)
        history.append({"epoch": epoch, "loss": loss})
        if context.is_leader:
            state.save(config, history)
            progress(f"epoch {epoch + 1} of {config.epochs}: loss {loss:.4f}")
    context.synchronise(average)
    return FitResult(average.cpu().eval(), history)


@torch.no_grad()
def predict(
    network: JointNet, images: NDArray[np.float16], scalars: NDArray[np.float32], batch: int = 256
) -> tuple[Tensor, Tensor]:
    """Return (n, classes) logits and (n, e) embeddings, float32, of joints without augmentation."""
    network.eval()
    device = next(network.parameters()).device
    logits, embeddings = [], []
    for start in range(0, len(images), batch):
        part = torch.from_numpy(np.asarray(images[start : start + batch], dtype=np.float32)).to(device)
        out = network(part, torch.from_numpy(np.asarray(scalars[start : start + batch])).to(device))
        logits.append(out.logits.cpu())
        embeddings.append(out.embedding.cpu())
    return torch.cat(logits), torch.cat(embeddings)


class _NetworkWithLoss(nn.Module):
    """The network and its loss as one module, so that several processes can average the gradients."""

    def __init__(self, network: JointNet, train: TrainingSet, config: FitConfig, device: str) -> None:
        super().__init__()
        self.network, self.train_set, self.config, self.device = network, train, config, device

    def forward(self, images: Tensor, scalars: Tensor, index: NDArray[np.int64]) -> Tensor:
        """Return the loss of the joints `index`, whose inputs are `images` and `scalars`."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.config.mixed_precision):
            out: Outputs = self.network(images, scalars)
        train, config = self.train_set, self.config
        label = torch.from_numpy(train.label[index].astype(np.int64)).to(self.device)
        weight = torch.from_numpy(train.weight[index].astype(np.float32)).to(self.device)
        each = functional.cross_entropy(out.logits.float(), label, reduction="none", label_smoothing=config.label_smoothing)
        loss = (each * weight).sum() / weight.sum()
        variety = torch.from_numpy(train.variety[index].astype(np.int64)).to(self.device)
        if config.variety_loss and bool((variety >= 0).any()):
            loss = loss + config.variety_loss * functional.cross_entropy(out.varieties.float(), variety, ignore_index=-1)
        if config.regression_loss:
            truth = np.stack([getattr(train, name)[index] for name in REGRESSIONS], axis=1) / _REGRESSION_SCALE
            known = torch.from_numpy(np.isfinite(truth)).to(self.device)
            target = torch.from_numpy(np.nan_to_num(truth.astype(np.float32))).to(self.device)
            miss = functional.smooth_l1_loss(out.regressions.float(), target, reduction="none", beta=0.1) * known
            loss = loss + config.regression_loss * miss.sum() / known.sum().clamp(min=1)
        return loss


def _run_epoch(
    epoch: int,
    model: nn.Module,
    train: TrainingSet,
    config: FitConfig,
    augment: AugmentConfig,
    state: FitState,
    context: DistributedContext,
    device: str,
) -> float:
    """Train one epoch; return the mean loss over all processes."""
    state.network.train()
    seed = config.seed * 100_003 + epoch + context.rank * 1_000_000_007  # each process augments differently
    torch.manual_seed(seed)  # dropout draws from torch's global generator
    augmentation = Augmentation(augment, seed)
    steps = math.ceil(_count_drawn(train, config) / config.batch)
    total, count = torch.zeros(()), 0
    for step, batch in enumerate(_draw_batches(train, config, epoch, context.world_size)):
        # The learning rate rises linearly, then falls along half a cosine to a hundredth.
        progress = (epoch * steps + step) / (config.epochs * steps)
        rise = min(1.0, progress / config.warm_up) if config.warm_up else 1.0
        fall = 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in state.optimiser.param_groups:
            group["lr"] = config.learning_rate * rise * fall

        index = context.share(batch)
        images, scalars = (torch.from_numpy(x) for x in augmentation(train.images[index], train.scalars[index]))
        images = images.to(device, memory_format=torch.channels_last)
        loss = model(images, scalars.to(device), index)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
        state.optimiser.step()
        state.update_average(config.average_decay)
        total, count = total + loss.detach().cpu(), count + 1
    return float(context.mean(total)) / max(count, 1)


def _count_drawn(train: TrainingSet, config: FitConfig) -> int:
    return min(config.samples_per_epoch, len(train.label))


def _draw_batches(train: TrainingSet, config: FitConfig, epoch: int, processes: int) -> Iterator[NDArray[np.int64]]:
    """Yield the batches of one epoch, the same in all processes. Rare defects are drawn more often than they occur."""
    random = np.random.default_rng([config.seed, epoch])
    n = _count_drawn(train, config)
    good, bad = np.flatnonzero(train.label == _GOOD), np.flatnonzero(train.label != _GOOD)
    n_good = min(round(n * config.good_share), n) if len(bad) else n
    index = np.concatenate([_draw(good, n_good, random), _draw(bad, n - n_good, random)])
    random.shuffle(index)
    for start in range(0, len(index), config.batch):
        part = np.sort(index[start : start + config.batch])  # memory-mapped arrays are read faster in order
        if len(part) > 2 * processes - 1:  # a share of one joint has no variance to normalise by
            yield part


def _draw(index: NDArray[np.int64], n: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw n of `index`: each as often as n holds them all, the rest without repeats."""
    if len(index) == 0:
        return index
    whole, rest = divmod(n, len(index))
    return np.concatenate([np.tile(index, whole), random.choice(index, rest, replace=False)])

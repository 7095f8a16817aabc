"""Making a release: train on simulated boards of many machines, then with the labelled boards that there are.

Two fits, each resumable: a long one on simulated joints alone, and a short one at a lower rate, in which labelled boards
count several times. The calibration boards take part in neither.

A release can start from a wider network, whose most important channels are kept. The runtime's time is spent in the first
layers, where pictures are large. What is pruned must be learnt again; for the released network ten epochs were enough
(docs/lab/speed.md).
"""

import hashlib
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from inspect_pop.classify.model import Card
from inspect_pop.core.errors import LimitsFault, ModelFault, describe_error
from inspect_pop.evaluate.collect import collect, load_dataset_config, make_dataset
from inspect_pop.evaluate.samples import Samples, concat, load, mix_samples
from inspect_pop.learn.augment import AugmentConfig
from inspect_pop.learn.calibrate import Targets
from inspect_pop.learn.dataset import limit_weights
from inspect_pop.learn.fit import SINGLE_PROCESS, DistributedContext, FitConfig, fit
from inspect_pop.learn.network import JointNet, load_network
from inspect_pop.learn.package_model import ModelDescription, build_model, make_version

__all__ = ["ReleaseConfig", "ReleaseSets", "gather_sets", "load_release_config", "prune_channels", "train_release"]

Progress = Callable[[str], None]
# Joints of training that familiarity is fitted to: all of them do not fit in memory.
_FAMILIARITY_JOINTS = 20_000
# Layers before the first block: convolution, norm, ReLU.
_STEM = 3


class ReleaseConfig(BaseModel):
    """Everything that decides a release besides data and code; read from `training/configs/release.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    train: tuple[str, ...] = Field(
        min_length=1,
        description="configurations of the simulated sets to train on, from the repository's top; one named twice counts twice",
    )
    held_out: tuple[str, ...] = Field(min_length=1, description="configurations of the simulated sets to calibrate on")
    start: str | None = Field(
        None,
        description="weights to start from (network.safetensors), from the repository's top; none: random. A network that is"
        " wider than `fit` asks for is pruned",
    )
    repeats: int = Field(4, ge=1, description="how often each labelled joint counts in the second fit")
    fit: FitConfig
    second: FitConfig
    augment: AugmentConfig = AugmentConfig()
    targets: Targets = Targets()

    @property
    def digest(self) -> str:
        """The sha256 over all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@dataclass(frozen=True)
class ReleaseSets:
    """The joints of a release: simulated ones to train on, simulated ones to calibrate on, labelled ones (or None)."""

    train: tuple[Samples, ...]
    held_out: Samples
    labelled: Samples | None

    @property
    def varieties(self) -> tuple[str, ...]:
        """The fine labels of the simulated sets, sorted."""
        return tuple(sorted({name for samples in (*self.train, self.held_out) for name in samples.varieties}))


def load_release_config(path: Path) -> ReleaseConfig:
    """Read a configuration. Raises `LimitsFault` for one that cannot be read or has an unknown key."""
    try:
        return ReleaseConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="the configuration of a release", found=describe_error(error)) from error


def gather_sets(
    config: ReleaseConfig,
    top: Path,
    labelled: Sequence[Path],
    work: Path,
    *,
    processes: int = 1,
    context: DistributedContext = SINGLE_PROCESS,
    progress: Progress = lambda _: None,
) -> ReleaseSets:
    """Simulate the sets and read the labelled boards; what an earlier start has finished is taken from `work`.

    The leader of several processes makes the sets, and the others read them. The sets' configurations lie below `top`.
    Raises `LimitsFault` for one that cannot be read.
    """

    def gather_set(name: str) -> Samples:
        dataset = load_dataset_config(top / name)
        folder = work / f"{dataset.name}-{dataset.digest[:12]}"
        if (folder / "samples.json").exists():
            return load(folder)
        return make_dataset(dataset, folder, processes=processes, progress=lambda line: progress(f"{dataset.name}: {line}"))

    known = None
    with context.leader_first():
        train = tuple(gather_set(name) for name in config.train)
        held_out = tuple(gather_set(name) for name in config.held_out)
        if labelled:
            folder = work / "labelled"
            known = (
                collect(labelled, folder, processes=processes, progress=progress).samples if context.is_leader else load(folder)
            )
    return ReleaseSets(train, concat(held_out), known)


def train_release(
    sets: ReleaseSets,
    config: ReleaseConfig,
    out: Path,
    work: Path,
    *,
    now: str,
    start: Path | None = None,
    device: str = "cpu",
    context: DistributedContext = SINGLE_PROCESS,
    progress: Progress = lambda _: None,
) -> Card | None:
    """Fit, fit again with the labelled joints if there are any, calibrate and write the model folder `out`, not judged yet.

    Parameters
    ----------
    sets
        The joints; each process must be given the same ones.
    start
        Weights to start from (`network.safetensors`); None for random ones.

    Returns
    -------
    The model's card; None in a process that is not the leader.

    Raises
    ------
    ModelFault
        `start` holds a network that cannot become what the configuration asks for.
    """
    old, varieties = (None, sets.varieties) if start is None else load_network(start)
    if old is not None and old.shape.body == "residual":
        old = prune_channels(old, config.fit.widths, config.fit.first)
    fitted = fit(
        mix_samples(sets.train, varieties),
        config.fit,
        work=work / "first",
        start=old,
        varieties=len(varieties),
        augment=config.augment,
        device=device,
        context=context,
        progress=progress,
    )
    if sets.labelled is not None:
        mixture = mix_samples([*sets.train, limit_weights(sets.labelled)], varieties, [1] * len(sets.train) + [config.repeats])
        fitted = fit(
            mixture,
            config.second,
            work=work / "second",
            start=fitted.network,
            augment=config.augment,
            device=device,
            context=context,
            progress=progress,
        )
    if not context.is_leader:
        return None
    simulated = {samples.boards: samples for samples in sets.train}.values()  # a set that counts twice holds its boards once
    labelled_boards = list(sets.labelled.boards) if sets.labelled is not None else []
    data = {
        "joints learnt from": sum(len(samples) for samples in simulated) + (len(sets.labelled) if sets.labelled else 0),
        "simulated boards learnt from": sum(len(samples.boards) for samples in simulated),
        "labelled boards learnt from": labelled_boards,
        "training boards": labelled_boards,
        "calibration boards": list(sets.held_out.boards),
        "golden boards": [],
    }
    step = max(1, sum(len(samples) for samples in sets.train) // _FAMILIARITY_JOINTS)
    some = concat([samples.take(np.arange(0, len(samples), step)) for samples in sets.train])
    values = config.model_dump(mode="json") | {"digest": config.digest}
    description = ModelDescription(out.name, make_version(now), now, data, values)
    held_out = sets.held_out.with_varieties(varieties)
    return build_model(fitted.network, varieties, some, held_out, out, description, targets=config.targets)


@torch.no_grad()
def prune_channels(network: JointNet, widths: tuple[int, ...], first: int) -> JointNet:
    """Return a copy with `widths` channels in its stages, and the middle `first` x `first` of the first layer's kernel.

    The channels that weigh most in the layers after them are kept; the last stage keeps its width. The copy must be trained
    again before use.

    Raises
    ------
    ModelFault
        `widths` or `first` exceed those of `network`, or it is not a residual network.
    """
    shape = network.shape
    fits = len(widths) == len(shape.widths) and widths[-1] == shape.widths[-1]
    fits = fits and all(0 < width <= of for width, of in zip(widths, shape.widths, strict=True))
    if shape.body != "residual" or not fits or not (0 < first <= shape.first and first % 2 == shape.first % 2):
        raise ModelFault(
            "network to start from",
            expected=f"a residual one with at least {widths} channels and a first layer of at least {first} x {first}",
            found=str(shape),
            remedy="Ask for no more than it has, leave the last stage as it is, or start without it.",
        )
    layers: Any = network.features  # torch's containers do not say what they hold
    numbers = iter(range(_STEM, _STEM + sum(shape.blocks)))
    stages = [[next(numbers) for _ in range(blocks)] for blocks in shape.blocks]  # layer numbers of each stage's blocks
    outer = [_choose_stage_channels(layers, stages, stage, width) for stage, width in enumerate(widths)]
    weights = dict(network.state_dict())
    rim = (shape.first - first) // 2
    weights["features.0.weight"] = layers[0].weight[outer[0]][:, :, rim : rim + first, rim : rim + first]
    _prune_norm(weights, "features.1.", outer[0])
    for stage, blocks in enumerate(stages):
        for number in blocks:
            block, name = layers[number], f"features.{number}."
            inside = outer[stage - 1] if stage > 0 and number == blocks[0] else outer[stage]
            inner = _choose_heaviest([block.path[3].weight], [block.path[1]], widths[stage])
            weights[f"{name}path.0.weight"] = block.path[0].weight[inner][:, inside]
            weights[f"{name}path.3.weight"] = block.path[3].weight[outer[stage]][:, inner]
            _prune_norm(weights, f"{name}path.1.", inner)
            _prune_norm(weights, f"{name}path.4.", outer[stage])
            if stage > 0 and number == blocks[0]:
                weights[f"{name}skip.1.weight"] = block.skip[1].weight[outer[stage]][:, inside]
                _prune_norm(weights, f"{name}skip.2.", outer[stage])
    small = JointNet(replace(shape, widths=widths, first=first))
    small.load_state_dict(weights)
    return small.eval()


def _choose_stage_channels(layers: Any, stages: list[list[int]], stage: int, width: int) -> Tensor:
    """Return the channels of a stage's output to keep."""
    if stage == len(stages) - 1:
        return torch.arange(width)
    blocks, after = [layers[number] for number in stages[stage]], layers[stages[stage + 1][0]]
    norms = [block.path[4] for block in blocks]
    norms += [layers[1]] if stage == 0 else [blocks[0].skip[2]]
    consumers = [block.path[0].weight for block in (blocks if stage == 0 else blocks[1:])]
    return _choose_heaviest([*consumers, after.path[0].weight, after.skip[1].weight], norms, width)


def _choose_heaviest(consumers: Iterable[Tensor], norms: Iterable[nn.BatchNorm2d], width: int) -> Tensor:
    """Return the channels, in order, whose spread after `norms` weighs most in the layers that consume them."""
    spread = torch.stack([norm.weight**2 for norm in norms]).sum(0)
    weight = torch.stack([(consumer**2).sum((0, 2, 3)) for consumer in consumers]).sum(0)
    return torch.sort(torch.topk(weight * spread, width).indices).values


def _prune_norm(weights: dict[str, Tensor], norm: str, channels: Tensor) -> None:
    for name in [name for name in weights if name.startswith(norm) and weights[name].ndim]:
        weights[name] = weights[name][channels]

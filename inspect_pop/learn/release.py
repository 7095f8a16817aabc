"""A network with fewer channels, begun with the weights that matter most of a wider one.

The runtime's time follows the first layers, where pictures are large. What is left behind has to be learnt again; for the
released network ten epochs were enough (docs/benchmarks.md).

Making the model that is released: simulated boards of many machines, then the labelled boards that there are.

Two fits, each resumable: a long one on simulated joints alone, and a short one, at a lower rate, in which labelled boards
count several times. The calibration boards take part in neither.
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
from inspect_pop.core.errors import LimitsFault, ModelFault
from inspect_pop.evaluate.collect import SetRecipe, collect, load_set_recipe, make_set
from inspect_pop.evaluate.samples import Samples, concat, load, mixture
from inspect_pop.learn.augment import Jitter
from inspect_pop.learn.calibrate import Targets
from inspect_pop.learn.distributed import ALONE, Ranks
from inspect_pop.learn.fit import FitRecipe, fit
from inspect_pop.learn.network import JointNet, load_network
from inspect_pop.learn.package_model import About, build_model

__all__ = ["ReleaseRecipe", "Sets", "gather_sets", "load_release_recipe", "narrowed", "release"]

# ---- learn/narrow
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


# ---- learn/release
Progress = Callable[[str], None]
# By so many joints of training the embedding's horizon is drawn; all of them would not fit in memory.
_HORIZON = 20_000


class ReleaseRecipe(BaseModel):
    """Everything that decides a released model, besides data and code; `training/recipes/release.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    teach: tuple[str, ...] = Field(
        min_length=1,
        description="recipes of the simulated sets to learn from, from the repository's top; one named twice counts twice",
    )
    held: tuple[str, ...] = Field(min_length=1, description="recipes of the simulated sets to calibrate on")
    start: str | None = Field(
        None,
        description="weights to begin with (network.safetensors), from the repository's top; none: random. A network that is"
        " wider than `fit` asks for is narrowed",
    )
    repeats: int = Field(4, ge=1, description="how often each labelled joint counts in the second fit")
    fit: FitRecipe
    second: FitRecipe
    jitter: Jitter = Jitter()
    targets: Targets = Targets()

    @property
    def digest(self) -> str:
        """sha256 over all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@dataclass(frozen=True)
class Sets:
    """The joints of a release: simulated ones to learn from, simulated ones to calibrate on, labelled ones (or None)."""

    teach: tuple[Samples, ...]
    held: Samples
    labelled: Samples | None

    @property
    def varieties(self) -> tuple[str, ...]:
        """All fine labels of the simulated sets."""
        return tuple(sorted({name for samples in (*self.teach, self.held) for name in samples.varieties}))


def load_release_recipe(path: Path) -> ReleaseRecipe:
    """Read a recipe. Raises `LimitsFault` for one that cannot be read or has an unknown key."""
    try:
        return ReleaseRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="a recipe of a release", found=str(error)) from error


def gather_sets(
    recipe: ReleaseRecipe,
    top: Path,
    labelled: Sequence[Path],
    work: Path,
    *,
    processes: int = 1,
    ranks: Ranks = ALONE,
    progress: Progress = lambda _: None,
) -> Sets:
    """Make the simulated sets and read the labelled boards; what an earlier start has finished is taken from `work`.

    Of several processes (`ranks`) the leading one makes them, and the others read what it made. The recipes of sets lie below
    `top`. Raises `LimitsFault` for one that cannot be read.
    """
    known = None
    with ranks.leader_first():
        teach, held = (
            tuple(_made(load_set_recipe(top / name), work, processes, progress) for name in names)
            for names in (recipe.teach, recipe.held)
        )
        if labelled:
            folder = work / "labelled"
            known = collect(labelled, folder, processes=processes, progress=progress).samples if ranks.leads else load(folder)
    return Sets(teach, concat(held), known)


def release(
    sets: Sets,
    recipe: ReleaseRecipe,
    out: Path,
    work: Path,
    *,
    now: str,
    start: Path | None = None,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    progress: Progress = lambda _: None,
) -> Card | None:
    """Fit, fit again with the labelled joints where there are any, calibrate, export; the model folder `out`, not judged yet.

    None in a process that only helped to fit (`ranks`); all of them must be given the same sets.

    `start` holds the weights to begin with (`network.safetensors`); None: random ones. Raises `ModelFault` where they are of a
    network that cannot be made what `recipe` asks for.
    """
    old, varieties = (None, sets.varieties) if start is None else load_network(start)
    if old is not None and old.shape.body == "residual":
        old = narrowed(old, recipe.fit.widths, recipe.fit.first)
    fitted = fit(
        mixture(sets.teach, varieties),
        recipe.fit,
        work=work / "first",
        start=old,
        varieties=len(varieties),
        how=recipe.jitter,
        device=device,
        ranks=ranks,
        progress=progress,
    )
    if sets.labelled is not None:
        taught = mixture([*sets.teach, sets.labelled], varieties, [1] * len(sets.teach) + [recipe.repeats])
        fitted = fit(
            taught,
            recipe.second,
            work=work / "second",
            start=fitted.network,
            how=recipe.jitter,
            device=device,
            ranks=ranks,
            progress=progress,
        )
    if not ranks.leads:
        return None
    about = About(out.name, _version(now), now, _data(sets), recipe.model_dump(mode="json") | {"digest": recipe.digest})
    held = sets.held.with_varieties(varieties)
    return build_model(fitted.network, varieties, _some(sets.teach), held, out, about, targets=recipe.targets)


def _some(sets: Sequence[Samples]) -> Samples:
    """Every so many-th joint of all sets."""
    step = max(1, sum(len(samples) for samples in sets) // _HORIZON)
    return concat([samples.take(np.arange(0, len(samples), step)) for samples in sets])


def _made(recipe: SetRecipe, work: Path, processes: int, progress: Progress) -> Samples:
    folder = work / f"{recipe.name}-{recipe.digest[:12]}"
    if (folder / "samples.json").exists():
        return load(folder)
    return make_set(recipe, folder, processes=processes, progress=lambda said: progress(f"{recipe.name}: {said}"))


def _data(sets: Sets) -> dict[str, object]:
    known = sets.labelled
    teach = {samples.boards: samples for samples in sets.teach}.values()  # a set that counts twice holds its boards once
    boards = list(known.boards) if known is not None else []
    return {
        "joints learnt from": sum(len(samples) for samples in teach) + (len(known) if known is not None else 0),
        "simulated boards learnt from": sum(len(samples.boards) for samples in teach),
        "labelled boards learnt from": boards,
        "training boards": boards,
        "calibration boards": list(sets.held.boards),
        "golden boards": [],
    }


def _version(now: str) -> str:
    return "".join(c for c in now[:19] if c.isdigit())

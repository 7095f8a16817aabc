"""What a training goes on from when it was interrupted: network, running average and optimiser after the last whole epoch.

The training loop, to be read top to bottom: what it is given, one epoch, what it keeps so that it can go on.

Everything random follows from the recipe's seed and the epoch's number, and all state is kept after each epoch: a run
that was interrupted ends where an uninterrupted one ends. Several processes share each batch (`ranks`).
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from inspect_pop.core.joint_table import CLASSES
from inspect_pop.learn.augment import Jitter, jitter
from inspect_pop.learn.distributed import ALONE, Ranks
from inspect_pop.learn.network import REGRESSIONS, Body, JointNet, Outputs, Shape

__all__ = ["FitRecipe", "FitState", "Fitted", "Pictures", "TrainingSet", "fit", "predict"]


# ---- learn/fit_state
class FitState:
    """Network, running average and optimiser, and how they are kept in a folder between epochs."""

    def __init__(self, network: JointNet, average: JointNet, optimiser: torch.optim.Optimizer, work: Path) -> None:
        self.network, self.average, self.optimiser, self.work = network, average, optimiser, work
        self.steps = 0

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the running average towards the network; quickly in the beginning."""
        self.steps += 1
        decay = min(decay, (1 + self.steps) / (10 + self.steps))
        for mine, its in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(its, 1 - decay)
            else:
                mine.copy_(its)

    def keep(self, recipe: BaseModel, history: list[dict[str, float]]) -> None:
        """Write all state; the text that names it comes last and in one move."""
        self.work.mkdir(parents=True, exist_ok=True)
        tensors = {f"network.{k}": v.contiguous() for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v.contiguous().clone() for k, v in self.average.state_dict().items()}
        for k, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{k}.{name}": torch.as_tensor(value).contiguous() for name, value in moments.items()}
        name = f"epoch-{len(history):04d}.safetensors"
        save_file({k: v.cpu() for k, v in tensors.items()}, self.work / name)
        text = {"recipe": recipe.model_dump(mode="json"), "history": history, "steps": self.steps, "tensors": name}
        part = self.work / "state.json.part"
        part.write_text(json.dumps(text), encoding="utf-8")
        part.replace(self.work / "state.json")
        for old in self.work.glob("epoch-*.safetensors"):
            if old.name != name:
                old.unlink()

    def resume(self, recipe: BaseModel, ranks: Ranks) -> list[dict[str, float]]:
        """Take up what the leading process's folder holds of this very recipe; otherwise begin anew."""
        text, tensors = ranks.told(lambda: self._kept(recipe))
        if not text:
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
        self.steps = int(text["steps"])
        return list(text["history"])

    def _kept(self, recipe: BaseModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            text = json.loads((self.work / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, {}
        if text["recipe"] != recipe.model_dump(mode="json"):
            return {}, {}
        return text, load_file(self.work / text["tensors"])


# ---- learn/fit
Progress = Callable[[str], None]
# Regressions in units in which one is much: a volume ratio of 1, a web or a gap of 100 um.
_REGRESSION_SCALE = (1.0, 100.0, 100.0)


class Pictures(Protocol):
    """(n, channels, s, s) float16 images, of which those with these numbers can be had."""

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[np.float16]: ...


class TrainingSet(Protocol):
    """What the loop needs of labelled joints (`samples.Samples` and `mixture.Mixture` have it): parallel arrays of n joints.

    `images` (n, channels, s, s) float16; `scalars` (n, k) float32; `label` (n,) index into `CLASSES`; `variety` (n,)
    int, -1 unknown; `volume_ratio`, `web_um`, `gap_um` (n,) float32, NaN unknown; `weight` (n,) float32.
    """

    @property
    def images(self) -> Pictures: ...  # noqa: D102
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


class FitRecipe(BaseModel):
    """How to train; read from `training/recipes/*.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body: Body = Field("residual", description="of the network: our own, or torchvision's mobilenet_v3_small")
    widths: tuple[int, ...] = (16, 32, 96, 128)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    first: Literal[3, 5] = Field(3, description="side of the first layer's kernel")
    epochs: int = Field(30, ge=1)
    samples_an_epoch: int = Field(100_000, ge=1, description="drawn without replacement; fewer where there are fewer")
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warm_up: float = Field(0.05, ge=0, le=1, description="share of all steps in which the rate rises")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    good_share: float = Field(0.6, gt=0, lt=1, description="share of good joints among those drawn")
    variety_loss: float = Field(0.2, ge=0)
    regression_loss: float = Field(0.2, ge=0)
    average_decay: float = Field(0.998, ge=0, lt=1, description="of the running average of weights, which is what is kept")
    mixed_precision: bool = True
    seed: int = 1


@dataclass
class Fitted:
    """A trained network (the running average, in evaluation mode, on the CPU) and what training said of each epoch."""

    network: JointNet
    history: list[dict[str, float]]


def fit(
    train: TrainingSet,
    recipe: FitRecipe,
    *,
    work: Path,
    start: JointNet | None = None,
    varieties: int = 1,
    how: Jitter | None = None,
    device: str = "cpu",
    ranks: Ranks = ALONE,
    progress: Progress = lambda _: None,
) -> Fitted:
    """Train, going on from what `work` holds of an interrupted run of the same recipe.

    Parameters
    ----------
    work
        Folder for the state after each epoch; made where it is absent.
    start
        Begin from this network's weights instead of random ones (its shape is kept).
    ranks
        The processes that train together; each must be given the same joints, and is given the same network back.

    Raises
    ------
    UsageFault
        More processes than a batch has joints for.
    """
    ranks.check(recipe.batch)
    torch.manual_seed(recipe.seed)
    shape = start.shape if start is not None else Shape(recipe.widths, recipe.blocks, varieties, recipe.body, recipe.first)
    network, average = JointNet(shape).to(device), JointNet(shape).to(device)
    if start is not None:
        network.load_state_dict(start.state_dict())
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    state = FitState(network, average, optimiser, work)
    history = state.resume(recipe, ranks)
    loop = _Loop(train, recipe, how or Jitter(), state, ranks, device)
    for epoch in range(len(history), recipe.epochs):
        loss = loop.epoch(epoch)
        history.append({"epoch": epoch, "loss": loss})
        if ranks.leads:
            state.keep(recipe, history)
            progress(f"epoch {epoch + 1} of {recipe.epochs}: loss {loss:.4f}")
    ranks.agree(average)
    return Fitted(average.cpu().eval(), history)


@torch.no_grad()
def predict(
    network: JointNet, images: NDArray[np.float16], scalars: NDArray[np.float32], batch: int = 256
) -> tuple[Tensor, Tensor]:
    """(n, 5) logits and (n, e) embeddings, float32, of joints that were not changed."""
    network.eval()
    device = next(network.parameters()).device
    logits, embeddings = [], []
    for start in range(0, len(images), batch):
        part = torch.from_numpy(np.asarray(images[start : start + batch], dtype=np.float32)).to(device)
        out = network(part, torch.from_numpy(np.asarray(scalars[start : start + batch])).to(device))
        logits.append(out.logits.cpu())
        embeddings.append(out.embedding.cpu())
    return torch.cat(logits), torch.cat(embeddings)


class _Taught(nn.Module):
    """The network and the loss of its answers as one module: whose gradients several processes can agree on."""

    def __init__(self, network: JointNet, train: TrainingSet, recipe: FitRecipe, device: str) -> None:
        super().__init__()
        self.network, self.train_set, self.recipe, self.device = network, train, recipe, device

    def forward(self, images: Tensor, scalars: Tensor, index: NDArray[np.int64]) -> Tensor:
        """The loss of the joints `index`."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.recipe.mixed_precision):
            out = self.network(images, scalars)
        return _loss(out, self.train_set, index, self.recipe, self.device)


class _Loop:
    """One epoch after the other."""

    def __init__(self, train: TrainingSet, recipe: FitRecipe, how: Jitter, state: FitState, ranks: Ranks, device: str) -> None:
        self.train, self.recipe, self.how, self.state, self.ranks, self.device = train, recipe, how, state, ranks, device
        self.steps = math.ceil(_drawn(train, recipe) / recipe.batch)
        self.taught = ranks.together(_Taught(state.network, train, recipe, device))

    def epoch(self, epoch: int) -> float:
        """Mean loss, over all processes."""
        recipe, state = self.recipe, self.state
        state.network.train()
        seed = recipe.seed * 100_003 + epoch + self.ranks.rank * 1_000_000_007  # each process sees other changes
        random = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout draws from torch's own
        total, count = torch.zeros(()), 0
        for step, batch in enumerate(_draw(self.train, recipe, epoch, self.ranks.world)):
            _set_rate(state.optimiser, recipe, (epoch * self.steps + step) / (recipe.epochs * self.steps))
            index = self.ranks.share(batch)
            images = torch.from_numpy(self.train.images[index].astype(np.float32))
            images, scalars = jitter(images, torch.from_numpy(self.train.scalars[index]), self.how, random)
            images = images.to(self.device, memory_format=torch.channels_last)
            loss = self.taught(images, scalars.to(self.device), index)
            state.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
            state.optimiser.step()
            state.follow(recipe.average_decay)
            total, count = total + loss.detach().cpu(), count + 1
        return float(self.ranks.mean(total)) / max(count, 1)


def _loss(out: Outputs, train: TrainingSet, index: NDArray[np.int64], recipe: FitRecipe, device: str) -> Tensor:
    label = torch.from_numpy(train.label[index].astype(np.int64)).to(device)
    weight = torch.from_numpy(train.weight[index].astype(np.float32)).to(device)
    each = functional.cross_entropy(out.logits.float(), label, reduction="none", label_smoothing=recipe.label_smoothing)
    loss = (each * weight).sum() / weight.sum()
    variety = torch.from_numpy(train.variety[index].astype(np.int64)).to(device)
    if recipe.variety_loss and bool((variety >= 0).any()):
        loss = loss + recipe.variety_loss * functional.cross_entropy(out.varieties.float(), variety, ignore_index=-1)
    if recipe.regression_loss:
        truth = np.stack([getattr(train, name)[index] for name in REGRESSIONS], axis=1) / np.asarray(
            _REGRESSION_SCALE, np.float32
        )
        known = torch.from_numpy(np.isfinite(truth)).to(device)
        target = torch.from_numpy(np.nan_to_num(truth.astype(np.float32))).to(device)
        miss = functional.smooth_l1_loss(out.regressions.float(), target, reduction="none", beta=0.1) * known
        loss = loss + recipe.regression_loss * miss.sum() / known.sum().clamp(min=1)
    return loss


def _drawn(train: TrainingSet, recipe: FitRecipe) -> int:
    good = int((train.label == CLASSES.index("good")).sum())
    bad = len(train.label) - good
    return min(recipe.samples_an_epoch, good + bad)


def _draw(train: TrainingSet, recipe: FitRecipe, epoch: int, processes: int) -> Iterator[NDArray[np.int64]]:
    """Batches of one epoch, the same in all processes. Defects are rare and are drawn more often than they occur."""
    random = np.random.default_rng([recipe.seed, epoch])
    n = _drawn(train, recipe)
    good = np.flatnonzero(train.label == CLASSES.index("good"))
    bad = np.flatnonzero(train.label != CLASSES.index("good"))
    n_good = min(round(n * recipe.good_share), n) if len(bad) else n
    index = np.concatenate([_some(good, n_good, random), _some(bad, n - n_good, random)])
    random.shuffle(index)
    for start in range(0, len(index), recipe.batch):
        part = np.sort(index[start : start + recipe.batch])  # memory-mapped arrays like it in order
        if len(part) > 2 * processes - 1:  # a share of one joint has no variance to normalise by
            yield part


def _some(index: NDArray[np.int64], n: int, random: np.random.Generator) -> NDArray[np.int64]:
    """n of them: all of them as often as they go in whole, the rest without repeats."""
    if len(index) == 0:
        return index
    whole, rest = divmod(n, len(index))
    return np.concatenate([np.tile(index, whole), random.choice(index, rest, replace=False)])


def _set_rate(optimiser: torch.optim.Optimizer, recipe: FitRecipe, done: float) -> None:
    """A linear rise, then half a cosine down to a hundredth."""
    rise = min(1.0, done / recipe.warm_up) if recipe.warm_up else 1.0
    fall = 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * done))
    for group in optimiser.param_groups:
        group["lr"] = recipe.learning_rate * rise * fall

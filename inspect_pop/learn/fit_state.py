"""What a training goes on from when it was interrupted: network, running average and optimiser after the last whole epoch."""

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from inspect_pop.learn.network import JointNet
from inspect_pop.learn.ranks import Ranks

__all__ = ["FitState"]


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

"""The trained network as a file that training can begin from: safetensors, its shape and varieties in the header.

The line runs `model.onnx`; `network.safetensors` lies beside it, so that a retraining starts where the release ended.
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from inspect_pop.errors import ModelFault
from inspect_pop.learn.network import JointNet, Shape

__all__ = ["NETWORK", "between", "load_network", "save_network"]

NETWORK = "network.safetensors"


def save_network(network: JointNet, varieties: tuple[str, ...], path: Path) -> None:
    """Write all weights; `varieties` are the names behind the network's fine labels, in order."""
    about = json.dumps({"shape": asdict(network.shape), "varieties": varieties})
    # One entry: several would be written in an order that changes, and the same training must give the same file.
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    path.write_bytes(save(tensors, {"about": about}))  # save_file would keep it from other users


def load_network(path: Path) -> tuple[JointNet, tuple[str, ...]]:
    """The network, in evaluation mode, and its varieties.

    One that was told fewer numbers of a joint than today's takes no notice of the new ones until it is trained again. Raises
    `ModelFault` where the file cannot be what it should.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
        shape = about["shape"]
        widths, blocks = tuple(shape["widths"]), tuple(shape["blocks"])
        body, first = shape.get("body", "residual"), int(shape.get("first", 5))
        network = JointNet(Shape(widths, blocks, int(shape["varieties"]), body, first))
        network.load_state_dict(_grown(load_file(path), network))
        return network.eval(), tuple(about["varieties"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:  # torch names misfits RuntimeError
        raise ModelFault(
            str(path),
            expected="weights of a joint network",
            found=str(error),
            remedy="Take the model again, or train from scratch.",
        ) from error


def _grown(tensors: dict[str, Tensor], network: JointNet) -> dict[str, Tensor]:
    """The weights with zeros for numbers that were added since: they come last."""
    first, wanted = tensors["join.0.weight"], network.state_dict()["join.0.weight"].shape[1]
    missing = max(0, wanted - first.shape[1])
    return {**tensors, "join.0.weight": torch.nn.functional.pad(first, (0, missing))}


def between(old: JointNet, new: JointNet, share: float) -> JointNet:
    """A network `share` of the way from the old weights to the new ones (0 old, 1 new), of the same shape.

    What a short training added mostly lies on the straight line between both, and what the old network knew of other
    machines is lost only towards its end (Wortsman et al., 2022: robust fine-tuning).
    """
    mixed = JointNet(new.shape)
    theirs = old.state_dict()
    weights = {}
    for name, mine in new.state_dict().items():
        weights[name] = torch.lerp(theirs[name].to(mine), mine, share) if mine.dtype.is_floating_point else mine
    mixed.load_state_dict(weights)
    return mixed.eval()

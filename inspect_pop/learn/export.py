"""From a trained network to the ONNX file that the line runs, and the proof that both say the same."""

import copy
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.classify.session import probabilities
from inspect_pop.errors import ModelFault
from inspect_pop.learn.fit import predict
from inspect_pop.learn.network import JointNet
from inspect_pop.segment.windows import SIZE

__all__ = ["AGREEMENT", "export_network", "for_eight_bits", "largest_difference"]

# Largest difference of a probability between the trained and the exported network.
AGREEMENT = 1e-4


class _OnLine(nn.Module):
    def __init__(self, network: JointNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        out = self.network(images, scalars)
        return out.logits, out.embedding


def export_network(network: JointNet, path: Path) -> None:
    """Write `path` as ONNX with inputs `images`, `scalars` and outputs `logits`, `embedding`; any number of joints."""
    module = _OnLine(network.cpu().float().to(memory_format=torch.contiguous_format)).eval()  # type: ignore[call-overload]
    example = (torch.zeros(2, CHANNELS, SIZE, SIZE), torch.zeros(2, len(SCALARS)))
    joints = torch.export.Dim("joints", min=1, max=1 << 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own use of what torch is about to drop
        program = torch.onnx.export(
            module,
            example,
            input_names=["images", "scalars"],
            output_names=["logits", "embedding"],
            dynamic_shapes=({0: joints}, {0: joints}),
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise ModelFault(str(path), expected="an exported network", found="none")
    path.write_bytes(_without_remarks(program.model_proto).SerializeToString())


def _without_remarks(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same without what the exporter notes of every step: paths of the machine that it ran on among them."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    return model


def for_eight_bits(network: JointNet) -> JointNet:
    """The same function, a copy, as it takes least time in 8-bit numbers.

    A mean over 2 x 2 before a 1 x 1 convolution becomes one 2 x 2 convolution in steps of two: the runtime takes a fifth of the
    network's time for its three pools, and next to none for the convolutions. Pictures are not cut at the network's limit:
    8-bit numbers end there.
    """
    network = copy.deepcopy(network)
    network.limit = nn.Identity()
    for skip in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        if isinstance(skip[0], nn.AvgPool2d) and isinstance(skip[1], nn.Conv2d):
            small = skip[1]
            both = nn.Conv2d(small.in_channels, small.out_channels, 2, 2, bias=False)
            both.weight.data = small.weight.data.expand(-1, -1, 2, 2).contiguous() / 4
            skip[0], skip[1] = nn.Identity(), both
    return network


def largest_difference(network: JointNet, path: Path, images: NDArray[np.float16], scalars: NDArray[np.float32]) -> float:
    """Largest difference of any probability between both, over these joints. Raises `ModelFault` above `AGREEMENT`."""
    ours = probabilities(predict(network, images, scalars)[0].numpy())
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    feed = {"images": np.asarray(images, np.float32), "scalars": np.asarray(scalars, np.float32)}
    theirs = probabilities(session.run(["logits"], feed)[0])
    worst = float(np.abs(ours - theirs).max()) if len(ours) else 0.0
    if worst > AGREEMENT:
        raise ModelFault(str(path), expected=f"probabilities within {AGREEMENT} of the trained network", found=f"{worst:.2e}")
    return worst

"""From a trained network to the ONNX file that the line runs, and the proof that both say the same.

The network a second time, in 8-bit numbers, for a first look at all joints (`classify.session`).

ONNX Runtime's static quantisation: uint8 activations between the extremes that real joints reach, int8 weights for each channel.
The pictures' own range cuts them at the network's limit. Weights keep to seven bits: processors without VNNI add products of
eight in sixteen bits, which can overflow unseen. The last layers, a thousandth of the work, stay exact.
"""

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.classify.model import NETWORK, QUICK
from inspect_pop.classify.session import BATCH, MOST_OFF, log_odds, probabilities
from inspect_pop.core.errors import ModelFault
from inspect_pop.evaluate.samples import Samples
from inspect_pop.learn.fit import predict
from inspect_pop.learn.network import LIMIT, JointNet
from inspect_pop.segment.windows import SIZE

__all__ = ["AGREEMENT", "add_quick_network", "export_network", "for_eight_bits", "largest_difference"]

# ---- learn/export
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


# ---- learn/eight_bit
# Joints that set the range of each layer's numbers.
_JOINTS = 1024
_LAYERS = ["Conv", "Relu", "Add", "AveragePool"]
_NEAR_EVEN = 8.0
_AT_ONCE = 4  # 8-bit channels that processors multiply in one step


def add_quick_network(folder: Path, network: JointNet, learnt: Samples, held_out: Samples) -> str:
    """Write `quick.onnx` beside `model.onnx`, unless its log-odds err by more than `MOST_OFF`; what came of it, for the card.

    `network` is the one that `model.onnx` was exported from; `learnt` sets the ranges, on `held_out` it is judged.
    """
    quick = folder / QUICK
    quick.unlink(missing_ok=True)
    _quantise(network, quick, _some(learnt))
    judged = _some(held_out)
    off = _largest_difference(_log_odds(folder / NETWORK, judged), _log_odds(quick, judged))
    if off > MOST_OFF:
        quick.unlink()
        return f"none: log-odds off by up to {off:.1f}, {MOST_OFF:.1f} allowed"
    return f"log-odds off by up to {off:.1f} over {len(judged)} joints"


def _some(samples: Samples) -> Samples:
    return samples.take(np.arange(0, len(samples), max(1, len(samples) // _JOINTS)))


def _quantise(network: JointNet, quick: Path, joints: Samples) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as scratch:
        exported, named = Path(scratch) / "exported.onnx", Path(scratch) / NETWORK
        export_network(for_eight_bits(network), exported)
        quant_pre_process(str(exported), str(named), skip_symbolic_shape=True)
        quantize_static(
            str(named),
            str(quick),
            _Joints(joints),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_LAYERS,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    onnx.save(_in_fours(onnx.load(quick)), quick)


def _in_fours(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function on so many pictures that their number is a multiple of four: the first ones twice, without weight.

    For other numbers the runtime has a general way only, which takes twice as long for the first layer.
    """
    graph = model.graph
    rounded = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "images")
    values = _taker(graph, rounded)
    convolution = _taker(graph, values)
    weight_of = next(node for node in graph.node if node.output[0] == convolution.input[1])
    weights = next(tensor for tensor in graph.initializer if tensor.name == weight_of.input[0])
    known = onnx.numpy_helper.to_array(weights)
    missing = -known.shape[1] % _AT_ONCE
    if missing:
        weights.CopyFrom(onnx.numpy_helper.from_array(np.pad(known, ((0, 0), (0, missing), (0, 0), (0, 0))), weights.name))
        for name, value in (("doubled_from", 0), ("doubled_to", missing), ("doubled_axis", 1)):
            graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
        doubled = onnx.helper.make_node("Slice", [rounded.output[0], "doubled_from", "doubled_to", "doubled_axis"], ["doubled"])
        joined = onnx.helper.make_node("Concat", [rounded.output[0], "doubled"], ["in_fours"], axis=1)
        values.input[0] = "in_fours"
        after = list(graph.node).index(rounded) + 1
        graph.node.insert(after, joined)
        graph.node.insert(after, doubled)
        del graph.value_info[:]  # sizes of what lies between, which are others now
    return model


def _taker(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.NodeProto:
    return next(other for other in graph.node if other.input and other.input[0] == node.output[0])


class _Joints:
    """Joints as ONNX Runtime's calibration asks for them: a batch a call, None at the end."""

    def __init__(self, joints: Samples) -> None:
        self._feeds = _feeds(joints)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        feed = next(self._feeds, None)
        return feed and {**feed, "images": feed["images"].clip(-LIMIT, LIMIT)}


def _feeds(joints: Samples) -> Iterator[dict[str, NDArray[np.float32]]]:
    for start in range(0, len(joints), BATCH):
        part = slice(start, start + BATCH)
        yield {"images": np.asarray(joints.images[part], np.float32), "scalars": np.asarray(joints.scalars[part], np.float32)}


def _log_odds(network: Path, joints: Samples) -> NDArray[np.float32]:
    session: Any = onnxruntime.InferenceSession(network.read_bytes(), providers=["CPUExecutionProvider"])
    return np.concatenate([log_odds(session.run(["logits"], feed)[0]) for feed in _feeds(joints)] or [np.zeros(0, np.float32)])


def _largest_difference(exact: NDArray[np.float32], quick: NDArray[np.float32]) -> float:
    """Over the joints that either places near even; what both are sure of needs no digits."""
    near = (np.abs(exact) < _NEAR_EVEN) | (np.abs(quick) < _NEAR_EVEN)
    return float(np.abs(exact - quick)[near].max(initial=0.0))

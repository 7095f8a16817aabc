"""From a trained network to the ONNX files that the line runs, in 32-bit and in 8-bit numbers, with proof that they agree.

The 8-bit network takes a first look at all joints (`classify.session`). It is made by ONNX Runtime's static quantisation:
uint8 activations between the extremes that real joints reach, int8 weights per channel. The range of the pictures clips
them at the network's limit. Weights use seven bits: processors without VNNI add products of eight in sixteen bits, which
can overflow unnoticed. The last layers, a thousandth of the work, stay exact.
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
from inspect_pop.classify.model import NETWORK as ONNX
from inspect_pop.classify.model import NETWORK_8BIT
from inspect_pop.classify.session import BATCH, MAX_8BIT_ERROR, log_odds, softmax
from inspect_pop.core.errors import ModelFault
from inspect_pop.evaluate.samples import Samples
from inspect_pop.learn.fit import predict
from inspect_pop.learn.network import LIMIT, JointNet
from inspect_pop.segment.windows import SIZE

__all__ = ["AGREEMENT", "add_int8_network", "check_agreement", "prepare_for_int8", "strip_metadata", "to_onnx"]

# Largest difference of a probability between the trained network and the ONNX model.
AGREEMENT = 1e-4
# Joints that set the range of each layer's numbers.
_RANGE_JOINTS = 1024
_QUANTISED_LAYERS = ["Conv", "Relu", "Add", "AveragePool"]
# Log-odds beyond this, in both networks, are sure enough not to be compared.
_NEAR_EVEN = 8.0
# 8-bit channels that processors multiply in one step.
_CHANNEL_GROUP = 4


class _LineNetwork(nn.Module):
    """The two outputs that the line uses."""

    def __init__(self, network: JointNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        out = self.network(images, scalars)
        return out.logits, out.embedding


def to_onnx(network: JointNet, path: Path) -> None:
    """Write `path` as ONNX with inputs `images`, `scalars` and outputs `logits`, `embedding`, for any number of joints."""
    module = _LineNetwork(network.cpu().float().to(memory_format=torch.contiguous_format)).eval()  # type: ignore[call-overload]
    example = (torch.zeros(2, CHANNELS, SIZE, SIZE), torch.zeros(2, len(SCALARS)))
    joints = torch.export.Dim("joints", min=1, max=1 << 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of what it calls in torch itself
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
    path.write_bytes(strip_metadata(program.model_proto).SerializeToString())


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's notes on every step, which hold paths of the machine that it ran on; return the model."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    return model


def check_agreement(network: JointNet, path: Path, images: NDArray[np.float16], scalars: NDArray[np.float32]) -> float:
    """Return the largest difference of any probability between the trained network and `path`, over these joints.

    Raises `ModelFault` if it exceeds `AGREEMENT`.
    """
    trained = softmax(predict(network, images, scalars)[0].numpy())
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    feed = {"images": np.asarray(images, np.float32), "scalars": np.asarray(scalars, np.float32)}
    exported = softmax(session.run(["logits"], feed)[0])
    worst = float(np.abs(trained - exported).max()) if len(trained) else 0.0
    if worst > AGREEMENT:
        raise ModelFault(str(path), expected=f"probabilities within {AGREEMENT} of the trained network", found=f"{worst:.2e}")
    return worst


def prepare_for_int8(network: JointNet) -> JointNet:
    """Return a copy that computes the same function in the way that takes least time in 8-bit numbers.

    A mean over 2 x 2 before a 1 x 1 convolution becomes one 2 x 2 convolution in steps of two: the runtime needs a fifth of
    the network's time for its three pools, and next to none for the convolutions. Pictures are not clipped at the network's
    limit, because 8-bit numbers end there.
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


def add_int8_network(folder: Path, network: JointNet, training: Samples, held_out: Samples) -> str:
    """Write the 8-bit network beside `model.onnx`, unless its log-odds are off by more than `MAX_8BIT_ERROR`.

    Parameters
    ----------
    network
        The network that `model.onnx` was made from.
    training, held_out
        Joints that set the ranges of numbers, and joints to compare on.

    Returns
    -------
    What came of it, for the card.
    """
    path = folder / NETWORK_8BIT
    path.unlink(missing_ok=True)
    _quantise(network, path, _take_some(training))
    compared = _take_some(held_out)
    exact, quantised = _compute_log_odds(folder / ONNX, compared), _compute_log_odds(path, compared)
    near = (np.abs(exact) < _NEAR_EVEN) | (np.abs(quantised) < _NEAR_EVEN)
    off = float(np.abs(exact - quantised)[near].max(initial=0.0))
    if off > MAX_8BIT_ERROR:
        path.unlink()
        return f"none: log-odds off by up to {off:.1f}, {MAX_8BIT_ERROR:.1f} allowed"
    return f"log-odds off by up to {off:.1f} over {len(compared)} joints"


def _take_some(samples: Samples) -> Samples:
    return samples.take(np.arange(0, len(samples), max(1, len(samples) // _RANGE_JOINTS)))


def _quantise(network: JointNet, path: Path, joints: Samples) -> None:
    """Write the 8-bit network to `path`, with ranges from `joints`."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory() as scratch:
        exported, named = Path(scratch) / "exported.onnx", Path(scratch) / ONNX
        to_onnx(prepare_for_int8(network), exported)
        quant_pre_process(str(exported), str(named), skip_symbolic_shape=True)
        quantize_static(
            str(named),
            str(path),
            _CalibrationReader(joints),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED_LAYERS,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    onnx.save(_pad_channels(onnx.load(path)), path)


def _pad_channels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a multiple of four input channels inside: the first ones again, with zero weight.

    For other numbers of channels the runtime has only a general method, which takes twice as long for the first layer.
    """
    graph = model.graph
    quantised = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "images")
    values = _find_consumer(graph, quantised)
    convolution = _find_consumer(graph, values)
    weight_of = next(node for node in graph.node if node.output[0] == convolution.input[1])
    weights = next(tensor for tensor in graph.initializer if tensor.name == weight_of.input[0])
    known = onnx.numpy_helper.to_array(weights)
    missing = -known.shape[1] % _CHANNEL_GROUP
    if missing:
        weights.CopyFrom(onnx.numpy_helper.from_array(np.pad(known, ((0, 0), (0, missing), (0, 0), (0, 0))), weights.name))
        for name, value in (("doubled_from", 0), ("doubled_to", missing), ("doubled_axis", 1)):
            graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
        first = onnx.helper.make_node("Slice", [quantised.output[0], "doubled_from", "doubled_to", "doubled_axis"], ["doubled"])
        both = onnx.helper.make_node("Concat", [quantised.output[0], "doubled"], ["in_fours"], axis=1)
        values.input[0] = "in_fours"
        after = list(graph.node).index(quantised) + 1
        graph.node.insert(after, both)
        graph.node.insert(after, first)
        del graph.value_info[:]  # sizes of intermediate values, which have changed
    return model


def _find_consumer(graph: onnx.GraphProto, node: onnx.NodeProto) -> onnx.NodeProto:
    return next(other for other in graph.node if other.input and other.input[0] == node.output[0])


class _CalibrationReader:
    """Joints in the form that ONNX Runtime's calibration reads: one batch per call, None at the end."""

    def __init__(self, joints: Samples) -> None:
        self._feeds = _make_feeds(joints)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        feed = next(self._feeds, None)
        return feed and {**feed, "images": feed["images"].clip(-LIMIT, LIMIT)}


def _make_feeds(joints: Samples) -> Iterator[dict[str, NDArray[np.float32]]]:
    for start in range(0, len(joints), BATCH):
        part = slice(start, start + BATCH)
        yield {"images": np.asarray(joints.images[part], np.float32), "scalars": np.asarray(joints.scalars[part], np.float32)}


def _compute_log_odds(network: Path, joints: Samples) -> NDArray[np.float32]:
    session: Any = onnxruntime.InferenceSession(network.read_bytes(), providers=["CPUExecutionProvider"])
    parts = [log_odds(session.run(["logits"], feed)[0]) for feed in _make_feeds(joints)]
    return np.concatenate(parts or [np.zeros(0, np.float32)])

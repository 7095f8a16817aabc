"""The network a second time, in 8-bit numbers, for a first look at all joints (`classify.session`).

ONNX Runtime's static quantisation: uint8 activations between the extremes that real joints reach, int8 weights for each channel.
The pictures' own range cuts them at the network's limit. Weights keep to seven bits: processors without VNNI add products of
eight in sixteen bits, which can overflow unseen. The last layers, a thousandth of the work, stay exact.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from inspect_pop.classify.model import NETWORK, QUICK
from inspect_pop.classify.session import BATCH, MOST_OFF, log_odds
from inspect_pop.learn.export import export_network, for_eight_bits
from inspect_pop.learn.network import LIMIT, JointNet
from inspect_pop.learn.samples import Samples

__all__ = ["add_quick_network"]

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

"""From a trained network to a model folder.

The 8-bit network takes a first look at all joints (`classify.session`). It is made by ONNX Runtime's static quantisation:
uint8 activations between the extremes that real joints reach, int8 weights per channel. The range of the pictures clips
them at the network's limit. Weights use seven bits: processors without VNNI add products of eight in sixteen bits, which
can overflow unnoticed. The last layers, a thousandth of the work, stay exact.
"""

import copy
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspect_pop import __version__
from inspect_pop.classify.inputs import CHANNELS, SCALARS, JointInputs
from inspect_pop.classify.model import (
    CARD_SCHEMA,
    CONTRACT,
    NETWORK_8BIT,
    Calibration,
    Card,
    Familiarity,
    MachineModel,
    Model,
    OperatingPoint,
    file_digest,
)
from inspect_pop.classify.model import NETWORK as ONNX
from inspect_pop.classify.operating_points import CALIBRATION, write_calibration
from inspect_pop.classify.session import BATCH, MAX_8BIT_ERROR, Classifier, log_odds, softmax
from inspect_pop.core import system
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import ModelFault, UsageFault
from inspect_pop.evaluate.evaluation import summary, table
from inspect_pop.evaluate.samples import Samples
from inspect_pop.learn.calibrate import (
    NO_CALIBRATION,
    PreviousModel,
    Targets,
    apply_calibration,
    calibrate,
    fit_familiarity,
    fit_operating_point,
    good_quantiles,
)
from inspect_pop.learn.fit import predict
from inspect_pop.learn.network import EMBEDDING, LIMIT, NETWORK, JointNet, save_network
from inspect_pop.segment.windows import SIZE

__all__ = [
    "AGREEMENT",
    "ModelDescription",
    "add_int8_network",
    "add_machine_model",
    "build_model",
    "check_agreement",
    "compute_logits",
    "machine_folder",
    "make_version",
    "prepare_for_int8",
    "seal",
    "strip_metadata",
    "to_onnx",
]

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


# From a trained network to a model folder: ONNX, calibration, operating point, familiarity, card.
#
# The card is written last, so that a half-written folder cannot be loaded.
#
# A retraining gives the machines of its boards a network of their own, beside the model that it started from. Every other
# machine is decided by that model as before, bit for bit: what four boards of one machine teach a network costs it on others
# (measured: half of the way to such weights raised the loss on machines drawn at random from 0.021 to 0.031), and thresholds
# that suit one machine send more of another's joints to people.


Answer = Callable[[JointInputs], tuple[NDArray[np.float32], NDArray[np.float32]]]

_CARD = "card.json"
# The trained network and the ONNX model are compared on this many joints: a few meet every branch of the arithmetic.
_COMPARED = 256
_CHUNK = 512
# The embedding of this many joints gives its mean and covariance well enough.
_EMBEDDED = 20_000
_ROUNDS = 2
# Files of the earlier model that are written again, or describe another training.
_NOT_COPIED = ("README.md", "report.json")


@dataclass(frozen=True)
class ModelDescription:
    """What a card says of a model's making; `created_at` is ISO 8601, `data` and `recipe` hold digests."""

    name: str
    version: str
    created_at: str
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def make_version(now: str) -> str:
    """Return the version of a model that is made at `now` (ISO 8601): its digits, down to seconds."""
    return "".join(c for c in now[:19] if c.isdigit())


def build_model(
    network: JointNet,
    varieties: tuple[str, ...],
    training: Samples,
    held_out: Samples,
    out: Path,
    description: ModelDescription,
    *,
    targets: Targets | None = None,
    prior: Card | None = None,
    out_of_fold: NDArray[np.float32] | None = None,
    prior_logits: NDArray[np.float32] | None = None,
) -> Card:
    """Write a whole model folder. The model is not judged yet: the card's `metrics` are empty.

    Parameters
    ----------
    network, varieties
        The trained network and the names of its fine labels.
    training, held_out
        The joints that it was trained on, and those of other boards to calibrate on.
    out
        The folder (created if missing).
    prior
        Card of the model that training started from: few joints leave the calibration near it.
    out_of_fold
        (n, classes) logits of `held_out` by networks that were not trained on them, if `network` was. None: calibrate on the
        logits of `network`.
    prior_logits
        (n, classes) logits of `held_out` by the model that training started from, whose card is `prior`: with few joints, as many
        of them go to people as with that model.

    Raises
    ------
    ModelFault
        The ONNX model answers differently from the trained network.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / _CARD).unlink(missing_ok=True)
    to_onnx(network, out / ONNX)
    save_network(network, varieties, out / NETWORK)
    compared = held_out.take(np.arange(min(_COMPARED, len(held_out))))
    agreement = check_agreement(network, out / ONNX, compared.images, compared.scalars)
    int8 = add_int8_network(out, network, training, held_out)
    content = (out / ONNX).read_bytes()

    known = NO_CALIBRATION if prior is None else prior.calibration
    calibration, label = known, held_out.label.astype(np.int64)
    drawn = bool(len(held_out) and np.ptp(held_out.weight))  # people looked at the suspects, and at some of those that passed
    weight = held_out.weight * (held_out.weight.sum() / (held_out.weight**2).sum()) if drawn else None
    for _ in range(_ROUNDS):  # the calibration decides which joints are doubtful, and those are classified from four sides
        logits, embedding = compute_logits(_make_classifier(content, description, calibration).logits, held_out)
        logits = logits if out_of_fold is None else out_of_fold
        calibration = calibrate(logits, label, weight, known)
    _, odds = apply_calibration(calibration, logits)
    some = training.take(np.arange(0, len(training), max(1, len(training) // _EMBEDDED)))
    _, embedded = compute_logits(_make_classifier(content, description, NO_CALIBRATION).logits, some)
    familiarity = fit_familiarity(embedded, embedding, some.label.astype(np.int64))

    names = {"serial": held_out.serials, "label": np.asarray(CLASSES)[held_out.label]}
    names |= {name: getattr(held_out, name) for name in ("machine", "refdes", "interface", "ball")}
    write_calibration(out / CALIBRATION, {name: values.tolist() for name, values in names.items()}, logits)
    previous = None
    if prior is not None and prior_logits is not None:
        previous = PreviousModel(apply_calibration(known, prior_logits)[1], prior.operating_point)
    point = fit_operating_point(odds, held_out.label, held_out.serials, targets, previous, is_drawn=drawn)
    values = _card_values(description, calibration, point, familiarity)
    values["good_scores"] = good_quantiles(odds, held_out.label)
    proofs = {"largest difference of exported and trained probabilities": f"{agreement:.1e}", "quick network": int8}
    values["data"] = {**description.data, **proofs}
    return seal(out, Card.model_validate(values))


def compute_logits(answer: Answer, samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (n, classes) logits and (n, e) embeddings of samples by `answer`, which is or works as `Classifier.logits`."""
    logits, embeddings = [], []
    for start in range(0, len(samples), _CHUNK):
        images = np.asarray(samples.images[start : start + _CHUNK], np.float32)
        part, embedding = answer(JointInputs(images, samples.scalars[start : start + _CHUNK]))
        logits.append(part)
        embeddings.append(embedding)
    if not logits:
        return np.zeros((0, len(CLASSES)), np.float32), np.zeros((0, EMBEDDING), np.float32)
    return np.concatenate(logits), np.concatenate(embeddings)


def seal(folder: Path, card: Card) -> Card:
    """Write `README.md`, then `card.json` with the digest of every file of the folder; return the card as written.

    Raises `UsageFault` if `model.onnx` is missing.
    """
    if not (folder / ONNX).is_file():
        raise UsageFault(str(folder), expected=f"{ONNX} before its card", found="none")
    (folder / "README.md").write_text(_describe(card), encoding="utf-8")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name != _CARD)
    sealed = card.model_copy(update={"files": {p.name: file_digest(p.read_bytes()) for p in files}})
    system.write_text(folder / _CARD, json.dumps(sealed.model_dump(mode="json", by_alias=True), indent=1))
    return sealed


def machine_folder(machines: Sequence[str]) -> str:
    """Return the name of the folder for the network of these machines, always the same for the same machines."""
    names = "\n".join(sorted(set(machines)))
    return f"machine-{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def add_machine_model(start: Model, out: Path, machines: Sequence[str], description: ModelDescription) -> Card:
    """Make `out` the model `start` with the network in `out / machine_folder(machines)` for these machines.

    Networks that `start` has for other machines stay. The model is not judged yet.
    """
    name, card = machine_folder(machines), start.card
    for file in card.files:
        if file not in _NOT_COPIED:
            shutil.copyfile(start.folder / file, out / file)
    others = {machine: model for machine, model in card.machines.items() if machine not in machines}
    for folder in {model.folder for model in others.values()}:
        shutil.copytree(start.folder / folder, out / folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    added = MachineModel(folder=name, card=file_digest((out / name / _CARD).read_bytes()))
    changes = {
        "name": description.name,
        "version": description.version,
        "created_at": description.created_at,
        "data": {**card.data, **description.data},
        "recipe": dict(description.recipe),
        "machines": others | dict.fromkeys(sorted(set(machines)), added),
        "metrics": {},
        "measured_on": "",
    }
    return seal(out, card.model_copy(update=changes))


def _make_classifier(content: bytes, description: ModelDescription, calibration: Calibration) -> Classifier:
    """Make a classifier before the card exists."""
    familiarity = Familiarity(mean=(0.0,) * EMBEDDING, precision=((0.0,) * EMBEDDING,) * EMBEDDING, limit=1.0)
    point = OperatingPoint(pass_below=0, fail_above=0, source="")
    card = Card.model_validate(_card_values(description, calibration, point, familiarity))
    return Classifier(Model(Path(), card, "", content))


def _card_values(
    description: ModelDescription, calibration: Calibration, point: OperatingPoint, familiarity: Familiarity
) -> dict[str, Any]:
    return {
        "schema": CARD_SCHEMA,
        "name": description.name,
        "version": description.version,
        "created_at": description.created_at,
        "contract": CONTRACT,
        "classes": CLASSES,
        "files": {},
        "calibration": calibration,
        "operating_point": point,
        "familiarity": familiarity,
        "data": dict(description.data),
        "recipe": dict(description.recipe),
        "software": __version__,
    }


def _describe(card: Card) -> str:
    """Return the card as a page: what the model is for, what it was made of, how good it is, and how sure that is."""
    data, point, metrics = card.data, card.operating_point, card.metrics
    short = {k: ", ".join(f"{n} {name}" for name, n in v.items()) if isinstance(v, dict) else v for k, v in data.items()}
    for key, value in data.items():
        if isinstance(value, list):
            short[key] = f"{len(value)} ({', '.join(map(str, value[:5]))}{', …' if len(value) > 5 else ''})"
    judged = ["Not judged."]
    if "escape" in metrics:
        figures = summary({"model": {"name": card.name, "version": card.version}} | metrics)
        judged = [f"Judged on {card.measured_on or 'boards that it was not trained on'}:", "", "```", *figures, "```"]
    groups = metrics.get("kinds") or metrics.get("by", {}).get("machine", {})
    if groups:
        judged += ["", "With exact 95 % intervals (Clopper-Pearson):", "", *table(groups)]
    for heading, text in metrics.get("tables", {}).items():
        judged += ["", f"### {heading}", "", text]
    lines = [
        f"# {card.name} {card.version}",
        "",
        f"Classifies Package-on-Package solder joints as {', '.join(CLASSES)}.",
        f"Made {card.created_at} by inspect_pop {card.software}.",
        "",
        "## Made of",
        "",
        *(f"- {key}: {value}" for key, value in short.items()),
        f"- training configuration: {card.recipe.get('name', 'not named')}, inputs {card.contract}",
        "",
        "## How good",
        "",
        *judged,
        "",
        "## Operating point",
        "",
        f"Passes below {point.pass_below:.2f}, fails from {point.fail_above:.2f} (log-odds of a defect). {point.source}",
        *(
            f"On boards of {machine}, the network in `{model.folder}` decides, with its own thresholds."
            for machine, model in card.machines.items()
        ),
        "",
    ]
    return "\n".join(lines)

"""Model folders with a tiny network, made without torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inspect_pop.classify.inputs import CHANNELS, SCALARS
from inspect_pop.classify.model import CARD_SCHEMA, CONTRACT, file_digest
from inspect_pop.classify.operating_points import write_calibration
from inspect_pop.core.classes import CLASSES, DEFECTS
from inspect_pop.segment.windows import SIZE

EMBEDDING = len(CLASSES)


def tiny_network(weight: float = 10.0) -> bytes:
    """Logits are `weight` times the means of the first channels, one a class (`sets.make_samples`); so is the embedding."""
    pick = np.zeros((CHANNELS, len(CLASSES)), np.float32)
    pick[: len(CLASSES)] = np.eye(len(CLASSES), dtype=np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "pick"], ["embedding"]),
        helper.make_node("Mul", ["embedding", "weight"], ["plain"]),
        helper.make_node("ReduceSum", ["scalars", "one"], ["sums"], keepdims=1),
        helper.make_node("Mul", ["sums", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["logits"]),
    ]
    constants = {
        "axes": np.array([2, 3], np.int64),
        "one": np.array([1], np.int64),
        "pick": pick,
        "weight": np.float32(weight),
        "zero": np.float32(0),
    }
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("images", float32, ["n", CHANNELS, SIZE, SIZE]),
            helper.make_tensor_value_info("scalars", float32, ["n", len(SCALARS)]),
        ],
        [helper.make_tensor_value_info(name, float32, ["n", len(CLASSES)]) for name in ("logits", "embedding")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_model(
    folder: Path, *, weight: float = 10.0, quick: float | None = None, metrics: dict[str, Any] | None = None, **card: Any
) -> Path:
    """A whole model folder; everything in `card` goes over the card as it stands. `quick`: weight of a quick network beside."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    label = np.where(np.arange(400) % 5 == 4, 1 + np.arange(400) // 5 % len(DEFECTS), 0)
    logits = rng.normal(0, 1, (400, len(CLASSES))) + 6 * np.eye(len(CLASSES))[label]
    text = {name: ["x"] * 400 for name in ("machine", "refdes", "interface", "ball")}
    text |= {"serial": [f"C{k // 100}" for k in range(400)], "label": [CLASSES[k] for k in label]}
    write_calibration(folder / "calibration.parquet", text, logits)
    (folder / "model.onnx").write_bytes(tiny_network(weight))
    names = ["model.onnx", "calibration.parquet"]
    if quick is not None:
        (folder / "quick.onnx").write_bytes(tiny_network(quick))
        names.append("quick.onnx")
    values = {
        "schema": CARD_SCHEMA,
        "name": folder.name,
        "version": "1",
        "created_at": "2026-11-22T08:00:00+00:00",
        "contract": CONTRACT,
        "classes": CLASSES,
        "files": {name: file_digest((folder / name).read_bytes()) for name in names},
        "calibration": {"temperature": 1.0, "bias": [0.0] * len(CLASSES)},
        "operating_point": {"pass_below": -1.0, "fail_above": 1.0, "source": "by hand"},
        "familiarity": {"mean": [0.0] * EMBEDDING, "precision": np.eye(EMBEDDING).tolist(), "limit": 1e9},
        "metrics": metrics or {},
    }
    (folder / "card.json").write_text(json.dumps(values | card))
    return folder


def add_machine_model(folder: Path, machine: str, **changes: Any) -> Path:
    """Give a machine its own network, made as `make_model` does with these changes."""
    part = make_model(folder / "machine-1", **changes)
    card = json.loads((folder / "card.json").read_text())
    card["machines"] = {machine: {"folder": part.name, "card": file_digest((part / "card.json").read_bytes())}}
    (folder / "card.json").write_text(json.dumps(card))
    return folder

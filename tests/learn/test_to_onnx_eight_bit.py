"""The quick network: near the exact one, and left out where it is not."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from inspect_pop.classify.inputs import CHANNELS
from inspect_pop.classify.model import Card, load
from inspect_pop.evaluate.samples import save
from inspect_pop.learn import to_onnx as eight_bit
from inspect_pop.learn.network import LIMIT, NETWORK, JointNet, Shape, load_network, save_network
from inspect_pop.learn.package_model import seal
from inspect_pop.learn.to_onnx import export_network
from tests.learn.models import make_model
from tests.learn.sets import make_samples

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "add_quick_network"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with an exported network, small and not trained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    network = JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval()
    export_network(network, folder / "model.onnx")
    save_network(network, (), folder / NETWORK)
    return folder


def test_the_quick_network_says_nearly_the_same(folder: Path) -> None:
    samples = make_samples(boards=3, joints=30)
    said = eight_bit.add_quick_network(folder, load_network(folder / NETWORK)[0], samples, samples)
    assert said.startswith("log-odds off by up to 0.")
    feed = {"images": samples.images.astype(np.float32), "scalars": samples.scalars}
    exact, quick = (
        onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"]).run(["logits"], feed)[0]
        for name in ("model.onnx", "quick.onnx")
    )
    spread = np.ptp(exact, axis=0).max()
    assert 0 < np.abs(exact - quick).max() < 0.3 * max(spread, 0.1)


def test_its_weights_keep_to_seven_bits(folder: Path) -> None:
    """Products of eight bits overflow on processors without VNNI."""
    samples = make_samples(boards=2, joints=20)
    eight_bit.add_quick_network(folder, load_network(folder / NETWORK)[0], samples, samples)
    graph = onnx.load(folder / "quick.onnx").graph
    weights = [
        onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4
    ]
    assert weights
    assert max(np.abs(w).max() for w in weights) <= 64


def test_pictures_come_in_fours_and_none_is_heard_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime multiplies four channels in one step; those that fill up must not change an answer."""
    samples, network = make_samples(boards=2, joints=20), load_network(folder / NETWORK)[0]
    eight_bit.add_quick_network(folder, network, samples, samples)
    filled = folder.joinpath("quick.onnx").read_bytes()
    monkeypatch.setattr(eight_bit, "_in_fours", lambda model: model)
    eight_bit.add_quick_network(folder, network, samples, samples)
    plain = folder.joinpath("quick.onnx").read_bytes()
    assert (first_channels(filled), first_channels(plain)) == (12, CHANNELS)
    feed = {"images": samples.images.astype(np.float32), "scalars": samples.scalars}
    answers = [onnxruntime.InferenceSession(net, providers=["CPUExecutionProvider"]).run(None, feed) for net in (filled, plain)]
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_dead_pixel_does_not_stretch_the_range_of_the_pictures(folder: Path) -> None:
    samples = make_samples(boards=2, joints=20)
    samples.images[3, 1, 5, 5] = -30
    eight_bit.add_quick_network(folder, load_network(folder / NETWORK)[0], samples, samples)
    graph = onnx.load(folder / "quick.onnx").graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    scale, zero = next(
        (float(values[n.input[1]]), int(values[n.input[2]]))
        for n in graph.node
        if n.op_type == "QuantizeLinear" and n.input[0] == "images"
    )
    assert scale * (255 - zero) <= LIMIT + scale
    assert scale * zero <= LIMIT + scale


def first_channels(network: bytes) -> int:
    """Of the first convolution's weights."""
    graph = onnx.load_from_string(network).graph
    return next(t.dims[1] for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4)


def test_one_that_errs_too_much_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eight_bit, "MOST_OFF", -1.0)
    samples = make_samples(boards=2, joints=20)
    assert eight_bit.add_quick_network(folder, load_network(folder / NETWORK)[0], samples, samples).startswith("none:")
    assert not (folder / "quick.onnx").exists()


def test_a_model_made_without_one_is_given_one(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tmp_path / "model")
    for name in ("model.onnx", NETWORK):
        shutil.copy(folder / name, model / name)
    seal(model, Card.model_validate_json((model / "card.json").read_text()))
    save(make_samples(boards=2, joints=20), tmp_path / "samples")
    monkeypatch.setattr(sys, "argv", ["add_quick_network", str(model), str(tmp_path / "samples")])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    given = load(model)
    assert given.quick
    assert given.card.data["quick network"].startswith("log-odds off by up to")

"""The quick network: near the exact one, and left out where it is not."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.inputs import CHANNELS  # noqa: E402
from inspect_pop.classify.model import Card, load  # noqa: E402
from inspect_pop.core.errors import ModelFault  # noqa: E402
from inspect_pop.evaluate.samples import save  # noqa: E402
from inspect_pop.learn import package_model as module  # noqa: E402
from inspect_pop.learn.network import LIMIT, NETWORK, JointNet, Shape, load_network, save_network  # noqa: E402
from inspect_pop.learn.package_model import (  # noqa: E402
    check_agreement,
    prepare_for_int8,
    seal,
    strip_metadata,
    to_onnx,
)
from tests.learn.models import make_model  # noqa: E402
from tests.learn.sets import make_samples  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "release" / "add_quick_network.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with an exported network, small and not trained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    network = JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval()
    to_onnx(network, folder / "model.onnx")
    save_network(network, (), folder / NETWORK)
    return folder


@pytest.fixture(scope="module")
def quick(folder: Path) -> tuple[str, bytes]:
    """What came of the 8-bit network of `folder`, and the network."""
    samples = make_samples(boards=3, joints=30)
    said = module.add_int8_network(folder, load_network(folder / NETWORK)[0], samples, samples)
    return said, folder.joinpath("quick.onnx").read_bytes()


def test_the_quick_network_says_nearly_the_same(folder: Path, quick: tuple[str, bytes]) -> None:
    samples = make_samples(boards=3, joints=30)
    said, network = quick
    assert said.startswith("log-odds off by up to 0.")
    feed = {"images": samples.images.astype(np.float32), "scalars": samples.scalars}
    exact, eight_bit = (
        onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"]).run(["logits"], feed)[0]
        for written in (folder / "model.onnx", network)
    )
    spread = np.ptp(exact, axis=0).max()
    assert 0 < np.abs(exact - eight_bit).max() < 0.3 * max(spread, 0.1)


def test_its_weights_keep_to_seven_bits(quick: tuple[str, bytes]) -> None:
    """Products of eight bits overflow on processors without VNNI."""
    graph = onnx.load_from_string(quick[1]).graph
    weights = [
        onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4
    ]
    assert weights
    assert max(np.abs(w).max() for w in weights) <= 64


def test_pictures_come_in_fours_and_none_is_heard_twice(
    folder: Path, quick: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime multiplies four channels in one step; those that fill up must not change an answer."""
    samples, filled = make_samples(boards=3, joints=30), quick[1]
    monkeypatch.setattr(module, "_pad_channels", lambda model: model)
    module.add_int8_network(folder, load_network(folder / NETWORK)[0], samples, samples)
    plain = folder.joinpath("quick.onnx").read_bytes()
    assert (first_channels(filled), first_channels(plain)) == (12, CHANNELS)
    feed = {"images": samples.images.astype(np.float32), "scalars": samples.scalars}
    answers = [onnxruntime.InferenceSession(net, providers=["CPUExecutionProvider"]).run(None, feed) for net in (filled, plain)]
    for ours, theirs in zip(*answers, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_dead_pixel_does_not_stretch_the_range_of_the_pictures(folder: Path, quick_export: None) -> None:
    samples = make_samples(boards=2, joints=20)
    samples.images[3, 1, 5, 5] = -30
    module.add_int8_network(folder, load_network(folder / NETWORK)[0], samples, samples)
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


def test_one_that_errs_too_much_is_not_kept(folder: Path, quick_export: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_8BIT_ERROR", -1.0)
    samples = make_samples(boards=2, joints=20)
    assert module.add_int8_network(folder, load_network(folder / NETWORK)[0], samples, samples).startswith("none:")
    assert not (folder / "quick.onnx").exists()


def test_a_model_made_without_one_is_given_one(
    folder: Path, quick_export: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model")
    for name in ("model.onnx", NETWORK):
        shutil.copy(folder / name, model / name)
    seal(model, Card.model_validate_json((model / "card.json").read_text()))
    save(make_samples(boards=2, joints=20), tmp_path / "samples")
    monkeypatch.setattr(sys, "argv", ["add_quick_network", str(model), str(tmp_path / "samples")])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    given = load(model)
    assert given.network_8bit
    assert given.card.data["quick network"].startswith("log-odds off by up to")


def test_means_before_convolutions_become_part_of_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = JointNet(Shape(widths=(8, 16, 24), blocks=(1, 1, 1))).eval()
    to_onnx(prepare_for_int8(network), tmp_path / "model.onnx")
    assert "AveragePool" not in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert any(isinstance(module, torch.nn.AvgPool2d) for module in network.modules())  # the trained one stays as it is
    samples = make_samples(boards=2, joints=20)
    assert check_agreement(network, tmp_path / "model.onnx", samples.images, samples.scalars) < 1e-5


def test_no_path_of_the_machine_goes_into_the_file(tmp_path: Path) -> None:
    to_onnx(JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval(), tmp_path / "model.onnx")
    written = (tmp_path / "model.onnx").read_bytes()
    assert b".py" not in written
    assert str(Path(torch.__file__).parent).encode() not in written


def test_no_remark_is_left_anywhere() -> None:
    node = onnx.helper.make_node("Relu", ["a"], ["b"], doc_string="/home/somebody/step.py")
    graph = onnx.helper.make_graph([node], "g", [], [], doc_string="here")
    assert b"somebody" not in strip_metadata(onnx.helper.make_model(graph, doc_string="there")).SerializeToString()


def test_a_file_that_answers_otherwise_than_the_network_is_refused(quick_export: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = (JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval() for _ in range(2))
    to_onnx(one, tmp_path / "model.onnx")
    samples = make_samples(boards=1, joints=20)
    with pytest.raises(ModelFault, match="of the trained network"):
        check_agreement(other, tmp_path / "model.onnx", samples.images, samples.scalars)

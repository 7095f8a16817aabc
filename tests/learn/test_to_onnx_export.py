"""The exported network: the trained one's function, in the form that the runtime likes."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import onnx  # noqa: E402

from inspect_pop.core.errors import ModelFault  # noqa: E402
from inspect_pop.learn.network import JointNet, Shape  # noqa: E402
from inspect_pop.learn.to_onnx import _without_remarks, export_network, for_eight_bits, largest_difference  # noqa: E402
from tests.learn.sets import make_samples  # noqa: E402

pytestmark = pytest.mark.training


def test_means_before_convolutions_become_part_of_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = JointNet(Shape(widths=(8, 16, 24), blocks=(1, 1, 1))).eval()
    export_network(for_eight_bits(network), tmp_path / "model.onnx")
    assert "AveragePool" not in {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert any(isinstance(module, torch.nn.AvgPool2d) for module in network.modules())  # the trained one stays as it is
    samples = make_samples(boards=2, joints=20)
    assert largest_difference(network, tmp_path / "model.onnx", samples.images, samples.scalars) < 1e-5


def test_no_path_of_the_machine_goes_into_the_file(tmp_path: Path) -> None:
    export_network(JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval(), tmp_path / "model.onnx")
    written = (tmp_path / "model.onnx").read_bytes()
    assert b".py" not in written
    assert str(Path(torch.__file__).parent).encode() not in written


def test_no_remark_is_left_anywhere() -> None:
    node = onnx.helper.make_node("Relu", ["a"], ["b"], doc_string="/home/somebody/step.py")
    graph = onnx.helper.make_graph([node], "g", [], [], doc_string="here")
    assert b"somebody" not in _without_remarks(onnx.helper.make_model(graph, doc_string="there")).SerializeToString()


def test_a_file_that_answers_otherwise_than_the_network_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = (JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval() for _ in range(2))
    export_network(one, tmp_path / "model.onnx")
    samples = make_samples(boards=1, joints=20)
    with pytest.raises(ModelFault, match="of the trained network"):
        largest_difference(other, tmp_path / "model.onnx", samples.images, samples.scalars)

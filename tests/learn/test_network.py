"""The network: what it is told, and what it is not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

torch = pytest.importorskip("torch")
from inspect_pop.classify.inputs import CHANNELS, SCALARS  # noqa: E402
from inspect_pop.core.errors import ModelFault  # noqa: E402
from inspect_pop.learn.network import (  # noqa: E402
    LIMIT,
    JointNet,
    Shape,
    interpolate,
    load_network,
    save_network,
)
from inspect_pop.segment.windows import SIZE  # noqa: E402

pytestmark = pytest.mark.training


def answers(scalars: "torch.Tensor") -> "torch.Tensor":
    torch.manual_seed(0)
    network = JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval()
    with torch.no_grad():
        return network(torch.ones(len(scalars), CHANNELS, SIZE, SIZE), scalars).logits


def test_the_size_of_the_pixels_changes_no_answer_and_every_other_number_may() -> None:
    other = torch.eye(len(SCALARS))
    moved = (answers(other) - answers(torch.zeros_like(other))).abs().amax(dim=1)
    assert {name for name, by in zip(SCALARS, moved.tolist(), strict=True) if by == 0} == {"pixel_per_sample"}


def test_a_dead_pixel_weighs_no_more_than_the_limit() -> None:
    torch.manual_seed(0)
    network = JointNet(Shape(widths=(8, 16), blocks=(1, 1))).eval()
    images = torch.zeros(4, CHANNELS, SIZE, SIZE)
    images[:, 2, 20, 20] = torch.tensor([LIMIT, 30.0, -LIMIT, -30.0])
    with torch.no_grad():
        high, higher, low, lower = network(images, torch.zeros(4, len(SCALARS))).logits
    torch.testing.assert_close(high, higher)
    torch.testing.assert_close(low, lower)
    assert not torch.allclose(high, low)


SHAPE = Shape((4, 6), (1, 1), 3)


def net(seed: int, shape: Shape = SHAPE) -> JointNet:
    torch.manual_seed(seed)
    return JointNet(shape).eval()


OTHERS = Shape(varieties=3, body="mobilenet_v3_small"), Shape((4, 6), (1, 1), 3, first=5)


@pytest.mark.parametrize("shape", [SHAPE, *OTHERS], ids=["ours", "torchvision", "large first layer"])
def test_a_network_comes_back_from_its_file(tmp_path: Path, shape: Shape) -> None:
    first = net(1, shape)
    save_network(first, ("plain", "web", "missing"), tmp_path / "n.safetensors")
    back, varieties = load_network(tmp_path / "n.safetensors")
    assert varieties == ("plain", "web", "missing")
    assert back.shape == shape
    x, s = torch.randn(2, CHANNELS, SIZE, SIZE), torch.randn(2, len(SCALARS))
    torch.testing.assert_close(back(x, s).logits, first(x, s).logits)


def test_a_file_that_does_not_say_how_large_its_first_layer_is_has_five(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    save_network(net(1, Shape((4, 6), (1, 1), 3, first=5)), ("a", "b", "c"), path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    del about["shape"]["first"]  # as files were before pop-joints-5
    save_file(load_file(path), path, {"about": json.dumps(about)})
    assert load_network(path)[0].shape.first == 5


def test_a_network_that_was_told_fewer_numbers_takes_no_notice_of_new_ones(tmp_path: Path) -> None:
    older = net(1)
    older.join[0].weight.data = older.join[0].weight.data[:, :-3]
    save_network(older, ("plain",), tmp_path / "n.safetensors")
    back, _ = load_network(tmp_path / "n.safetensors")
    x, s = torch.randn(2, CHANNELS, SIZE, SIZE), torch.randn(2, len(SCALARS))
    other = s.clone()
    other[:, -3:] += 5
    torch.testing.assert_close(back(x, s).logits, back(x, other).logits)
    assert not torch.allclose(back(x, s).logits, back(x, s + 5).logits)


@pytest.mark.parametrize("damage", ["cut", "absent", "other"])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "n.safetensors"
    save_network(net(1), ("a", "b", "c"), path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "absent":
        path.unlink()
    else:
        about = '{"shape": {"widths": [4], "blocks": [1], "varieties": 1}, "varieties": []}'
        save_file({"a": torch.zeros(1)}, path, {"about": about})
    with pytest.raises(ModelFault, match="train from scratch"):
        load_network(path)


def test_the_way_from_old_to_new_weights() -> None:
    old, new = net(1), net(2)
    for share in (0.0, 0.25, 1.0):
        mixed = interpolate(old, new, share)
        for name, value in mixed.state_dict().items():
            a, b = old.state_dict()[name], new.state_dict()[name]
            expected = a + share * (b - a) if value.dtype.is_floating_point else b
            torch.testing.assert_close(value, expected)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)


def test_torchvision_works_beside_the_torch_that_is_there() -> None:
    code = """
from inspect_pop.learn.network import import_torchvision
import torch
v2 = import_torchvision("torchvision.transforms.v2")
print(tuple(v2.functional.horizontal_flip(torch.arange(4.0).reshape(1, 2, 2)).flatten().tolist()))
net = import_torchvision("torchvision.models").mobilenet_v3_small(weights=None, num_classes=5).eval()
print(tuple(net(torch.zeros(1, 3, 64, 64)).shape))
"""
    done = run(code)
    assert done.stdout.split("\n")[:2] == ["(1.0, 0.0, 3.0, 2.0)", "(1, 5)"], done.stderr


def test_the_detour_is_still_needed() -> None:
    """When this fails, a plain import works: delete `network.import_torchvision`."""
    assert "torchvision::nms does not exist" in run("import torchvision").stderr


def test_another_fault_is_not_swallowed() -> None:
    code = """
import importlib, sys
from inspect_pop.learn import network
def broken(name): raise RuntimeError("disk on fire")
network.importlib.import_module = broken
network.import_torchvision()
"""
    assert "disk on fire" in run(code).stderr

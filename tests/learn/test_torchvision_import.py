import subprocess
import sys

import pytest

pytestmark = pytest.mark.training
pytest.importorskip("torch")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)


def test_torchvision_works_beside_the_torch_that_is_there() -> None:
    code = """
from inspect_pop.learn.torchvision_import import import_torchvision
import torch
v2 = import_torchvision("torchvision.transforms.v2")
print(tuple(v2.functional.horizontal_flip(torch.arange(4.0).reshape(1, 2, 2)).flatten().tolist()))
net = import_torchvision("torchvision.models").mobilenet_v3_small(weights=None, num_classes=5).eval()
print(tuple(net(torch.zeros(1, 3, 64, 64)).shape))
"""
    done = run(code)
    assert done.stdout.split("\n")[:2] == ["(1.0, 0.0, 3.0, 2.0)", "(1, 5)"], done.stderr


def test_the_detour_is_still_needed() -> None:
    """When this fails, a plain import works: delete `learn/vision_import.py`."""
    assert "torchvision::nms does not exist" in run("import torchvision").stderr


def test_another_fault_is_not_swallowed() -> None:
    code = """
import importlib, sys
from inspect_pop.learn import vision_import
def broken(name): raise RuntimeError("disk on fire")
vision_import.importlib.import_module = broken
vision_import.import_torchvision()
"""
    assert "disk on fire" in run(code).stderr

"""Import torchvision beside the CPU build of torch.

The package index has torchvision's CUDA build only. Beside the CPU build of torch its import fails with `operator
torchvision::nms does not exist` (pytorch/vision issue 9085): it registers a fake for operators whose native library did
not load. Declaring the operators first lets the import through; models, `transforms.v2` and export then work, `ops.nms`
and the detection models do not, and are not used here.

Delete this module, and import torchvision where it is called, once the index has a torchvision whose plain import
works beside the CPU build of torch: `test_vision_import.py` fails on that day.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = ["import_torchvision"]

_FAULT = "operator torchvision::nms does not exist"
# A library that is collected takes its operators with it.
_KEPT: list[Any] = []


def import_torchvision(name: str = "torchvision") -> ModuleType:
    """The module of that name, such as `torchvision.transforms.v2`. Any other fault of the import is raised as it is."""
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if _FAULT not in str(error):
            raise
    for loaded in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[loaded]  # half loaded
    _declare_operators()
    return importlib.import_module(name)


def _declare_operators() -> None:
    from torch.library import Library

    library = Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    _KEPT.append(library)

"""Inspect the solder joints of Package-on-Package assemblies: from a machine's export to verdicts and a yield record.

    import inspect_pop as pop

    result = pop.Inspector().inspect("datasets/sample/boards/PB2411-010204")

The names of `inspect_pop.api` are attributes of this package. They are imported on first use, so that `import inspect_pop`
and the command line stay quick.
"""

import os
from importlib import import_module
from typing import Any

# onnxruntime sends figures of use to its maker, unless this is set before it is loaded. Nothing of a plant leaves it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"

__all__ = [
    "InspectionResult",
    "Inspector",
    "JointTable",
    "JointView",
    "Limits",
    "Picture",
    "PopError",
    "Segmentation",
    "__version__",
    "compute_yield",
    "find_exports",
    "open_export",
    "open_store",
    "segment_picture",
    "simulate_boards",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("inspect_pop.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

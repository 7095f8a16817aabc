"""A labelled batch of several small boards, models to begin with, and a quicker exporter."""

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.learn.models import make_model

SAMPLE = Path(__file__).resolve().parents[2] / "datasets" / "sample"


def make_batch(folder: Path, serials: list[str], *, line: str = "A") -> Path:
    """Copies of the sample board under other serials, with its labels."""
    (board,) = (SAMPLE / "boards").iterdir()
    shutil.copytree(SAMPLE / "recipes", folder / "recipes", copy_function=shutil.copyfile)
    head, *rows = (SAMPLE / "labels.csv").read_text().splitlines()
    lines = [head]
    for serial in serials:
        copy = Path(shutil.copytree(board, folder / "boards" / serial, copy_function=shutil.copyfile))
        manifest = json.loads((copy / "export.json").read_text())
        (copy / "export.json").write_text(json.dumps(manifest | {"serial": serial, "line": line}))
        lines += [row.replace(board.name, serial, 1) for row in rows]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five labelled boards of 88 joints; not to be written to."""
    return make_batch(tmp_path_factory.mktemp("labelled") / "batch", [f"PB-{k}" for k in range(5)])


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a network that knows nothing of real joints."""
    return make_model(tmp_path_factory.mktemp("models") / "stand-in", metrics={})


@contextmanager
def export_by_tracing() -> Iterator[None]:
    """Export networks by the exporter that torch keeps for older programs: in 0.1 s, where the product's takes four.

    For tests of what is exported; `test_to_onnx`, `test_fit` and `test_distributed` run the product's.
    """
    torch = pytest.importorskip("torch")
    import onnx

    export = torch.onnx.export

    def trace(module: Any, example: Any, *, dynamic_shapes: Any, dynamo: bool, optimize: bool, **names: Any) -> Any:
        written = io.BytesIO()
        axes = {name: {0: "joints"} for name in names["input_names"]}
        export(module, example, written, dynamic_axes=axes, dynamo=False, opset_version=18, **names)
        return SimpleNamespace(model_proto=onnx.load_from_string(written.getvalue()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", trace)
        yield


@pytest.fixture(scope="module")
def quick_exports() -> Iterator[None]:
    """Export quickly in a whole module."""
    with export_by_tracing():
        yield


@pytest.fixture
def quick_export() -> Iterator[None]:
    """Export quickly in one test."""
    with export_by_tracing():
        yield

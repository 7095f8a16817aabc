"""A labelled batch of several small boards, and models to begin with."""

import json
import shutil
from pathlib import Path

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

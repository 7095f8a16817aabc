"""Every input of the fuzz corpus again: seeds, and whatever once broke a reader."""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.ingest.bounded import within_bounds

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")
HARNESSES = ("manifest", "recipe", "tiff", "labels", "service", "convert", "cad")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Callable[[bytes], None]]]:
    """Gives the function `one` of a harness by its name."""
    folder = str(ROOT / "scripts" / "fuzz")
    sys.path.insert(0, folder)
    common = import_module("common")
    common.work.append(tmp_path_factory.mktemp("fuzz") / "batch")
    yield lambda name: import_module(name).one
    sys.path.remove(folder)
    for name in (*HARNESSES, "common"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("path", sorted(p for p in CORPUS.glob("*/*") if p.is_file()), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_input_is_read_or_refused(path: Path, harness: Callable[[str], Callable[[bytes], None]]) -> None:
    one = harness(path.parent.name)
    with within_bounds():
        one(path.read_bytes())


@pytest.mark.parametrize("name", HARNESSES)
def test_every_harness_has_seeds_that_are_read(name: str, harness: Callable[[str], Callable[[bytes], None]]) -> None:
    assert list((CORPUS / name).glob("*.seed"))
    harness(name)(b"")

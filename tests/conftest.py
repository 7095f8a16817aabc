"""What all tests share."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# A test asserts no times: what takes longer on a busy machine is not wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-long", action="store_true", help="also run what takes minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-long"):
        return
    skip = pytest.mark.skip(reason="takes minutes: ask with --run-long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of pages and sample exports beside the checkout."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("no shared folder beside the checkout")
    return path


@pytest.fixture
def small_batch(tmp_path: Path) -> Path:
    """A writable copy of the sample batch: recipes, one board, its labels."""
    sample = Path(__file__).resolve().parents[1] / "datasets" / "sample"
    return Path(shutil.copytree(sample, tmp_path / "batch", copy_function=shutil.copyfile))


@pytest.fixture
def small_board(small_batch: Path) -> Path:
    """The one board of `small_batch`: a folder with `export.json`."""
    (manifest,) = small_batch.glob("boards/*/export.json")
    return manifest.parent

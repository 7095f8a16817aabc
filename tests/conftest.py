"""What all tests share."""

import logging
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from tests.store.object_store import KEYS, Gate, ObjectStore

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


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    """Begin and leave each test with the usual file mode mask, which commands make stricter for their process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def _usual_logging() -> None:
    """Let the package's logs through, whatever a library or a command of an earlier test has set in this process."""
    logging.disable(logging.NOTSET)
    root = logging.getLogger()
    root.setLevel(min(root.level, logging.WARNING))
    for name in [name for name in logging.Logger.manager.loggerDict if name.split(".")[0] == "inspect_pop"]:
        logger = logging.getLogger(name)
        logger.disabled, logger.propagate = False, True


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


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real S3 server of our own, with one bucket called `bucket`."""
    if find_spec("s3fs") is None or find_spec("moto") is None:
        pytest.skip("s3fs and moto are not installed: inspect_pop[object-store,dev] brings them")
    started = ObjectStore(tmp_path_factory.mktemp("s3"))
    try:
        started.make("bucket")
        yield started
    finally:
        started.close()


@pytest.fixture
def object_store_gate(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A way to the server that this test alone may shut; the environment, this process's and its children's, leads there."""
    import fsspec.config
    import s3fs

    gate = Gate(object_store.port)
    for name in [n for n in os.environ if n.startswith(("AWS_", "FSSPEC"))]:
        monkeypatch.delenv(name)
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{gate.port}"}).items():
        monkeypatch.setenv(name, value)
    impatient = {"connect_timeout": 1, "read_timeout": 2, "retries": {"total_max_attempts": 1}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": impatient})
    monkeypatch.setattr("inspect_pop.store.remote_files._UPLOAD_S", 4.0)
    s3fs.S3FileSystem.clear_instance_cache()  # one that was made before knows another endpoint
    yield gate
    s3fs.S3FileSystem.clear_instance_cache()
    gate.shut()

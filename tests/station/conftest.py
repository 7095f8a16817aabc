"""A real service on a real socket, with an inspector that does what each export says."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from inspect_pop.station.serve import Server, listen
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.store import Store, open_store
from tests.station.fakes import write_board

REPO = Path(__file__).resolve().parents[2]
FACTORY = "tests.station.fakes:make_inspector"


@pytest.fixture(autouse=True)
def _children_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes import the fake inspector from this tree; none of them finds a service by accident."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]))
    for name in ("INSPECT_POP_SERVICE", "INSPECT_POP_TOKEN", "INSPECT_POP_STORE"):
        monkeypatch.delenv(name, raising=False)


class Running:
    """A service that runs in a thread: its address, its folder of exports, and its store."""

    def __init__(self, server: Server, root: Path) -> None:
        self.server, self.root = server, root
        self.settings = server.station.settings
        self.url = self.settings.url

    def board(self, serial: str, folder: str | None = None, **content: object) -> str:
        """The path of a new export."""
        return str(write_board(self.root / "boards" / (folder or serial), serial, **content))

    def post(self, path: str, **more: Any) -> httpx.Response:
        """Ask for one inspection."""
        return httpx.post(f"{self.url}/v1/inspections", json={"path": path}, timeout=300, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=300, **more)

    def store(self) -> Store:
        return open_store(self.settings.store)

    def goes_on(self) -> bool:
        """Whether it still inspects a board."""
        answer = self.post(self.board(f"GOES-ON-{os.urandom(4).hex()}"), headers=self.headers())
        return answer.status_code == 200 and answer.json()["verdict"] == "pass"

    def headers(self) -> dict[str, str]:
        return {"Authorization": "Bearer the-admin"} if self.settings.tokens else {}


@contextmanager
def running(tmp_path: Path, **settings: Any) -> Iterator[Running]:
    root = tmp_path / "exports"
    (root / "boards").mkdir(parents=True, exist_ok=True)
    options = {
        "roots": (root,),
        "store": str(tmp_path / "records.db"),
        "port": 0,
        "workers": 1,
        "inspector_factory": FACTORY,
    } | settings
    with pytest.MonkeyPatch.context() as patch, listen(ServiceSettings(**options)) as (server, bound):
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]))  # where the factory is
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            thread.join(0.01)
        assert server.started
        try:
            yield Running(server, root)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start services with other settings."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(tmp_path, **settings))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service with small limits, shared by the tests of a module."""
    with _shared(tmp_path_factory, upload_bytes=1 << 20, header_s=1.0, body_idle_s=1.0) as service:
        yield service


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service with its usual times: on a busy machine a client may need more than a second from connecting to asking."""
    with _shared(tmp_path_factory, upload_bytes=1 << 20) as service:
        yield service


@contextmanager
def _shared(folders: pytest.TempPathFactory, **limits: Any) -> Iterator[Running]:
    with running(folders.mktemp("shared"), **limits) as service:
        yield service

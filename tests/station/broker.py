"""A real broker for tests: RabbitMQ with its AMQP 1.0 plugin, on ports and in a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import proton
    from proton.utils import BlockingConnection


SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def is_installed() -> bool:
    return SERVER.exists() and shutil.which("epmd") is not None and find_spec("proton") is not None


class Broker:
    """One node; `stop`, `kill` and `start` again keep its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._dist, self._epmd = _free_port(), _free_port(), _free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "enabled_plugins").write_text("[rabbitmq_amqp1_0].")
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = false\n")
        self._process: subprocess.Popen[bytes] | None = None
        # The node's own name server would be a daemon that outlives it: one in the foreground ends with the broker.
        self._names = subprocess.Popen(["epmd", "-port", str(self._epmd), "-address", "127.0.0.1"], stderr=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(SERVER)], env=self._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 300
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("the broker did not start")
            time.sleep(0.2)

    def kill(self) -> None:
        """kill -9, all of it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        self._names.terminate()
        self._names.wait()

    def connect(self) -> "BlockingConnection":
        from proton.utils import BlockingConnection

        return BlockingConnection(f"amqp://127.0.0.1:{self.port}", timeout=20, user="guest", password="guest")

    def everything_in(self, queue: str) -> "list[proton.Message]":
        """All messages of a durable queue, taken out."""
        import proton

        connection, found = self.connect(), []
        receiver = connection.create_receiver(f"/amq/queue/{queue}", credit=100)
        try:
            while True:
                found.append(receiver.receive(timeout=1.0))
                receiver.accept()
        except proton.Timeout:
            return found
        finally:
            connection.close()

    def _answers(self) -> bool:
        import proton

        try:
            self.connect().close()
        except (proton.ProtonException, OSError):
            return False
        return True

    def _environment(self) -> dict[str, str]:
        own = str(self.folder)
        return os.environ | {
            "HOME": own,
            "RABBITMQ_NODENAME": f"pop{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_MNESIA_BASE": f"{own}/mnesia",
            "RABBITMQ_LOG_BASE": f"{own}/log",
            "RABBITMQ_PID_FILE": f"{own}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{own}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{own}/rabbitmq",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])

"""A real S3 server for tests, in a process of its own, and a gate before it that can be shut, go silent or cut uploads."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

KEYS = {
    "AWS_ACCESS_KEY_ID": "pop",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # nobody asks the cloud's own address for keys
}


class ObjectStore:
    """moto's server; its objects live as long as it does."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._log = (folder / "moto.log").open("wb")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + 120
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"the S3 server did not start: {(folder / 'moto.log').read_text()}")
            time.sleep(0.1)

    def make(self, bucket: str) -> None:
        self._send("PUT", f"/{bucket}")

    def has(self, bucket: str) -> bool:
        return f"<Name>{bucket}</Name>" in self._send("GET", "/")

    def refuse(self, *, from_now_on: bool) -> None:
        """Whether keys are looked at: nobody's is known here."""
        self._send("POST", "/moto-api/reset-auth", b"0" if from_now_on else b"inf")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _send(self, method: str, path: str, body: bytes | None = None) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": "text/plain"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())


class Gate:
    """A port of its own that leads to the server. `cut_after`: a connection is dropped when so many bytes have gone in.

    `silent`: what goes in is swallowed. `shut` refuses connections, `open` takes them again on the same port.
    """

    def __init__(self, target: int) -> None:
        self._target, self.port = target, _free_port()
        self.cut_after: int | None = None
        self.silent = False
        self.served = 0
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        for one in list(self._open):
            _hang_up(one)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                inside, _ = listener.accept()
                self.served += 1
                self._open.add(inside)
                outside = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._carry, args=(inside, outside, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(outside, inside, False), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, inwards: bool) -> None:
        carried = 0
        with suppress(OSError):
            while block := source.recv(65536):
                carried += len(block)
                if inwards and self.cut_after is not None and carried > self.cut_after:
                    break
                if not (inwards and self.silent):
                    sink.sendall(block)
        for one in (source, sink):
            _hang_up(one)
            one.close()
            self._open.discard(one)


def _hang_up(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])

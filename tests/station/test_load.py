"""Many clients, two new models, a disk that fills up: every request has an answer, each board one record."""

import os
import queue
import resource
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from inspect_pop.store import open_store
from tests.station.conftest import Running, running

CLIENTS = 16
STORE_MIB = 64


@dataclass
class Tally:
    """What the clients saw."""

    answers: dict[str, dict[str, object]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    busy: int = 0
    full: int = 0
    without_retry_after: int = 0
    errors: list[httpx.HTTPError] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, serial: str, answer: httpx.Response) -> bool:
        """Whether the board is answered; a 503 is to be asked again."""
        with self.lock:
            self.statuses[answer.status_code] += 1
            if answer.status_code != 503:
                self.answers[serial] = answer.json()
                return True
            self.without_retry_after += "retry-after" not in answer.headers
            about = answer.json()["problem"]["about"]
            self.busy += about == "busy"
            self.full += about == "store"
            return False


@pytest.mark.parametrize("boards", [120, pytest.param(1000, marks=pytest.mark.long)])
def test_every_request_is_answered_and_each_board_has_one_record(tmp_path: Path, boards: int) -> None:
    for name in ("one", "two"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "digest").write_text(name)
    with disk(tmp_path / "disk") as place:
        settings = {"store": str(place / "records.db"), "model": tmp_path / "models" / "one", "workers": 2, "queue": 4}
        with running(tmp_path, **settings) as service:
            tally = Tally()
            work = _paths(service, boards)
            clients = [threading.Thread(target=_client, args=(service, work, tally)) for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            _wait(lambda: len(tally.answers) >= boards // 4)
            _swap(service, "two")
            _wait(lambda: len(tally.answers) >= boards // 2)
            with full(place, service):
                _wait(lambda: tally.full > 0)
            _swap(service, "one")
            for client in clients:
                client.join(300)
        _check(place / "records.db", tally, boards)


def _check(store_file: Path, tally: Tally, boards: int) -> None:
    assert tally.errors == []
    assert len(tally.answers) == boards
    assert set(tally.statuses) == {200, 503}
    assert tally.busy > 0 < tally.full
    assert tally.without_retry_after == 0
    assert {a["verdict"] for a in tally.answers.values()} == {"pass", "fail"}
    with open_store(store_file) as store:
        stored = {serial: [b.board for b in store.board(serial)] for serial in tally.answers}
        sent = Counter(m.record for m in store.waiting()[1])
    assert {s: [b.record for b in found] for s, found in stored.items()} == {s: [a["record"]] for s, a in tally.answers.items()}
    assert {found[0].model_digest for found in stored.values()} == {"one", "two"}
    assert set(sent.values()) == {4}
    assert set(sent) == {a["record"] for a in tally.answers.values()}


def _paths(service: Running, boards: int) -> "queue.SimpleQueue[tuple[str, str]]":
    work: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for i in range(boards):
        serial = f"L{i:04}"
        defects = {"U1.lower.A1": "open"} if i % 5 == 0 else {}
        work.put((serial, service.board(serial, defects=defects, seconds=0.005)))
    return work


def _client(service: Running, work: "queue.SimpleQueue[tuple[str, str]]", tally: Tally) -> None:
    pause = threading.Event()
    with httpx.Client(timeout=120) as client:
        while True:
            try:
                serial, path = work.get_nowait()
                while not tally.note(serial, client.post(f"{service.url}/v1/inspections", json={"path": path})):
                    pause.wait(0.05)  # sooner than Retry-After says: a test has less time than a line
            except queue.Empty:
                return
            except httpx.HTTPError as error:
                tally.errors.append(error)


def _swap(service: Running, name: str) -> None:
    answer = httpx.post(f"{service.url}/v1/model", json={"path": name}, timeout=120)
    assert answer.json() == {"model": name}


def _wait(condition: object) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if condition():  # type: ignore[operator]
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to that")


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A small disk of its own where one may be mounted; else a plain folder."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={STORE_MIB}m", "tmpfs", folder], capture_output=True, check=False
    )
    try:
        yield folder
    finally:
        if mount.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(place: Path, service: Running) -> Iterator[None]:
    """No byte more fits: the disk is filled, or where it is shared, the inspecting processes may not make files longer."""
    if os.path.ismount(place):
        filler = place / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(bytes(1 << 20))
        try:
            yield
        finally:
            filler.unlink()
        return
    pids = [w.process.pid for w in service.server.station.pool._workers]
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        for pid, limit in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)

"""kill -9 of the service, of the broker and of the hook at random moments: nothing accepted is lost or sent twice."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from inspect_pop.messages.publisher import NotDelivered, drain, sender_for
from inspect_pop.store import Store, open_store
from tests.station import broker as brokers
from tests.station.conftest import FACTORY, REPO
from tests.station.fakes import write_board

SERVE = """
import sys
from pathlib import Path
from inspect_pop.station.serve import serve
from inspect_pop.station.settings import ServiceSettings
root, store, cfx, factory = sys.argv[1:]
roots = (Path(root),)
sys.exit(serve(ServiceSettings(roots=roots, store=store, port=0, workers=1, inspector_factory=factory, cfx=cfx, stop_s=5)))
"""
HOOK = """
import sys
from inspect_pop.station.hook import StandaloneOptions, run_hook
from inspect_pop.station.contract import to_json
status, answer = run_hook(sys.argv[1], sys.argv[2], 60, standalone=StandaloneOptions(inspector_factory=sys.argv[3]))
print(to_json(answer), flush=True)
sys.exit(status)
"""
VERDICTS = {0: "pass", 1: "fail", 2: "review"}
AT_ONCE = 4


@dataclass
class HookResult:
    """A hook's exit status and answer for one board; the answer is None if the hook was killed."""

    serial: str
    expected: str
    status: int
    answer: dict[str, object] | None


class Line:
    """A service, its hooks, and where its messages go; any of them may be killed."""

    def __init__(self, folder: Path, cfx: str, seed: int) -> None:
        self.folder, self.cfx, self.random = folder, cfx, random.Random(seed)
        self.root, self.store = folder / "exports", folder / "records.db"
        self.results: list[HookResult] = []
        self._service: subprocess.Popen[bytes] | None = None
        self._count = 0

    def start(self) -> None:
        command = [sys.executable, "-c", SERVE, str(self.root), str(self.store), self.cfx, FACTORY]
        self._service = subprocess.Popen(command, cwd=REPO, stderr=subprocess.DEVNULL, start_new_session=True)

    def kill(self) -> None:
        if self._service is not None:
            self._service.send_signal(signal.SIGKILL)
            self._service.wait()
            self._service = None

    def round(self, kill_at_s: float, victims: list[str], broker: "brokers.Broker | None") -> None:
        """Several boards at once; at some moment these are killed, and what was killed begins again."""
        hooks = [self._hook() for _ in range(AT_ONCE)]
        killer = threading.Timer(kill_at_s, self._strike, (victims, hooks, broker))
        killer.start()
        for serial, expected, process in hooks:
            out, _ = process.communicate(timeout=120)
            self.results.append(HookResult(serial, expected, process.returncode, _answer(out)))
        killer.join()
        if "service" in victims:
            self.start()
        if broker is not None and "broker" in victims:
            broker.start()

    def _hook(self) -> tuple[str, str, "subprocess.Popen[bytes]"]:
        self._count += 1
        serial, expected = f"K{self._count:04}", self.random.choice(["pass", "fail"])
        content = {"defects": {"U1.lower.A1": "open"}} if expected == "fail" else {}
        board = write_board(self.root / "boards" / serial, serial, seconds=self.random.uniform(0, 0.1), **content)
        command = [sys.executable, "-c", HOOK, str(board), str(self.store), FACTORY]
        return serial, expected, subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _strike(
        self, victims: list[str], hooks: list[tuple[str, str, "subprocess.Popen[bytes]"]], broker: "brokers.Broker | None"
    ) -> None:
        if "service" in victims:
            self.kill()
        if "hook" in victims:
            self.random.choice(hooks)[2].kill()
        if broker is not None and "broker" in victims:
            broker.kill()


def _answer(out: bytes) -> dict[str, object] | None:
    try:
        answer: dict[str, object] = json.loads(out)
    except ValueError:
        return None
    return answer


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path, str(tmp_path / "cfx"), seed=1)
    line.root.mkdir()
    line.start()
    yield line
    line.kill()


def test_killed_service_and_hooks_lose_nothing(line: Line) -> None:
    wait_for(lambda: (line.folder / "records.db.service.json").exists())
    for kill_at_s, victims in ((0.3, ["service"]), (0.5, ["hook"]), (0.8, ["service", "hook"])):
        line.round(kill_at_s, victims, None)
    with open_store(line.store) as store:
        deliver(store, line.cfx)
        messages = [json.loads(f.read_text()) for f in Path(line.cfx).glob("*.json")]
        check(line, store, [m["UniqueID"] for m in messages if m["MessageName"] != "CFX.Heartbeat"])


@pytest.mark.long
@pytest.mark.broker
@pytest.mark.skipif(not brokers.is_installed(), reason="no RabbitMQ: apt-get install rabbitmq-server")
def test_fifty_rounds_with_a_broker(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker = brokers.Broker(tmp_path / "broker")
        stack.callback(broker.close)
        broker.start()
        line = Line(tmp_path, f"{broker.url}/queue/killed", seed=int(os.environ.get("KILL_SEED", "2")))
        line.root.mkdir()
        line.start()
        stack.callback(line.kill)
        for _ in range(50):
            victims = line.random.choice([["service"], ["hook"], ["broker"], ["service", "hook"], ["service", "broker"]])
            line.round(line.random.uniform(0, 2.5), victims, broker)
        line.kill()
        with open_store(line.store) as store:
            deliver(store, line.cfx)
            arrived = [m for m in broker.everything_in("killed") if m.subject != "CFX.Heartbeat"]
            check(line, store, [str(m.id) for m in arrived])


def check(line: Line, store: Store, delivered: list[str]) -> None:
    """No accepted board without a record, no record without its messages, none twice, no pass that was not inspected."""
    answered = [r for r in line.results if r.status in VERDICTS]
    assert answered, "every hook was killed: the test says nothing"
    for result in answered:
        assert result.answer is not None
        (stored,) = store.board(result.serial)
        assert (stored.board.verdict, VERDICTS[result.status]) == (result.expected, result.expected)
        assert result.answer["record"] == stored.board.record
    with store.reading() as connection:
        from sqlalchemy import text

        records = {r for (r,) in connection.execute(text("SELECT record FROM boards"))}
        sent = connection.execute(text("SELECT id, record FROM messages WHERE record IS NOT NULL")).all()
    assert {record for _, record in sent} == records
    assert len(sent) == 4 * len(records)
    assert {i for i, _ in sent} <= set(delivered)
    assert len(records) <= len(line.results)


def deliver(store: Store, cfx: str) -> None:
    """What a service would send when it is back; what a dead one held is free again after its lease."""
    wait_until = time.monotonic() + 180
    while store.waiting(0)[0] and time.monotonic() < wait_until:
        try:
            sender = sender_for(cfx)()
            drain(store, sender, "later")
            sender.close()
        except NotDelivered:
            pass
        if store.waiting(0)[0]:
            store.mark_failed([m.id for m in store.waiting()[1]], error="its sender is dead", retry_us=0)
    assert store.waiting(0)[0] == 0


def wait_for(condition: object) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if condition():  # type: ignore[operator]
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to that")

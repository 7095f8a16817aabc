#!/usr/bin/env python3
"""Run the service for hours under faults, and compare what it has with what was sent.

    python scripts/studies/soak.py --hours 2 --per-minute 6 --json soak.json
    python scripts/studies/soak.py --minutes 5 --per-minute 60 --fault-every 15

A line posts copies of one board, each with its serial, and asks again while it gets no answer. A receiver takes the messages. In
between, one fault at a time: the service is restarted (SIGTERM) or killed, a worker is killed, a worker stands still as on a
share that hangs, no file can grow (RLIMIT_FSIZE, as on a full disk), the receiver is away, and with `--clock-steps` the clock
is set forward and back (libfaketime).

Each period gives a row: memory (PSS of the service and its processes), open files, threads, boards answered, latency at the 50th
and 99th percentile, messages that wait. Exit status 1 if a board that was answered has no record or two, if messages of a record
did not arrive, or if memory or open files grew.
"""

import argparse
import http.client
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from inspect_pop.store import open_store

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from inspect_pop.cli import main; sys.exit(main())"
FAKETIME = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), *Path("/usr/lib64").glob("faketime/libfaketime.so.1")]
START_S = 120.0
ANSWER_S = 90.0  # the line gives a board up after this
GROWTH = 1.15  # of the median of the last third over that of the first: more is a leak


@dataclass
class Row:
    """One period. Memory in MB, latency in ms."""

    minute: float
    answered: int
    p50_ms: float | None
    p99_ms: float | None
    memory_mb: float
    files: int
    threads: int
    waiting: int | None
    faults: list[str]


@dataclass
class Sent:
    """What the line sent, and what came back."""

    verdicts: dict[str, str] = field(default_factory=dict)
    unanswered: list[str] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    repeats: int = 0


class Receiver:
    """Takes messages over HTTP and keeps their identifiers; while it is away it answers 503."""

    def __init__(self) -> None:
        self.ids: Counter[str] = Counter()
        self.is_away = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not receiver.is_away:
                    receiver.ids[json.loads(body)["UniqueID"]] += 1
                self.send_response(503 if receiver.is_away else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Service:
    """The service as a process, with a clock that can be set."""

    def __init__(self, folder: Path, cfx: str, jobs: int, *, has_clock: bool) -> None:
        self.folder, self.store = folder, folder / "records.db"
        self._clock, self.has_clock = folder / "clock", has_clock
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        arguments = ["serve", "--root", str(folder / "exports"), "--store", str(self.store), "--port", str(self.port)]
        self._command = [sys.executable, "-c", MAIN, *arguments, "--jobs", str(jobs), "--cfx", cfx]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.set_clock("+0")
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        if self.has_clock:
            environment |= {"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME_TIMESTAMP_FILE": str(self._clock)}
            environment |= {"FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        with (self.folder / "service.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment, cwd=self.folder)
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            with suppress(OSError, http.client.HTTPException, ValueError):
                if self.ask("GET", "/readyz")[0] == HTTPStatus.OK:
                    return
            time.sleep(0.2)
        raise SystemExit(f"the service was not ready after {START_S:g} s: {self.folder / 'service.log'}")

    def set_clock(self, offset: str) -> None:
        part = self._clock.with_suffix(".part")
        part.write_text(f"{offset}\n")
        part.replace(self._clock)

    def end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(120)
            self._process = None

    def list_processes(self) -> list[int]:
        """Return the service and all processes below it."""
        parents = {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        found = [] if self._process is None else [self._process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def measure(self) -> tuple[float, int, int]:
        """Return memory in MB, open files and threads of all processes."""
        memory = files = threads = 0
        for pid in self.list_processes():
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                memory += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
                threads += len(list(Path(f"/proc/{pid}/task").iterdir()))
        return memory / 1024, files, threads

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"} if body is not None else {})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read() or b"null")
        finally:
            connection.close()


class Line:
    """Posts boards, at most one at a time, and asks again while there is no answer."""

    def __init__(self, service: Service, board: Path, per_minute: float) -> None:
        self.service, self.sent = service, Sent()
        self._board, self._pause_s = board, 60.0 / per_minute
        self._manifest = json.loads((board / "export.json").read_text(encoding="utf-8"))
        exports = service.folder / "exports"
        shutil.copytree(board.parent.parent / "recipes", exports / "recipes")
        self._boards = exports / "boards"
        self._boards.mkdir()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        n = 0
        while not self._stop.is_set():
            started = time.monotonic()
            n += 1
            serial = f"SOAK-{n:06d}"
            folder = self._export(serial)
            self._post(serial, folder)
            shutil.rmtree(folder)
            self._stop.wait(max(0.0, self._pause_s - (time.monotonic() - started)))

    def _export(self, serial: str) -> Path:
        folder = self._boards / serial
        shutil.copytree(self._board, folder)
        (folder / "export.json").write_text(json.dumps(self._manifest | {"serial": serial}), encoding="utf-8")
        return folder

    def _post(self, serial: str, folder: Path) -> None:
        give_up = time.monotonic() + ANSWER_S
        while time.monotonic() < give_up:
            started = time.monotonic()
            try:
                status, answer = self.service.ask("POST", "/v1/inspections", {"path": str(folder)})
            except (OSError, http.client.HTTPException, ValueError):
                status, answer = 0, None
            if status == HTTPStatus.OK and answer["serial"] == serial:
                self.sent.latencies_ms.append((time.monotonic() - started) * 1000)
                self.sent.verdicts[serial] = answer["verdict"]
                return
            self.sent.repeats += 1
            time.sleep(0.5)
        self.sent.unanswered.append(serial)


class Faults:
    """One fault at a time, each of them undone before the next."""

    def __init__(self, service: Service, receiver: Receiver, seed: int, longest_s: float) -> None:
        self._service, self._receiver, self._longest_s = service, receiver, longest_s
        self._random = random.Random(seed)
        self._all: list[Callable[[], None]] = [
            self.restart, self.kill, self.kill_worker, self.hang_worker, self.fill_disk, self.receiver_away,
        ]  # fmt: skip
        self._all += [self.clock_forward, self.clock_back] if service.has_clock else []
        self._next: list[Callable[[], None]] = []
        self.happened: list[str] = []

    def strike(self) -> None:
        if not self._next:
            self._next = self._random.sample(self._all, len(self._all))
        fault = self._next.pop()
        self.happened.append(fault.__name__)
        fault()

    def _wait(self) -> None:
        time.sleep(self._random.uniform(0.3, 1.0) * self._longest_s)

    def restart(self) -> None:
        self._service.end(signal.SIGTERM)
        self._service.start()

    def kill(self) -> None:
        self._service.end(signal.SIGKILL)
        self._service.start()

    def kill_worker(self) -> None:
        for pid in self._service.list_processes()[1:][-1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def hang_worker(self) -> None:
        workers = self._service.list_processes()[1:]
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                self._wait()

    def fill_disk(self) -> None:
        for limit in (0, resource.RLIM_INFINITY):
            for pid in self._service.list_processes():
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            if limit == 0:
                self._wait()

    def receiver_away(self) -> None:
        self._receiver.is_away = True
        self._wait()
        self._receiver.is_away = False

    def clock_forward(self) -> None:
        self._service.set_clock("+3600s")
        self._wait()
        self._service.set_clock("+0")

    def clock_back(self) -> None:
        self._service.set_clock("-3600s")
        self._wait()
        self._service.set_clock("+0")


def measure_period(service: Service, line: Line, faults: Faults, began: float, n_before: int, n_faults: int) -> Row:
    took = sorted(line.sent.latencies_ms[n_before:])
    memory, files, threads = service.measure()
    waiting = None
    with suppress(OSError, http.client.HTTPException, ValueError):
        _, answer = service.ask("GET", "/readyz")
        waiting = answer.get("messages_waiting") if isinstance(answer, dict) else None
    p99 = took[min(len(took) - 1, int(0.99 * len(took)))] if took else None
    minute = (time.monotonic() - began) / 60
    median = statistics.median(took) if took else None
    return Row(minute, len(took), median, p99, memory, files, threads, waiting, faults.happened[n_faults:])


def run(service: Service, line: Line, faults: Faults, options: argparse.Namespace) -> list[Row]:
    """Return a row for each period."""
    rows: list[Row] = []
    began = time.monotonic()
    until, next_fault = began + options.seconds, began + options.fault_every
    n_before = n_faults = 0
    while time.monotonic() < until:
        period_ends = min(until, time.monotonic() + options.period)
        while time.monotonic() < period_ends:
            if time.monotonic() >= next_fault and time.monotonic() < until - options.fault_every / 2:
                faults.strike()
                next_fault = time.monotonic() + options.fault_every
            time.sleep(0.2)
        rows.append(measure_period(service, line, faults, began, n_before, n_faults))
        n_before, n_faults = len(line.sent.latencies_ms), len(faults.happened)
        print_row(rows[-1])
    return rows


def print_row(row: Row) -> None:
    latency = "     -      -" if row.p50_ms is None else f"{row.p50_ms:6.0f} {row.p99_ms:6.0f}"
    waiting = "-" if row.waiting is None else str(row.waiting)
    cells = f"{row.minute:7.1f} {row.answered:8d} {latency} {row.memory_mb:8.1f} {row.files:6d} {row.threads:7d} {waiting:>7}"
    print(f"{cells}  {', '.join(row.faults)}", flush=True)


def compare(service: Service, sent: Sent, receiver: Receiver) -> dict[str, Any]:
    """Compare what the store and the receiver have with what was sent."""
    with open_store(service.store, must_exist=True) as store:
        with store.reading() as connection:
            serials = connection.exec_driver_sql("SELECT serial, count(*) FROM boards GROUP BY serial").all()
            ids = {row[0] for row in connection.exec_driver_sql("SELECT id FROM messages WHERE record IS NOT NULL")}
        records = {str(serial): int(n) for serial, n in serials}
        quarantined = len(store.list_quarantine())
        n_waiting, _ = store.waiting()
    posted = sent.verdicts.keys() | set(sent.unanswered)
    return {
        "answered": len(sent.verdicts),
        "unanswered": len(sent.unanswered),
        "asked_again": sent.repeats,
        "records": sum(records.values()),
        "lost": sorted(sent.verdicts.keys() - records.keys()),
        "doubled": sorted(serial for serial, n in records.items() if n > 1),
        "unknown": sorted(records.keys() - posted),
        "quarantined": quarantined,
        "messages": len(ids),
        "messages_lost": len(ids - receiver.ids.keys()) if not n_waiting else None,
        "messages_waiting": n_waiting,
        "messages_sent_twice": sum(n > 1 for n in receiver.ids.values()),
        "verdicts": dict(Counter(sent.verdicts.values())),
    }


def find_growth(rows: list[Row]) -> dict[str, float | None]:
    """Return the median of the last third over that of the first, of memory and of open files; None of fewer than nine rows."""
    third = len(rows) // 3
    if third < 3:
        return {"memory_mb": None, "files": None}

    def compare_thirds(name: str) -> float:
        first, last = (statistics.median(getattr(r, name) for r in part) for part in (rows[:third], rows[-third:]))
        return float(last / first)

    return {name: compare_thirds(name) for name in ("memory_mb", "files")}


@contextmanager
def open_folder(where: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="inspect_pop-soak-", dir=where) as name:
        (Path(name) / "exports").mkdir()
        yield Path(name)


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Run it, and return everything that was measured."""
    board = options.board or next((ROOT / "datasets/sample/boards").iterdir())
    with open_folder(options.folder) as folder:
        receiver = Receiver()
        service = Service(folder, receiver.address, options.jobs, has_clock=bool(FAKETIME) and options.clock_steps)
        line = Line(service, board, options.per_minute)
        faults = Faults(service, receiver, options.seed, options.longest_fault)
        print(" minute answered  p50 ms p99 ms   MB PSS  files threads waiting  faults")
        try:
            service.start()
            line.start()
            rows = run(service, line, faults, options)
            line.stop()
            wait_for_messages(service, options.drain)
        finally:
            service.end(signal.SIGTERM)
            receiver.close()
        compared = compare(service, line.sent, receiver)
        growth = find_growth(rows)
    is_whole = not (compared["lost"] or compared["doubled"] or compared["unknown"] or compared["messages_lost"])
    is_steady = all(value is None or value <= GROWTH for value in growth.values())
    return {
        "seconds": options.seconds,
        "per_minute": options.per_minute,
        "faults": dict(Counter(faults.happened)),
        "has_clock_steps": service.has_clock,
        "compared": compared,
        "growth": growth,
        "is_whole": is_whole and compared["messages_waiting"] == 0,
        "is_steady": is_steady,
        "rows": [asdict(row) for row in rows],
    }


def wait_for_messages(service: Service, limit_s: float) -> None:
    """Wait until the receiver has all messages."""
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        with open_store(service.store, must_exist=True) as store:
            if store.waiting(0)[0] == 0:
                return
        time.sleep(1)


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", type=float, dest="hours")
    length.add_argument("--minutes", type=float, dest="minutes")
    parser.add_argument("--per-minute", type=float, default=6.0, help="boards a minute")
    parser.add_argument("--fault-every", type=float, default=60.0, metavar="S", help="seconds between faults")
    parser.add_argument("--longest-fault", type=float, default=10.0, metavar="S", help="seconds that a fault lasts at most")
    parser.add_argument("--period", type=float, default=60.0, metavar="S", help="seconds of a row")
    parser.add_argument("--drain", type=float, default=180.0, metavar="S", help="seconds that messages may wait at the end")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--clock-steps", action="store_true", help="also set the clock: libfaketime slows the service")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--board", type=Path, help="default: the committed sample")
    parser.add_argument("--folder", type=Path, help="where exports and store lie")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    options.seconds = options.minutes * 60 if options.minutes else (options.hours or 2.0) * 3600
    return options


def main() -> int:
    options = parse_options()
    result = soak(options)
    print(json.dumps({name: value for name, value in result.items() if name != "rows"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if result["is_whole"] and result["is_steady"] else 1


if __name__ == "__main__":
    sys.exit(main())

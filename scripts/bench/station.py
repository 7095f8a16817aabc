"""Measure what the station adds to an inspection: over HTTP, and as a new hook process with and without a service.

    python scripts/bench/station.py [BOARD…] [--boards 100] [--stream 500] [--hooks 5] [--jobs 2] [--folder DIR] [--json FILE]

One export is copied once per board, each copy with its serial, so that every request writes a record. Each round inspects one
copy in this process (`inspect_board`, and again with reading the manifest) and through the service, in alternating order, so that
both see the same state of the machine; the next round waits until the last page is written. The service's `Server-Timing` splits
what it adds: reading the manifest (`inspect` minus `inspect_board`), the record (rows, joint file, transaction), and the rest:
HTTP, processes and the answer. `service_adds_inspecting` is how much longer the inspection itself took in the service;
`service_adds_parts` is everything else, the steadier figure on a busy machine. `disk` is the time that the same bytes take on
the same disk without the product: three synced writes (joint file, folder, log). `record_less_disk` is the record without it.

`--stream N` posts N more boards, each as soon as the previous one is answered, and gives the 99th percentile over the median, for
the whole and for the parts. The hooks are new processes, with and without a service.

Without a BOARD two are measured: the committed sample, and one of 820 joints (`inspect-pop simulate --product apx17 --seed 3`).
"""

import one_thread  # noqa: F401

# isort: split
import argparse
import http.client
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

from inspect_pop.batch.jobs import tune_process
from inspect_pop.batch.run import count_cores
from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.limits import Limits
from inspect_pop.ingest import open_export
from inspect_pop.pipeline.board import inspect_board

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from inspect_pop.cli import main; sys.exit(main())"
WARM_UP = 5
FILE_BYTES, LOG_BYTES = 70_000, 300_000  # of a board of 820 joints, fifty of them defective


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", nargs="*", type=Path)
    parser.add_argument("--boards", type=int, default=100)
    parser.add_argument("--stream", type=int, default=0)
    parser.add_argument("--hooks", type=int, default=5)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where exports and store lie; on the disk of the line's machine")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tune_process()  # as the service does, so that a slower inspection in this process does not hide what the service adds
    figures = []
    with tempfile.TemporaryDirectory(prefix="inspect_pop-bench-", dir=options.folder) as folder:
        for i, board in enumerate(options.board or [sample(), simulate_sample(Path(folder) / "simulated")]):
            figures.append(measure(board, Path(folder) / f"board-{i}", options))
            print(json.dumps(figures[-1], indent=1), flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def sample() -> Path:
    return next((ROOT / "datasets" / "sample" / "boards").iterdir())


def simulate_sample(batch: Path) -> Path:
    """A board of 820 joints, many of them bad."""
    arguments = ["--product", "apx17", "--boards", "1", "--seed", "3", "--jobs", "1"]
    subprocess.run(
        [sys.executable, "-c", MAIN, "simulate", "--out", str(batch), *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    return next((batch / "boards").iterdir())


class Round(NamedTuple):
    """One board here and one through the service; milliseconds."""

    alone: float
    with_reading: float
    disk: float
    there: "There"


class There(NamedTuple):
    """One board through the service: all of it, its inspection and its record; milliseconds. And where its page will lie."""

    took: float
    inspect: float
    record: float
    page: str

    @property
    def rest(self) -> float:
        return self.took - self.inspect - self.record


def measure(board: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures, in milliseconds where the name does not say otherwise."""
    folder.mkdir()
    paths = copies(board, folder / "batch", options.boards + WARM_UP + options.stream + 2 * options.hooks)
    classifier, limits = Classifier(load(options.model)), Limits()
    with service(folder, options) as url:
        pages = folder / "records-pages"
        rounds = [one_round(url, pages, next(paths), classifier, limits, i) for i in range(options.boards + WARM_UP)][WARM_UP:]
        streamed = [post(url, path) for path in list(islice(paths, options.stream))]
        hooks = [hook(next(paths), folder / "records.db") for _ in range(options.hooks)]
    lone = [hook(next(paths), folder / "lone.db", *model_of(options)) for _ in range(options.hooks)]
    about = {"joints": joints_of(board), "boards": options.boards, "processes": options.jobs, "cores": os.cpu_count()}
    return (
        about
        | {"load_1_min": round(os.getloadavg()[0], 2)}
        | figures_of(rounds)
        | stream_of(streamed)
        | hooks_of(hooks, lone, rounds)
    )


def one_round(url: str, pages: Path, path: Path, classifier: Classifier, limits: Limits, number: int) -> Round:
    """The same board here and there; whoever is second finds the pictures in the processor's nearest memory."""
    in_process: tuple[float, float] = (0.0, 0.0)
    there, disk_ms = There(0.0, 0.0, 0.0, ""), 0.0
    for turn in (number, number + 1):
        if turn % 2:
            in_process = inspect_alone(path, classifier, limits)
        else:
            disk_ms = disk(path)
            there = post(url, path)
            until_idle(url, pages / there.page)
    return Round(*in_process, disk_ms, there)


def inspect_alone(path: Path, classifier: Classifier, limits: Limits) -> tuple[float, float]:
    """`inspect_board` alone, and with `open_export`."""
    started = perf_counter()
    export = open_export(path)
    opened_at = perf_counter()
    inspect_board(export, classifier, limits, started_at=datetime.now(UTC).isoformat(), read_ahead=count_cores() > 1)
    done = perf_counter()
    return 1e3 * (done - opened_at), 1e3 * (done - started)


def figures_of(rounds: list[Round]) -> dict[str, Any]:
    def median(of: Callable[[Round], float]) -> float:
        return round(statistics.median(of(r) for r in rounds), 2)

    middle, p99 = median(lambda r: r.there.took), quantile([r.there.took for r in rounds], 0.99)
    return {
        "inspect_board": median(lambda r: r.alone),
        "inspect_board_p99": round(quantile([r.alone for r in rounds], 0.99), 1),
        "open_and_inspect_board": median(lambda r: r.with_reading),
        "service_median": middle,
        "service_p99": round(p99, 1),
        "service_p99_over_median": round(p99 / middle, 2),
        "service_over_inspect_board": round(middle / median(lambda r: r.alone), 3),
        "service_adds": median(lambda r: r.there.took - r.alone),
        "service_adds_parts": median(lambda r: r.with_reading - r.alone + r.there.record + r.there.rest),
        "service_adds_reading": median(lambda r: r.with_reading - r.alone),
        "service_adds_inspecting": median(lambda r: r.there.inspect - r.with_reading),
        "service_adds_record": median(lambda r: r.there.record),
        "service_adds_rest": median(lambda r: r.there.rest),
        "disk": median(lambda r: r.disk),
        "disk_p99": round(quantile([r.disk for r in rounds], 0.99), 1),
        "record_less_disk": median(lambda r: r.there.record - r.disk),
    }


def stream_of(boards: list[There]) -> dict[str, Any]:
    """Of boards that come one at once after the other."""
    if not boards:
        return {}
    took = [b.took for b in boards]
    middle, p99 = statistics.median(took), quantile(took, 0.99)
    parts = {"inspect": [b.inspect for b in boards], "record": [b.record for b in boards], "rest": [b.rest for b in boards]}
    stream_ms = {f"stream_{name}": [round(statistics.median(ms), 1), round(quantile(ms, 0.99), 1)] for name, ms in parts.items()}
    return {
        "stream_boards": len(boards),
        "stream_median": round(middle, 1),
        "stream_p99_over_median": round(p99 / middle, 2),
        **stream_ms,
    }


def hooks_of(hooks: list[float], lone: list[float], rounds: list[Round]) -> dict[str, Any]:
    if not hooks:
        return {}
    with_service = statistics.median(hooks)
    return {
        "hook_with_service": round(with_service, 1),
        "hook_adds": round(with_service - statistics.median(r.there.took for r in rounds), 1),
        "hook_alone": round(statistics.median(lone), 1),
    }


def joints_of(board: Path) -> int:
    recipe = open_export(board).recipe
    return sum(len(interface.ball) for package in recipe.packages for interface in package.interfaces)


def copies(board: Path, batch: Path, n: int) -> Iterator[Path]:
    """`n` exports with the board's pictures (hard links) and serials of their own."""
    board = board.resolve()
    shutil.copytree(board.parents[1] / "recipes", batch / "recipes")
    manifest = json.loads((board / "export.json").read_text())
    for i in range(n):
        copy = batch / "boards" / f"B{i:05}"
        shutil.copytree(board, copy, copy_function=shutil.copyfile if i == 0 else _link_to(batch / "boards" / "B00000", board))
        (copy / "export.json").unlink()
        (copy / "export.json").write_text(json.dumps(manifest | {"serial": f"B{i:05}"}))
        yield copy


def _link_to(first: Path, board: Path) -> Callable[[str, str], None]:
    return lambda source, target: os.link(first / Path(source).relative_to(board), target)


@contextmanager
def service(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    command = [sys.executable, "-c", MAIN, "serve", "--root", str(folder), "--store", str(folder / "records.db"), "--port", "0"]
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen([*command, "--jobs", str(options.jobs), *model_of(options)], stderr=log, cwd=ROOT)
    address_file = folder / "records.db.service.json"
    try:
        while not address_file.exists() or not answers(json.loads(address_file.read_text())["url"]):
            if process.poll() is not None:
                raise SystemExit((folder / "service.log").read_text())
            sleep(0.05)
        yield json.loads(address_file.read_text())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def answers(url: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def post(url: str, path: Path) -> There:
    """One request on a connection of its own, as the hook makes it: all of it, and the service's inspection and record."""
    started = perf_counter()
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("POST", "/v1/inspections", json.dumps({"path": str(path)}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    took = 1e3 * (perf_counter() - started)
    connection.close()
    if response.status != 200:
        raise SystemExit(f"status {response.status}: {answer['reason']}")
    inspect, record = (float(part.partition("dur=")[2]) for part in str(response.headers["Server-Timing"]).split(","))
    return There(took, inspect, record, f"{answer['record']}.html")


def until_idle(url: str, page: Path) -> None:
    """Until no inspecting process is at work, and the page of the board that was answered is written."""
    while not re.search(r"^inspect_pop_workers_busy 0", urlopen(f"{url}/metrics").read().decode(), re.MULTILINE):
        sleep(0.01)
    while not page.exists():
        sleep(0.01)


def disk(folder: Path) -> float:
    """What a record asks of the disk and nothing else: a file, its name in its folder, some pages more in a log, each synced."""
    started = perf_counter()
    write_synced(folder / "part", "wb", bytes(FILE_BYTES))
    (folder / "part").replace(folder / "file")
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
    write_synced(folder / "log", "ab", bytes(LOG_BYTES))
    return 1e3 * (perf_counter() - started)


def write_synced(file: Path, mode: str, content: bytes) -> None:
    with file.open(mode) as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def hook(path: Path, store: Path, *more: str) -> float:
    """A fresh process, from its start to its end."""
    command = [sys.executable, "-c", MAIN, "hook", str(path), "--store", str(store), *more]
    started = perf_counter()
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    took = 1e3 * (perf_counter() - started)
    if done.returncode not in (0, 1, 2):
        raise SystemExit(done.stdout.decode() + done.stderr.decode())
    return took


def model_of(options: argparse.Namespace) -> list[str]:
    return ["--model", str(options.model)] if options.model else []


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


if __name__ == "__main__":
    main()

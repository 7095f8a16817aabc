"""What the station adds to an inspection: over HTTP, and as a fresh hook process with and without a service.

    python scripts/bench/station.py [BOARD] [--boards 100] [--hooks 5] [--model DIR] [--json FILE]

One export is copied as many times as boards are asked for, each with a serial of its own, so that every request writes a
record. Each round inspects one of them here (`inspect_board`, and with reading the manifest) and through the service, so that
both see the same machine. Without a BOARD the committed sample is measured; for the figures of docs/station.md, a board of 820
joints (`inspect-pop simulate --product apx17`).
"""

import one_thread  # noqa: F401

# isort: split
import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, sleep
from typing import Any
from urllib.parse import urlsplit

import cv2

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.ingest import open_export
from inspect_pop.limits import Limits
from inspect_pop.pipeline import inspect_board

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from inspect_pop.cli import main; sys.exit(main())"
WARM_UP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("board", nargs="?", type=Path)
    parser.add_argument("--boards", type=int, default=100)
    parser.add_argument("--hooks", type=int, default=5)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    board = options.board or next((ROOT / "datasets" / "sample" / "boards").iterdir())
    with tempfile.TemporaryDirectory(prefix="inspect_pop-bench-") as folder:
        figures = measure(board, Path(folder), options)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(board: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures, in milliseconds where the name does not say otherwise."""
    paths = copies(board, folder / "batch", options.boards + WARM_UP + 3 * options.hooks)
    classifier, limits = Classifier(load(options.model)), Limits()
    alone_ms, with_reading_ms, service_ms, hook_ms, lone_ms, joints = [], [], [], [], [], 0
    with service(folder, options) as url:
        for i in range(options.boards + WARM_UP):
            path = next(paths)
            started = perf_counter()
            export = open_export(path)
            opened = perf_counter()
            inspection = inspect_board(export, classifier, limits, started_at=datetime.now(UTC).isoformat())
            done = perf_counter()
            joints = len(inspection.joints)
            took = timed(lambda path=path: post(url, path))
            if i >= WARM_UP:
                alone_ms.append(1e3 * (done - opened))
                with_reading_ms.append(1e3 * (done - started))
                service_ms.append(took)
        for _ in range(options.hooks):
            path = next(paths)
            hook_ms.append(timed(lambda path=path: hook(path, folder / "records.db")))
    for _ in range(options.hooks):
        path = next(paths)
        lone_ms.append(timed(lambda path=path: hook(path, folder / "lone.db", *model_of(options))))
    median = statistics.median
    return {
        "joints": joints,
        "boards": options.boards,
        "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "inspect_board": round(median(alone_ms), 1),
        "open_and_inspect_board": round(median(with_reading_ms), 1),
        "service_median": round(median(service_ms), 1),
        "service_p99": round(quantile(service_ms, 0.99), 1),
        "service_adds": round(median([s - a for s, a in zip(service_ms, alone_ms, strict=True)]), 1),
        "service_adds_to_open_and_inspect": round(median([s - a for s, a in zip(service_ms, with_reading_ms, strict=True)]), 1),
        "service_p99_over_median": round(quantile(service_ms, 0.99) / median(service_ms), 2),
        "hook_with_service": round(median(hook_ms), 1),
        "hook_adds": round(median(hook_ms) - median(service_ms), 1),
        "hook_alone": round(median(lone_ms), 1),
    }


def copies(board: Path, batch: Path, n: int) -> Iterator[Path]:
    """`n` exports with the board's pictures (hard links) and serials of their own."""
    board = board.resolve()
    shutil.copytree(board.parents[1] / "recipes", batch / "recipes")
    manifest = json.loads((board / "export.json").read_text())
    for i in range(n):
        copy = batch / "boards" / f"B{i:05}"
        shutil.copytree(board, copy, copy_function=shutil.copyfile if i == 0 else _linked(batch / "boards" / "B00000", board))
        (copy / "export.json").unlink()
        (copy / "export.json").write_text(json.dumps(manifest | {"serial": f"B{i:05}"}))
        yield copy


def _linked(first: Path, board: Path) -> Callable[[str, str], None]:
    return lambda source, target: os.link(first / Path(source).relative_to(board), target)


@contextmanager
def service(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    command = [sys.executable, "-c", MAIN, "serve", "--root", str(folder), "--store", str(folder / "records.db"), "--port", "0"]
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen([*command, "--jobs", str(options.jobs), *model_of(options)], stderr=log, cwd=ROOT)
    told = folder / "records.db.service.json"
    try:
        while not told.exists() or not answers(json.loads(told.read_text())["url"]):
            if process.poll() is not None:
                raise SystemExit((folder / "service.log").read_text())
            sleep(0.05)
        yield json.loads(told.read_text())["url"]
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


def post(url: str, path: Path) -> None:
    """One request on a connection of its own, as the hook makes it."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("POST", "/v1/inspections", json.dumps({"path": str(path)}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise SystemExit(f"status {response.status}: {answer['reason']}")


def hook(path: Path, store: Path, *more: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "hook", str(path), "--store", str(store), *more], capture_output=True, cwd=ROOT, check=False
    )
    if done.returncode not in (0, 1, 2):
        raise SystemExit(done.stdout.decode() + done.stderr.decode())


def model_of(options: argparse.Namespace) -> list[str]:
    return ["--model", str(options.model)] if options.model else []


def timed(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return 1e3 * (perf_counter() - started)


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


if __name__ == "__main__":
    main()

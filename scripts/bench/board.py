"""Measure how fast a board is inspected, against a lower bound and against a plain peer.

    python scripts/bench/board.py [BATCH…] [--repeat N] [--model DIR] [--no-peer] [--json FILE]

All figures come from one call, on the same boards, with one thread each: medians over `--repeat` rounds. Times are processor
time, which other programs disturb least; only the speed-up of several processes is wall time. docs/benchmarks.md explains the
figures. Without a BATCH the committed sample board is measured.
"""

import one_thread  # noqa: F401

# isort: split
import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import tifffile

from inspect_pop.batch.jobs import tune_process
from inspect_pop.batch.worker import inspect_path
from inspect_pop.classify.inputs import CHANNELS, SCALARS, JointInputs
from inspect_pop.classify.model import load
from inspect_pop.classify.session import BATCH, Classifier
from inspect_pop.core.limits import Limits
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.segment.windows import SIZE

ROOT = Path(__file__).resolve().parents[2]
RUNS = 3  # of each size; the time of a run varies by a tenth
ROUNDS_AROUND = 5  # rounds of `inspect_board` before and after each
Boards = Sequence[tuple[Path, Path]]


@dataclass
class Figures:
    """What one call measured; milliseconds of processor time a board unless the name says otherwise."""

    environment: dict[str, Any]
    boards: int
    joints: int
    floor_ms: dict[str, float] = field(default_factory=dict)
    steps_ms: dict[str, float] = field(default_factory=dict)
    inspect_board_ms: float = 0.0
    uncompressed_ms: dict[str, float] = field(default_factory=dict)
    run_ms: dict[str, float] = field(default_factory=dict)
    wall_ms: dict[str, float] = field(default_factory=dict)
    peer_ms: dict[str, float] = field(default_factory=dict)
    peer_steps_ms: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    joints_per_second: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: dict[str, float] = field(default_factory=dict)


def main() -> int:
    """Measure, print, and write the JSON file."""
    options = parse()
    tune_process()
    boards = find_exports(options.batch)
    classifier = Classifier(load(options.model))
    joints = sum(open_export(*b).recipe.n_joints for b in boards)
    figures = Figures(environment(), len(boards), joints)
    measure_floor(figures, boards, classifier, options.repeat)
    measure_steps(figures, boards, classifier, options.repeat)
    measure_uncompressed(figures, boards, classifier, options.repeat)
    if options.processes:
        measure_run(figures, boards, classifier, options)
    if options.peer:
        measure_peer(figures, boards)
    compare(figures)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(vars(figures), indent=1), encoding="utf-8")
    return 0


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", nargs="*", type=Path, default=[ROOT / "datasets" / "sample"])
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds over all boards")
    parser.add_argument("--copies", type=int, default=12, metavar="N", help="boards in the measured `run`, copies of those given")
    parser.add_argument(
        "--processes", type=int, nargs="*", default=[1, 2], metavar="N", help="of the measured `run`; none: leave it out"
    )
    parser.add_argument("--model", type=Path, metavar="DIR")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="leave the peer out (it needs torch and minutes)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    model = next((line.partition(": ")[2].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor())
    packages = ("inspect_pop", "numpy", "opencv-python-headless", "onnxruntime", "scipy", "tifffile")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def median_ms(work: Callable[[], Any], repeat: int, boards: int) -> float:
    """Median time of `work` over some rounds, in ms a board; the first round warms up and does not count."""
    work()
    times = []
    for _ in range(repeat):
        start = process_time()
        work()
        times.append(1e3 * (process_time() - start) / boards)
    return statistics.median(times)


def measure_floor(figures: Figures, boards: Boards, classifier: Classifier, repeat: int) -> None:
    """Measure decoding alone, and the network alone on as many crops as the boards have joints.

    The network is the faster one that the model has, seen once by each joint; the time of the exact one is given, too.
    """
    files = sorted({image.path for board in boards for image in open_export(*board).images})
    figures.floor_ms["decode"] = median_ms(lambda: [tifffile.imread(f, maxworkers=1) for f in files], repeat, len(boards))
    n = min(figures.joints, 16 * BATCH)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(n, CHANNELS, SIZE, SIZE)).astype(np.float32)
    inputs = JointInputs(images, rng.normal(size=(n, len(SCALARS))).astype(np.float32))
    model = classifier.model
    quick = Classifier(replace(model, network=model.network_8bit, network_8bit=b"")) if model.network_8bit else classifier
    for name, session in (("network", quick), ("network, exact", classifier)):
        once = median_ms(lambda session=session: session.raw(inputs), repeat, 1)
        figures.floor_ms[name] = once * figures.joints / n / len(boards)
    figures.floor_ms["decode and network"] = figures.floor_ms["decode"] + figures.floor_ms["network"]


def measure_steps(figures: Figures, boards: Boards, classifier: Classifier, repeat: int) -> None:
    """`inspect_board`, whole and by its own account of its steps, whose wall times are scaled to the processor's."""
    totals, steps = [], []
    for _ in range(repeat + 1):
        start, wall = process_time(), perf_counter()
        done = [inspect_path(*board, classifier, Limits()) for board in boards]
        spent, elapsed = process_time() - start, perf_counter() - wall
        totals.append(1e3 * spent / len(boards))
        steps += [{k: ms * spent / elapsed for k, ms in inspection.timings_ms.items()} for inspection in done]
    figures.inspect_board_ms = statistics.median(totals[1:])
    counted = steps[len(boards) :]
    figures.steps_ms = {name: statistics.median(s.get(name, 0.0) for s in counted) for name in counted[0]}
    figures.peak_memory_mib["inspect_board"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_uncompressed(figures: Figures, boards: Boards, classifier: Classifier, repeat: int) -> None:
    """Decoding and `inspect_board` once more, on the same pictures without compression."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = [
            (_write_uncompressed(board, root, Path(scratch) / str(n)), Path(scratch) / str(n))
            for n, (board, root) in enumerate(boards)
        ]
        files = sorted({image.path for board in plain for image in open_export(*board).images})
        decode = median_ms(lambda: [tifffile.imread(f, maxworkers=1) for f in files], repeat, len(plain))
        whole = median_ms(lambda: [inspect_path(*board, classifier, Limits()) for board in plain], repeat, len(plain))
    figures.uncompressed_ms = {"decode": decode, "inspect_board": whole}


def _write_uncompressed(board: Path, root: Path, copy: Path) -> Path:
    shutil.copytree(root / "recipes", copy / "recipes")
    target = Path(shutil.copytree(board, copy / "boards" / board.name))
    manifest = json.loads((board / "export.json").read_text(encoding="utf-8"))
    for entry in manifest["images"]:
        tifffile.imwrite(target / entry["file"], tifffile.imread(board / entry["file"]), photometric="minisblack")
        entry["sha256"] = hashlib.sha256((target / entry["file"]).read_bytes()).hexdigest()
    (target / "export.json").write_text(json.dumps(manifest), encoding="utf-8")
    return target


def measure_run(figures: Figures, boards: Boards, classifier: Classifier, options: argparse.Namespace) -> None:
    """`run` over copies of the boards, and `inspect_board` right before and after each: a machine's speed drifts."""
    walls = {}
    with tempfile.TemporaryDirectory() as scratch:
        for processes in options.processes:
            spent, walls[processes], ratio = _run_ms(boards, classifier, options, processes, Path(scratch))
            if processes == 1:  # the time of several processes cannot be read from outside
                figures.run_ms["1 process"] = spent
                figures.ratios["run over inspect_board, a board, 1 process"] = ratio
            figures.wall_ms[f"run, {processes} process{'es' if processes > 1 else ''}"] = walls[processes]
    if {1, 2} <= walls.keys():
        figures.ratios["work of 2 processes over 1, wall time"] = walls[1] / walls[2]
    figures.peak_memory_mib["a worker of run"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _run_ms(
    boards: Boards, classifier: Classifier, options: argparse.Namespace, processes: int, scratch: Path
) -> tuple[float, float, float]:
    """Measure processor and wall time per board, without start-up (the difference of two sizes), also over `inspect_board`.

    Medians of some rounds.
    """

    def alone() -> float:
        return median_ms(lambda: [inspect_path(*board, classifier, Limits()) for board in boards], ROUNDS_AROUND, len(boards))

    rounds = []
    for _ in range(RUNS):
        before = alone()
        few, many = (_run(boards, options, processes, n, scratch) for n in (options.copies, 3 * options.copies))
        spent, wall = (1e3 * (b - a) / (2 * options.copies) for a, b in zip(few, many, strict=True))
        rounds.append((spent, wall, 2 * spent / (before + alone())))
    spent, wall, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
    return spent, wall, ratio


def _run(boards: Boards, options: argparse.Namespace, processes: int, copies: int, scratch: Path) -> tuple[float, float]:
    """Seconds of processor time, workers included, and of wall time that a run of this many boards takes."""
    batch, out = scratch / uuid.uuid4().hex, scratch / uuid.uuid4().hex
    for n in range(copies):
        _copy(*boards[n % len(boards)], batch, n)
    command = [sys.executable, "-m", "inspect_pop", "run", str(batch), "--out", str(out), "--jobs", str(processes)]
    command += ["--model", str(options.model)] if options.model else []
    before, start = _children_cpu_s(), perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = _children_cpu_s() - before, perf_counter() - start
    shutil.rmtree(batch)
    shutil.rmtree(out)
    return seconds


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _copy(board: Path, root: Path, batch: Path, n: int) -> None:
    """The board once more under another serial; its images are links to the same files."""
    if not (batch / "recipes").exists():
        shutil.copytree(root / "recipes", batch / "recipes")
    target = batch / "boards" / f"{n:04}"
    shutil.copytree(board, target, copy_function=os.link)
    manifest = json.loads((board / "export.json").read_text(encoding="utf-8")) | {"serial": f"BENCH-{n:04}"}
    (target / "export.json").unlink()
    (target / "export.json").write_text(json.dumps(manifest), encoding="utf-8")


def measure_peer(figures: Figures, boards: Boards) -> None:
    """Both peers, crop by crop and in batches, once over the boards after a first one that does not count."""
    import peer
    import peer_job
    import torch

    torch.set_num_threads(1)
    lean, net = peer.network(), peer.network().to(memory_format=torch.channels_last)
    peer.inspect(boards[0][0], lean, True)
    peer_job.inspect(boards[0][0], net, True)
    for name, batched in (("crop by crop", False), ("batched", True)):
        done = [peer.inspect(board, lean, batched)[1] for board, _ in boards]
        figures.peer_ms[f"lean, {name}"] = 1e3 * statistics.median(sum(seconds.values()) for seconds in done)
        steps = [peer_job.inspect(board, net, batched).seconds for board, _ in boards]
        figures.peer_ms[f"same job, {name}"] = 1e3 * statistics.median(sum(seconds.values()) for seconds in steps)
        figures.peer_steps_ms = {step: 1e3 * statistics.median(s[step] for s in steps) for step in steps[0]}


def compare(figures: Figures) -> None:
    """Ratios and rates that follow."""
    joints, board = figures.joints / figures.boards, figures.inspect_board_ms
    floor = figures.floor_ms["decode and network"]
    exact = figures.floor_ms["decode"] + figures.floor_ms["network, exact"]
    plain = figures.uncompressed_ms
    figures.ratios["inspect_board over floor"] = board / floor
    figures.ratios["inspect_board over floor with the exact network"] = board / exact
    figures.joints_per_second["inspect_board"] = 1e3 * joints / board
    figures.joints_per_second["inspect_board, uncompressed"] = 1e3 * joints / plain["inspect_board"]
    figures.joints_per_second["floor"] = 1e3 * joints / floor
    figures.joints_per_second["floor, uncompressed"] = 1e3 * joints / (plain["decode"] + figures.floor_ms["network"])
    for name, ms in figures.run_ms.items():
        figures.joints_per_second[f"run, {name}, a core"] = 1e3 * joints / ms
    for name, ms in figures.peer_ms.items():
        figures.joints_per_second[f"peer, {name}"] = 1e3 * joints / ms
        figures.ratios[f"faster than the peer, {name}"] = ms / board


def show(figures: Figures) -> None:
    """The figures as text."""
    print(", ".join(f"{k} {v}" for k, v in figures.environment.items()))
    size = figures.joints / figures.boards
    print(f"{figures.boards} boards of {size:.0f} joints; ms of processor time a board, medians, one thread\n")
    for title, values, form in (
        ("floor", figures.floor_ms, "10.1f"),
        ("steps of inspect_board", figures.steps_ms, "10.1f"),
        ("whole", {"inspect_board": figures.inspect_board_ms} | {f"run, {k}": v for k, v in figures.run_ms.items()}, "10.1f"),
        ("uncompressed", figures.uncompressed_ms, "10.1f"),
        ("wall time", figures.wall_ms, "10.1f"),
        ("plain peer", figures.peer_ms, "10.1f"),
        ("steps of the peer of the same job, batched", figures.peer_steps_ms, "10.1f"),
        ("ratios", figures.ratios, "10.2f"),
        ("joints per second", figures.joints_per_second, "10.0f"),
        ("peak memory, MiB", figures.peak_memory_mib, "10.0f"),
    ):
        print(title, *(f"  {name:<48}{value:{form}}" for name, value in values.items()), sep="\n", end="\n\n")


if __name__ == "__main__":
    sys.exit(main())

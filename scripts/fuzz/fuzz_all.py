#!/usr/bin/env python
"""Run every harness in turn until each has used its share of the processor time, and print a summary.

    scripts/fuzz/fuzz_all.py --hours 4                     # total over all harnesses; Ctrl-C keeps the results so far
    chrt -i 0 scripts/fuzz/fuzz_all.py --hours 4 --jobs 2  # two at once, on a machine that has other work
    scripts/fuzz/fuzz_all.py --hours 0.2 tiff service      # only these harnesses

The figures of each turn are added to `.fuzz/log.csv`; the table sums them over all runs. An input that broke something is
written to `.fuzz/NAME-…` with the output; the harness goes on, and the exit status is 1. Time is processor time as the system
counts it (`wait4`), so that a busy machine makes a run longer but not its figures better.
"""

import argparse
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("manifest", "recipe", "tiff", "labels", "service", "convert", "cad")
TURN_S = 300.0  # processor time after which the next harness has its turn, about
LEAST_S = 10.0  # starting a harness takes half of it
stop = threading.Event()  # set by Ctrl-C or SIGTERM: running harnesses end, and their figures count
LOG = ROOT / ".fuzz" / "log.csv"
FINAL = {"inputs": r"stat::number_of_executed_units: +(\d+)", "peak_mb": r"stat::peak_rss_mb: +(\d+)", "edges": r"cov: (\d+)"}


@dataclass
class Turn:
    """One run of one harness: when it ended, processor seconds, inputs tried, branches seen, peak memory, findings (0 or 1)."""

    ended: str
    harness: str
    cpu_s: float
    inputs: int
    edges: int
    peak_mb: int
    found: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, required=True, help="processor hours in all")
    parser.add_argument("--jobs", type=int, default=1, help="harnesses at once")
    parser.add_argument("harness", nargs="*", help=f"of {', '.join(NAMES)}; all where none is named")
    options = parser.parse_args(arguments)
    names = tuple(options.harness) or NAMES
    if set(names) - set(NAMES):
        parser.error(f"no such harness: {', '.join(sorted(set(names) - set(NAMES)))}")
    LOG.parent.mkdir(exist_ok=True)
    share_s = options.hours * 3600 / len(names)
    rounds = max(1, round(share_s / TURN_S))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ThreadPoolExecutor(options.jobs) as pool:
        found = sum(pool.map(run_harness, names * rounds, [share_s / rounds] * len(names) * rounds))
    print(table(read()))
    return 1 if found else 0


def run_harness(name: str, share_s: float) -> int:
    """One harness until this time is used, from the beginning after each finding; how many there were."""
    used, found = 0.0, 0
    while share_s - used > LEAST_S and not stop.is_set():
        turn = one_turn(name, share_s - used)
        used, found = used + turn.cpu_s, found + turn.found
        write(turn)
    return found


def one_turn(name: str, most_s: float) -> Turn:
    """Run a harness until it has used this much processor time, or found something."""
    log_file = LOG.parent / f"{name}-{time.time_ns()}.txt"
    with log_file.open("wb") as out:
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), "-print_final_stats=1"]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True)
        status, cpu_s = wait_for_end(process.pid, most_s)
    shutil.rmtree(LOG.parent / "work" / f"{name}-{process.pid}", ignore_errors=True)
    output = log_file.read_text(encoding="utf-8", errors="replace")
    figures = {figure: int((re.findall(pattern, output) or [0])[-1]) for figure, pattern in FINAL.items()}
    found = status not in (
        0,
        signal.SIGUSR1,
        signal.SIGTERM,
    )  # a process that gets the signal before it has begun ends by the signal
    if not found:
        log_file.unlink()
    return Turn(time.strftime("%Y-%m-%dT%H:%M:%S"), name, round(cpu_s, 1), found=int(found), **figures)


def wait_for_end(pid: int, most_s: float) -> tuple[int, float]:
    """Exit status and processor seconds of a process that is asked to end (USR1, as libFuzzer has it) when it used enough."""
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage.ru_utime + usage.ru_stime
        if stop.is_set() or cpu_seconds(pid) > most_s:
            os.kill(pid, signal.SIGUSR1)
        time.sleep(1)


def cpu_seconds(pid: int) -> float:
    """Processor seconds that a process has used so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def write(turn: Turn) -> None:
    """Add a turn to the log."""
    new = not LOG.exists()
    with LOG.open("a", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        if new:
            rows.writerow([field.name for field in fields(Turn)])
        rows.writerow([getattr(turn, field.name) for field in fields(Turn)])


def read() -> list[dict[str, str]]:
    """All turns of the log."""
    if not LOG.exists():
        return []
    with LOG.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(turns: Sequence[dict[str, str]]) -> str:
    """The sums of each harness, as Markdown."""
    lines = ["| harness | processor time | inputs | branches seen | peak memory | found |", "|---|---|---|---|---|---|"]
    for name in NAMES:
        of_harness = [turn for turn in turns if turn["harness"] == name]
        if of_harness:
            minutes = sum(float(turn["cpu_s"]) for turn in of_harness) / 60
            inputs, found = (sum(int(turn[figure]) for turn in of_harness) for figure in ("inputs", "found"))
            edges, peak = (max(int(turn[figure]) for turn in of_harness) for figure in ("edges", "peak_mb"))
            lines.append(f"| {name} | {minutes:.1f} min | {inputs:,} | {edges:,} | {peak} MB | {found} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""Run every harness in turn until each has used its share of the processor time asked for, and tell what came of it.

    scripts/fuzz/all.py --hours 4                     # in all, over all harnesses; Ctrl-C keeps what was reached
    chrt -i 0 scripts/fuzz/all.py --hours 4 --jobs 2  # two at once, on a machine that has other things to do
    scripts/fuzz/all.py --hours 0.2 tiff service      # only these

Each turn's figures are added to `.fuzz/log.csv`, the table sums them up over all runs. An input that broke something lies in
`.fuzz/NAME-…` with what was said beside it; the harness goes on, and the exit status is 1. Time is the processor's, as the system
counts it (`wait4`): a busy machine makes a run longer, not its figures better.
"""

import argparse
import csv
import os
import re
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
NAMES = ("manifest", "recipe", "tiff", "labels", "service")
TURN_S = 300.0  # about the processor time after which the next harness has its turn
LEAST_S = 10.0  # starting one takes half of that
stop = threading.Event()  # by Ctrl-C or SIGTERM: what runs is asked to end, and its figures are kept
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
    asked = parser.parse_args(arguments)
    names = tuple(asked.harness) or NAMES
    if set(names) - set(NAMES):
        parser.error(f"no such harness: {', '.join(sorted(set(names) - set(NAMES)))}")
    LOG.parent.mkdir(exist_ok=True)
    share_s = asked.hours * 3600 / len(names)
    rounds = max(1, round(share_s / TURN_S))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ThreadPoolExecutor(asked.jobs) as pool:
        found = sum(pool.map(fuzzed, names * rounds, [share_s / rounds] * len(names) * rounds))
    print(table(read()))
    return 1 if found else 0


def fuzzed(name: str, share_s: float) -> int:
    """One harness until this time is used, from the beginning after each finding; how many there were."""
    used, found = 0.0, 0
    while share_s - used > LEAST_S and not stop.is_set():
        turn = one_turn(name, share_s - used)
        used, found = used + turn.cpu_s, found + turn.found
        write(turn)
    return found


def one_turn(name: str, most_s: float) -> Turn:
    """Run a harness until it has used this much processor time, or found something."""
    told = LOG.parent / f"{name}-{time.time_ns()}.txt"
    with told.open("wb") as out:
        command = [sys.executable, str(Path(__file__).with_name(f"{name}.py")), "-print_final_stats=1"]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True)
        status, cpu_s = ended(process.pid, most_s)
    said = told.read_text(encoding="utf-8", errors="replace")
    figures = {figure: int((re.findall(pattern, said) or [0])[-1]) for figure, pattern in FINAL.items()}
    found = status not in (
        0,
        signal.SIGUSR1,
        signal.SIGTERM,
    )  # asked to end before it had begun, it is ended by the signal itself
    if not found:
        told.unlink()
    return Turn(time.strftime("%Y-%m-%dT%H:%M:%S"), name, round(cpu_s, 1), found=int(found), **figures)


def ended(pid: int, most_s: float) -> tuple[int, float]:
    """Exit status and processor seconds of a process that is asked to end (USR1, as libFuzzer has it) when it used enough."""
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage.ru_utime + usage.ru_stime
        if stop.is_set() or used_s(pid) > most_s:
            os.kill(pid, signal.SIGUSR1)
        time.sleep(1)


def used_s(pid: int) -> float:
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
        own = [turn for turn in turns if turn["harness"] == name]
        if own:
            minutes = sum(float(turn["cpu_s"]) for turn in own) / 60
            inputs, found = (sum(int(turn[figure]) for turn in own) for figure in ("inputs", "found"))
            edges, peak = (max(int(turn[figure]) for turn in own) for figure in ("edges", "peak_mb"))
            lines.append(f"| {name} | {minutes:.1f} min | {inputs:,} | {edges:,} | {peak} MB | {found} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

"""A worker keeps the memory of one board for the next."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

LARGE_MB = 200
CODE = f"""
import gc
import numpy as np
def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
{{tune}}
before = resident_mb()
large = np.ones({LARGE_MB} * 1_000_000 // 8)
del large
{{then}}
print(resident_mb() - before)
"""


TUNE = "from inspect_pop.batch.jobs import release_memory, tune_process; tune_process()"


def growth_mb(tune: str, then: str = "") -> float:
    done = subprocess.run([sys.executable, "-c", CODE.format(tune=tune, then=then)], check=True, capture_output=True, text=True)
    return float(done.stdout)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs glibc")
def test_memory_stays_with_the_process() -> None:
    assert growth_mb("") < 0.5 * LARGE_MB
    assert growth_mb(TUNE) > 0.9 * LARGE_MB


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs glibc")
def test_memory_goes_back_when_it_is_given() -> None:
    assert growth_mb(TUNE, "release_memory()") < 0.2 * LARGE_MB


def test_nothing_happens_with_a_c_library_other_than_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_pop.batch import jobs

    monkeypatch.setattr(os, "confstr_names", {})
    monkeypatch.setattr(jobs.ctypes, "CDLL", lambda _: pytest.fail("asked the C library"))
    jobs.tune_process()
    jobs.release_memory()


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs glibc")
def test_what_boards_leave_in_circles_is_found_between_them() -> None:
    """Far fewer objects than Python would look for by itself, each with a lot of memory."""
    leave = f"""
from inspect_pop.batch.jobs import release_between_boards
gc.disable()
for board in range(32):
    circle = [np.ones({LARGE_MB} * 1_000_000 // 32 // 8)]
    circle.append(circle)
    del circle
    release_between_boards()
"""
    assert growth_mb(TUNE, leave) < 0.2 * LARGE_MB


def test_memory_that_leaps_is_given_back_once() -> None:
    from inspect_pop.batch.jobs import _PeakMemory

    peak, mb = _PeakMemory(), 1 << 20
    leaps = [peak.has_grown(held * mb) for held in (400, 430, 420, 480, 480, 430, 500, 545)]
    assert leaps == [False, False, False, True, False, False, False, True]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_what_is_held_is_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_pop.batch import jobs

    before = jobs._resident_bytes()
    with mmap.mmap(-1, 50 << 20) as block:  # not from memory that lies about free
        block.write(b"x" * len(block))
        assert jobs._resident_bytes() - before > 49 << 20
    monkeypatch.setattr(jobs, "_STATM", Path("/not/there"))
    assert jobs._resident_bytes() == 0

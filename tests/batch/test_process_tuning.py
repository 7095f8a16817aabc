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
{{settle}}
before = resident_mb()
large = np.ones({LARGE_MB} * 1_000_000 // 8)
del large
{{then}}
print(resident_mb() - before)
"""


SETTLE = "from inspect_pop.batch.process_tuning import give_back, settle_on_one_core; settle_on_one_core()"


def kept_mb(settle: str, then: str = "") -> float:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(settle=settle, then=then)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs glibc")
def test_memory_stays_with_the_process() -> None:
    assert kept_mb("") < 0.5 * LARGE_MB
    assert kept_mb(SETTLE) > 0.9 * LARGE_MB


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs glibc")
def test_memory_goes_back_when_it_is_given() -> None:
    assert kept_mb(SETTLE, "give_back()") < 0.2 * LARGE_MB


def test_nothing_happens_with_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_pop.batch import process_tuning as one_core

    monkeypatch.setattr(os, "confstr_names", {})
    monkeypatch.setattr(one_core.ctypes, "CDLL", lambda _: pytest.fail("asked the C library"))
    one_core.settle_on_one_core()
    one_core.give_back()


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs glibc")
def test_what_boards_leave_in_circles_is_found_between_them() -> None:
    """Far fewer objects than Python would look for by itself, each with a lot of memory."""
    leave = f"""
from inspect_pop.batch.process_tuning import between_boards
gc.disable()
for board in range(32):
    circle = [np.ones({LARGE_MB} * 1_000_000 // 32 // 8)]
    circle.append(circle)
    del circle
    between_boards()
"""
    assert kept_mb(SETTLE, leave) < 0.2 * LARGE_MB


def test_memory_that_leaps_is_given_back_once() -> None:
    from inspect_pop.batch.process_tuning import _Most

    most, mb = _Most(), 1 << 20
    leaps = [most.has_grown(held * mb) for held in (400, 430, 420, 480, 480, 430, 500, 545)]
    assert leaps == [False, False, False, True, False, False, False, True]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_what_is_held_is_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_pop.batch import process_tuning as one_core

    before = one_core._resident()
    with mmap.mmap(-1, 50 << 20) as kept:  # not from memory that lies about free
        kept.write(b"x" * len(kept))
        assert one_core._resident() - before > 49 << 20
    monkeypatch.setattr(one_core, "_STATM", Path("/not/there"))
    assert one_core._resident() == 0

"""The guard around every bad export works: without this, 'quickly and in little memory' would be an empty word."""

import signal

import numpy as np
import pytest

from tests.ingest import bounded
from tests.ingest.bounded import within_bounds


def test_what_computes_for_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "CPU_SECONDS", 0.05)
    with pytest.raises(TimeoutError), within_bounds():
        while True:
            pass


def test_what_waits_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "WAIT_SECONDS", 0.05)
    with pytest.raises(TimeoutError), within_bounds():
        signal.pause()


def test_what_takes_more_than_a_gigabyte_gets_none() -> None:
    with pytest.raises(MemoryError), within_bounds():
        np.empty((2 << 30,), dtype=np.uint8)
    with within_bounds():
        np.empty((1 << 29,), dtype=np.uint8)


def test_afterwards_all_is_as_before() -> None:
    with within_bounds():
        pass
    assert signal.getitimer(signal.ITIMER_PROF) == signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    np.empty((2 << 30,), dtype=np.uint8)

"""How an inspecting process is started, by the hook and by the service alike. Only the standard library."""

import os
import sys

__all__ = ["COMMAND", "environment"]

COMMAND = (sys.executable, "-m", "inspect_pop.station.worker")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment() -> dict[str, str]:
    """This process's own, with one thread for the numerical libraries where nothing else is said: processes are many enough."""
    return dict.fromkeys(_THREADS, "1") | dict(os.environ)

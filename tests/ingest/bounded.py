"""A test that hangs or takes all memory is ended, and fails."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

CPU_SECONDS = 5
WAIT_SECONDS = 30  # a machine may be busy with other things; what waits for a pipe waits for ever
MEMORY_BYTES = 1 << 30


@contextmanager
def within_bounds() -> Iterator[None]:
    """Ends what computes for longer than 5 s or waits without end, and gives no more than 1 GB of new memory."""

    def too_long(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {CPU_SECONDS} s")

    size_kb = int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = [(number, signal.signal(number, too_long)) for number in (signal.SIGPROF, signal.SIGALRM)]
    resource.setrlimit(resource.RLIMIT_AS, (size_kb * 1024 + MEMORY_BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in before:
            signal.signal(number, handler)

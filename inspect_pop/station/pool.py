"""The inspecting processes, and the log lines that no board waits for.

A pipe that nobody reads, or a disk that hangs, blocks whoever writes to it. That is the thread here, never the event loop.
"""

import asyncio
import contextlib
import json
import logging
import math
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from inspect_pop.core.errors import BusyFault, DeadlineFault, ModelFault, PopError
from inspect_pop.station.contract import WORKER_COMMAND, build_worker_environment

__all__ = ["LINES_WAITING", "BackgroundHandler", "Job", "Pool", "Worker", "WorkerDied", "WorkerReply", "log_output"]

LINES_WAITING = 10_000  # of some 300 bytes each
FLUSH_S = 1.0  # a process that ends waits so long for its last lines
_CHUNK_BYTES = 1 << 16


class BackgroundHandler(logging.Handler):
    """A log handler whose caller never waits: a daemon thread writes the lines to a file descriptor.

    Args:
        descriptor: Where the lines go, 2 for standard error.
        lines_waiting: Most lines that wait for the thread. Any more are dropped; the next line that is written has their number.
    """

    def __init__(self, descriptor: int = 2, lines_waiting: int = LINES_WAITING) -> None:
        super().__init__()
        self.n_dropped = 0
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(lines_waiting)
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record's line to the thread, or drop it."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except (TypeError, ValueError, RecursionError):  # a field that cannot be formatted costs its line only
            self.n_dropped += 1
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.n_dropped += 1

    def flush(self) -> None:
        """Wait for the lines that wait, at most a second."""
        until = time.monotonic() + FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)

    def _write_lines(self) -> None:
        n_reported = 0
        while True:
            line = self._lines.get()
            n_dropped = self.n_dropped
            if n_dropped > n_reported:
                lost = logging.makeLogRecord({"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"})
                lost.msg, lost.__dict__["lines"] = "log lines were dropped: nobody took them in time", n_dropped - n_reported
                line = self.format(lost).encode() + b"\n" + line
            if self._write(line):
                n_reported = n_dropped
            else:
                self.n_dropped += 1
            self._lines.task_done()

    def _write(self, line: bytes) -> bool:
        """Write a whole line. Return False if its reader is gone or its disk is full."""
        view = memoryview(line)
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(self._descriptor, view) :]
            return True
        return False


async def log_output(stream: asyncio.StreamReader, log: logging.Logger) -> None:
    """Log what a process prints until its end of the pipe closes, so that it never waits for a reader of the log."""
    while chunk := await stream.read(_CHUNK_BYTES):
        log.warning(chunk.decode("utf-8", "backslashreplace").strip())


# The inspecting processes: a bounded queue in front of a few warm worker processes, any of which may be killed.
#
# A worker process holds the model and answers jobs as lines of JSON (`worker.py`). One that does not answer within the time
# limit is killed and replaced; the boards behind it wait for the replacement, not for it.


Job = dict[str, Any]
WorkerReply = dict[str, Any]

LINE_LIMIT = 64 << 20  # an answer names every defective joint; 100,000 of them need less
CLOSE_PIPES_S = 1.0  # after the process ended; a process that it started may hold its pipes open
START_S = 120.0  # reading libraries and model from a cold disk is slow
RESTART_S = 2.0
log = logging.getLogger(__name__)
_worker_log = logging.getLogger("inspect_pop.station.worker")


class WorkerDied(PopError):
    """A worker process ended without an answer. `was_killed`: by a signal from outside, so that another try may succeed."""

    about = "worker"

    def __init__(self, status: int | None) -> None:
        self.was_killed = status in (-signal.SIGKILL, -signal.SIGTERM)
        super().__init__("the inspecting process", expected="an answer", found=f"it ended (status {status})")


class Worker:
    """One worker process as the service sees it."""

    def __init__(self, process: asyncio.subprocess.Process, generation: int) -> None:
        self.process, self.generation = process, generation
        self.rules: dict[str, Any] = {}  # by what it judges: the fields of `contract.Rules`
        self._reading = asyncio.Lock()
        errors = process.stderr
        self._logging = None if errors is None else asyncio.create_task(log_output(errors, _worker_log))

    @classmethod
    async def start(cls, command: Sequence[str], config: Job, generation: int) -> "Worker":
        """Start a process and wait until it is ready.

        Args:
            command: The program and its arguments.
            config: The first line that the process reads; see `worker.py`.
            generation: Which generation of the pool the worker belongs to.

        Raises:
            ModelFault: The process cannot start, for example because the model cannot be used.
        """
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            limit=LINE_LIMIT,
            start_new_session=True,
            env=build_worker_environment(),
        )
        worker = cls(process, generation)
        try:
            ready = await worker.send(config, START_S)
        except (TimeoutError, WorkerDied) as error:
            worker.kill()
            await worker.wait_closed()
            raise ModelFault("the inspecting process", expected="to start", found=str(error)) from error
        if not ready.get("ready"):
            worker.kill()
            await worker.wait_closed()
            problem = ready["answer"]["problem"]
            raise ModelFault(problem["thing"], **{k: problem[k] for k in ("expected", "found", "remedy")})
        worker.rules = ready["rules"]
        return worker

    async def send(self, job: Job, limit_s: float) -> WorkerReply:
        """Send a job and return its reply. Call `read` next: the process reports when it can take another job.

        Raises:
            TimeoutError: No reply within `limit_s` seconds.
            WorkerDied: The process ended.
        """
        stdin = self.process.stdin
        if stdin is None:
            raise WorkerDied(self.process.returncode)
        try:
            stdin.write(json.dumps(job).encode() + b"\n")
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise WorkerDied(await self._wait_for_status()) from error
        return await self.read(limit_s)

    async def read(self, limit_s: float) -> WorkerReply:
        """Return the next line that the process writes. Raises as `send` does."""
        if self.process.stdout is None:
            raise WorkerDied(self.process.returncode)
        async with asyncio.timeout(limit_s), self._reading:
            line = await self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise WorkerDied(await self._wait_for_status())
        reply: WorkerReply = json.loads(line)
        return reply

    async def _wait_for_status(self) -> int | None:
        """Return the exit status. A process that closed its output and does not end is killed (None)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_PIPES_S):
                return await self.process.wait()
        self.kill()
        return None

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close_input(self) -> None:
        """End the process after the job in progress."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    async def wait_closed(self) -> None:
        """Wait until the process has ended and its pipes are closed."""
        await self.process.wait()
        stdin, stdout = self.process.stdin, self.process.stdout
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            async with asyncio.timeout(CLOSE_PIPES_S), self._reading:
                if stdout is not None:
                    await stdout.read()
                if stdin is not None:
                    stdin.close()
                    await stdin.wait_closed()
        if self._logging is not None:
            await asyncio.wait([self._logging], timeout=CLOSE_PIPES_S)  # its last words
            self._logging.cancel()


class Pool:
    """A fixed number of workers behind a bounded queue.

    Args:
        config: The first line that each worker process reads; see `worker.py`.
        size: Number of workers.
        queue: Most jobs that wait.
        limit_s: Seconds per job, after which its worker is killed.
        command: The worker program and its arguments.
    """

    def __init__(self, config: Job, *, size: int, queue: int, limit_s: float, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._config, self._size, self._queue, self._limit_s, self._command = config, size, queue, limit_s, command
        self._idle: deque[Worker] = deque()
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._workers: set[Worker] = set()
        self._leaving: set[Worker] = set()  # asked to end, or killed, and not ended yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._is_stopping = False
        self._swap = asyncio.Lock()
        self.rules: dict[str, Any] = {}  # by what all workers of the generation judge
        self.recent_s = 0.5  # running mean of an inspection's time, for Retry-After

    @property
    def model(self) -> str:
        """Digest of the model."""
        return str(self.rules.get("model", ""))

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for a worker."""
        return len(self._waiting)

    @property
    def alive(self) -> int:
        """Number of workers that run with the current model."""
        return sum(w.generation == self._generation and w.process.returncode is None for w in self._workers)

    @property
    def busy(self) -> int:
        """Number of workers with a job."""
        return len(self._workers) - len(self._idle)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until the queue should have room again."""
        return max(1, math.ceil(self.recent_s * (self.waiting + 1) / self._size))

    async def start(self) -> None:
        """Start all workers, unless they run already. Raises `ModelFault` if the model cannot be used."""
        if self._workers:
            return
        workers = await self._start_workers(self._config, self._generation)
        self.rules = workers[0].rules
        for worker in workers:
            self._enlist(worker)

    async def submit(self, job: Job) -> WorkerReply:
        """Return a job's reply. A job whose worker was killed from outside is tried once more.

        Raises:
            BusyFault: The queue is full, or the pool is stopping.
            DeadlinePassed: The job took too long; its worker was killed.
            WorkerDied: The worker process ended.
        """
        try:
            return await self._try(job)
        except WorkerDied as error:
            if not error.was_killed:
                raise
        return await self._try(job)

    async def swap(self, **config: Any) -> str:
        """Change the workers' configuration and return the new model's digest.

        The old workers serve until all new ones are ready. Raises `ModelFault` if these cannot start; nothing changes then.
        """
        async with self._swap:
            new_config = self._config | config | {"expect": None}
            workers = await self._start_workers(new_config, self._generation + 1)
            self._config, self._generation = new_config, self._generation + 1
            self.rules = workers[0].rules
            while self._idle:
                self._retire(self._idle.popleft())
            for worker in workers:
                self._enlist(worker)
            return self.model

    def refuse_waiting(self) -> None:
        """Take no more jobs, and answer 'busy' to those that wait. Jobs in progress go on."""
        self._is_stopping = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(_stopping_fault())

    async def close(self, limit_s: float) -> None:
        """Refuse what waits, finish what is in progress, and end all workers, those that take longer than `limit_s` by a kill."""
        self.refuse_waiting()
        workers = self._workers | self._leaving
        for worker in workers:
            worker.close_input()
        ends = [asyncio.create_task(w.wait_closed()) for w in workers]
        if ends:
            await asyncio.wait(ends, timeout=limit_s)
            for worker in workers:
                worker.kill()
            await asyncio.gather(*ends)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._workers.clear()

    async def _start_workers(self, config: Job, generation: int) -> list[Worker]:
        """Start a whole generation of workers, or none."""
        results = await asyncio.gather(
            *(Worker.start(self._command, config, generation) for _ in range(self._size)), return_exceptions=True
        )
        errors = [r for r in results if isinstance(r, BaseException)]
        workers = [r for r in results if isinstance(r, Worker)]
        if any(w.rules != workers[0].rules for w in workers):
            errors.append(ModelFault("the model", expected="one for all processes", found="it changed while they started"))
        if errors:
            for worker in workers:
                worker.kill()
            await asyncio.gather(*(worker.wait_closed() for worker in workers))
            raise errors[0]
        return workers

    async def _try(self, job: Job) -> WorkerReply:
        worker = await self._acquire()
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            reply = await worker.send(job, self._limit_s)
        except TimeoutError as error:
            self._replace(worker)
            found = f"none after {self._limit_s:g} s"
            remedy = "Inspect this board by hand."
            raise DeadlineFault("the inspection", expected="an answer", found=found, remedy=remedy) from error
        except BaseException:
            self._replace(worker)
            raise
        self.recent_s = 0.8 * self.recent_s + 0.2 * (clock() - started)

        async def release_when_done() -> None:
            """Release the worker when it has written the board's page, too."""
            try:
                done = await worker.read(self._limit_s)
            except (TimeoutError, WorkerDied) as error:
                log.error("a worker did not finish", extra={"reason": str(error)})
                self._replace(worker)
            else:
                if done.get("spent"):
                    log.error("a worker ran out of memory and is replaced")
                    self._replace(worker)
                else:
                    self._release(worker)

        self._spawn(release_when_done())
        return reply

    async def _acquire(self) -> Worker:
        """Return an idle worker, or wait for one in the queue."""
        while self._idle and not self._is_stopping:
            worker = self._idle.popleft()
            if worker.process.returncode is None:
                return worker
            self._replace(worker)
        if self._is_stopping:
            raise _stopping_fault()
        if len(self._waiting) >= self._queue:
            raise BusyFault("the service", expected="room in the queue", found=f"{self._queue} waiting", remedy="Try again.")
        future: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._release(future.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)

    def _release(self, worker: Worker) -> None:
        """Give a free worker to the job that has waited longest, or keep it idle. End it if it has an earlier model."""
        self._workers.add(worker)
        if worker.generation != self._generation or self._is_stopping:
            self._retire(worker)
            return
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(worker)
                return
        self._idle.append(worker)

    def _enlist(self, worker: Worker) -> None:
        """Take a new worker into service. It is replaced if it dies while idle."""

        async def replace_if_idle() -> None:
            await worker.process.wait()
            if worker in self._idle and not self._is_stopping:
                log.error("an idle worker died", extra={"status": worker.process.returncode})
                self._idle.remove(worker)
                self._replace(worker)

        self._spawn(replace_if_idle())
        self._release(worker)

    def _retire(self, worker: Worker) -> None:
        self._discard(worker)
        worker.close_input()

    def _replace(self, worker: Worker) -> None:
        """Kill a worker and start another one of the current generation."""
        worker.kill()
        self._discard(worker)
        if self._is_stopping or worker.generation != self._generation:
            return

        async def start_another() -> None:
            """Try until a worker starts that judges as the others do. A newer generation needs none."""
            while not self._is_stopping and worker.generation == self._generation:
                try:
                    started = await Worker.start(self._command, self._config | {"expect": self.rules}, worker.generation)
                except (ModelFault, OSError) as error:
                    log.error("a worker cannot start", extra={"reason": str(error)})
                    await asyncio.sleep(RESTART_S)
                else:
                    self._enlist(started)
                    return

        self._spawn(start_another())

    def _discard(self, worker: Worker) -> None:
        """Take a worker out of service, and keep track of it until it has ended."""

        async def forget_when_closed() -> None:
            await worker.wait_closed()
            self._leaving.discard(worker)

        self._workers.discard(worker)
        self._leaving.add(worker)
        self._spawn(forget_when_closed())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _stopping_fault() -> BusyFault:
    return BusyFault("the service", expected="a service that takes work", found="it is stopping", remedy="Try again in a moment.")

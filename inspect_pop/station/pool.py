"""One inspecting process, as its service sees it: started, asked, let go or killed.

Inspecting processes that are warm, few, and can be killed: a bounded queue in front of worker processes.

Each worker is a process that holds the model and speaks one line of JSON at a time (`worker.py`). One that does not
answer within the time limit is killed and replaced; the boards behind it wait for the replacement, not for it.
"""

import asyncio
import contextlib
import json
import logging
import math
import signal
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from inspect_pop.core.errors import BusyFault, DeadlinePassed, ModelFault, PopError
from inspect_pop.station.client import COMMAND, environment

__all__ = ["Died", "Job", "Pool", "Reply", "Worker"]

# ---- station/process
Job = dict[str, Any]
Reply = dict[str, Any]

LINE_LIMIT = 64 << 20  # an answer names every defect joint; 100,000 of them stay below this
PIPES_S = 1.0  # after its end; somebody whom it started may hold them open
START_S = 120.0  # a cold disk reads libraries and model slowly


class Died(PopError):
    """The inspecting process ended without an answer; `killed` where somebody killed it, so that trying again may help."""

    about = "worker"

    def __init__(self, status: int | None) -> None:
        self.killed = status in (-signal.SIGKILL, -signal.SIGTERM)
        super().__init__("the inspecting process", expected="an answer", found=f"it ended (status {status})")


class Worker:
    """One process: started, asked one job at a time, and closed or killed."""

    def __init__(self, process: asyncio.subprocess.Process, generation: int) -> None:
        self.process, self.generation = process, generation
        self.model = ""
        self._hearing = asyncio.Lock()

    @classmethod
    async def start(cls, command: Sequence[str], hello: Job, generation: int) -> "Worker":
        """A process that is ready; `hello` says how it is set up. Raises `ModelFault` where it cannot be."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, limit=LINE_LIMIT, start_new_session=True, env=environment()
        )
        worker = cls(process, generation)
        try:
            ready = await worker.ask(hello, START_S)
        except (TimeoutError, Died) as error:
            await worker.end()
            raise ModelFault("the inspecting process", expected="a start", found=str(error)) from error
        if not ready.get("ready"):
            await worker.end()
            told = ready["answer"]["problem"]
            raise ModelFault(told["thing"], **{k: told[k] for k in ("expected", "found", "remedy")})
        worker.model = str(ready.get("model", ""))
        return worker

    async def ask(self, job: Job, limit_s: float) -> Reply:
        """The reply to one job; `hear` must follow, for the word that it is done."""
        stdin = self.process.stdin
        if stdin is None:
            raise Died(self.process.returncode)
        try:
            stdin.write(json.dumps(job).encode() + b"\n")
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Died(await self._status()) from error
        return await self.hear(limit_s)

    async def hear(self, limit_s: float) -> Reply:
        """The next line that the process says, within so many seconds."""
        if self.process.stdout is None:
            raise Died(self.process.returncode)
        async with asyncio.timeout(limit_s), self._hearing:
            line = await self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise Died(await self._status())
        reply: Reply = json.loads(line)
        return reply

    async def _status(self) -> int | None:
        """How it ended; one that closed its output and does not end is killed (None)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PIPES_S):
                return await self.process.wait()
        self.kill()
        return None

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def let_go(self) -> None:
        """Closing its input ends it, after what it is doing."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    async def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        await self.gone()

    async def gone(self) -> None:
        """Wait until it has ended and its pipes are closed."""
        await self.process.wait()
        stdin, stdout = self.process.stdin, self.process.stdout
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            async with asyncio.timeout(PIPES_S), self._hearing:
                if stdout is not None:
                    await stdout.read()
                if stdin is not None:
                    stdin.close()
                    await stdin.wait_closed()


# ---- station/pool
RESTART_S = 2.0
log = logging.getLogger(__name__)


class Pool:
    """`size` workers behind a queue of at most `queue` waiting jobs."""

    def __init__(self, hello: Job, *, size: int, queue: int, limit_s: float, command: Sequence[str] = COMMAND) -> None:
        self._hello, self._size, self._queue, self._limit_s, self._command = hello, size, queue, limit_s, command
        self._idle: deque[Worker] = deque()
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._all: set[Worker] = set()
        self._leaving: set[Worker] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0
        self._stopping = False
        self._swap = asyncio.Lock()
        self.model = ""
        self.recent_s = 0.5  # how long an inspection takes, for Retry-After; a running mean

    @property
    def waiting(self) -> int:
        """Jobs that wait for a worker."""
        return len(self._waiting)

    @property
    def alive(self) -> int:
        """Workers that hold the present model and run."""
        return sum(w.generation == self._generation and w.process.returncode is None for w in self._all)

    @property
    def busy(self) -> int:
        """Workers with a job in hand."""
        return len(self._all) - len(self._idle)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds after which the queue should have room again."""
        return max(1, math.ceil(self.recent_s * (self.waiting + 1) / self._size))

    async def start(self) -> None:
        """Start all workers, if they are not there yet; raises `ModelFault` where the model cannot be used."""
        if self._all:
            return
        for worker in await self._crew(self._hello, self._generation):
            self._welcome(worker)

    async def submit(self, job: Job) -> Reply:
        """One job's reply. Raises `BusyFault`, `DeadlinePassed` (its worker was killed) or `Died`."""
        try:
            return await self._once(job)
        except Died as error:
            if not error.killed:
                raise
        return await self._once(job)

    async def swap(self, **hello: Any) -> str:
        """Change what workers are started with; the old ones serve until the new ones are ready. Returns the model's digest."""
        async with self._swap:
            fresh = self._hello | hello
            crew = await self._crew(fresh, self._generation + 1)
            self._hello, self._generation = fresh, self._generation + 1
            while self._idle:
                self._retire(self._idle.popleft())
            for worker in crew:
                self._welcome(worker)
            return self.model

    def give_back(self) -> None:
        """Take no more work, and answer 'busy' to what waits; what runs goes on."""
        self._stopping = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(_stopping())

    async def close(self, limit_s: float) -> None:
        """Give back what waits, finish what runs, end all workers; those that take longer than `limit_s` are killed."""
        self.give_back()
        everyone = self._all | self._leaving
        for worker in everyone:
            worker.let_go()
        ends = [asyncio.create_task(w.gone()) for w in everyone]
        if ends:
            await asyncio.wait(ends, timeout=limit_s)
            for worker in everyone:
                worker.kill()
            await asyncio.gather(*ends)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._all.clear()

    async def _crew(self, hello: Job, generation: int) -> list[Worker]:
        started = await asyncio.gather(
            *(Worker.start(self._command, hello, generation) for _ in range(self._size)), return_exceptions=True
        )
        failed = [s for s in started if isinstance(s, BaseException)]
        crew = [s for s in started if isinstance(s, Worker)]
        if failed:
            await asyncio.gather(*(worker.end() for worker in crew))
            raise failed[0]
        return crew

    async def _once(self, job: Job) -> Reply:
        worker = await self._take()
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            reply = await worker.ask(job, self._limit_s)
        except TimeoutError as error:
            self._replace(worker)
            found = f"none after {self._limit_s:g} s"
            raise DeadlinePassed(
                "the inspection", expected="an answer", found=found, remedy="Look at this board by hand."
            ) from error
        except BaseException:
            self._replace(worker)
            raise
        self.recent_s = 0.8 * self.recent_s + 0.2 * (clock() - begun)
        self._later(self._when_done(worker))
        return reply

    async def _when_done(self, worker: Worker) -> None:
        """Hand the worker on once it has written the board's page, too."""
        try:
            await worker.hear(self._limit_s)
        except (TimeoutError, Died) as error:
            log.error("a worker did not finish", extra={"reason": str(error)})
            self._replace(worker)
        else:
            self._hand_over(worker)

    async def _take(self) -> Worker:
        while self._idle and not self._stopping:
            worker = self._idle.popleft()
            if worker.process.returncode is None:
                return worker
            self._replace(worker)
        if self._stopping:
            raise _stopping()
        if len(self._waiting) >= self._queue:
            raise BusyFault("the service", expected="room in the queue", found=f"{self._queue} waiting", remedy="Try again.")
        future: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._hand_over(future.result())
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)

    def _hand_over(self, worker: Worker) -> None:
        """Give a free worker to who waits longest, or keep it idle; one of an earlier model is let go."""
        self._all.add(worker)
        if worker.generation != self._generation or self._stopping:
            self._retire(worker)
            return
        self.model = worker.model
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(worker)
                return
        self._idle.append(worker)

    def _retire(self, worker: Worker) -> None:
        self._all.discard(worker)
        self._leave(worker)
        worker.let_go()

    def _leave(self, worker: Worker) -> None:
        self._leaving.add(worker)
        self._later(self._gone(worker))

    async def _gone(self, worker: Worker) -> None:
        await worker.gone()
        self._leaving.discard(worker)

    def _replace(self, worker: Worker) -> None:
        self._all.discard(worker)
        worker.kill()
        self._leave(worker)
        if not self._stopping and worker.generation == self._generation:
            self._later(self._start_another())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_another(self) -> None:
        """Start one more of the present generation, however often it takes; a newer crew needs none."""
        generation = self._generation
        while not self._stopping and generation == self._generation:
            try:
                worker = await Worker.start(self._command, self._hello, generation)
            except (ModelFault, OSError) as error:
                log.error("a worker cannot start", extra={"reason": str(error)})
                await asyncio.sleep(RESTART_S)
            else:
                self._welcome(worker)
                return

    def _welcome(self, worker: Worker) -> None:
        """A new worker: into service, and replaced when it dies while it has nothing to do."""
        self._later(self._mourn(worker))
        self._hand_over(worker)

    async def _mourn(self, worker: Worker) -> None:
        await worker.process.wait()
        if worker in self._idle and not self._stopping:
            log.error("an idle worker died", extra={"status": worker.process.returncode})
            self._idle.remove(worker)
            self._replace(worker)


def _stopping() -> BusyFault:
    return BusyFault("the service", expected="a service that takes work", found="it is stopping", remedy="Try again in a moment.")

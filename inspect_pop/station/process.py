"""One inspecting process, as its service sees it: started, asked, let go or killed."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Sequence
from typing import Any

from inspect_pop.errors import ModelFault, PopError
from inspect_pop.station.child import environment

__all__ = ["Died", "Job", "Reply", "Worker"]

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

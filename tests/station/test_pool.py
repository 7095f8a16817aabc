"""The pool of inspecting processes: bounded, and it survives the death of any of them."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.core.errors import BusyFault, DeadlineFault, ModelFault
from inspect_pop.station.pool import Pool, WorkerDied
from tests.station.conftest import FACTORY
from tests.station.fakes import write_board


def job(tmp_path: Path, serial: str, **content: object) -> dict[str, Any]:
    board = write_board(tmp_path / "batch" / "boards" / serial, serial, **content)
    return {"kind": "inspect", "path": str(board), "root": str(tmp_path)}


def with_pool(tmp_path: Path, use: Callable[[Pool], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        pool = Pool(
            {"store": str(tmp_path / "r.db"), "inspector_factory": FACTORY}, **({"size": 1, "queue": 2, "limit_s": 30.0} | more)
        )
        await pool.start()
        try:
            await use(pool)
        finally:
            await pool.close(30)
        assert pool.alive == 0

    asyncio.run(main())


def serial(reply: dict[str, Any]) -> str:
    return str(reply["answer"]["serial"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def test_one_more_than_the_queue_holds_is_busy_and_the_others_come_in_turn(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        tasks = [asyncio.create_task(pool.submit(job(tmp_path, f"S{i}", seconds=0.2))) for i in range(4)]
        await until(lambda: any(t.done() for t in tasks))
        with pytest.raises(BusyFault):
            await tasks[3]
        assert pool.retry_after_s >= 1
        assert [serial(r) for r in await asyncio.gather(*tasks[:3])] == ["S0", "S1", "S2"]

    with_pool(tmp_path, use)


def test_a_worker_that_is_killed_at_work_costs_no_board(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        (worker,) = pool._workers
        task = asyncio.create_task(pool.submit(job(tmp_path, "S", seconds=0.5)))
        await until(lambda: pool.busy == 1)
        os.kill(worker.process.pid, signal.SIGKILL)
        assert serial(await task) == "S"

    with_pool(tmp_path, use)


def test_a_worker_that_is_killed_while_idle_is_replaced(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        (worker,) = pool._workers
        os.kill(worker.process.pid, signal.SIGKILL)
        await until(lambda: pool.alive == 0)
        await until(lambda: pool.alive == 1)
        assert serial(await pool.submit(job(tmp_path, "S"))) == "S"

    with_pool(tmp_path, use)


def test_a_crash_is_reported_and_not_repeated(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        with pytest.raises(WorkerDied):
            await pool.submit(job(tmp_path, "BAD", die=True))
        assert serial(await pool.submit(job(tmp_path, "S"))) == "S"

    with_pool(tmp_path, use)


def test_a_process_that_ran_out_of_memory_says_so_and_is_replaced(tmp_path: Path) -> None:
    """Memory that was short stays short in a process whose limit it is."""

    async def use(pool: Pool) -> None:
        (worker,) = pool._workers
        reply = await pool.submit(job(tmp_path, "LARGE", memory=True))
        assert reply["status"] == 422
        assert "memory" in reply["answer"]["reason"]
        assert serial(await pool.submit(job(tmp_path, "S"))) == "S"
        assert worker not in pool._workers

    with_pool(tmp_path, use)


def test_a_hang_is_killed_and_who_waits_gets_the_next_process(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        hangs = asyncio.create_task(pool.submit(job(tmp_path, "HANGS", seconds=600)))
        await until(lambda: pool.busy == 1)
        waits = asyncio.create_task(pool.submit(job(tmp_path, "S")))
        with pytest.raises(DeadlineFault):
            await hangs
        assert serial(await waits) == "S"

    with_pool(tmp_path, use, limit_s=5.0)


def test_when_it_closes_what_runs_is_finished_and_what_waits_is_given_back(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        runs = asyncio.create_task(pool.submit(job(tmp_path, "RUNS", seconds=0.3)))
        await until(lambda: pool.busy == 1)
        waits = asyncio.create_task(pool.submit(job(tmp_path, "WAITS")))
        await until(lambda: pool.waiting == 1)
        await pool.close(30)
        with pytest.raises(BusyFault, match="stopping"):
            await waits
        assert serial(await runs) == "RUNS"
        with pytest.raises(BusyFault):
            await pool.submit(job(tmp_path, "LATE"))

    with_pool(tmp_path, use)


def test_a_new_model_takes_over_without_losing_what_waits_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    async def use(pool: Pool) -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "digest").write_text("new")
        tasks = [asyncio.create_task(pool.submit(job(tmp_path, f"S{i}", seconds=0.3))) for i in range(3)]
        with pytest.raises(ModelFault):
            await pool.swap(model=str(tmp_path / "none"))
        assert pool.model == "released"
        assert await pool.swap(model=str(tmp_path / "new")) == "new"
        assert [serial(r) for r in await asyncio.gather(*tasks)] == ["S0", "S1", "S2"]
        await until(lambda: len(pool._workers) == 1)

    with_pool(tmp_path, use)


def test_a_worker_is_replaced_by_one_with_the_same_model_or_by_none(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "digest").write_text("first")

    async def use(pool: Pool) -> None:
        await pool.swap(model=str(tmp_path / "model"))
        (tmp_path / "model" / "digest").write_text("second")  # replaced in place
        (worker,) = pool._workers
        os.kill(worker.process.pid, signal.SIGKILL)
        await until(lambda: pool.alive == 0)
        await asyncio.sleep(3)  # it tries to start another one meanwhile
        assert (pool.alive, pool.model) == (0, "first")
        (tmp_path / "model" / "digest").write_text("first")
        await until(lambda: pool.alive == 1)
        assert pool.model == "first"

    with_pool(tmp_path, use)

"""The same work on every board of some batches, in one process or several; what cannot be used is named and passed over."""

import multiprocessing
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from inspect_pop.core.errors import InputFault
from inspect_pop.ingest import find_exports

__all__ = ["BoardResult", "each_board"]

Result = TypeVar("Result")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class BoardResult(Generic[Result]):
    """What came of one board: a result, or the fault that put it aside."""

    path: Path
    result: Result | None
    fault: str = ""


def each_board(
    paths: Sequence[Path],
    work: Callable[[Path, Path], Result],
    *,
    processes: int = 1,
    progress: Progress = lambda _: None,
    doing: str = "board",
    only: Collection[Path] | None = None,
) -> Iterator[BoardResult[Result]]:
    """Results in the order of the boards' paths. `work(board, root)` must be importable where there are several processes.

    `only` names the boards to work on; None: all. An `InputFault` puts its board aside; anything else ends the work.
    Raises `UsageFault` where there is no board.
    """
    boards = [found for found in find_exports(paths) if only is None or found[0] in only]
    for k, outcome in enumerate(_outcomes(boards, work, processes)):
        progress(f"{doing} {k + 1} of {len(boards)}: {boards[k][0].name}{' (put aside)' if outcome.fault else ''}")
        yield outcome


def _outcomes(
    boards: list[tuple[Path, Path]], work: Callable[[Path, Path], Result], processes: int
) -> Iterator[BoardResult[Result]]:
    processes = min(processes or os.cpu_count() or 1, len(boards))
    if processes <= 1:
        yield from (_one(work, board, root) for board, root in boards)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a process: more would fight over the same cores
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_one, [work] * len(boards), *zip(*boards, strict=True))


def _one(work: Callable[[Path, Path], Result], board: Path, root: Path) -> BoardResult[Result]:
    try:
        return BoardResult(board, work(board, root))
    except InputFault as fault:
        return BoardResult(board, None, str(fault))

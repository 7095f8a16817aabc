"""How far a run is, for a person at a terminal: boards, rate, time left, on standard error and nowhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspect_pop.batch.values import Outcome

__all__ = ["boards_progress", "say"]


@contextmanager
def boards_progress() -> Iterator[Callable[["Outcome", int], None] | None]:
    """A function to tell of each board that ended and of how many there are; None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("boards"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}  {task.fields[quarantined]} in quarantine"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("boards", total=None, rate="", quarantined=0)
        quarantined = 0

        def tell(outcome: "Outcome", total: int) -> None:
            nonlocal quarantined
            quarantined += outcome.quarantined
            speed = display.tasks[task].speed
            rate = f"{speed:.1f} a second" if speed else ""
            display.update(task, total=total, advance=1, rate=rate, quarantined=quarantined)

        yield tell


def say(line: str) -> None:
    """One line of progress, beside the result on standard output."""
    print(line, file=sys.stderr, flush=True)

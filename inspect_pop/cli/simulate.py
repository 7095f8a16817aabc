"""`inspect-pop simulate`: labelled boards with known truth."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from inspect_pop.cli.options import JobsOption

__all__ = ["simulate"]

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder for the batch.", show_default=False)]
Boards = Annotated[int, typer.Option("--boards", metavar="N", min=1, help="How many boards.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", metavar="S", help="The same seed makes the same batch, byte for byte.")]
Machine = Annotated[str, typer.Option("--machine", metavar="NAME", help="Which machine takes the pictures; `random`: any.")]
Product = Annotated[str, typer.Option("--product", metavar="NAME", help="Which package; `random`: any.")]
Cause = Annotated[str, typer.Option("--cause", metavar="NAME", help="What went wrong in the process; `random`: mostly nothing.")]


def simulate(
    out: Out,
    boards: Boards,
    seed: Seed = 0,
    machine: Machine = "line_a",
    product: Product = "tst4",
    cause: Cause = "random",
    jobs: JobsOption = 0,
) -> None:
    """Make labelled boards in the export format, with everything that is known about them beside it.

    Leaves recipes/, boards/ and labels.csv, and the truth in truth.csv and truth_boards.csv. A name that is not known is
    refused with those that are.
    """
    from inspect_pop.batch.run import cores
    from inspect_pop.simulate.write_batch import simulate_batch

    with _progress() as progress:
        simulate_batch(out, boards, seed, machine=machine, product=product, cause=cause, jobs=jobs or cores(), progress=progress)
    typer.echo(f"{boards} boards in {out}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task("boards", total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)

"""How far a run is, for a person at a terminal: boards, rate, time left, on standard error and nowhere else.

`inspect-pop run`: inspect boards and leave tables, page and records.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import (
    AsJson,
    BatchPaths,
    Confidence,
    Device,
    JobsOption,
    LimitsFile,
    MaxEscapeRate,
    MaxFalseCallPpm,
    ModelDir,
    OutDir,
    Profile,
    RootDir,
    StoreUrl,
    limits_of,
)

__all__ = ["boards_progress", "run", "say"]

# ---- cli/progress
if TYPE_CHECKING:
    from inspect_pop.batch.jobs import Outcome


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


# ---- cli/run
if TYPE_CHECKING:
    from inspect_pop.batch import RunSummary
    from inspect_pop.classify.model import OperatingPoint


_INTERRUPTED = 130  # what a shell says of a program that an interrupt ended


class Pages(StrEnum):
    """Which boards get a page of their own; `suspect` are those that did not pass."""

    all = "all"
    suspect = "suspect"
    none = "none"


def run(
    batches: BatchPaths,
    out: OutDir,
    store: StoreUrl = None,
    model: ModelDir = None,
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
    root: RootDir = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="Work on the Dask cluster whose scheduler listens there.")
    ] = None,
    device: Annotated[Device, typer.Option("--device", help="Where the network runs.")] = Device.cpu,
    max_escape_rate: MaxEscapeRate = None,
    max_false_call_ppm: MaxFalseCallPpm = None,
    confidence: Confidence = 0.95,
    follow_machines: Annotated[
        bool,
        typer.Option("--follow-machines", help="Move the thresholds with each machine, as the scores of its first boards say."),
    ] = False,
    pages: Annotated[
        Pages, typer.Option("--pages", help="Which boards get a page of their own; a page takes 0.3 to 2 MB.")
    ] = Pages.all,
    fresh: Annotated[bool, typer.Option("--fresh", help="Inspect again what an earlier run into DIR has finished.")] = False,
    as_json: AsJson = False,
) -> None:
    """Inspect boards: every joint decided, the board's verdict, its record.

    Leaves in DIR joints.parquet, boards.parquet, packages.parquet, quarantine.csv and report/index.html, and the records
    in the store. A run that was stopped goes on when the same command is given again.

    Exit status 0 when all boards were decided, 1 when some lie in quarantine, 2 when nothing could be done.
    """
    from inspect_pop.batch import Settings, cluster_executor, local_executor, run_batch

    point = _promised(model, max_escape_rate, max_false_call_ppm, confidence)
    where = store or str(out / "records.db")
    settings = Settings(
        out,
        where,
        model,
        limits_of(limits, profile),
        resume=not fresh,
        device=device.value,
        pages=pages.value,
        point=point,
        follow_machines=follow_machines,
    )
    executor = cluster_executor(cluster) if cluster else local_executor(jobs)
    try:
        with boards_progress() as progress:
            summary = run_batch(batches, settings, root=root, executor=executor, progress=progress)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    _say(summary, as_json)
    raise typer.Exit(summary.exit_status)


def _promised(model: Path | None, rate: float | None, ppm: float | None, confidence: float) -> "OperatingPoint | None":
    """The thresholds that keep what was promised; None, the model's own, where nothing was."""
    if rate is None and ppm is None:
        return None
    from inspect_pop.classify.model import load
    from inspect_pop.classify.operating_points import promise_of

    return promise_of(load(model), max_escape_rate=rate, max_false_call_ppm=ppm, confidence=confidence).point


def _say(summary: "RunSummary", as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(summary.to_dict(), ensure_ascii=False))
        return
    rate = f", {summary.joints / summary.seconds:.0f} a second" if summary.seconds and not summary.resumed else ""
    resumed = f" ({summary.resumed} of them by an earlier run)" if summary.resumed else ""
    counts = ", ".join(f"{summary.verdicts.get(v, 0)} {v}" for v in ("pass", "fail", "review"))
    typer.echo(
        f"{summary.boards} boards{resumed}: {counts}, {len(summary.quarantined)} in quarantine; {summary.joints} joints{rate}"
    )
    for outcome in summary.quarantined[:10]:
        typer.echo(f"quarantine: {outcome.path}: {outcome.reason}")
    if len(summary.quarantined) > 10:
        typer.echo(f"… and {len(summary.quarantined) - 10} more in {Path(summary.out) / 'quarantine.csv'}")
    typer.echo(f"report: {summary.report}")

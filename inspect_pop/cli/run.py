"""`inspect-pop run`: inspect boards, show how far the run is, and leave tables, pages and records."""

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
    Results,
    RootDir,
    StoreUrl,
    TimeZone,
    VerifySample,
    describe_quarantined,
    parse_results,
    pluralize,
    print_passed_over,
    resolve_limits,
    say,
)
from inspect_pop.core.classes import VERDICTS

if TYPE_CHECKING:
    from inspect_pop.batch import JobOutcome, RunSummary

__all__ = ["Pages", "print_summary", "run", "show_progress"]

_INTERRUPTED = 130  # the status that a shell reports for a program that an interrupt ended


class Pages(StrEnum):
    """Which boards get a page; `suspect` are those that did not pass."""

    all = "all"
    suspect = "suspect"
    none = "none"


@contextmanager
def show_progress() -> Iterator[Callable[["JobOutcome", int], None] | None]:
    """Show boards, rate and time left on standard error; yield the function to call with each board and their number.

    Yields None where standard error is no terminal.
    """
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

        def update(outcome: "JobOutcome", total: int) -> None:
            nonlocal quarantined
            quarantined += outcome.quarantined
            speed = display.tasks[task].speed
            rate = f"{speed:.1f} per second" if speed else ""
            display.update(task, total=total, advance=1, rate=rate, quarantined=quarantined)

        yield update


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
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="Run on the Dask cluster with this scheduler address.")
    ] = None,
    device: Annotated[Device, typer.Option("--device", help="Where the network runs.")] = Device.cpu,
    max_escape_rate: MaxEscapeRate = None,
    max_false_call_ppm: MaxFalseCallPpm = None,
    confidence: Confidence = 0.95,
    follow_machines: Annotated[
        bool,
        typer.Option("--follow-machines", help="Adapt the thresholds to each machine, from the scores of its first boards."),
    ] = False,
    pages: Annotated[Pages, typer.Option("--pages", help="Which boards get a page; a page takes 0.3 to 2 MB.")] = Pages.all,
    fresh: Annotated[bool, typer.Option("--fresh", help="Inspect again what an earlier run into DIR has finished.")] = False,
    results: Results = None,
    time_zone: TimeZone = None,
    verify_sample: VerifySample = None,
    as_json: AsJson = False,
) -> None:
    """Inspect boards: classify every joint, decide every board, and store the records.

    Leaves joints.parquet, boards.parquet, packages.parquet, quarantine.csv and report/index.html in DIR. An interrupted run
    resumes when the same command is repeated.

    Exit status 0 when all boards were decided, 1 when some are in quarantine, 2 when nothing could be done.
    """
    from inspect_pop.batch import BatchSettings, cluster_executor, local_executor, run_batch

    point = None  # the model's thresholds, unless error rates are promised
    if max_escape_rate is not None or max_false_call_ppm is not None:
        from inspect_pop.classify.model import load
        from inspect_pop.classify.operating_points import choose_model_point

        point = choose_model_point(
            load(model), max_escape_rate=max_escape_rate, max_false_call_ppm=max_false_call_ppm, confidence=confidence
        ).point
    settings = BatchSettings(
        out,
        store or str(out / "records.db"),
        model,
        resolve_limits(limits, profile),
        resume=not fresh,
        device=device.value,
        pages=pages.value,
        operating_point=point,
        follow_machines=follow_machines,
        results=parse_results(results),
        time_zone=time_zone,
        verify_sample=verify_sample,
    )
    executor = cluster_executor(cluster) if cluster else local_executor(jobs)
    try:
        with show_progress() as progress:
            summary = run_batch(batches, settings, root=root, executor=executor, progress=progress)
    except KeyboardInterrupt:
        say("interrupted; repeat the same command to resume", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    print_summary(summary, as_json)
    print_passed_over(batches)
    raise typer.Exit(summary.exit_status)


def print_summary(summary: "RunSummary", as_json: bool) -> None:
    """Print what became of a run: counts, the first boards in quarantine, where the page is."""
    if as_json:
        import json

        typer.echo(json.dumps(summary.to_dict(), ensure_ascii=False))
        return
    rate = f", {summary.joints / summary.seconds:.0f} per second" if summary.seconds and not summary.resumed else ""
    resumed = f" ({summary.resumed} from an earlier run)" if summary.resumed else ""
    copies = "a copy of another export" if summary.repeated == 1 else "copies of other exports"
    repeated = f", {summary.repeated} {copies}, counted once" if summary.repeated else ""
    counts = ", ".join(f"{summary.verdicts.get(v, 0)} {v}" for v in VERDICTS)
    boards, joints = pluralize(summary.boards, "board"), pluralize(summary.joints, "joint")
    say(f"{boards}{resumed}: {counts}, {len(summary.quarantined)} in quarantine{repeated}; {joints}{rate}")
    for outcome in summary.quarantined[:10]:
        say(f"quarantine: {describe_quarantined(outcome.path, outcome.reason)}")
    if len(summary.quarantined) > 10:
        say(f"… and {len(summary.quarantined) - 10} more in {Path(summary.out) / 'quarantine.csv'}")
    say(f"report: {summary.report}")

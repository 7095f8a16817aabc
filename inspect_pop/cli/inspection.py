"""`inspect-pop run`, `serve`, `watch` and `hook`: inspection in batch and on the line."""

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
from inspect_pop.core.errors import UsageFault

if TYPE_CHECKING:
    from inspect_pop.batch import JobOutcome, RunSummary

__all__ = ["Pages", "hook", "print_summary", "run", "serve", "show_progress", "watch"]

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


# Inspection on the line: `inspect-pop serve` over HTTP, `watch` for a folder, `hook` for one board.


Roots = Annotated[
    list[Path],
    typer.Option("--root", metavar="DIR", help="Folder that exports may be read from; repeatable.", show_default=False),
]
WatchedFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder where machines drop exports.", show_default=False)]
Host = Annotated[str, typer.Option("--host", metavar="H", help="Address to listen on; beyond loopback with --tokens or users.")]
Port = Annotated[int, typer.Option("--port", metavar="P", min=0, max=65535, help="Port; 0 takes a free one.")]
Store = Annotated[
    str, typer.Option("--store", metavar="URL", help="Store of records: a file, sqlite:///FILE, postgresql://… or env:NAME")
]
PublicUrl = Annotated[
    str | None,
    typer.Option("--public-url", metavar="URL", help="Address at which callers reach the service, such as a proxy's; for links."),
]
ModelRoots = Annotated[
    list[Path] | None,
    typer.Option("--models-root", metavar="DIR", help="Folder that a new model may come from; repeatable."),
]
Tokens = Annotated[
    Path | None,
    typer.Option("--tokens", metavar="FILE", help="Tokens and their roles; beyond loopback these or users."),
]
Workers = Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="Number of worker processes; 0: one per core.")]
Queue = Annotated[
    int, typer.Option("--queue", metavar="N", min=1, help="Inspections that may wait; any more are refused as busy.")
]
TimeLimit = Annotated[float, typer.Option("--time-limit", metavar="S", help="Seconds after which an inspection is aborted.")]
Settle = Annotated[
    float, typer.Option("--settle", metavar="S", help="Seconds without a change after which an export is complete.")
]
HealthPort = Annotated[
    int | None,
    typer.Option("--health-port", metavar="P", min=1, max=65535, help="Port on loopback for /healthz, /readyz and /metrics."),
]
Cfx = Annotated[
    str | None,
    typer.Option("--cfx", metavar="ADDRESS", help="Destination of CFX messages: amqp://HOST/ADDRESS, https://… or a folder."),
]
Hermes = Annotated[
    str | None,
    typer.Option("--hermes", metavar="HOST:PORT", help="Announce boards there to the machine behind, by IPC-HERMES-9852."),
]
CfxHandle = Annotated[str, typer.Option("--cfx-handle", metavar="NAME", help="This station's name in CFX and Hermes messages.")]
TrustedProxies = Annotated[
    list[str] | None,
    typer.Option("--trusted-proxy", metavar="ADDR", help="Address or network of a proxy whose headers count; repeatable."),
]
UserHeader = Annotated[
    str | None,
    typer.Option("--user-header", metavar="NAME", help="Header in which a trusted proxy names the person, as X-Remote-User."),
]
RoleHeader = Annotated[
    str | None,
    typer.Option("--role-header", metavar="NAME", help="Header in which it names the person's roles or groups."),
]
RoleMap = Annotated[
    list[str] | None,
    typer.Option("--role-map", metavar="GROUP=ROLE", help="The role of a group of the role header; repeatable."),
]


def serve(
    root: Roots,
    host: Host = "127.0.0.1",
    port: Port = 8737,
    public_url: PublicUrl = None,
    store: Store = "records.db",
    model: ModelDir = None,
    models_root: ModelRoots = None,
    limits: LimitsFile = None,
    profile: Profile = None,
    max_escape_rate: MaxEscapeRate = None,
    max_false_call_ppm: MaxFalseCallPpm = None,
    tokens: Tokens = None,
    trusted_proxy: TrustedProxies = None,
    user_header: UserHeader = None,
    role_header: RoleHeader = None,
    role_map: RoleMap = None,
    verify_sample: VerifySample = None,
    jobs: Workers = 0,
    queue: Queue = 8,
    time_limit_s: TimeLimit = 30.0,
    cfx: Cfx = None,
    cfx_handle: CfxHandle = "inspect_pop",
    results: Results = None,
    hermes: Hermes = None,
    time_zone: TimeZone = None,
) -> None:
    """Run the inspection service over HTTP until it is stopped.

    POST /v1/inspections, GET /v1/boards/SERIAL, /healthz, /readyz, /metrics; /openapi.json describes the rest. On SIGTERM it
    finishes the inspections in progress and refuses those that wait. Needs the extra `station`.
    """
    with _needs_station("serve"):
        from inspect_pop.station.serve import serve as run_service
    from inspect_pop.batch.run import count_cores
    from inspect_pop.station.settings import ServiceSettings

    settings = ServiceSettings(
        roots=tuple(root),
        store=store,
        host=host,
        port=port,
        public_url=public_url,
        model=model,
        model_roots=tuple(models_root or ()),
        limits=limits,
        profile=profile,
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        tokens=tokens,
        trusted_proxies=tuple(trusted_proxy or ()),
        user_header=user_header,
        role_header=role_header,
        role_map=_parse_role_map(role_map or []),
        verify_sample=verify_sample,
        workers=jobs or count_cores(),
        queue=queue,
        time_limit_s=time_limit_s,
        cfx=cfx,
        cfx_handle=cfx_handle,
        results=parse_results(results),
        hermes=hermes,
        time_zone=time_zone,
    )
    raise typer.Exit(run_service(settings))


def watch(
    folder: WatchedFolder,
    store: Store = "records.db",
    model: ModelDir = None,
    limits: LimitsFile = None,
    profile: Profile = None,
    max_escape_rate: MaxEscapeRate = None,
    max_false_call_ppm: MaxFalseCallPpm = None,
    jobs: Workers = 1,
    time_limit_s: TimeLimit = 30.0,
    settle_s: Settle = 2.0,
    health_port: HealthPort = None,
    cfx: Cfx = None,
    cfx_handle: CfxHandle = "inspect_pop",
    results: Results = None,
    hermes: Hermes = None,
    time_zone: TimeZone = None,
    verify_sample: VerifySample = None,
) -> None:
    """Inspect each board that arrives in a folder, once it is complete, in order of arrival, until stopped.

    Prints one line of JSON per board, as `hook` does. Needs the extra `station`.
    """
    with _needs_station("watch"):
        from inspect_pop.station.serve import log_to_stderr
        from inspect_pop.station.watch import watch as watch_folder
    from inspect_pop.batch.run import count_cores
    from inspect_pop.core.system import write_answer_line
    from inspect_pop.station.contract import Answer, to_json
    from inspect_pop.station.settings import ServiceSettings

    settings = ServiceSettings(
        roots=(folder,),
        store=store,
        model=model,
        limits=limits,
        profile=profile,
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        workers=jobs or count_cores(),
        time_limit_s=time_limit_s,
        cfx=cfx,
        cfx_handle=cfx_handle,
        results=parse_results(results),
        hermes=hermes,
        time_zone=time_zone,
        verify_sample=verify_sample,
    )

    def print_answer(answer: Answer) -> None:
        write_answer_line(to_json(answer))

    log_to_stderr()
    raise typer.Exit(watch_folder(folder, settings, print_answer, settle_s=settle_s, health_port=health_port))


def hook(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="EXPORT", help="An export and options; see `inspect-pop hook --help`.")
    ] = None,
) -> None:
    """Inspect one board for the line; print one JSON object.

    Uses the inspection service where one runs, and inspects in this process otherwise. Exit status 0 pass, 1 fail, 2 review,
    3 could not inspect (wrong arguments included).
    """
    from inspect_pop.station import hook as station_hook

    raise typer.Exit(station_hook.main(arguments or []))


def _parse_role_map(entries: list[str]) -> dict[str, str]:
    """Return the role of each group. Raises `UsageFault` for an entry that is not GROUP=ROLE."""
    pairs = [entry.rpartition("=") for entry in entries]
    for entry, (group, _, _) in zip(entries, pairs, strict=True):
        if not group:
            raise UsageFault("--role-map", expected="GROUP=ROLE, such as pop-repair=repair", found=repr(entry))
    return {group: role for group, _, role in pairs}


@contextmanager
def _needs_station(command: str) -> Iterator[None]:
    """Turn an ImportError of the block into a `UsageFault` that names the extra `station`."""
    try:
        yield
    except ImportError as error:
        remedy = "pip install 'inspect_pop[station]'"
        raise UsageFault(command, expected="the extra `station`", found=str(error), remedy=remedy) from error

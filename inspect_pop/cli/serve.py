"""Inspection on the line: `inspect-pop serve` over HTTP, `watch` for a folder, `hook` for one board."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from inspect_pop.cli.options import (
    LimitsFile,
    MaxEscapeRate,
    MaxFalseCallPpm,
    ModelDir,
    Profile,
    Results,
    TimeZone,
    VerifySample,
    parse_results,
)
from inspect_pop.core.errors import UsageFault

__all__ = ["hook", "serve", "watch"]

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
    from inspect_pop.core.streams import write_answer_line
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

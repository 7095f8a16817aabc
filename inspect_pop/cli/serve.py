"""The line's door: `inspect-pop serve` over HTTP, `watch` for a folder, `hook` for one board."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from inspect_pop.cli.options import LimitsFile, ModelDir
from inspect_pop.core.errors import UsageFault

__all__ = ["hook", "serve", "watch"]

Roots = Annotated[
    list[Path],
    typer.Option("--root", metavar="DIR", help="Folder that exports may be read from; may be given again.", show_default=False),
]
Watched = Annotated[Path, typer.Argument(metavar="DIR", help="The folder where machines drop exports.", show_default=False)]
Host = Annotated[str, typer.Option("--host", metavar="H", help="Address to listen on; beyond this machine only with --tokens.")]
Port = Annotated[int, typer.Option("--port", metavar="P", min=0, max=65535, help="Port; 0 takes a free one.")]
Store = Annotated[str, typer.Option("--store", metavar="URL", help="Where the records go: a file or postgresql://…")]
ModelRoots = Annotated[
    list[Path] | None,
    typer.Option("--models-root", metavar="DIR", help="Folder that a new model may come from; may be given again."),
]
Tokens = Annotated[Path | None, typer.Option("--tokens", metavar="FILE", help="Who may do what; needed beyond loopback.")]
Workers = Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="Inspecting processes; 0: one for each core.")]
Queue = Annotated[int, typer.Option("--queue", metavar="N", min=1, help="Inspections that may wait; one more is told 'busy'.")]
TimeLimit = Annotated[float, typer.Option("--time-limit", metavar="S", help="Seconds after which an inspection is given up.")]
Settle = Annotated[float, typer.Option("--settle", metavar="S", help="Seconds without a change after which an export is whole.")]
Cfx = Annotated[
    str | None,
    typer.Option("--cfx", metavar="ADDRESS", help="Where CFX messages go: amqp://HOST/ADDRESS, https://… or a folder."),
]
CfxHandle = Annotated[str, typer.Option("--cfx-handle", metavar="NAME", help="This station's name in CFX messages.")]


def serve(
    root: Roots,
    host: Host = "127.0.0.1",
    port: Port = 8737,
    store: Store = "records.db",
    model: ModelDir = None,
    models_root: ModelRoots = None,
    limits: LimitsFile = None,
    tokens: Tokens = None,
    jobs: Workers = 0,
    queue: Queue = 8,
    time_limit_s: TimeLimit = 30.0,
    cfx: Cfx = None,
    cfx_handle: CfxHandle = "inspect_pop",
) -> None:
    """Answer the line over HTTP until told to stop.

    POST /v1/inspections, GET /v1/boards/SERIAL, /healthz, /readyz, /metrics; /openapi.json tells the rest. Told to stop
    (SIGTERM), it finishes what it began and gives back what waits. Needs the extra `station`.
    """
    with _needs_station("serve"):
        from inspect_pop.station.serve import serve as served
    from inspect_pop.batch.run import cores
    from inspect_pop.station.settings import Settings

    settings = Settings(
        roots=tuple(root),
        store=store,
        host=host,
        port=port,
        model=model,
        model_roots=tuple(models_root or ()),
        limits=limits,
        tokens=tokens,
        workers=jobs or cores(),
        queue=queue,
        time_limit_s=time_limit_s,
        cfx=cfx,
        cfx_handle=cfx_handle,
    )
    raise typer.Exit(served(settings))


def watch(
    folder: Watched,
    store: Store = "records.db",
    model: ModelDir = None,
    limits: LimitsFile = None,
    jobs: Workers = 1,
    time_limit_s: TimeLimit = 30.0,
    settle_s: Settle = 2.0,
    cfx: Cfx = None,
    cfx_handle: CfxHandle = "inspect_pop",
) -> None:
    """Inspect each board that arrives in a folder, when it is whole, once, in order of arrival, until told to stop.

    One line of JSON on standard output for each, the hook's object. Needs the extra `station`.
    """
    with _needs_station("watch"):
        from inspect_pop.station.watch import watch as watched
    from inspect_pop.batch.run import cores
    from inspect_pop.station.answer import to_json
    from inspect_pop.station.settings import Settings

    settings = Settings(
        roots=(folder,),
        store=store,
        model=model,
        limits=limits,
        workers=jobs or cores(),
        time_limit_s=time_limit_s,
        cfx=cfx,
        cfx_handle=cfx_handle,
    )
    raise typer.Exit(watched(folder, settings, lambda answer: print(to_json(answer), flush=True), settle_s=settle_s))


def hook(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="EXPORT", help="And its options; see `hook --help`.")] = None,
) -> None:
    """Inspect one board while it stands still: one JSON object on standard output.

    Asks the service when one runs, inspects by itself when none does. Exit status 0 pass, 1 fail, 2 review, 3 could not
    inspect; wrong arguments too are 3 here. `inspect-pop hook --help` tells its options.
    """
    from inspect_pop.station import hook as station_hook

    raise typer.Exit(station_hook.main(arguments or []))


@contextmanager
def _needs_station(command: str) -> Iterator[None]:
    """Imports inside need the extra `station`; the hook does not."""
    try:
        yield
    except ImportError as error:
        remedy = "pip install 'inspect_pop[station]'"
        raise UsageFault(command, expected="the extra `station`", found=str(error), remedy=remedy) from error

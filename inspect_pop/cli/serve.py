"""`inspect-pop serve`: the line's service, resident, with the model warm."""

from pathlib import Path
from typing import Annotated

import typer

from inspect_pop.cli.options import LimitsFile, ModelDir

__all__ = ["hook", "serve"]


def serve(
    root: Annotated[
        list[Path],
        typer.Option(
            "--root", metavar="DIR", help="Folder that exports may be read from; may be given again.", show_default=False
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", metavar="H", help="Address to listen on; beyond this machine only with --tokens.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="P", min=0, max=65535, help="Port; 0 takes a free one.")] = 8737,
    store: Annotated[
        str, typer.Option("--store", metavar="URL", help="Where the records go: a file or postgresql://…")
    ] = "records.db",
    model: ModelDir = None,
    models_root: Annotated[
        list[Path] | None,
        typer.Option("--models-root", metavar="DIR", help="Folder that a new model may come from; may be given again."),
    ] = None,
    limits: LimitsFile = None,
    tokens: Annotated[
        Path | None, typer.Option("--tokens", metavar="FILE", help="Who may do what; needed beyond loopback.")
    ] = None,
    workers: Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="Inspecting processes; 0: one for each core.")] = 0,
    queue: Annotated[
        int, typer.Option("--queue", metavar="N", min=1, help="Inspections that may wait; one more is told 'busy'.")
    ] = 8,
    time_limit_s: Annotated[
        float, typer.Option("--time-limit", metavar="S", help="Seconds after which an inspection is given up.")
    ] = 30.0,
    cfx: Annotated[
        str | None,
        typer.Option("--cfx", metavar="ADDRESS", help="Where CFX messages go: amqp://HOST/ADDRESS, https://… or a folder."),
    ] = None,
    cfx_handle: Annotated[
        str, typer.Option("--cfx-handle", metavar="NAME", help="This station's name in CFX messages.")
    ] = "inspect_pop",
) -> None:
    """Answer the line over HTTP until told to stop.

    POST /v1/inspections, GET /v1/boards/SERIAL, /healthz, /readyz, /metrics; /openapi.json tells the rest. Told to stop
    (SIGTERM), it finishes what it began and gives back what waits.
    """
    import os

    from inspect_pop.station.serve import serve as served
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
        queue=queue,
        time_limit_s=time_limit_s,
        cfx=cfx,
        cfx_handle=cfx_handle,
        workers=workers or os.cpu_count() or 1,
    )
    raise typer.Exit(served(settings))


def hook(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="EXPORT [OPTIONS]", help="See `inspect-pop hook --help`.")
    ] = None,
) -> None:
    """Inspect one board while it stands still: one JSON object on standard output.

    Asks the service when one runs, inspects by itself when none does. Exit status 0 pass, 1 fail, 2 review, 3 could not
    inspect; wrong arguments too are 3 here. `inspect-pop hook --help` tells its options.
    """
    from inspect_pop.station import hook as station_hook

    raise typer.Exit(station_hook.main(arguments or []))

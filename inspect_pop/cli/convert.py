"""`inspect-pop convert`: boards in the export format from a machine's own files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import JobsOption, describe_quarantined, pluralize, say
from inspect_pop.core.errors import UsageFault

if TYPE_CHECKING:
    from inspect_pop.convert.batch import Outcome

__all__ = ["convert"]

Sources = Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Folders of a machine's boards.", show_default=False)]
MapFile = Annotated[Path | None, typer.Option("--map", metavar="FILE", help="TOML file that says where things are.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="BATCH", help="Folder of the batch (created if missing).")]
Probe = Annotated[bool, typer.Option("--probe", help="Look at SOURCE and print a first map to complete; write nothing.")]


def convert(sources: Sources, map_file: MapFile = None, out: Out = None, probe: Probe = False, jobs: JobsOption = 1) -> None:
    """Make boards in the export format from a machine's own files.

    A map (TOML) says where pictures, volumes and height maps lie; what it leaves out is found from the balls and listed under
    `assumed` in export.json and in the record. Boards that cannot be converted are listed in BATCH/quarantine.csv.

    Exit status 0 when all boards are converted, 1 when some are not, 2 for unusable arguments or nothing found.
    """
    if probe:
        from inspect_pop.convert.probe import probe_source

        for source in sources:
            for line in probe_source(source).split("\n"):
                say(line)
        return
    if map_file is None or out is None:
        raise UsageFault("convert", expected="--map FILE and --out BATCH, or --probe", remedy="--probe writes a first map.")
    from inspect_pop.batch.run import count_cores
    from inspect_pop.convert.batch import convert_batch
    from inspect_pop.core.atomic import write_text
    from inspect_pop.core.text import escape_controls, format_csv

    outcomes = convert_batch(sources, map_file, out, jobs=jobs or count_cores(), progress=_report)
    failed = [outcome for outcome in outcomes if outcome.folder is None]
    if failed:
        rows = [(escape_controls(str(outcome.path)), escape_controls(outcome.reason)) for outcome in failed]
        write_text(out / "quarantine.csv", format_csv(("path", "reason"), rows))
    else:
        (out / "quarantine.csv").unlink(missing_ok=True)
    skipped = sum(outcome.skipped for outcome in outcomes)
    done = len(outcomes) - len(failed) - skipped
    more = [f"{skipped} there already"] if skipped else []
    more += [f"{len(failed)} not (see {out / 'quarantine.csv'})"] if failed else []
    say(f"{pluralize(done, 'board')} converted into {out}{''.join(', ' + text for text in more)}")
    raise typer.Exit(1 if failed else 0)


def _report(outcome: "Outcome") -> None:
    """Print what became of a board, with what was assumed of it."""
    if outcome.folder is None:
        say(describe_quarantined(outcome.path, outcome.reason), err=True)
        return
    if not outcome.skipped:
        say(describe_quarantined(outcome.folder, "; ".join(("converted", *outcome.assumed))))

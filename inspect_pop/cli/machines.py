"""`inspect-pop machines`: what state each machine is in, its figures over time, and its qualification."""

import json
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspect_pop.cli.options import (
    AsJson,
    ExistingStore,
    JobsOption,
    LimitsFile,
    ModelDir,
    Profile,
    name_account,
    pluralize,
    print_progress,
    resolve_limits,
    say,
)
from inspect_pop.core.text import escape_controls

if TYPE_CHECKING:
    from inspect_pop.store import Qualification
    from inspect_pop.yields.machines import MachineHistory

__all__ = ["machines"]

_WIDTH = 80
_STEPS = 6  # points in time of a figure that `show` prints
_NEEDS_ATTENTION = 1  # exit status
MachineName = Annotated[
    str, typer.Argument(metavar="NAME", help="Line and station of the machine, such as LINE-A/AXI-1.", show_default=False)
]

machines = typer.Typer(
    help="List the inspection machines with their state, watch them, and qualify them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@machines.command("list")
def list_machines(store: ExistingStore, as_json: AsJson = False) -> None:
    """List the machines of a store: known, unfamiliar, qualified or drifting, since when and by what figure.

    The latest 10,000 boards count.

    Exit status 1 if a machine is unfamiliar or drifting.
    """
    from inspect_pop.store import open_store
    from inspect_pop.yields.machines import read_machines

    with open_store(store, must_exist=True) as opened:
        found = read_machines(opened)
    if as_json:
        typer.echo(json.dumps([machine.to_dict() for machine in found], indent=1, ensure_ascii=False))
    else:
        for machine in found:
            for line in _describe_machine(machine):
                say(line)
        say(pluralize(len(found), "machine"))
    if any(machine.state in ("drifting", "unfamiliar") for machine in found):
        raise typer.Exit(_NEEDS_ATTENTION)


@machines.command("show")
def show_machine(name: MachineName, store: ExistingStore, as_json: AsJson = False) -> None:
    """Show a machine's figures over time, each with what is usual and its control limit."""
    from inspect_pop.store import open_store
    from inspect_pop.yields.machines import read_machines, require_machine

    with open_store(store, must_exist=True) as opened:
        machine = require_machine(read_machines(opened), name)
    charts = machine.draw_charts()
    if as_json:
        shown = machine.to_dict() | {"of": machine.list_boards(), "charts": charts}
        typer.echo(json.dumps(shown, indent=1, ensure_ascii=False))
        return
    lines = [*_describe_machine(machine), ""]
    if not any(chart["points"] for chart in charts):
        lines += _wrap("The first boards say what is usual. There are too few to compare with them.")
    for chart in charts:
        lines += _wrap(_describe_chart(chart))
    for key, words in (("review_share", "in review"), ("unfamiliar_share", "unfamiliar")):
        shares = [100 * board[key] for board in machine.list_boards()]
        lines += _wrap(f"share of joints {words}, over time: {_describe_times(shares)} %")
    for line in lines:
        say(line)


@machines.command("qualify")
def qualify(
    name: MachineName,
    batches: Annotated[
        list[Path], typer.Argument(metavar="BATCH", help="Labelled boards of the machine; other boards are left out.")
    ],
    store: ExistingStore,
    labels: Annotated[
        list[Path] | None,
        typer.Option("--labels", metavar="LABELS", help="A labels.csv that lies elsewhere; repeatable.", show_default=False),
    ] = None,
    by_decisions: Annotated[bool, typer.Option("--decisions", help="What people decided in the store are labels, too.")] = False,
    model: ModelDir = None,
    limits: LimitsFile = None,
    profile: Profile = None,
    gates: Annotated[
        Path | None, typer.Option("--gates", metavar="FILE", help="TOML file of gates, such as training/gates.toml.")
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help="Who qualifies [default: your account]", show_default=False)
    ] = "",
    jobs: JobsOption = 0,
    as_json: AsJson = False,
) -> None:
    """Qualify a machine: inspect labelled boards of it and apply the gates of a new model. The store keeps the result.

    It holds for this model and these limits. A running service takes it at its next start. Exit status 1 if a gate fails.
    """
    import tempfile

    from inspect_pop.core.clock import utc_now
    from inspect_pop.evaluate.promotion import Gates, load_gates
    from inspect_pop.evaluate.qualification import qualify_machine
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened, tempfile.TemporaryDirectory() as folder:
        paths = [*batches, *(labels or ())]
        if by_decisions:
            from inspect_pop.evaluate.decision_labels import collect_decision_labels, write_decision_labels

            found = collect_decision_labels(opened)
            print_progress(escape_controls(f"decisions: {found.describe_bias()}"))
            write_decision_labels(found, Path(folder) / "labels.csv")
            paths.append(Path(folder) / "labels.csv")
        made = qualify_machine(
            name,
            paths,
            model,
            by=by or name_account(),
            at=utc_now(),
            limits=resolve_limits(limits, profile),
            gates=load_gates(gates) if gates else Gates(),
            processes=jobs,
            progress=print_progress,
        )
        opened.add_qualification(made)
    if as_json:
        from inspect_pop.yields.machines import describe_attempt

        typer.echo(json.dumps({"machine": made.machine, **describe_attempt(made)}, indent=1, ensure_ascii=False))
    else:
        for line in _describe_attempt(made):
            say(line)
    if not made.passed:
        raise typer.Exit(_NEEDS_ATTENTION)


def _describe_machine(machine: "MachineHistory") -> list[str]:
    """Return the lines of one machine, of 80 columns."""
    from inspect_pop.yields.machines import RECENT

    lines = _wrap(f"{machine.machine}: {machine.state} since {machine.since}", "")
    lines += _wrap(machine.why)
    shares = (
        f"{100 * machine.share('review', RECENT):.1f} % in review, {100 * machine.share('unfamiliar', RECENT):.1f} % unfamiliar"
    )
    lines += _wrap(f"{pluralize(len(machine.boards), 'board')} by this model; joints of the last {RECENT}: {shares}")
    held, tried = machine.qualification, machine.last_attempt
    if held is not None:
        about = f"qualified {held.qualified_at} by {held.qualified_by} on {pluralize(len(held.boards), 'board')}"
        return lines + _wrap(f"{about}: {_describe_rates(held)}")
    if tried is None:
        return lines + _wrap("not qualified")
    came = "passed, for another model or other limits" if tried.passed else "failed"
    return lines + _wrap(f"not qualified: the attempt of {tried.qualified_at} by {tried.qualified_by} {came}")


def _describe_attempt(made: "Qualification") -> list[str]:
    lines = _wrap(f"{made.machine}: {'qualified' if made.passed else 'not qualified'} by {made.qualified_by}", "")
    lines += _wrap(f"{pluralize(len(made.boards), 'board')}: {_describe_rates(made)}")
    lines += _wrap(f"for model {made.model_digest[:12]} and profile {made.profile}")
    for gate in made.figures["gates"]:
        lines += _wrap(f"{'passed' if gate['passed'] else 'FAILED'}: {gate['name']}: {gate['explanation']}")
    return lines


def _describe_rates(made: "Qualification") -> str:
    from inspect_pop.core.statistics import Rate

    names = (("escape", "defects that pass"), ("false_call", "good joints that fail"), ("review", "in review"))
    return "; ".join(f"{words} {Rate(**made.figures[name])}" for name, words in names)


def _describe_chart(chart: dict[str, Any]) -> str:
    """Return a figure in words: what is usual, some points in time, and where its average is within its limit."""
    usual, sigma = chart["usual"], chart["sigma"]
    values = [value for value in chart["value"] if value is not None]
    if not chart["points"]:
        return f"{chart['figure']}: {', '.join(f'{v:.3g}' for v in values[-_STEPS:]) or 'unknown'}"
    state = f"DRIFTING since board {chart['drifting_since']}" if chart["drifting_since"] else "within"
    average, limit = ([v for v in chart[name] if v is not None][-1] for name in ("average", "limit"))
    where = f"average {average:+.1f} sigma, limit {limit:.1f}: {state}"
    return f"{chart['figure']}: usual {usual:.3g} (sigma {sigma:.2g}); over time {_describe_times(values)}; {where}"


def _describe_times(values: list[float]) -> str:
    """Return the means of some even parts of a series, in order."""
    step = -(-len(values) // _STEPS)
    parts = [values[k : k + step] for k in range(0, len(values), max(step, 1))]
    return ", ".join(f"{sum(part) / len(part):.3g}" for part in parts)


def _wrap(text: str, indent: str = "  ") -> list[str]:
    wide = {"width": _WIDTH, "initial_indent": indent, "subsequent_indent": f"{indent}  "}
    return fill(escape_controls(text), **wide, break_on_hyphens=False).split("\n")  # type: ignore[arg-type]

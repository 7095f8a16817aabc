"""`inspect-pop yield`, `compact`, `quarantine` and `machines`: what a store says about boards and machines."""

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
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.text import escape_controls

if TYPE_CHECKING:
    from inspect_pop.store import Qualification, Store
    from inspect_pop.yields.machines import MachineHistory
    from inspect_pop.yields.selection import GroupKey

__all__ = ["compact", "list_quarantine", "machines", "report_yield"]

_MAX_NAMED = 5  # records that a message names

_MOST_NAMED = 10  # lots or products that a message names, the last ones
_EMPTY = 1  # exit status of a selection without a board


def report_yield(
    store: ExistingStore,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="KEY,…",
            help="Group by any of day, lot, line, station, product, recipe, recipe_revision, work_order, interface, package, "
            "part, construction.",
        ),
    ] = "",
    since: Annotated[str | None, typer.Option("--since", metavar="T", help="From this day or time.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="T", help="Up to and including this day, or until this time.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="Write a page with trend, Pareto chart, control charts and maps, HTML."),
    ] = None,
    lot: Annotated[str | None, typer.Option("--lot", metavar="LOT", help="Only this lot.")] = None,
    product: Annotated[str | None, typer.Option("--product", metavar="NAME", help="Only this product.")] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", metavar="OUT", help="Link the page to the board pages of this run; repeatable."),
    ] = None,
) -> None:
    """Report first-pass yield and DPMO with 95 % intervals, and counts by label, over all boards or by group.

    Exit status 0 done, 1 when the selection holds no board.
    """
    forms = [name for name, is_given in (("--json", as_json), ("--csv", as_csv), ("--page", page is not None)) if is_given]
    if len(forms) > 1:
        raise UsageFault(" ".join(forms), expected="one of them", found=str(len(forms)), remedy="Run the command for each.")
    if page is not None and by:
        raise UsageFault("--by", expected="no --by with --page", found=by, remedy="A page has its tables; leave --by out.")
    if runs and page is None:
        raise UsageFault("--run", expected="a page to link", found="none", remedy="Name it with --page FILE.")
    from inspect_pop.store import open_store
    from inspect_pop.yields.groups import as_csv as make_csv
    from inspect_pop.yields.groups import as_json as make_json
    from inspect_pop.yields.groups import compute_yield

    only: dict[str, GroupKey] = {k: v for k, v in (("lot", lot), ("product", product)) if v is not None}
    keys = [key.strip() for key in by.split(",") if key.strip()]
    with open_store(store, must_exist=True) as opened:
        groups = compute_yield(opened, keys, since=since, until=until, only=only)
        boards = sum(group.boards for group in groups)
        if page is not None:
            from inspect_pop.report.write import write_lot_report, write_yield_report

            if list(only) == ["lot"]:
                write_lot_report(page, opened, str(only["lot"]), since=since, until=until, runs=runs or [])
            else:
                title = "Yield" if not only else "Yield: " + ", ".join(f"{key} {value}" for key, value in only.items())
                write_yield_report(page, opened, title=title, since=since, until=until, only=only, runs=runs or [])
            say(f"page: {page}")
        elif as_json:
            print(make_json(groups))
        elif as_csv:
            print(make_csv(groups), end="")  # as it is: typer.echo takes out of a name what a terminal would act on
        elif boards:
            from rich.console import Console

            from inspect_pop.yields.groups import as_table

            console = Console()
            console.print(as_table(groups, console.width))
        if not boards:
            say(_describe_emptiness(opened, only), err=True)
            raise typer.Exit(_EMPTY)


def _describe_emptiness(store: "Store", only: "dict[str, GroupKey]") -> str:
    """Say that no board was selected, and what there is instead: values of the option that names none, or days."""
    from inspect_pop.core.text import escape_controls
    from inspect_pop.yields.groups import compute_yield

    for key, value in only.items():
        known = [str(group.keys[key]) for group in compute_yield(store, [key]) if group.keys[key] is not None]
        if value not in known:
            there = ", ".join(map(escape_controls, known[-_MOST_NAMED:])) or "none"
            return f"no board: --{key} {escape_controls(str(value))}: the store has {pluralize(len(known), key)}: {there}"
    days = [str(group.keys["day"]) for group in compute_yield(store, ["day"])]
    if not days:
        return "no board: the store is empty"
    return f"no board in this selection: the store has boards from {days[0]} to {days[-1]}"


def compact(
    store: ExistingStore,
    before: Annotated[str | None, typer.Option("--before", metavar="DAY", help="Only days before this day.")] = None,
    forget: Annotated[
        str | None,
        typer.Option("--forget-delivered", metavar="DAY", help="Also delete messages delivered before this day."),
    ] = None,
    accept_lost: Annotated[
        bool,
        typer.Option("--accept-lost-files", help="Go on without the joint files of before, which are lost for good."),
    ] = False,
) -> None:
    """Merge the small joint files of each day and lot into few, and remove files that a crash left over.

    Delivered messages stay in the store unless --forget-delivered is given. The store can be read and written meanwhile. Status 1
    if joint files are missing or damaged.
    """
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        if accept_lost:
            opened.accept_lost_files()
        done = opened.compact(before=before)
        removed = opened.repair()
        forgotten = None if forget is None else opened.forget_delivered(forget)
    say(f"{pluralize(done.merged, 'file')} merged into {done.into}; {len(removed)} left over by a crash removed")
    if forgotten is not None:
        say(f"{pluralize(forgotten, 'message')} delivered before {forget} deleted")
    if done.unreadable:
        named = ", ".join(done.unreadable[:_MAX_NAMED]) + (", …" if len(done.unreadable) > _MAX_NAMED else "")
        say(f"{pluralize(len(done.unreadable), 'joint file')} missing or damaged, of records {named}", err=True)
        raise typer.Exit(1)


def list_quarantine(
    store: ExistingStore,
    serial: Annotated[str | None, typer.Option("--serial", metavar="S", help="Only this serial.")] = None,
    show_closed: Annotated[bool, typer.Option("--all", help="Also closed entries.")] = False,
    close: Annotated[str | None, typer.Option("--close", metavar="NUMBER", help="Close this entry.")] = None,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who looked at the board; for --close.")] = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What became of the board; for --close.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the boards that could not be inspected, each with its reason, or close an entry after a person looked at the board.

    Status 1 if open entries are listed.
    """
    from inspect_pop.core.system import utc_now
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        if close is not None:
            opened.close_quarantine(close, by=by, at=utc_now(), note=note)
            say(f"{close} closed")
            return
        found = [e for e in opened.list_quarantine(serial=serial) if show_closed or e.closed_at is None]
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(e) for e in found], indent=1, ensure_ascii=False))
    else:
        for entry in found:
            state = f" (closed by {entry.closed_by}: {entry.note})" if entry.closed_at else ""
            say(f"{entry.number}  {entry.seen_at}  {entry.serial or '-'}  {entry.path}: {entry.reason}{state}")
    if any(entry.closed_at is None for entry in found):
        raise typer.Exit(1)


# `inspect-pop machines`: what state each machine is in, its figures over time, and its qualification.


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

    from inspect_pop.core.system import utc_now
    from inspect_pop.evaluate.promotion import Gates, load_gates, qualify_machine
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

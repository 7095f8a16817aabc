"""`inspect-pop train`, `evaluate`, `study`, `gage`, `decide`: models and measurements judged on boards that people know."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from inspect_pop.cli.options import (
    AsJson,
    Confidence,
    Device,
    JobsOption,
    LabelledPaths,
    LimitsFile,
    MaxEscapeRate,
    MaxFalseCallPpm,
    ModelDir,
    Profile,
    limits_of,
)
from inspect_pop.cli.run import say
from inspect_pop.core.errors import UsageFault

__all__ = ["decide", "evaluate", "gage", "study", "train"]

_RETRAIN = Path("training", "recipes", "retrain.toml")

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also as JSON, into this file.")]

NewModel = Annotated[Path, typer.Option("--out", metavar="DIR", help="The new model's folder.", show_default=False)]
Recipe = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="A recipe such as training/recipes/scratch.toml; default: retrain."),
]
StartFrom = Annotated[
    Path | None,
    typer.Option("--from", metavar="DIR", help="The model to begin with and to compare with; default the released one."),
]
Replay = Annotated[
    list[Path] | None, typer.Option("--replay", metavar="BATCH", help="A simulated batch to mix in; may be given again.")
]
GatesFile = Annotated[
    Path | None, typer.Option("--gates", metavar="FILE", help="What a new model must pass, as training/gates.toml.")
]
PromoteInto = Annotated[
    Path | None,
    typer.Option("--promote", metavar="DIR", help="Copy it into this folder of models and take it into use, if it passes."),
]
Page = Annotated[Path, typer.Option("--page", metavar="FILE", help="The page to write, HTML.", show_default=False)]
Reviews = Annotated[bool, typer.Option("--reviews/--no-reviews", help="Joints for review too, not only escapes and false calls.")]
Repeated = Annotated[
    list[Path],
    typer.Argument(metavar="BATCH", help="Exports of the same boards, taken again and on several machines.", show_default=False),
]
Columns = Annotated[str, typer.Option("--columns", metavar="NAME,…", help="Measurements to judge; default all.")]


def train(
    labelled: LabelledPaths,
    out: NewModel,
    recipe: Recipe = None,
    start_from: StartFrom = None,
    replay: Replay = None,
    gates: GatesFile = None,
    promote: PromoteInto = None,
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
    device: Annotated[
        Device | None, typer.Option("--device", help="Where it learns; default the GPU, where there is one.", show_default=False)
    ] = None,
) -> None:
    """Train a model from labelled boards and judge it beside the old one on boards kept apart.

    Looks at the labels first: counts by class and board, duplicates, joints that do not exist, labels that are probably
    wrong. A training that was interrupted goes on when the same command is given again. Needs the extra `training`.
    Several processes, GPUs or hosts train together when `torchrun -m inspect_pop train …` starts them.
    """
    try:
        from inspect_pop.evaluate.promotion import Gates, load_gates
        from inspect_pop.learn.dataset import load_recipe
        from inspect_pop.learn.distributed import device_for, joined
        from inspect_pop.learn.train import train as trained
    except ImportError as error:
        remedy = "pip install 'inspect_pop[training]'"
        raise UsageFault("train", expected="the extra `training`", found=str(error), remedy=remedy) from error

    where = device_for(device)
    with joined(where) as ranks:
        report = trained(
            labelled,
            out,
            recipe=load_recipe(recipe or _that_came_with_the_program(_RETRAIN)),
            start_from=start_from,
            replay=replay or (),
            gates=load_gates(gates) if gates else Gates(),
            models=promote,
            limits=limits_of(limits, profile),
            processes=jobs,
            device=where,
            ranks=ranks,
            progress=say,
        )
    if report is not None:
        typer.echo("\n".join(report.lines()))


def _that_came_with_the_program(name: Path) -> Path:
    """Beside the package in a working tree, in `share/inspect-pop` of an installation."""
    tree = Path(__file__).resolve().parents[2] / name
    return tree if tree.exists() else Path(sys.prefix) / "share" / "inspect-pop" / name


def evaluate(
    labelled: LabelledPaths,
    model: ModelDir = None,
    json_file: JsonFile = None,
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
) -> None:
    """Inspect labelled boards and judge the outcome: escapes, false calls, confusion, recall by class, each with intervals."""
    from inspect_pop.evaluate.evaluation import evaluate as evaluated
    from inspect_pop.evaluate.evaluation import summary

    report = evaluated(labelled, model, limits=limits_of(limits, profile), processes=jobs, progress=say, json_file=json_file)
    typer.echo("\n".join(summary(report)))


def study(
    labelled: LabelledPaths,
    page: Page,
    model: ModelDir = None,
    reviews: Reviews = True,
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
) -> None:
    """Show every joint on which labels and verdicts disagree, beside a good neighbour, grouped by what they share."""
    from inspect_pop.evaluate.error_study import groups_of
    from inspect_pop.evaluate.error_study import study as studied

    cases = studied(labelled, model, page=page, limits=limits_of(limits, profile), processes=jobs, reviews=reviews, progress=say)
    for name, groups in groups_of(cases).items():
        shown = "; ".join(f"{group}: {', '.join(f'{n} {kind}' for kind, n in counts.items())}" for group, counts in groups[:6])
        typer.echo(f"{name}: {shown}")
    typer.echo(f"{len(cases)} joints in {page}")


def gage(
    batches: Repeated,
    columns: Columns = "",
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Gage R&R: how much of each measurement's spread is the measuring, from repeated exports of the same boards.

    ANOVA method of AIAG's Measurement Systems Analysis; machines are told apart by line and station. Needs no labels.
    """
    import json

    from inspect_pop.evaluate.gage import gage_boards

    wanted = [name.strip() for name in columns.split(",") if name.strip()] or None
    report = gage_boards(batches, limits=limits_of(limits, profile), columns=wanted, processes=jobs, progress=say)
    typer.echo(json.dumps(report.to_dict(), indent=1) if as_json else "\n".join(report.lines()))


def decide(
    model: ModelDir = None,
    max_escape_rate: MaxEscapeRate = None,
    max_false_call_ppm: MaxFalseCallPpm = None,
    confidence: Confidence = 0.95,
    as_json: AsJson = False,
) -> None:
    """Choose where verdicts change so that a promise is kept, or refuse a promise that the model cannot carry.

    The promise rests on the joints that the model was calibrated on and holds for boards like them. `run` takes the same
    options and decides accordingly.
    """
    import json

    from inspect_pop.classify.model import load
    from inspect_pop.classify.operating_points import promise_of

    promise = promise_of(
        load(model), max_escape_rate=max_escape_rate, max_false_call_ppm=max_false_call_ppm, confidence=confidence
    )
    if as_json:
        values = {name: None if value != value else value for name, value in vars(promise).items()}  # noqa: PLR0124 (NaN)
        typer.echo(json.dumps(values | {"point": promise.point.model_dump()}, indent=1))
        return
    point = promise.point
    typer.echo(f"passes below {point.pass_below:.3f}, fails from {point.fail_above:.3f} (log-odds of a defect): {point.source}")

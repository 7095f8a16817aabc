"""Commands on models: `train`, `evaluate`, `study`, `gage`, `operating-point`, `models` and `disagreements`."""

import json
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import (
    AsJson,
    Confidence,
    Device,
    ExistingStore,
    JobsOption,
    LabelledPaths,
    LimitsFile,
    MaxEscapeRate,
    MaxFalseCallPpm,
    ModelDir,
    ModelsDir,
    Profile,
    pluralize,
    print_passed_over,
    print_progress,
    resolve_limits,
    say,
)
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.system import utc_now

if TYPE_CHECKING:
    from inspect_pop.ingest import Source

__all__ = ["disagreements", "evaluate", "find_shipped_file", "gage", "models", "operating_point", "study", "train"]

_FIGURE_WIDTH = 10
_MODELS = Path("models")
_RETRAIN = Path("training/configs/retrain.toml")

TrainingPaths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="LABELLED", help="Batches with a labels.csv; with --store, none are needed.", show_default=False),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to this file, as JSON.")]
NewModel = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new model.", show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Training configuration, TOML [default: retrain.toml]"),
]
StartFrom = Annotated[
    Path | None,
    typer.Option("--from", metavar="DIR", help="Model to start from and to compare with [default: the current model]"),
]
Replay = Annotated[list[Path] | None, typer.Option("--replay", metavar="BATCH", help="Simulated batch to mix in; repeatable.")]
GatesFile = Annotated[
    Path | None, typer.Option("--gates", metavar="FILE", help="Gates that a new model must pass, such as training/gates.toml.")
]
PromoteInto = Annotated[
    Path | None,
    typer.Option("--promote", metavar="DIR", help="If the model passes its gates, promote it in this folder of models."),
]
TrainingDevice = Annotated[
    Device | None,
    typer.Option("--device", help="Where to train [default: the GPU where there is one]", show_default=False),
]
LabelStore = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="Also learn from what people decided: the store of their decisions.", show_default=False
    ),
]
Page = Annotated[Path, typer.Option("--page", metavar="FILE", help="Page to write, HTML.", show_default=False)]
Reviews = Annotated[
    bool, typer.Option("--reviews/--no-reviews", help="Include joints in review, not only escapes and false calls.")
]
Repeated = Annotated[
    list[Path],
    typer.Argument(metavar="BATCH", help="Repeated exports of the same boards, from several machines.", show_default=False),
]
Columns = Annotated[str, typer.Option("--columns", metavar="NAME,…", help="Measurements to study [default: all]")]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="Name of a model's folder.")]
ComparedBoards = Annotated[
    list[Path] | None, typer.Argument(metavar="LABELLED", help="Labelled boards to judge both by.", show_default=False)
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, for the record.", show_default=False)]


def train(
    out: NewModel,
    labelled: TrainingPaths = None,
    config: Config = None,
    start_from: StartFrom = None,
    replay: Replay = None,
    gates: GatesFile = None,
    promote: PromoteInto = None,
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
    device: TrainingDevice = None,
    store: LabelStore = None,
) -> None:
    """Train a model on labelled boards and compare it with the old model on held-out boards.

    Checks the labels first: counts by class and board, duplicates, joints that do not exist, labels that are probably
    wrong. What people decided in the store of --store are labels, too, and its boards are read from where they were inspected;
    the labels are written to `MODEL.labels/labels.csv`. An interrupted training resumes when the same command is repeated. Needs
    the extra `training`. Several processes, GPUs or hosts train together when `torchrun -m inspect_pop train …` starts them.
    """
    try:
        from inspect_pop.evaluate.promotion import Gates, load_gates
        from inspect_pop.learn.dataset import load_training_config
        from inspect_pop.learn.fit import join_processes, select_device
        from inspect_pop.learn.train import train as train_model
    except ImportError as error:
        remedy = "pip install 'inspect_pop[training]'"
        raise UsageFault("train", expected="the extra `training`", found=str(error), remedy=remedy) from error

    where = select_device(device)
    given = list(labelled or ())
    if not given and store is None:
        raise UsageFault("train", expected="LABELLED boards, or --store with decisions", found="neither")
    sources: list[Source] = [*given]
    with join_processes(where) as context:
        if store is not None:
            with context.leader_first():
                sources += _gather_decisions(store, out, is_alone=not given)
        report = train_model(
            sources,
            out,
            config=load_training_config(config or find_shipped_file(_RETRAIN)),
            start_from=start_from,
            replay=replay or (),
            gates=load_gates(gates) if gates else Gates(),
            models=promote,
            limits=resolve_limits(limits, profile),
            processes=jobs,
            device=where,
            context=context,
            progress=print_progress,
        )
    if report is not None:
        for line in report.lines():
            say(line)
        print_passed_over(given)


def _gather_decisions(store: str, out: Path, *, is_alone: bool) -> "list[Source]":
    """Write the labels of a store's decisions beside the new model; return their folder and the exports that they are about.

    `is_alone` says that no other boards are given. Raises `UsageFault` if there is no label, or no export of those alone.
    """
    from inspect_pop.evaluate.decision_labels import collect_decision_labels, find_decided_exports, write_decision_labels
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        found = collect_decision_labels(opened)
        exports = find_decided_exports(opened, found.labels)
    if not found.labels:
        remedy = "Verify some boards first; `inspect-pop labels export` shows what the decisions say."
        raise UsageFault("--store", expected="decisions that say what a joint is", found="none", remedy=remedy)
    print_progress(f"decisions: {found.describe_bias()}")
    for line in exports.lost:
        print_progress(f"export is gone: {line}")
    if is_alone and not exports.places:
        listed = f"none of {len(exports.lost)}: {exports.lost[0]}"
        remedy = "Put exports back where they were, or name the folder that holds them now: train BOARDS --store URL."
        raise UsageFault("--store", expected="exports of the boards that people judged", found=listed, remedy=remedy)
    folder = out.with_name(f"{out.name}.labels")
    folder.mkdir(parents=True, exist_ok=True)
    write_decision_labels(found, folder / "labels.csv")
    return [folder, *exports.places]


def find_shipped_file(name: Path) -> Path:
    """Return the path of a file that comes with the program, such as a training configuration.

    That is in the working tree, or in `share/inspect-pop` of the environment or of the user's installation (`pip install
    --user`); the environment's path where it is in none of them.
    """
    tree = Path(__file__).resolve().parents[2] / name
    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    installed, user_installed = (Path(base) / "share" / "inspect-pop" / name for base in (sys.prefix, user))
    return next((path for path in (tree, installed, user_installed) if path.exists()), installed)


def evaluate(
    labelled: LabelledPaths,
    model: ModelDir = None,
    json_file: JsonFile = None,
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
) -> None:
    """Inspect labelled boards and report escapes, false calls, confusion and recall by class, each with intervals."""
    from inspect_pop.evaluate.evaluation import evaluate as evaluate_model
    from inspect_pop.evaluate.evaluation import summary

    report = evaluate_model(
        labelled,
        model,
        limits=resolve_limits(limits, profile),
        processes=jobs,
        progress=print_progress,
        json_file=json_file,
    )
    for line in summary(report):
        say(line)
    print_passed_over(labelled)


def study(
    labelled: LabelledPaths,
    page: Page,
    model: ModelDir = None,
    reviews: Reviews = True,
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
) -> None:
    """Show every joint whose label and verdict disagree, next to a good neighbour, grouped by what the joints share."""
    from inspect_pop.evaluate.error_study import group_cases
    from inspect_pop.evaluate.error_study import study as study_errors

    cases = study_errors(
        labelled,
        model,
        page=page,
        limits=resolve_limits(limits, profile),
        processes=jobs,
        reviews=reviews,
        progress=print_progress,
    )
    for name, groups in group_cases(cases).items():
        largest = "; ".join(f"{group}: {', '.join(f'{n} {kind}' for kind, n in counts.items())}" for group, counts in groups[:6])
        say(f"{name}: {largest}")
    say(f"{pluralize(len(cases), 'joint')} in {page}")


def gage(
    batches: Repeated,
    columns: Columns = "",
    jobs: JobsOption = 0,
    limits: LimitsFile = None,
    profile: Profile = None,
    as_json: AsJson = False,
) -> None:
    """Gage R&R: the measuring system's share of each measurement's spread, from repeated exports of the same boards.

    ANOVA method of AIAG's Measurement Systems Analysis; machines are distinguished by line and station. Needs no labels.
    """
    import json

    from inspect_pop.evaluate.gage import gage_boards

    wanted = [name.strip() for name in columns.split(",") if name.strip()] or None
    report = gage_boards(batches, limits=resolve_limits(limits, profile), columns=wanted, processes=jobs, progress=print_progress)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1))
        return
    for line in report.lines():
        say(line)


def operating_point(
    model: ModelDir = None,
    max_escape_rate: MaxEscapeRate = None,
    max_false_call_ppm: MaxFalseCallPpm = None,
    confidence: Confidence = 0.95,
    as_json: AsJson = False,
) -> None:
    """Choose the thresholds that keep promised error rates.

    The promise rests on the joints that the model was calibrated on and holds for boards like them. It is refused where
    these joints are too few to support it. `run` takes the same options and decides accordingly.
    """
    import json

    from inspect_pop.classify.model import load
    from inspect_pop.classify.operating_points import choose_model_point

    promise = choose_model_point(
        load(model), max_escape_rate=max_escape_rate, max_false_call_ppm=max_false_call_ppm, confidence=confidence
    )
    if as_json:
        values = {name: None if value != value else value for name, value in vars(promise).items()}  # noqa: PLR0124 (NaN)
        typer.echo(json.dumps(values | {"point": promise.point.model_dump()}, indent=1))
        return
    point = promise.point
    say(f"passes below {point.pass_below:.3f}, fails from {point.fail_above:.3f} (log-odds of a defect): {point.source}")


models = typer.Typer(
    help="List, compare, promote and roll back the models of a folder.", no_args_is_help=True, rich_markup_mode=None
)


def _find_models(folder: Path) -> Path:
    """Return the folder of models to read: the one that comes with the program where the default one is not there."""
    return folder if folder != _MODELS or folder.exists() else find_shipped_file(_MODELS)


@models.command("list")
def show_models(folder: ModelsDir = Path("models"), as_json: AsJson = False) -> None:
    """List all models with their versions; an asterisk marks the current model, and a damaged model shows its fault."""
    import json

    from inspect_pop.evaluate.promotion import list_models

    found = list_models(_find_models(folder))
    if as_json:
        typer.echo(json.dumps([entry.to_dict() for entry in found], indent=1))
        return
    if not found:
        say(f"no model in {folder}")
    for entry in found:
        about = f"{entry.card.version}, made {entry.card.created_at}" if entry.card else entry.fault
        say(f"{'*' if entry.current else ' '} {entry.name}: {about}")


@models.command("compare")
def compare(
    first: Name,
    second: Name,
    labelled: ComparedBoards = None,
    folder: ModelsDir = Path("models"),
    jobs: JobsOption = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two models on the same labelled boards: differences with intervals over boards, and whether SECOND is better.

    Without LABELLED, the figures of the cards are compared, which say something only where both were judged on the same boards.
    """
    import json

    from inspect_pop.classify.model import load
    from inspect_pop.evaluate.promotion import compare as compare_models
    from inspect_pop.evaluate.promotion import were_judged_together

    folder = _find_models(folder)
    if first == second:
        raise UsageFault(f"models {first} {second}", expected="two models", found="the same one twice")
    if labelled:
        from inspect_pop.evaluate.comparison import compare_models as compare_on_boards

        both = {name: load(folder / name) for name in (first, second)}
        found = compare_on_boards(labelled, both, processes=jobs, progress=print_progress)
        if as_json:
            typer.echo(json.dumps(found.to_dict(), indent=1))
            return
        for line in found.lines():
            say(line)
        return
    rows = compare_models(folder, first, second)
    is_comparable = were_judged_together(load(folder / first).card, load(folder / second).card)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    widths = [max(len(name), _FIGURE_WIDTH) for name in (first, second)]
    say(f"{'figure':<30}  {first:>{widths[0]}}  {second:>{widths[1]}}  better")
    for row in rows:
        one, two = ("" if row[key] is None else f"{row[key]:.3g}" for key in ("first", "second"))
        say(f"{row['figure']:<30}  {one:>{widths[0]}}  {two:>{widths[1]}}  {row['better']}".rstrip())
    if is_comparable:
        say("better: where the 95 % intervals do not overlap, or the figure has none")
    else:
        say(
            "The two were judged on different boards: no figure says which is better. "
            f"`inspect-pop models compare {first} {second} LABELLED` judges both on the same boards."
        )


@models.command("learn-pictures")
def learn_pictures(batches: Repeated, model: Annotated[Path, typer.Option(help="Folder of the model.")]) -> None:
    """Write into a model's card what pictures look like that it has learnt: unlike pictures are told.

    The batches are boards of every machine that the model was trained for; they need no labels. Its networks stay as they are,
    its digest changes.
    """
    from inspect_pop.evaluate.collect import learn_pictures as learn
    from inspect_pop.evaluate.collect import write_pictures

    learnt = learn(batches, ", ".join(batch.name for batch in batches))
    for one in write_pictures(model, learnt).pictures:
        say(f"{one.machine} ({one.method}): " + ", ".join(f"{n} {one.low[n]:g} to {one.high[n]:g}" for n in one.low))


@models.command("promote")
def promote(name: Name, reason: Reason, folder: ModelsDir = Path("models")) -> None:
    """Make a model the current model. It is loaded first, and refused where it cannot be."""
    from inspect_pop.evaluate.promotion import promote as promote_model

    say(f"current model: {promote_model(folder, name, at=utc_now('seconds'), reason=reason).current}")


@models.command("rollback")
def rollback(reason: Reason, folder: ModelsDir = Path("models")) -> None:
    """Return to the previous model."""
    from inspect_pop.evaluate.promotion import rollback as roll_back

    say(f"current model: {roll_back(folder, at=utc_now('seconds'), reason=reason).current}")


# `inspect-pop disagreements`: where the model and people disagree.


Limit = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Most disagreements to list.")]


def disagreements(store: ExistingStore, model: ModelDir = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List where the model and people disagree, the most surprising joint first, and whether a new training may pay.

    Surprising is what the model held for least probable. Escapes are counted among the joints that passed and were drawn for
    people to look at, with an exact 95 % interval over boards.
    """
    from inspect_pop.classify.model import load
    from inspect_pop.evaluate.comparison import find_disagreements, forecast_training
    from inspect_pop.evaluate.decision_labels import collect_decision_labels
    from inspect_pop.store import open_store

    current = load(model)
    with open_store(store, must_exist=True) as opened:
        found = collect_decision_labels(opened)
        report = find_disagreements(opened, found, forecast_training(found, current.card, current.folder))
    if as_json:
        typer.echo(json.dumps(report.to_dict(limit), indent=1))
        return
    for line in report.lines(limit):
        say(line)

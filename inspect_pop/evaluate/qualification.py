"""Qualify a machine: inspect labelled boards of it and apply the gates that a model must pass.

With `unlike_forbids` of 1, a machine whose pictures are unlike all that the model has learnt passes no joint until it is
qualified. The boards are inspected
as they will be afterwards: with the same model and limits, but for `unlike_forbids`, which is 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from inspect_pop.classify.model import load
from inspect_pop.core.errors import InputFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.evaluation import find_learnt_boards, outcomes_of
from inspect_pop.evaluate.outcomes import judge
from inspect_pop.evaluate.promotion import Gate, Gates, check_gates
from inspect_pop.ingest import Source, find_exports, open_export
from inspect_pop.store import Qualification

__all__ = ["qualify_machine"]

_RATES = ("escape", "false_call", "review")


def qualify_machine(
    machine: str,
    paths: Sequence[Source],
    model: Path | None,
    *,
    by: str,
    at: str,
    limits: Limits | None = None,
    gates: Gates | None = None,
    processes: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Qualification:
    """Inspect the labelled boards of a machine and return whether they pass the gates. Nothing is stored.

    Parameters
    ----------
    machine
        Line and station, such as `LINE-A/AXI-1`. Boards of other machines among the paths are left out.
    paths
        Boards and their labels.
    model
        A model folder, or a folder of models; None for the current model.
    by, at
        Who qualifies, and when (ISO 8601 with an offset).
    limits, gates
        By which boards are decided, and the outcome is judged; the defaults if None. Boards that the model has learnt from fail.

    Raises
    ------
    UsageFault
        No board of this machine can be opened.
    LabelsFault
        None of its boards has labels.
    ModelFault
        The model cannot be used.
    """
    loaded, configured = load(model), limits or Limits()
    boards: dict[str, str] = {}
    others = set()
    for path, root in find_exports(paths):
        try:
            export = open_export(path, root)
        except InputFault as fault:
            progress(f"left out: {fault}")
            continue
        if export.machine != machine:
            others.add(export.machine)
            continue
        boards[export.serial] = export.digest
    if not boards:
        remedy = "Name the machine as its exports do: line/station."
        found = f"boards of {', '.join(sorted(others))}" if others else "none that can be opened"
        raise UsageFault(f"machine {machine}", expected="boards that it took", found=found, remedy=remedy)
    relaxed = replace(configured, unlike_forbids=0.0)
    outcomes, _ = outcomes_of(paths, loaded, limits=relaxed, processes=processes, progress=progress, only=boards.keys())
    outcomes = outcomes.take(outcomes.machine == machine)
    labelled = tuple(dict.fromkeys(outcomes.serial.tolist()))
    judged, learnt = judge(outcomes), find_learnt_boards(paths, loaded.card, set(labelled))
    words = "none taught it" if not learnt else f"{len(learnt)} of {len(labelled)} taught it"
    words = "its card does not say which boards taught it" if learnt is None else words
    answers = (Gate("boards new to the model", not learnt, words), *check_gates(gates or Gates(), judged, None))
    decider = loaded.machine_models.get(machine, loaded)
    figures = {name: judged[name] for name in ("joints", "defects", *_RATES)}
    return Qualification(
        machine,
        decider.digest,
        configured.profile.name,
        (configured.digest, relaxed.digest),
        all(answer.passed for answer in answers),
        by,
        at,
        tuple((serial, boards[serial]) for serial in labelled),
        {**figures, "gates": [asdict(answer) for answer in answers]},
    )

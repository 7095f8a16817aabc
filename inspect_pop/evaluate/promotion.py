"""Gates: whether a model may replace the current one, whether its promise would hold, and whether a machine is qualified.

Gates are rules read from `training/gates.toml`; each answers in words. Old and new model are judged on the same golden
boards, which neither was trained on. A rule rejects the new model only if the old one's interval does not explain the
difference: chance alone must not hold a model back, nor may a set that is too small to show harm let one through.

Promotion and rollback move the pointer of a folder of models and record it. No model is deleted or overwritten.
"""

import json
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.model import POINTER, Card, Model, Pointer, PointerChange, load, read_pointer
from inspect_pop.classify.operating_points import choose_operating_point, read_calibration
from inspect_pop.classify.session import log_odds
from inspect_pop.core import system
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.errors import InputFault, LimitsFault, ModelFault, PromiseFault, UsageFault, describe_error
from inspect_pop.core.limits import Limits
from inspect_pop.core.statistics import percent
from inspect_pop.evaluate.evaluation import find_learnt_boards, judge, outcomes_of
from inspect_pop.ingest import Source, find_exports, open_export
from inspect_pop.store import Qualification

__all__ = [
    "Gate",
    "Gates",
    "ModelEntry",
    "PromiseCheck",
    "check_fresh",
    "check_gates",
    "check_promise",
    "check_scores",
    "compare",
    "list_models",
    "load_gates",
    "promote",
    "qualify_machine",
    "rollback",
    "were_judged_together",
]

# Figures by which two models are compared: the path in a card's metrics, and whether more is better.
_COMPARED = (
    ("escape_rate", False),
    ("escape_upper95", False),
    ("false_call_ppm", False),
    ("review_share", False),
    ("exact_label_of_defects.rate", True),
    *((f"recall.{c}.rate", True) for c in CLASSES),
    ("calibration.expected_error", False),
)


class Gates(BaseModel):
    """The limits of the rules; a value of `gates.toml` replaces the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least_boards: int = Field(default=1, ge=1, description="golden boards")
    least_good: int = Field(default=200, ge=1, description="golden joints that are good")
    least_defects: int = Field(default=8, ge=1, description="golden joints that are defective")
    largest_escape_rate: float = Field(default=0.1, ge=0, le=1, description="of the new model, whatever the old one's is")
    largest_false_call_ppm: float = Field(default=20_000, ge=0, description="of the new model, whatever the old one's is")
    largest_review_share: float = Field(default=0.1, ge=0, le=1, description="of the new model, unless the old one's is larger")
    largest_calibration_error: float = Field(
        default=0.02, ge=0, le=1, description="of the new model, unless the old one's is larger"
    )


@dataclass(frozen=True)
class Gate:
    """The answer of one rule: its name, whether the new model passes, and why in words."""

    name: str
    passed: bool
    explanation: str


def load_gates(path: Path) -> Gates:
    """Read gates from a TOML file. Raises `LimitsFault` for a file that cannot be read, an unknown key or an impossible value."""
    try:
        return Gates.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="promotion gates", found=describe_error(error)) from error


def check_gates(gates: Gates, new: dict[str, Any], old: dict[str, Any] | None) -> tuple[Gate, ...]:
    """Return every rule's answer.

    `new` and `old` are evaluations (`outcomes.judge`) on the same boards; `old` is None if there is no old model.
    """
    counts = (  # a set on which harm would show
        ("golden boards", new["boards"], gates.least_boards),
        ("golden good joints", new["joints"] - new["defects"], gates.least_good),
        ("golden defects", new["defects"], gates.least_defects),
    )
    answers = [Gate(name, have >= least, f"{have}, at least {least} required") for name, have, least in counts]
    calls = None if new["false_call_ppm"] is None else new["false_call_ppm"] / 1e6
    review = gates.largest_review_share
    if old is not None and (old["review_share"] or 0.0) > review:
        review = float(old["review"]["high"])  # if people saw more than the limit already, no more than chance may add
    answers += [
        _check_limit("escapes", new["escape_rate"], gates.largest_escape_rate),
        _check_limit("false calls", calls, gates.largest_false_call_ppm / 1e6),
        _check_limit("review", new["review_share"], review),
    ]
    error, before = new["calibration"]["expected_error"], old["calibration"]["expected_error"] if old else None
    if error is None:
        answers.append(Gate("calibration", False, "no joint was decided"))
    else:
        limit = max(gates.largest_calibration_error, before or 0.0)
        explanation = f"expected calibration error {error:.4f}, at most {limit:.4f} allowed"
        answers.append(Gate("calibration", error <= limit, explanation))
    if old is not None:
        answers += [_compare_rates(f"recall of {c}", new["recall"][c], old["recall"][c], more_is_better=True) for c in CLASSES]
        for name, key in (("escapes", "escape"), ("false calls", "false_call")):
            answers.append(_compare_rates(f"{name} against the old model", new[key], old[key], more_is_better=False))
    return tuple(answers)


def _check_limit(name: str, rate: float | None, limit: float) -> Gate:
    if rate is None:
        return Gate(f"{name} in all", False, "no joints to count them on")
    return Gate(f"{name} in all", rate <= limit, f"{percent(rate)}, at most {percent(limit)} allowed")


def _compare_rates(name: str, new: dict[str, Any], old: dict[str, Any], *, more_is_better: bool) -> Gate:
    """Answer whether a rate got worse beyond the old one's interval."""
    if old["rate"] is None or new["rate"] is None:
        return Gate(name, True, "no such joints among the golden ones")
    bound, words = (old["low"], "at least") if more_is_better else (old["high"], "at most")
    passed = new["rate"] >= bound if more_is_better else new["rate"] <= bound
    return Gate(name, passed, f"{percent(new['rate'])}, before {percent(old['rate'])} ({words} {percent(bound)})")


@dataclass(frozen=True)
class ModelEntry:
    """One model of a folder. `fault` says why it cannot be used; its `card` is None then."""

    name: str
    current: bool
    card: Card | None
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry for JSON."""
        card = self.card
        about = {"version": card.version, "created_at": card.created_at, "metrics": card.metrics} if card else {}
        return {"name": self.name, "current": self.current, "fault": self.fault, **about}


def list_models(root: Path) -> list[ModelEntry]:
    """Return every model folder under `root` by name, after checking all of it; a damaged one is listed with its fault."""
    pointer = read_pointer(root)
    current = pointer.current if pointer else ""
    try:
        folders = sorted(p for p in root.iterdir() if (p / "card.json").exists())
    except OSError as error:
        raise ModelFault(str(root), expected="a folder of models", found=describe_error(error)) from error
    models = []
    for folder in folders:
        try:
            models.append(ModelEntry(folder.name, folder.name == current, load(folder).card))
        except ModelFault as fault:
            models.append(ModelEntry(folder.name, folder.name == current, None, str(fault)))
    return models


def were_judged_together(first: Card, second: Card) -> bool:
    """Return whether two cards' figures are of the same boards, as far as the cards tell."""
    counts = [[_lookup(card.metrics, name) for name in ("boards", "joints", "defects")] for card in (first, second)]
    golden = [sorted(card.data.get("golden boards", ())) for card in (first, second)]
    return counts[0] == counts[1] and golden[0] == golden[1] and first.measured_on == second.measured_on


def compare(root: Path, first: str, second: str) -> list[dict[str, Any]]:
    """Return rows of `figure`, `first`, `second`, `better` from two cards' metrics.

    `better` is a name; empty where the figures are equal or unknown, where their intervals overlap (chance explains the
    difference), and everywhere if the two models were judged on different boards, on which no figure can be compared.
    """
    both = [_load_card(root, name) for name in (first, second)]
    cards, is_comparable = [card.metrics for card in both], were_judged_together(*both)
    rows: list[dict[str, Any]] = [
        {"figure": "boards", "first": _lookup(cards[0], "boards"), "second": _lookup(cards[1], "boards"), "better": ""}
    ]
    for path, more in _COMPARED:
        a, b = (_lookup(metrics, path) for metrics in cards)
        is_unknown = not is_comparable or a is None or b is None or a == b or _intervals_overlap(cards, path)
        better = "" if is_unknown or a is None or b is None else first if (a > b) == more else second
        rows.append({"figure": path, "first": a, "second": b, "better": better})
    return rows


def _intervals_overlap(cards: Sequence[dict[str, Any]], path: str) -> bool:
    """Return whether chance explains the difference of a figure; False for a figure without intervals."""
    name = {"escape_rate": "escape", "false_call_ppm": "false_call", "review_share": "review"}.get(
        path, path.removesuffix(".rate")
    )
    bounds = [(_lookup(metrics, f"{name}.low"), _lookup(metrics, f"{name}.high")) for metrics in cards]
    (low, high), (other_low, other_high) = bounds
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return low <= other_high and other_low <= high


def promote(root: Path, name: str, *, at: str, reason: str) -> Pointer:
    """Make a model the current one. Raises `ModelFault` if it cannot be loaded; the current one stays then.

    Parameters
    ----------
    at
        Now, as ISO 8601.
    reason
        Why, for the record: the gates' answers, or a person's words.
    """
    _load_card(root, name)
    return _move_pointer(root, name, "promote", at, reason)


def rollback(root: Path, *, at: str, reason: str) -> Pointer:
    """Return to the previous current model; each rollback takes back one promotion.

    Raises `ModelFault` if there is none.
    """
    pointer = read_pointer(root)
    stack: list[str | None] = []
    for change in pointer.history if pointer else ():
        if change.action == "rollback":
            stack.pop()
        else:
            stack.append(change.previous)
    before = stack[-1] if stack else None
    if before is None:
        raise ModelFault(str(root), expected="an earlier current model", found="none", remedy="Promote one by name.")
    _load_card(root, before)
    return _move_pointer(root, before, "rollback", at, reason)


def _move_pointer(root: Path, name: str, action: str, at: str, reason: str) -> Pointer:
    old = read_pointer(root)
    change = PointerChange(to=name, previous=old.current if old else None, at=at, action=action, reason=reason)
    pointer = Pointer(current=name, history=(*(old.history if old else ()), change))
    system.write_text(root / POINTER, json.dumps(pointer.model_dump(by_alias=True), indent=1), durable=True)
    return pointer


def _load_card(root: Path, name: str) -> Card:
    if not name or Path(name).name != name:
        raise ModelFault(f"model {name!r}", expected=f"the name of a folder in {root}", found="a path", remedy="Give its name.")
    return load(root / name).card


def _lookup(metrics: dict[str, Any], path: str) -> float | None:
    value: Any = metrics
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None


# Whether a promise would hold if the calibration boards had been other ones.
#
# There are two ways to redraw them. `check_scores` takes the boards at hand for all boards: each draw takes as many of them
# at random, some several times and some not at all, chooses the operating point that keeps the promise on those, and counts
# its errors on all of them. `check_fresh` splits them: half of the boards choose the operating point, and its errors are
# counted on the other half, of which the choice knew nothing. The second is stricter: half as many boards choose, and those
# that judge are few, so that their rate scatters around the true one. With a confidence of 95 % about one draw in twenty may
# break the promise.


_GOOD = CLASSES.index(GOOD)


@dataclass(frozen=True)
class PromiseCheck:
    """How often a promise was kept, and the mean rates, over redrawn boards.

    Attributes
    ----------
    draws, refused
        Draws whose joints could carry the promise, and those whose joints could not.
    held_escapes, held_false_calls
        Draws in which the promised rate was kept on the boards that judge.
    escape_rate, false_call_ppm, review_share
        Mean rates on those boards; NaN without draws.
    """

    max_escape_rate: float | None
    max_false_call_ppm: float | None
    draws: int
    refused: int
    held_escapes: int
    held_false_calls: int
    escape_rate: float
    false_call_ppm: float
    review_share: float

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON, NaN as None."""
        return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        lines = []
        if self.max_escape_rate is not None:
            lines.append(
                f"at most {self.max_escape_rate:.2%} escapes kept in {self.held_escapes} of {self.draws} ({self.escape_rate:.3%})"
            )
        if self.max_false_call_ppm is not None:
            lines.append(
                f"at most {self.max_false_call_ppm:.0f} ppm false calls kept in {self.held_false_calls} of {self.draws} "
                f"({self.false_call_ppm:.0f} ppm)"
            )
        return "; ".join([*lines, f"{self.review_share:.2%} of good joints in review", f"{self.refused} draws refused"])


def check_promise(
    model: Model,
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    draws: int = 20,
    seed: int = 0,
) -> PromiseCheck:
    """Check a promise on the joints that a model was calibrated on. Raises `ModelFault` if it has none."""
    joints, calibration = read_calibration(model), model.card.calibration
    scores = log_odds(joints.logits / calibration.temperature + np.asarray(calibration.bias, np.float32))
    return check_scores(
        scores,
        joints.label != _GOOD,
        joints.serial.astype(str),
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        draws=draws,
        seed=seed,
    )


def check_scores(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    boards: NDArray[np.str_],
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    draws: int = 20,
    seed: int = 0,
) -> PromiseCheck:
    """Check a promise on any joints: (n,) log-odds, (n,) whether each is defective, and its board."""
    rng, groups = np.random.default_rng(seed), _group_by_board(boards)
    everything = np.arange(len(scores))
    draws_of_boards = ([groups[k] for k in rng.integers(0, len(groups), len(groups))] for _ in range(draws))
    pairs = ((chosen, everything) for chosen in draws_of_boards)
    return _count_draws(scores, defective, pairs, max_escape_rate, max_false_call_ppm)


def check_fresh(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    boards: NDArray[np.str_],
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    draws: int = 20,
    seed: int = 0,
) -> PromiseCheck:
    """Check a promise on boards that did not choose it: each draw chooses by half of the boards and counts on the rest."""
    rng, groups = np.random.default_rng(seed), _group_by_board(boards)
    orders = (rng.permutation(len(groups)) for _ in range(draws))
    half = (len(groups) + 1) // 2
    pairs = (([groups[k] for k in order[:half]], np.concatenate([groups[k] for k in order[half:]])) for order in orders)
    return _count_draws(scores, defective, pairs, max_escape_rate, max_false_call_ppm)


def _group_by_board(boards: NDArray[np.str_]) -> list[NDArray[np.intp]]:
    """Return the numbers of each board's joints."""
    return [np.flatnonzero(boards == name) for name in np.unique(boards)]


def _count_draws(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    pairs: Iterable[tuple[list[NDArray[np.intp]], NDArray[np.intp]]],
    max_escape_rate: float | None,
    max_false_call_ppm: float | None,
) -> PromiseCheck:
    """Count how often the promise held over pairs of (joints by board that choose, joints that judge)."""
    results: list[tuple[float, float, float]] = []
    refused = 0
    for drawn, judged in pairs:
        rows = np.concatenate(drawn)
        try:
            point = choose_operating_point(
                scores[rows],
                defective[rows],
                max_escape_rate=max_escape_rate,
                max_false_call_ppm=max_false_call_ppm,
                boards=np.repeat(np.arange(len(drawn)), [len(d) for d in drawn]),
            ).point
        except PromiseFault:
            refused += 1
            continue
        bad, good = scores[judged][defective[judged]], scores[judged][~defective[judged]]
        review = np.mean((good >= point.pass_below) & (good < point.fail_above))
        results.append((float(np.mean(bad < point.pass_below)), float(np.mean(good >= point.fail_above)), float(review)))
    rates = np.array(results).reshape(-1, 3)
    means = rates.mean(axis=0) if len(rates) else np.full(3, np.nan)
    return PromiseCheck(
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        draws=len(rates),
        refused=refused,
        held_escapes=int((rates[:, 0] <= max_escape_rate).sum()) if max_escape_rate is not None else 0,
        held_false_calls=int((rates[:, 1] <= max_false_call_ppm / 1e6).sum()) if max_false_call_ppm is not None else 0,
        escape_rate=float(means[0]),
        false_call_ppm=float(1e6 * means[1]),
        review_share=float(means[2]),
    )


# Qualify a machine: inspect labelled boards of it and apply the gates that a model must pass.
#
# With `unlike_forbids` of 1, a machine whose pictures are unlike all that the model has learnt passes no joint until it is
# qualified. The boards are inspected
# as they will be afterwards: with the same model and limits, but for `unlike_forbids`, which is 0.


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

"""Resolve a board's outcome from its inspections and people's decisions, without a database.

A decision stands until its stage withdraws it; what the repair station decided counts before what the operator decided.

`final` follows from the last inspection. It is `pass` if every joint that failed or was in review has been rejected as a
false call, accepted, repaired or closed, and no missed defect was found. It is `pending` if only undecided reviews are left,
otherwise `fail`.

The counts of confirmed calls, false calls, cleared reviews and escapes follow from the first inspection. They tell how well
the machine did, on the same joints that first-pass yield and DPMO are about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from inspect_pop.store.types import PASS_CONFIRMED, STAGES, WITHDRAWN

__all__ = ["BoardOutcome", "InspectionState", "list_standing", "resolve_outcome"]

Entry = TypeVar("Entry", bound=tuple[Any, ...])
JointKey = tuple[str, str, str]
_RESOLVING = {"DefectRejected", "DefectAccepted", "DefectRepaired", "DefectClosed", PASS_CONFIRMED}
_JUDGING = {"DefectConfirmed", "DefectRejected", "DefectAccepted", "DefectMissed", PASS_CONFIRMED}


@dataclass(frozen=True)
class InspectionState:
    """One inspection of a board, with the decisions about it.

    Joints are `(refdes, interface, ball)`.

    Attributes:
        verdict: The board's verdict.
        interfaces: `(refdes, interface)` of every interface that was inspected.
        suspects: The verdict of every joint that failed or is in review.
        decided: The states of the standing decisions about each joint (`list_standing`); joints without one are left out.
    """

    verdict: str
    interfaces: frozenset[tuple[str, str]]
    suspects: Mapping[JointKey, str]
    decided: Mapping[JointKey, Sequence[str]]


@dataclass(frozen=True)
class BoardOutcome:
    """The outcome of a board, or of one of its interfaces.

    `verified_passed` is 1 if people found it good at its first inspection: every suspect a false call, and no escape.
    """

    final: str
    n_confirmed: int = 0
    n_false_calls: int = 0
    n_cleared: int = 0
    n_escapes: int = 0
    verified_passed: int = 0


def list_standing(decided: Sequence[Entry]) -> list[Entry]:
    """Return the decisions about a joint that stand, the one that counts last.

    `decided` holds all decisions about it in order of time; an entry begins with state and stage. A withdrawal takes back what
    its stage decided until then.
    """
    standing: list[Entry] = []
    for entry in decided:
        if entry[0] == WITHDRAWN:
            standing = [earlier for earlier in standing if earlier[1] != entry[1]]
        else:
            standing.append(entry)
    return sorted(standing, key=lambda entry: STAGES.index(entry[1]))


def resolve_outcome(inspections: Sequence[InspectionState]) -> tuple[BoardOutcome, dict[tuple[str, str], BoardOutcome]]:
    """Resolve the outcome of a board from its inspections, given in order of time.

    Returns the board's outcome, and that of each interface of the first inspection by `(refdes, interface)`. An interface
    that a later inspection does not cover keeps the state that it had before.
    """
    first, last = inspections[0], inspections[-1]
    final = _resolve_final(last.suspects, last.decided)
    if final == "pass" and not last.suspects and last.verdict != "pass":
        final = "pending" if last.verdict == "review" else "fail"
    parts = {}
    for interface in first.interfaces:
        latest = [state for state in inspections if interface in state.interfaces][-1]
        suspects = {k: v for k, v in latest.suspects.items() if k[:2] == interface}
        decided = {k: v for k, v in latest.decided.items() if k[:2] == interface}
        decided_first = {k: v for k, v in first.decided.items() if k[:2] == interface}
        suspects_first = {k: v for k, v in first.suspects.items() if k[:2] == interface}
        parts[interface] = _count_judgements(_resolve_final(suspects, decided), suspects_first, decided_first)
    board = _count_judgements(final, first.suspects, first.decided)
    if not first.suspects and first.verdict != "pass":  # something else than a joint holds it back
        board = replace(board, verified_passed=0)
    return board, parts


def _resolve_final(suspects: Mapping[JointKey, str], decided: Mapping[JointKey, Sequence[str]]) -> str:
    if any(joint not in suspects and states[-1] not in _RESOLVING for joint, states in decided.items()):
        return "fail"  # a missed defect that is still there
    left = [joint for joint in suspects if joint not in decided or decided[joint][-1] not in _RESOLVING]
    if not left:
        return "pass"
    return "pending" if all(suspects[joint] == "review" and joint not in decided for joint in left) else "fail"


def _count_judgements(final: str, suspects: Mapping[JointKey, str], decided: Mapping[JointKey, Sequence[str]]) -> BoardOutcome:
    """Count by the last state that says whether it was a defect; a repair without such a state means that it was one."""
    judged = [
        (suspects.get(joint, "pass"), next((s for s in reversed(states) if s in _JUDGING), "DefectConfirmed"))
        for joint, states in decided.items()
    ]
    is_good = all(judgement in ("DefectRejected", PASS_CONFIRMED) for _, judgement in judged)
    return BoardOutcome(
        final,
        n_confirmed=sum(judgement in ("DefectConfirmed", "DefectAccepted") for _, judgement in judged),
        n_false_calls=judged.count(("fail", "DefectRejected")),
        n_cleared=judged.count(("review", "DefectRejected")),
        n_escapes=sum(judgement == "DefectMissed" for _, judgement in judged),
        verified_passed=int(is_good and suspects.keys() <= decided.keys()),
    )

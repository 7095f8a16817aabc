"""What a board's inspections and people's decisions come to: pure, so that it can be checked by hand.

`final` looks at the last inspection: pass where every joint that was called or doubted has been rejected as a false call,
accepted, repaired or closed, and none was found that the machine missed; pending where only undecided doubts are left.
The counts of confirmed calls, false calls, cleared doubts and escapes look at the first inspection: they tell how the
machine did, on the same joints that first-pass yield and DPMO are about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Looked", "Settled", "settle"]

Key = tuple[str, str, str]
_SETTLING = {"DefectRejected", "DefectAccepted", "DefectRepaired", "DefectClosed"}
_JUDGING = {"DefectConfirmed", "DefectRejected", "DefectAccepted", "DefectMissed"}


@dataclass(frozen=True)
class Looked:
    """One inspection of a board: its verdict, its interfaces, its joints that failed or are in review, decisions in order.

    Joints are `(refdes, interface, ball)`; `bad` gives their verdict, `decided` the states in the order of their time.
    """

    verdict: str
    interfaces: frozenset[tuple[str, str]]
    bad: Mapping[Key, str]
    decided: Mapping[Key, Sequence[str]]


@dataclass(frozen=True)
class Settled:
    """The outcome for a board, or for one interface of it."""

    final: str
    n_confirmed: int = 0
    n_false_calls: int = 0
    n_cleared: int = 0
    n_escapes: int = 0


def settle(inspections: Sequence[Looked]) -> tuple[Settled, dict[tuple[str, str], Settled]]:
    """The board's outcome, and that of each interface of its first inspection by (refdes, interface)."""
    first, last = inspections[0], inspections[-1]
    final = _final(last.bad, last.decided)
    if final == "pass" and not last.bad and last.verdict != "pass":
        final = "pending" if last.verdict == "review" else "fail"
    parts = {}
    for interface in first.interfaces:
        seen = [looked for looked in inspections if interface in looked.interfaces][-1]
        bad = {k: v for k, v in seen.bad.items() if k[:2] == interface}
        decided = {k: v for k, v in seen.decided.items() if k[:2] == interface}
        own = {k: v for k, v in first.decided.items() if k[:2] == interface}
        parts[interface] = _counted(_final(bad, decided), first.bad, own)
    return _counted(final, first.bad, first.decided), parts


def _final(bad: Mapping[Key, str], decided: Mapping[Key, Sequence[str]]) -> str:
    if any(joint not in bad and states[-1] not in _SETTLING for joint, states in decided.items()):
        return "fail"
    left = [joint for joint in bad if joint not in decided or decided[joint][-1] not in _SETTLING]
    if not left:
        return "pass"
    return "pending" if all(bad[joint] == "review" and joint not in decided for joint in left) else "fail"


def _counted(final: str, bad: Mapping[Key, str], decided: Mapping[Key, Sequence[str]]) -> Settled:
    judged = [(bad.get(joint, "pass"), _judgement(states)) for joint, states in decided.items()]
    return Settled(
        final,
        n_confirmed=sum(j in ("DefectConfirmed", "DefectAccepted") for _, j in judged),
        n_false_calls=judged.count(("fail", "DefectRejected")),
        n_cleared=judged.count(("review", "DefectRejected")),
        n_escapes=sum(j == "DefectMissed" for _, j in judged),
    )


def _judgement(states: Sequence[str]) -> str:
    """The last word on whether it was a defect; a repair without one says that it was."""
    return next((s for s in reversed(states) if s in _JUDGING), "DefectConfirmed")

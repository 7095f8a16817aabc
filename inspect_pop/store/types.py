"""Values that the store takes and returns, and a board's outcome that follows from them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.inspection import BoardRecord, PackageRecord

__all__ = [
    "DECISION_STATES",
    "PASS_CONFIRMED",
    "STAGES",
    "UNCHECKED",
    "WITHDRAWN",
    "BoardOutcome",
    "Decision",
    "DefectRecord",
    "InspectionSequence",
    "InspectionState",
    "Message",
    "OutboxEntry",
    "QuarantinedExport",
    "RunRecord",
    "StoreMark",
    "StoredBoard",
    "WriteResult",
    "escape_text",
    "list_standing",
    "parse_local_day",
    "parse_time",
    "parse_time_us",
    "parse_zone",
    "resolve_outcome",
]

WITHDRAWN, PASS_CONFIRMED = "DefectWithdrawn", "PassConfirmed"
# The verification states of IPC-CFX, and what CFX does not know: a defect at a joint that passed, a decision that is taken back,
# and a joint that passed and is good.
DECISION_STATES = (
    *("DefectConfirmed", "DefectRejected", "DefectAccepted", "DefectRepaired", "DefectClosed", "DefectMissed"),
    *(WITHDRAWN, PASS_CONFIRMED),
)
STAGES = ("operator", "repair")  # a later one overrules an earlier one
UNCHECKED = -1  # in place of the decision that a person saw: the caller, a machine, saw none


@dataclass(frozen=True)
class InspectionSequence:
    """A record's place among the inspections of its board, in order of arrival.

    `inspection_no` counts from 1. `first_record` is the record of inspection 1. `fpy` is 1 if that inspection passed,
    otherwise 0.
    """

    inspection_no: int
    first_record: str
    fpy: float


@dataclass(frozen=True)
class WriteResult:
    """The result of a write. `new` is False if the record was already in the store; nothing was changed then."""

    record: str
    new: bool
    sequence: InspectionSequence


@dataclass(frozen=True)
class Decision:
    """What a person decided about one joint of one record. `decided_at` is ISO 8601 with an offset.

    `state` is one of `DECISION_STATES`, `stage` one of `STAGES`. `label` is the joint's true class, or None if the person did not
    give it. `id` is a number that grows from decision to decision; the store gives it.
    """

    record: str
    refdes: str
    interface: str
    ball: str
    state: str
    decided_by: str
    decided_at: str
    label: str | None = None
    note: str = ""
    stage: str = STAGES[0]
    id: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class DefectRecord:
    """A joint that is not both good and pass.

    `measured` holds the joint columns that the store keeps (probabilities, measurements) by name, None where unknown.
    """

    refdes: str
    interface: str
    ball: str
    label: str | None
    verdict: str
    reason: str
    flags: int
    measured: dict[str, float | None]


@dataclass(frozen=True)
class StoredBoard:
    """One record with everything that the database holds of it.

    `final` is the board's state after re-inspection and decisions: pass, fail or pending.
    """

    board: BoardRecord
    sequence: InspectionSequence
    final: str
    packages: tuple[PackageRecord, ...]
    interfaces: tuple[dict[str, Any], ...]
    defects: tuple[DefectRecord, ...]
    decisions: tuple[Decision, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can carry. NaN in a package becomes None."""
        packages = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(p).items()} for p in self.packages
        ]
        return {
            **asdict(self.board),
            **asdict(self.sequence),
            "final": self.final,
            "packages": packages,
            "interfaces": [dict(i) for i in self.interfaces],
            "defects": [asdict(d) for d in self.defects],
            "decisions": [asdict(d) for d in self.decisions],
        }


@dataclass(frozen=True)
class StoreMark:
    """How far a reader of a store is: the numbers of the last boards and decisions that it has seen, the newest last.

    They are several because, on a server, a row may become visible after one with a higher number.
    """

    boards: tuple[int, ...] = ()
    decisions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Message:
    """One message of the outbox. `text` is its JSON as it is sent.

    A message whose `id` is already in the outbox is not added again.
    """

    id: str
    kind: str
    text: str
    created_at: str
    record: str | None = None
    attempts: int = 0

    @property
    def payload(self) -> dict[str, Any]:
        """The content of the JSON."""
        payload: dict[str, Any] = json.loads(self.text)
        return payload


@dataclass(frozen=True)
class OutboxEntry:
    """A message that is not delivered, and why. `set_aside_at` is the time at which it was set aside; None while it waits."""

    message: Message
    last_error: str | None
    set_aside_at: str | None


@dataclass(frozen=True)
class QuarantinedExport:
    """An export that could not be inspected, and the reason.

    `serial` and `content`, the manifest's digest, are None where the manifest cannot be read. An entry is closed by a person who
    looked at the board: `closed_at`, `closed_by`, `note`. `number` names the entry; the store makes it.
    """

    path: str
    reason: str
    seen_at: str
    run: str | None = None
    serial: str | None = None
    content: str | None = None
    closed_at: str | None = None
    closed_by: str | None = None
    note: str | None = None
    number: str = ""

    def make_number(self) -> str:
        """Make the number: 12 hexadecimal digits of the reason, and of the content or, where there is none, of the path."""
        parts = [self.path, self.reason] if self.content is None else ["", self.reason, self.content]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RunRecord:
    """One run of the software that wrote records. `outcome` is None while the run goes on, or if it was killed."""

    id: str
    command: str
    software: str
    started_at: str
    arguments: dict[str, Any] = field(default_factory=dict)
    finished_at: str | None = None
    outcome: str | None = None


def parse_time(text: str, what: str) -> datetime:
    """Parse an ISO 8601 time, keeping its offset from UTC.

    Raises `StoreFault`, which names `what`, if the text is not a time or has no offset.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise StoreFault(what, expected="an ISO 8601 time", found=repr(text)) from error
    if moment.tzinfo is None:
        raise StoreFault(what, expected="a time with its offset from UTC", found=repr(text))
    return moment


def parse_zone(name: str) -> ZoneInfo:
    """Return a time zone by its name in the IANA database. Raises `UsageFault` for one that this computer does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        remedy = "Correct the name, or install the zones: the package tzdata."
        raise UsageFault("--time-zone", expected="a zone such as Europe/Berlin", found=repr(name), remedy=remedy) from error


def parse_local_day(inspected_at: str, time_zone: str | None = None) -> str:
    """Return the day (YYYY-MM-DD) of a time in a time zone; without one, in the time's own offset: as on the machine's clock."""
    moment = parse_time(inspected_at, "inspected_at")
    return (moment if time_zone is None else moment.astimezone(parse_zone(time_zone))).date().isoformat()


def parse_time_us(text: str, what: str) -> int:
    """Parse an ISO 8601 time into microseconds since 1970 UTC. Raises `StoreFault` as `parse_time` does."""
    return round(parse_time(text, what).timestamp() * 1_000_000)


def escape_text(text: str) -> str:
    r"""Escape what some databases and files cannot hold: bytes that are not UTF-8 (as in a file name) and NUL.

    Such bytes become a backslash escape, for example `\udcff` or `\x00`.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


# Resolve a board's outcome from its inspections and people's decisions, without a database.
#
# A decision stands until its stage withdraws it; what the repair station decided counts before what the operator decided.
#
# `final` follows from the last inspection. It is `pass` if every joint that failed or was in review has been rejected as a
# false call, accepted, repaired or closed, and no missed defect was found. It is `pending` if only undecided reviews are left,
# otherwise `fail`.
#
# The counts of confirmed calls, false calls, cleared reviews and escapes follow from the first inspection. They tell how well
# the machine did, on the same joints that first-pass yield and DPMO are about.


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

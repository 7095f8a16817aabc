"""What goes into the store and what comes out of it, as plain values."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import BoardRecord, PackageRecord

__all__ = [
    "STATES",
    "Decision",
    "Defect",
    "Message",
    "Quarantined",
    "Run",
    "Standing",
    "StoredBoard",
    "Waiting",
    "Written",
    "instant",
    "instant_us",
    "printable",
]

# The verification states of IPC-CFX, and DefectMissed for a defect at a joint that passed, which CFX does not know.
STATES = ("DefectConfirmed", "DefectRejected", "DefectAccepted", "DefectRepaired", "DefectClosed", "DefectMissed")


@dataclass(frozen=True)
class Standing:
    """A record's place among the inspections of its serial, in order of `inspected_at`.

    `inspection_no` counts from 1; `first_record` is the record of number 1, and `fpy` is 1 where that one passed.
    """

    inspection_no: int
    first_record: str
    fpy: float


@dataclass(frozen=True)
class Written:
    """What a write did: `new` is False where the record was there before, and nothing was changed."""

    record: str
    new: bool
    standing: Standing


@dataclass(frozen=True)
class Decision:
    """What a person decided about one joint of one record; `decided_at` is ISO 8601 with an offset.

    `state` is one of `STATES`; `label` is what the joint really is, where the person said so.
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


@dataclass(frozen=True)
class Defect:
    """A joint that is not good and pass; `measured` holds probabilities and measurements by column name, null where unknown."""

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
    """One record with all that the database holds of it. `final` is the board's state after review: pass, fail or pending."""

    board: BoardRecord
    standing: Standing
    final: str
    packages: tuple[PackageRecord, ...]
    interfaces: tuple[dict[str, Any], ...]
    defects: tuple[Defect, ...]
    decisions: tuple[Decision, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can carry; NaN becomes null."""
        packages = [{k: _plain(v) for k, v in asdict(p).items()} for p in self.packages]
        return {
            **asdict(self.board),
            **asdict(self.standing),
            "final": self.final,
            "packages": packages,
            "interfaces": [dict(i) for i in self.interfaces],
            "defects": [asdict(d) for d in self.defects],
            "decisions": [asdict(d) for d in self.decisions],
        }


@dataclass(frozen=True)
class Message:
    """One message of the outbox: its JSON as it travels. A message whose `id` is there already is not added again."""

    id: str
    kind: str
    text: str
    created_at: str
    record: str | None = None
    attempts: int = 0

    @property
    def payload(self) -> dict[str, Any]:
        """What the JSON says."""
        payload: dict[str, Any] = json.loads(self.text)
        return payload


@dataclass(frozen=True)
class Quarantined:
    """An export that could not be inspected, and why."""

    path: str
    reason: str
    seen_at: str
    run: str | None = None


@dataclass(frozen=True)
class Run:
    """One call of the software that wrote records; `outcome` is empty while it goes on, or when it was killed."""

    id: str
    command: str
    software: str
    started_at: str
    arguments: dict[str, Any] = field(default_factory=dict)
    finished_at: str | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class Waiting:
    """A file of joints that is written, but not in its place yet; paths relative to the files' base."""

    temporary: str
    path: str


def instant(text: str, what: str) -> datetime:
    """The instant that an ISO 8601 time names, on its own wall clock; `StoreFault` where it has no offset or is no time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise StoreFault(what, expected="an ISO 8601 time", found=repr(text)) from error
    if moment.tzinfo is None:
        raise StoreFault(what, expected="a time with its offset from UTC", found=repr(text))
    return moment


def instant_us(text: str, what: str) -> int:
    """The same in microseconds since 1970 UTC."""
    return round(instant(text, what).timestamp() * 1_000_000)


def printable(text: str) -> str:
    """Text that any database and file keeps: bytes that are no UTF-8 (a file's name may hold them) and NUL are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124 -- NaN is what differs from itself

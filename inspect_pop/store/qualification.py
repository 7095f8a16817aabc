"""Qualified machines: labelled boards of a machine passed the gates, by a model and limits. Rows are added, never changed.

For a qualified machine a picture unlike all that the model has learnt is named in the record and forbids nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from inspect_pop.store.audit import add_audit
from inspect_pop.store.engine import insert_rows
from inspect_pop.store.schema import qualifications
from inspect_pop.store.types import escape_text, parse_time_us

__all__ = ["Qualification", "QualifiedMachine", "add_qualification", "list_qualifications", "name_qualified", "select_valid"]

QualifiedMachine = tuple[str, str, str]


@dataclass(frozen=True)
class Qualification:
    """One attempt to qualify a machine.

    Attributes:
        machine: Line and station, as `BoardExport.machine` has them.
        model_digest: The model that inspected the boards.
        profile: The acceptance profile, for people.
        limits_digests: The limits that it holds for: as they are, and with `unlike_forbids` 0, by which a qualified machine's
            boards are decided.
        passed: Whether all gates passed.
        qualified_by, qualified_at: Who, and when (ISO 8601 with an offset).
        boards: Serial and export digest of each board.
        figures: The gates' answers and the rates with their intervals.
    """

    machine: str
    model_digest: str
    profile: str
    limits_digests: tuple[str, ...]
    passed: bool
    qualified_by: str
    qualified_at: str
    boards: tuple[tuple[str, str], ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    def holds_for(self, model_digest: str, limits_digest: str) -> bool:
        """Return whether it is about this model and these limits."""
        return self.model_digest == model_digest and limits_digest in self.limits_digests


def add_qualification(connection: Connection, made: Qualification) -> None:
    """Add an attempt, and a row of the audit trail. Raises `StoreFault` for a time without an offset."""
    at_us = parse_time_us(made.qualified_at, "qualified_at")
    row = asdict(made) | {"passed": int(made.passed)}
    row |= {name: json.dumps(row[name], ensure_ascii=False) for name in ("limits_digests", "boards", "figures")}
    insert_rows(connection, qualifications, [{n: escape_text(v) if isinstance(v, str) else v for n, v in row.items()}])
    about = {"passed": made.passed, "model": made.model_digest, "profile": made.profile, "boards": dict(made.boards)}
    action = "machine qualified" if made.passed else "machine not qualified"
    add_audit(connection, at_us, made.qualified_by, action, made.machine, after=about)


def list_qualifications(connection: Connection) -> list[Qualification]:
    """Return all attempts, in the order in which they were made."""
    found = []
    for row in connection.execute(select(qualifications).order_by(qualifications.c.id)).mappings():
        values = {n: row[n] for n in ("machine", "model_digest", "profile", "qualified_by", "qualified_at")}
        digests, boards = tuple(json.loads(row["limits_digests"])), tuple((s, d) for s, d in json.loads(row["boards"]))
        more = {"limits_digests": digests, "boards": boards, "figures": json.loads(row["figures"])}
        found.append(Qualification(**values, **more, passed=bool(row["passed"])))
    return found


def name_qualified(attempts: Iterable[Qualification]) -> list[QualifiedMachine]:
    """Return machine, model digest and limits digest of what is qualified."""
    return [(q.machine, q.model_digest, limits) for q in select_valid(attempts) for limits in dict.fromkeys(q.limits_digests)]


def select_valid(attempts: Iterable[Qualification], model_digest: str | None = None) -> list[Qualification]:
    """Return the qualifications that hold: of each machine, model and limits the last attempt, where it passed.

    `model_digest` names one model; None for all.
    """
    last = {(a.machine, a.model_digest, a.limits_digests): a for a in attempts}
    return [a for a in last.values() if a.passed and model_digest in (None, a.model_digest)]

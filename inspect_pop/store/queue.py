"""The boards that wait for a decision: kept up to date by every write, so that the list is read from an index.

A board waits for the operator while a suspect or a sample joint of its latest inspection has no standing decision. It waits for
the repair station while a defect that a person confirmed or found is neither repaired, accepted, closed nor overruled.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, case, delete, func, insert, literal, select

from inspect_pop.core.classes import GOOD
from inspect_pop.core.errors import UsageFault
from inspect_pop.store.engine import insert_rows
from inspect_pop.store.outcome import list_standing
from inspect_pop.store.rows import RecordRows
from inspect_pop.store.schema import boards, contexts, decisions, defects, queue, samples
from inspect_pop.store.types import STAGES, escape_text

__all__ = ["add_to_queue", "fill_queue", "read_queue", "read_standing", "refresh_queue"]

JointKey = tuple[str, str, str]
_SINCE = 2  # the version of the schema that has the table
_KEY = ("refdes", "interface", "ball")
_RANKS = {"fail": 0, "review": 1, "pass": 2}
_TO_REPAIR = {"DefectConfirmed", "DefectMissed"}
_P_GOOD = f"p_{GOOD}"
_HEAD, _LATEST = boards.alias("head"), boards.alias("latest")  # a board's first inspection, and the last one that decides
_COUNTS = ("n_fail", "n_review", "n_undecided", "n_sample", "n_sample_undecided")


def add_to_queue(connection: Connection, board_id: int, record: RecordRows) -> None:
    """Add a board that is inspected for the first time, and its sample."""
    insert_rows(connection, samples, [{"board_id": board_id, **row} for row in record.samples])
    suspects = {_make_key(row): (row["verdict"], row[_P_GOOD]) for row in record.defects if row["verdict"] != "pass"}
    sample = {_make_key(row) for row in record.samples}
    row = _make_row(record.board["verdict"], suspects, sample, {})
    if row is not None:
        insert_rows(connection, queue, [{"board_id": board_id, "latest_id": board_id, **row}])


def refresh_queue(connection: Connection, first: int) -> None:
    """Compute again what is left to decide at the board whose first inspection is `first`."""
    of_board = select(boards.c.id).where(boards.c.first_id == first)
    connection.execute(delete(queue).where(queue.c.board_id.in_(of_board)))
    query = select(_LATEST.c.id, _LATEST.c.verdict).join_from(_LATEST, _HEAD, _HEAD.c.id == _LATEST.c.first_id)
    query = query.where(_LATEST.c.first_id == first, _LATEST.c.decides == _HEAD.c.decides)
    latest = connection.execute(query.order_by(_LATEST.c.inspection_no.desc()).limit(1)).one()
    bad = select(*(defects.c[n] for n in (*_KEY, "verdict", _P_GOOD))).where(defects.c.board_id == latest.id)
    suspects = {_make_key(row): (row["verdict"], row[_P_GOOD]) for row in connection.execute(bad).mappings()}
    suspects = {key: found for key, found in suspects.items() if found[0] != "pass"}
    chosen = select(*(samples.c[n] for n in _KEY)).where(samples.c.board_id == latest.id)
    sample = {_make_key(row) for row in connection.execute(chosen).mappings()}
    standing = {key: decided[-1][0] for key, decided in read_standing(connection, latest.id).items()}
    row = _make_row(latest.verdict, suspects, sample, standing)
    if row is not None:
        insert_rows(connection, queue, [{"board_id": first, "latest_id": latest.id, **row}])


def read_standing(connection: Connection, board_id: int) -> dict[JointKey, list[tuple[str, str]]]:
    """Read the standing decisions about each joint of an inspection; see `outcome.list_standing`. Joints without are left out."""
    query = select(*(decisions.c[n] for n in (*_KEY, "state", "stage"))).where(decisions.c.board_id == board_id)
    decided: dict[JointKey, list[tuple[str, str]]] = {}
    for row in connection.execute(query.order_by(decisions.c.id)).mappings():  # a clock may be set back
        decided.setdefault(_make_key(row), []).append((row["state"], row["stage"]))
    return {key: standing for key, entries in decided.items() if (standing := list_standing(entries))}


def fill_queue(connection: Connection, version: int) -> None:
    """Add the boards of a store whose schema's version had no queue. They have no sample."""
    if version >= _SINCE:
        return
    head, latest = _HEAD, _LATEST
    query = (
        select(
            head.c.id,
            latest.c.id,
            case(_RANKS, value=latest.c.verdict),
            *(func.sum(case((defects.c.verdict == verdict, 1), else_=0)) for verdict in ("fail", "review")),
            func.count(),
            func.min(func.coalesce(defects.c[_P_GOOD], 0.0)),
            literal(1),
        )
        .join_from(head, latest, (latest.c.first_id == head.c.id) & (latest.c.inspection_no == head.c.n_inspections))
        .join(defects, defects.c.board_id == latest.c.id)
        .where(head.c.inspection_no == 1, defects.c.verdict != "pass")
        .group_by(head.c.id, latest.c.id, latest.c.verdict)
    )
    names = ("board_id", "latest_id", "rank", "n_fail", "n_review", "n_undecided", "worst", "waits_operator")
    connection.execute(insert(queue).from_select(names, query))
    decided = select(boards.c.first_id).distinct().join_from(decisions, boards, boards.c.id == decisions.c.board_id)
    for first in connection.scalars(decided).all():
        refresh_queue(connection, int(first))


def read_queue(
    connection: Connection, stage: str, *, limit: int = 50, offset: int = 0, search: str = ""
) -> tuple[int, list[dict[str, Any]]]:
    """Read how many boards wait at a stage, and some of them, worst first.

    Parameters
    ----------
    stage
        One of `STAGES`.
    limit, offset
        Which of them.
    search
        Boards of this serial, then those whose serial begins so, whether they wait or not; empty for those that wait.

    Raises
    ------
    UsageFault
        The stage is unknown.
    """
    if stage not in STAGES:
        raise UsageFault("stage", expected=f"one of {', '.join(STAGES)}", found=repr(stage))
    waits = queue.c[f"waits_{stage}"] == 1
    waiting = connection.scalar(select(func.count()).select_from(queue).where(waits))
    query = _select_entries(is_outer=bool(search))
    if search:
        serial, of_head = escape_text(search), _HEAD.c.serial
        query = query.where(func.substr(of_head, 1, len(serial)) == serial, _HEAD.c.inspection_no == 1)
        query = query.order_by(case((of_head == serial, 0), else_=1), of_head, _HEAD.c.id)
    else:
        query = query.where(waits).order_by(queue.c.rank, queue.c.n_undecided.desc(), queue.c.worst, queue.c.board_id)
    rows = connection.execute(query.limit(limit).offset(offset)).mappings()
    return int(waiting or 0), [dict(row) for row in rows]


def _select_entries(*, is_outer: bool) -> Select[Any]:
    """Select the fields of entries; `is_outer` also for boards that are not in the queue."""
    head, latest = _HEAD, _LATEST
    of_latest = ("record", "serial", "inspected_at", "panel", "verdict", "cause")
    counts = (func.coalesce(queue.c[n], 0).label(n) for n in _COUNTS)
    return (
        select(
            *(latest.c[n] for n in of_latest),
            *(contexts.c[n] for n in ("product", "line", "station")),
            *counts,
            func.coalesce(queue.c.worst, 1.0).label("worst"),
            head.c.final,
        )
        .join_from(head, queue, queue.c.board_id == head.c.id, isouter=is_outer)
        .join(latest, (latest.c.first_id == head.c.id) & (latest.c.inspection_no == head.c.n_inspections))
        .join(contexts, contexts.c.id == latest.c.context_id)
    )


def _make_row(
    verdict: str,
    suspects: Mapping[JointKey, tuple[str, float | None]],
    sample: Collection[JointKey],
    standing: Mapping[JointKey, str],
) -> dict[str, Any] | None:
    """Make the row of a board, without its numbers; None for a board at which there is nothing to decide.

    `suspects` gives verdict and probability of good, `standing` the state that counts for each joint that was decided.
    """
    if not suspects and not sample and not standing:
        return None
    verdicts: Sequence[str] = [found for found, _ in suspects.values()]
    n_undecided = len(suspects.keys() - standing.keys())
    n_sample_undecided = len(set(sample) - standing.keys())
    return {
        "rank": _RANKS[verdict],
        "n_fail": verdicts.count("fail"),
        "n_review": verdicts.count("review"),
        "n_undecided": n_undecided,
        "n_sample": len(sample),
        "n_sample_undecided": n_sample_undecided,
        "worst": min((p or 0.0 for _, p in suspects.values()), default=1.0),
        "waits_operator": int(n_undecided + n_sample_undecided > 0),
        "waits_repair": int(any(state in _TO_REPAIR for state in standing.values())),
    }


def _make_key(row: Mapping[str, Any] | RowMapping) -> JointKey:
    return row["refdes"], row["interface"], row["ball"]

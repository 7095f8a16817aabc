"""What every write keeps up to date: the queue of boards that wait, and the sums that make a yield table instant.

A board waits for the operator while a suspect or a sample joint of its latest inspection has no standing decision. It waits for
the repair station while a defect that a person confirmed or found is neither repaired, accepted, closed nor overruled.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache, reduce
from operator import add
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    true,
    union_all,
)

from inspect_pop.core.classes import GOOD
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import CONSTRUCTIONS, OPPORTUNITIES_PER_INTERFACE
from inspect_pop.store.engine import PreparedStatement, insert_rows, make_upsert, prepare_statement
from inspect_pop.store.rows import RecordRows
from inspect_pop.store.schema import (
    COUNT_COLUMNS,
    LABEL_COUNTS,
    OUTCOME_COLUMNS,
    SUM_COLUMNS,
    boards,
    contexts,
    decisions,
    defects,
    interfaces,
    packages,
    queue,
    rollups,
    samples,
    sites,
)
from inspect_pop.store.types import STAGES, escape_text, list_standing

__all__ = [
    "LEVELS",
    "add_contribution",
    "add_to_queue",
    "fill_queue",
    "read_queue",
    "read_standing",
    "rebuild_rollups",
    "refresh_queue",
    "select_sums",
]

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


# Maintain sums over first inspections, which make a yield table instant for any number of boards.
#
# A row of `rollups` sums the boards of one context (day, lot, line, station, …) at one level: the board, its packages, parts
# or constructions, each as a whole or by interface. A board counts once per row, as passed if everything that the row covers
# passed. Rows are changed in the transaction of the write, as its last step: what the board contributed before is subtracted,
# what it contributes now is added. A context belongs to one station, so stations do not wait for one another.


LEVELS = {  # level: the columns of sites that its rows name
    "board": (),
    "interface": (),
    "package": ("refdes", "part", "construction"),
    "part": ("part", "construction"),
    "construction": ("construction",),
    "package,interface": ("refdes", "part", "construction"),
    "part,interface": ("part", "construction"),
    "construction,interface": ("construction",),
}
_NAMES = ("refdes", "part", "construction", "interface")
_JUDGEMENT_COUNTS = OUTCOME_COLUMNS[1:]


def add_contribution(connection: Connection, board_id: int, sign: int) -> None:
    """Add (+1) or subtract (-1) what a board contributes to the sums. Does nothing for a re-inspection."""
    _prepare_contribution(connection.dialect)(connection, {"board_id": board_id, "sign": sign})


@cache
def _prepare_contribution(dialect: Any) -> PreparedStatement:
    return prepare_statement(_make_contribution(dialect.name, one_board=True), dialect)


def rebuild_rollups(connection: Connection) -> None:
    """Compute all sums again from the boards."""
    connection.execute(delete(rollups))
    connection.execute(_make_contribution(connection.dialect.name, one_board=False), {"sign": 1})


def select_sums(
    level: str, of_boards: ColumnElement[bool] | None = None, of_interfaces: ColumnElement[bool] | None = None
) -> Select[Any]:
    """Select the rows of `rollups` of a level, computed from the boards.

    Parameters
    ----------
    level
        One of `LEVELS`.
    of_boards
        A condition on `boards`; None for all first inspections.
    of_interfaces
        The same condition in terms of `interfaces`, so that the database reads only those.
    """
    chosen = and_(boards.c.inspection_no == 1, true() if of_boards is None else of_boards)
    if level == "board":
        source = _select_boards(chosen)
    else:
        source = _select_interfaces(level, chosen, true() if of_interfaces is None else of_interfaces)
    names = [source.c[n] if n in source.c else literal("").label(n) for n in _NAMES]
    keys = [source.c.context_id, *(source.c[n] for n in _NAMES if n in source.c)]
    sums = (func.sum(source.c[n]).label(n) for n in SUM_COLUMNS)
    return select(source.c.context_id, literal(level).label("level"), *names, *sums).group_by(*keys)


def _make_contribution(dialect: str, *, one_board: bool) -> Any:
    """Make the upsert that adds `sign` times the sums of one board (`board_id`), or of all boards."""
    which = (boards.c.id == bindparam("board_id"), interfaces.c.board_id == bindparam("board_id")) if one_board else ()
    sums = union_all(*(select_sums(level, *which) for level in LEVELS)).subquery("sums")
    keys = ("context_id", "level", *_NAMES)
    signed = select(*(sums.c[n] for n in keys), *((sums.c[n] * bindparam("sign")).label(n) for n in SUM_COLUMNS)).where(true())
    statement = make_upsert(rollups, dialect).from_select([*keys, *SUM_COLUMNS], signed)
    total = {n: rollups.c[n] + statement.excluded[n] for n in SUM_COLUMNS}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=total)


def _select_boards(chosen: ColumnElement[bool]) -> FromClause:
    """Select one row per board."""
    c = boards.c
    per_package = case({name: k.opportunities for name, k in CONSTRUCTIONS.items()}, value=sites.c.construction, else_=4)
    of_packages = (
        select(func.sum(per_package))
        .join_from(packages, sites, sites.c.id == packages.c.site_id)
        .where(packages.c.board_id == c.id)
        .scalar_subquery()
    )
    return (
        select(
            c.context_id,
            literal(1).label("boards"),
            _one_if(c.verdict == "pass").label("passed"),
            c.n_joints.label("joints"),
            (c.n_joints + func.coalesce(of_packages, 0)).label("opportunities"),
            _one_if(c.n_inspections > 1).label("reinspected"),
            _one_if(c.final == "pass").label("final_passed"),
            _one_if(c.final == "pending").label("pending"),
            *(c[n] for n in (*COUNT_COLUMNS, *_JUDGEMENT_COUNTS)),
        )
        .where(chosen)
        .subquery("single")
    )


def _select_interfaces(level: str, of_boards: ColumnElement[bool], of_interfaces: ColumnElement[bool]) -> FromClause:
    """Select one row per board and package, part, construction or interface, as the level names them."""
    c = interfaces.c
    keys: list[ColumnElement[Any]] = [sites.c[n] for n in LEVELS[level]]
    keys += [c.interface] if "interface" in level else []
    joints = reduce(add, (c[n] for n in LABEL_COUNTS))
    worst = func.max(case((c.final == "fail", 2), (c.final == "pending", 1), else_=0))
    return (
        select(
            boards.c.context_id,
            *keys,
            literal(1).label("boards"),
            func.min(c.passed).label("passed"),
            func.sum(joints).label("joints"),
            func.sum(joints + OPPORTUNITIES_PER_INTERFACE).label("opportunities"),
            func.max(_one_if(boards.c.n_inspections > 1)).label("reinspected"),
            _one_if(worst == 0).label("final_passed"),
            _one_if(worst == 1).label("pending"),
            *(func.sum(c[n]).label(n) for n in (*COUNT_COLUMNS, *_JUDGEMENT_COUNTS[:-1])),
            func.min(c.verified_passed).label("verified_passed"),
        )
        .join_from(interfaces, boards, boards.c.id == c.board_id)
        .join(sites, sites.c.id == c.site_id)
        .where(of_boards, of_interfaces)
        .group_by(c.board_id, boards.c.context_id, *keys)
        .subquery("single")
    )


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return case((condition, 1), else_=0)

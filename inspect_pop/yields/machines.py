"""What state a machine is in, board by board: known, unfamiliar, qualified, drifting.

Every record holds the figures of each interface's picture (`pictures`); nothing is stored a second time. Each figure is compared
with the machine's first boards under the present model: an exponentially weighted moving average (EWMA) of its deviations, in
robust sigma, as in Montgomery, 'Introduction to Statistical Quality Control', chapter 9, and the NIST/SEMATECH e-Handbook,
6.3.2.4. The limits count what the baseline itself does not know, as Jones, Champ and Rigdon, Technometrics 43 (2001), 156-167,
ask for. `scripts/studies/measure_machines.py` measures how rarely a machine that does not change is called drifting.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.flags import bit
from inspect_pop.store import Qualification, Store
from inspect_pop.store.accounts import list_qualifications, select_valid
from inspect_pop.store.schema import boards, contexts, defects, digests
from inspect_pop.store.types import parse_time_us

__all__ = [
    "BASELINE",
    "FIGURES",
    "MOST_BOARDS",
    "STATES",
    "Drift",
    "FigureChart",
    "MachineBoard",
    "MachineHistory",
    "chart_figure",
    "describe_attempt",
    "find_drift",
    "read_machines",
    "require_machine",
]

Floats = NDArray[np.float64]

# Of the most urgent down. `unwatched`: its records hold no figures of pictures.
STATES = ("drifting", "unfamiliar", "qualified", "known", "unwatched")

# The figures that are watched, with the least sigma: (share of the baseline, least value). What differs by less than some of them
# does not concern the classifier: a tenth of the margins by which a model's ranges are widened (`evaluate/collect.py`), and for
# the scores what the boards of one sample line differ by. The upper quantile of the scores and the shares of joints in review
# follow the defects, which a machine is not to blame for: they are listed and not watched.
FIGURES: Mapping[str, tuple[float, float]] = {
    "sharpness": (0.012, 0.0),
    "noise": (0.05, 0.00005),
    "grain": (0.025, 0.003),
    "ball_profile": (0.003, 0.001),
    "fringe": (0.0, 0.01),
    "core_spread": (0.03, 0.002),
    "background_spread": (0.03, 0.003),
    "contrast": (0.012, 0.001),
    "levels": (0.03, 0.0),
    "oddness": (0.05, 0.001),
    "log_odds_10": (0.0, 0.1),
    "log_odds_50": (0.0, 0.2),
}
BASELINE = 50  # boards of each recipe that say what is usual
WEIGHT = 0.1  # of the newest board: a change of one sigma shows after some ten boards
CORRELATION = 0.5  # of a board's deviation with the last one's: boards of a lot are alike
WIDTH = 5.0  # of the limits in sigma of the average; docs/lab/machines.md has the run lengths
PERSISTENCE = 5  # boards in a row beyond the limit, before a machine is called drifting, and within it, before it is not
LARGEST_SIGMA = 6.0  # one odd board, whatever is wrong with it, moves the average by no more than this times the weight
RECENT = 20  # boards by whose majority a machine is unfamiliar
MOST_BOARDS = 10_000  # the latest boards of the store that are read: a baseline is no older than that
_MAD = 1.4826  # of a normal distribution: sigma over the median absolute deviation
_UNFAMILIAR = bit("unfamiliar")


@dataclass(frozen=True)
class MachineBoard:
    """What the record of one board says of its machine.

    `pictures` has the figures by interface, such as `U1/lower`; `unlike` is as in the record, `unfamiliar` a number of joints.
    """

    serial: str
    inspected_at: str
    inspected_us: int
    recipe: str
    model_digest: str
    limits_digest: str
    joints: int
    review: int
    unfamiliar: int
    unlike: str
    pictures: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class FigureChart:
    """One figure of one machine over its boards.

    Attributes:
        figure: Its name.
        value: (n,) the figure itself, mean over the board's interfaces; NaN where unknown.
        deviation: (n,) mean deviation from the baseline of the board's recipe and interfaces, in sigma; NaN in the baseline.
        average: (n,) EWMA of the deviations; NaN where there is no deviation.
        limit: (n,) largest magnitude of the average that chance explains.
        usual: Median of the figure in the baseline, and its sigma; NaN where there is none.
    """

    figure: str
    value: Floats
    deviation: Floats
    average: Floats
    limit: Floats
    usual: tuple[float, float]

    def to_dict(self, serials: Sequence[str]) -> dict[str, Any]:
        """Return the chart for JSON, None in the place of NaN; `serials` (n,) name its points."""
        series = {
            name: [v if math.isfinite(v) else None for v in getattr(self, name).tolist()]
            for name in ("value", "average", "limit")
        }
        usual, sigma = (v if math.isfinite(v) else None for v in self.usual)
        is_drifting = self.find_beyond()
        inside = np.flatnonzero(~is_drifting)
        since = serials[int(inside[-1]) + 1 if len(inside) else 0] if len(is_drifting) and is_drifting[-1] else None
        points = int(np.isfinite(self.average).sum())
        return {"figure": self.figure, "usual": usual, "sigma": sigma, "points": points, "drifting_since": since, **series}

    def find_beyond(self) -> NDArray[np.bool_]:
        """Return at which boards the machine counts as drifting by this figure, (n,)."""
        run, is_drifting = 0, False
        found = []
        for average, limit in zip(self.average.tolist(), self.limit.tolist(), strict=True):
            if average == average:  # noqa: PLR0124 (NaN: the board says nothing)
                run = 0 if (abs(average) > limit) == is_drifting else run + 1
            if run == PERSISTENCE:
                run, is_drifting = 0, not is_drifting
            found.append(is_drifting)
        return np.array(found, dtype=bool)


@dataclass(frozen=True)
class Drift:
    """A figure that drifts: since which board, its latest value and the usual one, its average deviation and limit in sigma."""

    figure: str
    since: str
    serial: str
    usual: float
    latest: float
    average: float
    limit: float

    def __str__(self) -> str:
        way = "above" if self.average > 0 else "below"
        return f"{self.figure} {self.latest:.3g}, usual {self.usual:.3g}: {abs(self.average):.1f} sigma {way}"


@dataclass(frozen=True)
class MachineHistory:
    """A machine under the model of its latest board.

    Attributes:
        machine: Line and station, as `BoardExport.machine` has them.
        boards: Its boards by that model, in order of inspection.
        state: One of `STATES`.
        since: When the state began, ISO 8601.
        why: In words, by what figure.
        drifts: The figures that drift.
        qualification: The qualification that holds for the model and limits of its latest board; None where there is none.
        last_attempt: The last attempt to qualify it, whatever came of it.
    """

    machine: str
    boards: tuple[MachineBoard, ...]
    state: str
    since: str
    why: str
    drifts: tuple[Drift, ...] = ()
    qualification: Qualification | None = None
    last_attempt: Qualification | None = None

    def share(self, name: str, last: int | None = None) -> float:
        """Return the share of joints in `review`, or `unfamiliar`, of all boards or the last ones."""
        chosen = self.boards if last is None else self.boards[-last:]
        joints = sum(board.joints for board in chosen)
        return sum(getattr(board, name) for board in chosen) / joints if joints else math.nan

    def list_boards(self) -> list[dict[str, Any]]:
        """Return the boards for JSON, each with its shares of joints in review and unfamiliar."""
        return [
            {
                **{name: getattr(board, name) for name in ("serial", "inspected_at", "recipe", "unlike")},
                **{f"{name}_share": getattr(board, name) / max(board.joints, 1) for name in ("review", "unfamiliar")},
            }
            for board in self.boards
        ]

    def draw_charts(self) -> list[dict[str, Any]]:
        """Return the chart of each of `FIGURES`, for JSON."""
        begin_us = parse_time_us(self.qualification.qualified_at, self.machine) if self.qualification else None
        serials = [board.serial for board in self.boards]
        return [chart_figure(self.boards, figure, begin_us=begin_us).to_dict(serials) for figure in FIGURES]

    def to_dict(self) -> dict[str, Any]:
        """Return the state for JSON."""
        held, tried = self.qualification, self.last_attempt
        return {
            "machine": self.machine,
            "state": self.state,
            "since": self.since,
            "why": self.why,
            "boards": len(self.boards),
            "latest": self.boards[-1].inspected_at,
            "model": self.boards[-1].model_digest,
            "unlike": self.boards[-1].unlike,
            "review_share": self.share("review", RECENT),
            "unfamiliar_share": self.share("unfamiliar", RECENT),
            "drifts": [vars(drift) for drift in self.drifts],
            "qualified": held is not None,
            "qualified_by": held.qualified_by if held else None,
            "qualified_at": held.qualified_at if held else None,
            "last_attempt": None if tried is None else describe_attempt(tried),
        }


def describe_attempt(tried: Qualification) -> dict[str, Any]:
    """Return an attempt to qualify a machine for JSON."""
    return {
        "passed": tried.passed,
        "by": tried.qualified_by,
        "at": tried.qualified_at,
        "model": tried.model_digest,
        "profile": tried.profile,
        "boards": [{"serial": serial, "export_digest": digest} for serial, digest in tried.boards],
        **tried.figures,
    }


def read_machines(store: Store, *, most: int = MOST_BOARDS) -> list[MachineHistory]:
    """Return every machine of the store's latest `most` boards, the most urgent first, then by name."""
    with store.reading() as connection:
        by_machine = _read_boards(connection, most)
        attempts = list_qualifications(connection)
    found = [_judge_machine(name, of_machine, attempts) for name, of_machine in by_machine.items()]
    return sorted(found, key=lambda m: (STATES.index(m.state), m.machine))


def require_machine(machines: Sequence[MachineHistory], name: str) -> MachineHistory:
    """Return the machine of a name. Raises `UsageFault` where there is none."""
    for machine in machines:
        if machine.machine == name:
            return machine
    listed = ", ".join(m.machine for m in machines) or "none"
    raise UsageFault(f"machine {name}", expected=f"line and station of a machine in the store: {listed}", found="another name")


def _read_boards(connection: Connection, most: int) -> dict[str, list[MachineBoard]]:
    """Return the latest boards by machine, each machine's in order of inspection and only those by its latest board's model."""
    first = connection.scalar(select(func.min(select(boards.c.id).order_by(boards.c.id.desc()).limit(most).subquery().c.id))) or 0
    is_unfamiliar = defects.c.flags.op("&")(_UNFAMILIAR) != 0
    query = select(defects.c.board_id, func.count()).where(defects.c.board_id >= first, is_unfamiliar)
    unfamiliar: dict[int, int] = {row[0]: row[1] for row in connection.execute(query.group_by(defects.c.board_id))}
    columns = (boards.c[n] for n in ("id", "serial", "inspected_at", "inspected_us", "n_joints", "n_review", "extra"))
    names = (contexts.c.line, contexts.c.station, contexts.c.recipe, digests.c.model_digest, digests.c.limits_digest)
    of_board = select(*columns, *names).join_from(boards, contexts, contexts.c.id == boards.c.context_id)
    of_board = of_board.join(digests, digests.c.id == boards.c.digests_id).where(boards.c.id >= first).order_by(boards.c.id)
    found: defaultdict[str, list[MachineBoard]] = defaultdict(list)
    for row in connection.execute(of_board):
        extra = json.loads(row.extra)
        pictures = json.loads(extra.get("pictures") or "{}")
        facts = (*row[1:4], row.recipe, row.model_digest, row.limits_digest, row.n_joints, row.n_review)
        board = MachineBoard(*facts, unfamiliar.get(row.id, 0), extra.get("unlike") or "", pictures)
        found[f"{row.line}/{row.station}"].append(board)
    of_latest_model = {
        machine: [board for board in arrived if board.model_digest == arrived[-1].model_digest]
        for machine, arrived in found.items()
    }
    return {machine: sorted(arrived, key=lambda board: board.inspected_us) for machine, arrived in of_latest_model.items()}


def _judge_machine(name: str, of_machine: Sequence[MachineBoard], attempts: Sequence[Qualification]) -> MachineHistory:
    latest = of_machine[-1]
    of_name = [attempt for attempt in attempts if attempt.machine == name]
    valid = [q for q in select_valid(of_name) if q.holds_for(latest.model_digest, latest.limits_digest)]
    held, tried = (of[-1] if of else None for of in (valid, of_name))
    facts: dict[str, Any] = {"qualification": held, "last_attempt": tried}
    drifts = tuple(find_drift(of_machine, begin_us=parse_time_us(held.qualified_at, name) if held else None))
    if drifts:
        earliest, worst = min(d.since for d in drifts), max(drifts, key=lambda d: abs(d.average) / d.limit)
        more = f" and {len(drifts) - 1} more" if len(drifts) > 1 else ""
        return MachineHistory(name, tuple(of_machine), "drifting", earliest, f"{worst}{more}", drifts, **facts)
    is_strange = np.array([bool(board.unlike) or 2 * board.unfamiliar > board.joints for board in of_machine])
    total = np.cumsum(is_strange)
    recent = total - np.concatenate([np.zeros(min(RECENT, len(total)), total.dtype), total[:-RECENT]])
    is_majority = 2 * recent >= np.minimum(np.arange(1, len(total) + 1), RECENT)
    changes = np.flatnonzero(is_majority != is_majority[-1])
    since = of_machine[int(changes[-1]) + 1 if len(changes) else 0].inspected_at
    if held is not None:
        why = f"by {held.qualified_by}, {len(held.boards)} labelled boards"
        return MachineHistory(name, tuple(of_machine), "qualified", held.qualified_at, why, **facts)
    if is_majority[-1]:
        words = [board.unlike for board in of_machine if board.unlike]
        why = words[-1] if words else "most joints are unlike anything that the model has learnt"
        return MachineHistory(name, tuple(of_machine), "unfamiliar", since, why, **facts)
    if not any(board.pictures for board in of_machine):
        return MachineHistory(name, tuple(of_machine), "unwatched", since, "its records hold no figures of pictures", **facts)
    return MachineHistory(name, tuple(of_machine), "known", since, "its pictures are like those that were learnt", **facts)


def find_drift(of_machine: Sequence[MachineBoard], *, begin_us: int | None = None) -> list[Drift]:
    """Return the figures by which a machine drifts at its last board, in the order of `FIGURES`.

    The baseline begins with the first board, or the first one that is inspected at or after `begin_us`.
    """
    drifts = []
    for figure in FIGURES:
        chart = chart_figure(of_machine, figure, begin_us=begin_us)
        is_drifting = chart.find_beyond()
        if not len(is_drifting) or not is_drifting[-1]:
            continue
        inside = np.flatnonzero(~is_drifting)
        began = of_machine[int(inside[-1]) + 1 if len(inside) else 0]
        at = np.flatnonzero(np.isfinite(chart.average))[-PERSISTENCE:]
        average, limit = float(chart.average[at[-1]]), float(chart.limit[at[-1]])
        latest = float(np.median(chart.value[at]))
        drifts.append(Drift(figure, began.inspected_at, began.serial, chart.usual[0], latest, average, limit))
    return drifts


def chart_figure(of_machine: Sequence[MachineBoard], figure: str, *, begin_us: int | None = None) -> FigureChart:
    """Chart one figure over a machine's boards; see `find_drift`.

    Products differ, and so do interfaces: each recipe and interface has its baseline, of its first `BASELINE` boards. The average
    begins at 0 with the first board after a baseline. Limits as in Montgomery, 9.1, with the variance of a median of `BASELINE`
    normal values, pi / 2 / `BASELINE`, added to that of the average, and both increased as for a first-order autoregressive
    series of `CORRELATION` (Montgomery, 10.4).
    """
    n, start = len(of_machine), 0
    if begin_us is not None:
        start = next((k for k, board in enumerate(of_machine) if board.inspected_us >= begin_us), n)
    sums, counts = np.zeros((2, n)), np.zeros((2, n))  # of values and of deviations
    rows: defaultdict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for at, board in enumerate(of_machine):
        for interface, figures in board.pictures.items():
            value = figures.get(figure)
            if value is not None:
                rows[board.recipe, interface].append((at, value))
    usual: list[tuple[float, float]] = []
    share, least = FIGURES[figure]
    for known in rows.values():
        where, values = np.array([k for k, _ in known]), np.array([v for _, v in known])
        sums[0, where] += values
        counts[0, where] += 1
        chosen = np.flatnonzero(where >= start)
        if len(chosen) <= BASELINE:
            continue
        first, after = chosen[:BASELINE], chosen[BASELINE:]
        centre = float(np.median(values[first]))
        sigma = max(_MAD * float(np.median(np.abs(values[first] - centre))), share * abs(centre), least)
        usual.append((centre, sigma))
        sums[1, where[after]] += np.clip((values[after] - centre) / sigma, -LARGEST_SIGMA, LARGEST_SIGMA)
        counts[1, where[after]] += 1
    mean, deviation = np.divide(sums, counts, out=np.full((2, n), np.nan), where=counts > 0)
    average, limit = np.full(n, np.nan), np.full(n, np.nan)
    seen = np.flatnonzero(np.isfinite(deviation))
    average[seen] = list(accumulate(deviation[seen], lambda old, new: old + WEIGHT * (new - old), initial=0.0))[1:]
    steps = np.arange(1, len(seen) + 1)
    near = CORRELATION * (1 - WEIGHT)
    of_average = WEIGHT / (2 - WEIGHT) * (1 - (1 - WEIGHT) ** (2 * steps)) * (1 + near) / (1 - near)
    variance = of_average + math.pi / 2 / BASELINE * (1 + CORRELATION) / (1 - CORRELATION)
    limit[seen] = WIDTH * np.sqrt(variance)
    centre, sigma = np.mean(usual, axis=0) if usual else (math.nan, math.nan)
    return FigureChart(figure, mean, deviation, average, limit, (float(centre), float(sigma)))

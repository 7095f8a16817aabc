"""What a run passes around: settings and jobs, outcomes, one summary. All are small enough to send between processes."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspect_pop.core.limits import Limits
from inspect_pop.core.text import pluralize

if TYPE_CHECKING:
    from inspect_pop.classify.model import OperatingPoint
    from inspect_pop.report.result_files import ResultsTarget

__all__ = ["BatchSettings", "BoardJob", "JobOutcome", "QualifiedMachine", "RunSummary", "choose_limits", "summarize_run"]

QualifiedMachine = tuple[str, str, str]  # machine, digest of the model, digest of the limits: as the store names them


@dataclass(frozen=True)
class BoardJob:
    """One board to inspect: its place in the order of the batch, its folder, and the root that its files must lie inside."""

    order: int
    path: Path
    root: Path


@dataclass(frozen=True)
class BatchSettings:
    """What all boards of a run have in common.

    Attributes:
        out: The run's output folder.
        store_url: The store of records, as a path or a URL.
        model_dir: The model; None means the current model.
        limits: The limits that decide.
        run_id: The run's identifier in the store; drawn where it is empty.
        resume: Whether boards that an earlier start of the run finished are taken from its checkpoints.
        device: Where the network runs, `cpu` or `cuda`.
        pages: Which boards get a page: `all`, `suspect` (those that did not pass) or `none`.
        time_limit_s: A worker process that takes longer over one board is ended.
        operating_point: The thresholds; None means the model's.
        follow_machines: Whether the thresholds move with each machine (`machine_thresholds`).
        machine_points: The thresholds that were found so, by machine.
        time_zone: The plant's time zone, for days in the store; None: that of the store.
        verify_sample: How many joints that passed a person looks at on each board; None: as many as the store says.
        results: Where result files go, and the templates that write them.
        qualified: The machines that are qualified (`choose_limits`); a run takes them from its store.
    """

    out: Path
    store_url: str
    model_dir: Path | None
    limits: Limits
    run_id: str = ""
    resume: bool = True
    device: str = "cpu"
    pages: str = "all"
    time_limit_s: float = 300.0
    operating_point: "OperatingPoint | None" = None
    follow_machines: bool = False
    machine_points: "tuple[tuple[str, OperatingPoint], ...]" = ()
    time_zone: str | None = None
    verify_sample: int | None = None
    results: "tuple[ResultsTarget, ...]" = ()
    qualified: tuple[QualifiedMachine, ...] = ()

    @property
    def work_dir(self) -> Path:
        """The folder of checkpoints, from which a run resumes."""
        return self.out / ".work"


def choose_limits(limits: Limits, qualified: Collection[QualifiedMachine], machine: str, model_digest: str) -> Limits:
    """Return the limits that decide on a machine's boards: where it is qualified, an unlike picture forbids nothing."""
    is_qualified = bool(qualified) and (machine, model_digest, limits.digest) in qualified
    return replace(limits, unlike_forbids=0.0) if is_qualified else limits


@dataclass(frozen=True)
class JobOutcome:
    """What became of one board: a verdict with its checkpoint, or the reason why it is in quarantine."""

    order: int
    path: Path
    serial: str = ""
    verdict: str = ""
    checkpoint: Path | None = None
    n_joints: int = 0
    reason: str = ""
    resumed: bool = False

    @property
    def quarantined(self) -> bool:
        """Whether the board could not be decided and needs a person."""
        return self.checkpoint is None


@dataclass(frozen=True)
class RunSummary:
    """A whole run, counted.

    `boards` counts the folders that were found, `repeated` those whose export is a copy of an earlier one in the batch,
    `resumed` those that an earlier start of the run had finished. `verdicts` and `joints` count each record once.
    """

    out: Path
    store_url: str
    boards: int
    verdicts: dict[str, int] = field(default_factory=dict)
    quarantined: tuple[JobOutcome, ...] = ()
    repeated: int = 0
    resumed: int = 0
    joints: int = 0
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 when every board was decided, 1 when some are in quarantine."""
        return 1 if self.quarantined else 0

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.out / "report" / "index.html"

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain values that JSON can carry."""
        return {
            "boards": self.boards,
            "verdicts": self.verdicts,
            "quarantined": [{"path": str(o.path), "reason": o.reason} for o in self.quarantined],
            "repeated": self.repeated,
            "resumed": self.resumed,
            "joints": self.joints,
            "seconds": round(self.seconds, 3),
            "out": str(self.out),
            "report": str(self.report),
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(self.verdicts.items()))
        return f"{pluralize(self.boards, 'board')}: {counts or 'none decided'}; {len(self.quarantined)} in quarantine"


def summarize_run(outcomes: Iterable[JobOutcome], out: Path, store_url: str, seconds: float) -> RunSummary:
    """Count the outcomes of a run. Its quarantine is in the order of the batch."""
    ordered = sorted(outcomes, key=lambda o: o.order)
    records = list({o.checkpoint: o for o in reversed(ordered) if not o.quarantined}.values())
    quarantined = tuple(o for o in ordered if o.quarantined)
    return RunSummary(
        out,
        store_url,
        boards=len(ordered),
        verdicts=dict(Counter(o.verdict for o in records)),
        quarantined=quarantined,
        repeated=len(ordered) - len(quarantined) - len(records),
        resumed=sum(o.resumed for o in records),
        joints=sum(o.n_joints for o in records),
        seconds=seconds,
    )

"""What a batch passes around: jobs out, outcomes back, one summary at the end; all small enough to send between processes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspect_pop.core.limits import Limits

if TYPE_CHECKING:
    from inspect_pop.classify.model import OperatingPoint

__all__ = ["Job", "Outcome", "RunSummary", "Settings"]


@dataclass(frozen=True)
class Job:
    """One board to inspect: its place in the order of the batch, its folder, and the root that its files must lie inside."""

    order: int
    path: Path
    root: Path


@dataclass(frozen=True)
class Settings:
    """What all boards of a run have in common. `store_url` is a path or a URL; `model_dir` None means the released model.

    `pages` says which boards get a page of their own: `all`, `suspect` (those that did not pass) or `none`.
    A worker process that takes longer than `time_limit_s` over one board is ended. `point` None means the model's own thresholds.
    With `follow_machines` these move with each machine (`survey`), and `points` holds what was found, by machine.
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
    point: "OperatingPoint | None" = None
    follow_machines: bool = False
    points: "tuple[tuple[str, OperatingPoint], ...]" = ()

    @property
    def work_dir(self) -> Path:
        """Where finished boards wait for the final files; what a stopped run goes on from."""
        return self.out / ".work"


@dataclass(frozen=True)
class Outcome:
    """What became of one board: a verdict with its fragment, or the reason why it lies in quarantine."""

    order: int
    path: Path
    serial: str = ""
    verdict: str = ""
    fragment: Path | None = None
    n_joints: int = 0
    reason: str = ""
    resumed: bool = False

    @property
    def quarantined(self) -> bool:
        """Whether somebody must look because nothing was decided."""
        return self.fragment is None


@dataclass(frozen=True)
class RunSummary:
    """A whole run, counted.

    `boards` counts the folders that were found, `repeated` those among them whose very export was there before in the batch,
    `resumed` those that an earlier start of the run had finished; `verdicts` and `joints` count each record once.
    """

    out: Path
    store_url: str
    boards: int
    verdicts: dict[str, int] = field(default_factory=dict)
    quarantined: tuple[Outcome, ...] = ()
    repeated: int = 0
    resumed: int = 0
    joints: int = 0
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 when every board was decided, 1 when some lie in quarantine."""
        return 1 if self.quarantined else 0

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.out / "report" / "index.html"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can carry."""
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


def summarise(outcomes: Iterable[Outcome], out: Path, store_url: str, seconds: float) -> RunSummary:
    """Count the outcomes of a run; its quarantine in the order of the batch."""
    ended = sorted(outcomes, key=lambda o: o.order)
    records = list({o.fragment: o for o in reversed(ended) if not o.quarantined}.values())
    quarantined = tuple(o for o in ended if o.quarantined)
    return RunSummary(
        out,
        store_url,
        boards=len(ended),
        verdicts=dict(Counter(o.verdict for o in records)),
        quarantined=quarantined,
        repeated=len(ended) - len(quarantined) - len(records),
        resumed=sum(o.resumed for o in records),
        joints=sum(o.n_joints for o in records),
        seconds=seconds,
    )

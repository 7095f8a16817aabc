"""The page of a run: every board with its verdict, what went to quarantine, and the totals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inspect_pop.core.inspection import BoardRecord
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.report.page import render

__all__ = ["Share", "Totals", "run_page", "totals"]


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with the 95 % interval of the share; (0, 1) where nothing was counted."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; NaN where nothing was counted."""
        return self.count / self.total if self.total else float("nan")


@dataclass(frozen=True)
class Totals:
    """Sums over the boards of a run; shares with their 95 % interval."""

    boards: int
    verdicts: dict[str, Share]
    joints: int
    labels: dict[str, Share]
    undecided: int
    review: int
    quarantined: int


def run_page(
    boards: Sequence[BoardRecord], quarantine: Sequence[tuple[str, str]], pages: Mapping[str, str], title: str = "Inspection run"
) -> str:
    """One self-contained HTML page.

    Parameters
    ----------
    boards
        In the order in which they are to be listed.
    quarantine
        (path, reason) of every board that could not be inspected.
    pages
        Address of a board's own page, relative to this one, by `BoardRecord.record`; a board may have none.
    """
    return render(
        "run.html", title=title, boards=boards, quarantine=quarantine, pages=pages, totals=totals(boards, len(quarantine))
    )


def totals(boards: Sequence[BoardRecord], quarantined: int = 0) -> Totals:
    """Counts over all boards; every record counts, a re-inspection too."""
    joints = sum(b.n_joints for b in boards)
    return Totals(
        boards=len(boards),
        verdicts={v: _share(sum(b.verdict == v for b in boards), len(boards)) for v in ("pass", "fail", "review")},
        joints=joints,
        labels={c: _share(sum(getattr(b, f"n_{c}") for b in boards), joints) for c in CLASSES[1:]},
        undecided=sum(b.n_undecided for b in boards),
        review=sum(b.n_review for b in boards),
        quarantined=quarantined,
    )


def _share(count: int, total: int) -> Share:
    return Share(count, total, *clopper_pearson(count, total))

"""A run, counted: copies of an export once, quarantine in the order of the batch."""

from pathlib import Path

from inspect_pop.batch.jobs import BatchSettings, JobOutcome, summarize_run
from inspect_pop.core.limits import Limits

OUT = Path("out")


def decided(order: int, checkpoint: str, verdict: str = "pass", *, resumed: bool = False) -> JobOutcome:
    path = Path(f"b{order}")
    return JobOutcome(order, path, f"S{order}", verdict, Path(checkpoint), 88, resumed=resumed)


def test_copies_of_an_export_count_once() -> None:
    summary = summarize_run([decided(0, "x"), decided(1, "x"), decided(2, "y", "fail", resumed=True)], OUT, "sqlite://", 1.5)
    assert (summary.boards, summary.repeated, summary.resumed, summary.joints) == (3, 1, 1, 176)
    assert summary.verdicts == {"pass": 1, "fail": 1}
    assert summary.exit_status == 0
    assert str(summary) == "3 boards: 1 fail, 1 pass; 0 in quarantine"


def test_quarantine_is_in_the_order_of_the_batch_and_is_status_1() -> None:
    outcomes = [JobOutcome(k, Path(f"b{k}"), reason=f"reason {k}") for k in (2, 0, 1)]
    summary = summarize_run(outcomes, OUT, "sqlite://", 0.0)
    assert [o.path.name for o in summary.quarantined] == ["b0", "b1", "b2"]
    assert summary.exit_status == 1
    assert summary.to_dict()["quarantined"][0] == {"path": "b0", "reason": "reason 0"}
    assert str(summarize_run(outcomes[:1], OUT, "", 0.0)) == "1 board: none decided; 1 in quarantine"


def test_checkpoints_lie_in_the_output_folder() -> None:
    assert BatchSettings(OUT, "sqlite://", None, Limits()).work_dir == OUT / ".work"

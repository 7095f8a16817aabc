"""What `inspect-pop run` says at its end."""

import json
from pathlib import Path

import pytest

from inspect_pop.batch import JobOutcome, RunSummary
from inspect_pop.cli.inspection import print_summary, show_progress

Captured = pytest.CaptureFixture[str]


def summary(n_quarantined: int = 0) -> RunSummary:
    quarantined = tuple(JobOutcome(i, Path(f"b{i}"), reason="no sense") for i in range(n_quarantined))
    return RunSummary(Path("out"), "sqlite://", 1 + n_quarantined, {"pass": 1}, quarantined, joints=88, seconds=2.0)


def test_one_board_is_singular_and_has_a_rate(capsys: Captured) -> None:
    print_summary(summary(), as_json=False)
    first, report = capsys.readouterr().out.splitlines()
    assert first == "1 board: 1 pass, 0 fail, 0 review, 0 in quarantine; 88 joints, 44 per second"
    assert report == f"report: {Path('out') / 'report' / 'index.html'}"


def test_a_long_quarantine_is_cut_and_says_where_the_rest_is(capsys: Captured) -> None:
    print_summary(summary(12), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("quarantine: b") for line in lines) == 10
    assert lines[-2] == f"… and 2 more in {Path('out') / 'quarantine.csv'}"


def test_json_is_one_object(capsys: Captured) -> None:
    print_summary(summary(1), as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert (report["boards"], report["verdicts"], report["quarantined"]) == (
        2,
        {"pass": 1},
        [{"path": "b0", "reason": "no sense"}],
    )


def test_without_a_terminal_there_is_no_progress() -> None:
    with show_progress() as progress:
        assert progress is None

"""`inspect-pop disagreements`."""

import json
from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.store import Decision, open_store
from tests.factories import make_inspection
from tests.learn.models import make_model


def test_disagreements_are_listed_and_given_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = make_inspection("B1", defects={"U1.lower.A1": "bridged", "U1.lower.A2": "open"})
    with open_store(tmp_path / "records.db") as store:
        store.write(board)
        for ball in ("A1", "A2"):
            decision = Decision(board.board.record, "U1", "lower", ball, "DefectRejected", "A\x1bda", "2026-03-02T12:00:00+01:00")
            store.add_decision(decision)
    command = ["disagreements", "--store", str(tmp_path / "records.db"), "--model", str(make_model(tmp_path / "m"))]
    assert cli.main([*command, "--limit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 joints judged: 0 defects confirmed, 2 false calls, 0 cleared in review"
    assert "2 disagreements, the most surprising first:" in lines and sum(line.startswith("  B1") for line in lines) == 1
    assert not any("\x1b" in line for line in lines)
    assert cli.main([*command, "--json"]) == 0
    assert [item["kind"] for item in json.loads(capsys.readouterr().out)["disagreements"]] == ["false call"] * 2
    assert cli.main(["disagreements", "--store", str(tmp_path / "none.db")]) == 2

"""`inspect-pop outbox`: list, set aside, retry."""

import json
from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.messages import pending_messages
from inspect_pop.store import open_store
from tests.factories import make_inspection

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def records(tmp_path: Path) -> str:
    with open_store(tmp_path / "r.db") as store:
        for serial in ("GOOD-1", "POISON\x1b[2J"):
            inspection = make_inspection(serial)
            store.write(inspection, messages=pending_messages(inspection, "H"))
    return str(tmp_path / "r.db")


def listed(records: str, capsys: Captured) -> list[dict[str, object]]:
    capsys.readouterr()
    cli.main(["outbox", "list", "--store", records, "--json"])
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


def test_a_board_s_messages_are_set_aside_and_wait_again(records: str, capsys: Captured) -> None:
    before = listed(records, capsys)
    poison = [row["id"] for row in before if str(row["serial"]).startswith("POISON")]
    assert 0 < len(poison) < len(before)
    assert (
        cli.main(["outbox", "set-aside", "--store", records, "--serial", "POISON\x1b[2J", "--reason", "the MES wants no such"])
        == 0
    )
    assert cli.main(["outbox", "list", "--store", records]) == 1
    text = capsys.readouterr().out
    assert text.count("set aside: CFX.") == len(poison) and "the MES wants no such" in text
    assert "\x1b" not in text and "\\x1b[2J" in text
    with open_store(records) as store:
        assert [m.id for m in store.waiting()[1]] == [row["id"] for row in before if row["id"] not in poison]
    assert cli.main(["outbox", "retry", "--store", records, str(poison[0])]) == 0
    assert cli.main(["outbox", "retry", "--store", records, "--all"]) == 0
    assert [row["id"] for row in listed(records, capsys)] == [row["id"] for row in before]  # in their old places
    assert cli.main(["outbox", "list", "--store", records]) == 0


@pytest.mark.parametrize("command", [["retry"], ["retry", "nope"], ["set-aside", "--reason", "x", "nope"]])
def test_an_unknown_message_is_refused(records: str, command: list[str], capsys: Captured) -> None:
    assert cli.main(["outbox", command[0], "--store", records, *command[1:]]) == 2
    assert "`inspect-pop outbox list` shows all" in capsys.readouterr().err

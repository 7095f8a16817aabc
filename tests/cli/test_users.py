"""`inspect-pop users` and `store audit`: passwords come from standard input, never from an argument."""

import io
import json
import time
from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.store import accounts, open_store

Captured = pytest.CaptureFixture[str]
PASSWORD = "grey solder 7"


@pytest.fixture(autouse=True)
def _cheap_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "SCRYPT_N", 16)


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch):
    def run(*arguments: str, line: str = PASSWORD) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n" if line else ""))
        return cli.main(["users", *arguments])

    return run


def can_enter(store: str, name: str = "Ada", password: str = PASSWORD) -> bool:
    with open_store(store) as opened:
        return opened.accounts.log_in(name, password, "10.0.0.1", now_us=time.time_ns() // 1000).cookie is not None


def test_a_person_is_added_listed_changed_and_disabled(tmp_path: Path, send, capsys: Captured) -> None:
    store = str(tmp_path / "r.db")
    assert send("add", "Ada", "--role", "operator", "--language", "zh", "--store", store) == 0
    assert can_enter(store)
    assert send("set-role", "Ada", "--role", "repair", "--store", store) == 0
    assert send("set-password", "Ada", "--store", store, line="another one 8") == 0
    assert (can_enter(store), can_enter(store, password="another one 8")) == (False, True)
    assert send("disable", "Ada", "--store", store) == 0
    assert not can_enter(store, password="another one 8")
    assert send("enable", "Ada", "--store", store) == 0
    capsys.readouterr()
    assert send("list", "--store", store, "--json") == 0
    (user,) = json.loads(capsys.readouterr().out)
    assert (user["name"], user["role"], user["is_enabled"], user["language"]) == ("Ada", "repair", True, "zh")
    assert cli.main(["store", "audit", "--store", store, "--json"]) == 0
    trail = json.loads(capsys.readouterr().out)
    assert {"user added", "role changed", "password changed", "user disabled", "user enabled", "log-in"} <= {
        row["action"] for row in trail
    }
    assert PASSWORD not in json.dumps(trail)


def test_a_name_that_controls_a_terminal_is_shown_escaped(tmp_path: Path, send, capsys: Captured) -> None:
    store = str(tmp_path / "r.db")
    assert send("add", "Ada\x1b[2J", "--role", "operator", "--store", store) == cli.app.UNUSABLE
    assert send("add", "<b>Ada</b>", "--role", "operator", "--store", store) == 0
    assert send("list", "--store", store) == 0
    assert cli.main(["store", "audit", "--store", store]) == 0
    assert "\x1b" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("arguments", "line", "words"),
    [
        (["add", "Ada", "--role", "operator"], "", "a line of standard input"),
        (["add", "Ada", "--role", "operator"], "short", "a password of 8"),
        (["disable", "Eve"], "", "a user of the store"),
        (["set-password", "Eve"], PASSWORD, "a user of the store"),
    ],
)
def test_such_a_command_is_refused_in_words(
    tmp_path: Path, send, capsys: Captured, arguments: list[str], line: str, words: str
) -> None:
    store = str(tmp_path / "r.db")
    open_store(store).close()
    assert send(*arguments, "--store", store, line=line) == cli.app.UNUSABLE
    assert words in capsys.readouterr().err

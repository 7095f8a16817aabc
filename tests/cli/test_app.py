"""What every command shares: help, exit statuses, and what becomes of an error."""

from pathlib import Path

import pytest

from inspect_pop import __version__, cli
from inspect_pop.cli import app as application
from inspect_pop.cli.app import UNEXPECTED, UNUSABLE, execute
from inspect_pop.core.errors import StoreFault

Captured = pytest.CaptureFixture[str]


def test_version(capsys: Captured) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("name", [None, "run", "check", "yield", "compact", "models", "serve", "operating-point"])
def test_help(name: str | None, capsys: Captured) -> None:
    assert cli.main([*([name] if name else []), "--help"]) == 0
    assert "Usage: inspect-pop" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["run"],  # no batch
        ["run", "somewhere"],  # no --out
        ["run", "somewhere", "--out", "out", "--jobs", "many"],
        ["run", "somewhere", "--out", "out", "--jobs", "-1"],
        ["check", "--no-such-option", "x"],
        ["yield"],  # no store
    ],
)
def test_wrong_arguments_are_status_2(arguments: list[str], capsys: Captured) -> None:
    assert cli.main(arguments) == UNUSABLE == 2
    assert capsys.readouterr().err


def test_wrong_arguments_of_the_hook_are_status_3(capsys: Captured) -> None:
    assert cli.main(["hook"]) == 3
    assert cli.main(["hook", "--no-such-option"]) == 3


def test_a_declared_error_is_its_message(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def fails(**_: object) -> None:
        raise StoreFault("records.db", found="a locked door", remedy="Find the key.")

    monkeypatch.setattr(application, "app", fails)
    assert execute(["run"]) == 2
    assert capsys.readouterr().err == "inspect-pop: records.db: found a locked door. Find the key.\n"


def test_an_unexpected_error_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def fails(**_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(application, "app", fails)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert execute(["run"]) == UNEXPECTED
    message = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: surprise" in message
    assert "Traceback" not in message
    log = (tmp_path / "inspect-pop" / "errors.log").read_text()
    assert "Traceback" in log
    assert "surprise" in log


def test_an_error_is_shown_where_it_cannot_be_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def fails(**_: object) -> None:
        raise ZeroDivisionError("surprise")

    (tmp_path / "file").touch()
    monkeypatch.setattr(application, "app", fails)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert execute(["run"]) == UNEXPECTED
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}/below"])
def test_a_place_that_cannot_be_used_is_no_unexpected_error(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    out = place.format(file=tmp_path / "file")
    assert execute(["simulate", "--out", out, "--boards", "1"]) == UNUSABLE
    assert out in capsys.readouterr().err

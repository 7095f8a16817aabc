"""What several commands share."""

import re
from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.cli.options import pluralize, print_progress, resolve_limits, say
from inspect_pop.core.errors import LimitsFault
from inspect_pop.core.limits import Limits
from inspect_pop.store import QuarantinedExport, open_store


def test_counts_have_the_right_noun() -> None:
    assert [pluralize(n, "board") for n in (0, 1, 2)] == ["0 boards", "1 board", "2 boards"]


def test_limits_are_the_defaults_unless_a_file_is_named(tmp_path: Path) -> None:
    assert resolve_limits(None, None) == Limits()
    with pytest.raises(LimitsFault, match="a file that holds it with --limits"):
        resolve_limits(None, "strict")
    (tmp_path / "limits.toml").write_text("[profile.strict]\ncause_bulge_um = 12.5\n")
    assert resolve_limits(tmp_path / "limits.toml", "strict").cause_bulge_um == 12.5


def test_no_name_acts_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "B1\x1b[2J\nB2: pass\u202e\x9b31m"
    say(nasty)
    print_progress(nasty)
    with open_store(tmp_path / "records.db") as store:
        store.quarantine(QuarantinedExport(nasty, "a reason", "2026-03-02T12:00:00+01:00", serial=nasty))
    assert cli.main(["quarantine", "--store", str(tmp_path / "records.db")]) == 1
    out, err = capsys.readouterr()
    assert [len(text.splitlines()) for text in (out, err)] == [2, 1]
    assert all(line.isprintable() for line in (out + err).splitlines())


def test_commands_print_through_what_escapes_names_or_as_json_or_csv() -> None:
    """A line that a command prints may hold a name from outside, now or later."""
    safe = ("json.dumps", "__version__", "make_json", "make_csv", "as_table", "escape_controls(", 'f"{what}', '"\\n".join(lines)')
    printed = re.compile(r"(?:typer\.echo|(?<!\w)print)\((.*)")
    found = [m.group(1) for path in Path(cli.__file__).parent.glob("*.py") for m in printed.finditer(path.read_text())]
    assert len(found) > len(safe)
    assert [text for text in found if not text.startswith(safe)] == []


def test_progress_leaves_standard_output_to_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    print_progress("3 of 5")
    assert capsys.readouterr() == ("", "3 of 5\n")

"""What several commands share."""

from pathlib import Path

import pytest

from inspect_pop.cli.options import pluralize, print_progress, resolve_limits
from inspect_pop.core.errors import LimitsFault
from inspect_pop.core.limits import Limits


def test_counts_have_the_right_noun() -> None:
    assert [pluralize(n, "board") for n in (0, 1, 2)] == ["0 boards", "1 board", "2 boards"]


def test_limits_are_the_defaults_unless_a_file_is_named(tmp_path: Path) -> None:
    assert resolve_limits(None, None) == Limits()
    with pytest.raises(LimitsFault, match="a file that holds it with --limits"):
        resolve_limits(None, "strict")
    (tmp_path / "limits.toml").write_text("[profile.strict]\ncause_bulge_um = 12.5\n")
    assert resolve_limits(tmp_path / "limits.toml", "strict").cause_bulge_um == 12.5


def test_progress_leaves_standard_output_to_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    print_progress("3 of 5")
    assert capsys.readouterr() == ("", "3 of 5\n")

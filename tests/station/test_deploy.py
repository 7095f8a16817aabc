"""What is copied onto a line does what it says."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from inspect_pop.station.access import load_tokens
from tests.station.conftest import REPO

DEPLOY = REPO / "deploy"


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (70, 3), (127, 3), (137, 3), (139, 3)])
def test_the_shell_hook_lets_only_a_pass_go_on(tmp_path: Path, status: int, expected: int) -> None:
    command = tmp_path / "inspect-pop"
    command.write_text(f'#!/bin/sh\necho "{{\\"called\\": \\"$*\\"}}"\nexit {status}\n')
    command.chmod(0o755)
    done = call_hook(tmp_path, str(command), "/exports/B 1")
    assert done.returncode == expected
    assert done.stdout == '{"called": "hook /exports/B 1 --deadline 20"}\n'
    assert f" {status} " in (tmp_path / "log").read_text()


def test_the_shell_hook_stops_the_line_where_the_command_is_not_there(tmp_path: Path) -> None:
    assert call_hook(tmp_path, str(tmp_path / "none"), "/exports/B1").returncode == 3
    assert call_hook(tmp_path, str(tmp_path / "none")).returncode == 3


def call_hook(tmp_path: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"INSPECT_POP": command, "INSPECT_POP_LOG": str(tmp_path / "log")}
    return subprocess.run(
        [DEPLOY / "hook.sh", *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_powershell_hook_knows_the_same_four_ways() -> None:
    text = (DEPLOY / "hook.ps1").read_text()
    assert re.findall(r"^\s+(\d|default) \{ exit (\d) \}", text, re.M) == [("0", "0"), ("1", "1"), ("2", "2"), ("default", "3")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_the_unit_is_one(tmp_path: Path) -> None:
    unit = tmp_path / "inspect-pop.service"
    text = (DEPLOY / "inspect-pop.service").read_text().replace("/opt/inspect-pop/bin/inspect-pop", "/bin/true")
    unit.write_text(text.replace("User=inspect-pop\n", ""))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert "inspect-pop" not in done.stderr, done.stderr


def test_what_unit_and_container_call_are_options_of_serve() -> None:
    from typer.main import get_command

    from inspect_pop.cli.app import app

    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {name for parameter in serve.params for name in parameter.opts}
    for file in ("inspect-pop.service", "Containerfile"):
        used = set(re.findall(r"(?<=[\s\"])--(?:root|store|cfx|cfx-handle|tokens|host|port|jobs)\b", (DEPLOY / file).read_text()))
        assert used
        assert used <= known, file


def test_the_unit_keeps_files_private_and_passwords_out_of_the_list_of_processes() -> None:
    lines = (DEPLOY / "inspect-pop.service").read_text().splitlines()
    assert {"UMask=0027", "StateDirectoryMode=0750"} <= set(lines)
    start = next(line for line in lines if line.startswith("ExecStart="))
    assert "--store env:STORE" in start
    assert "--cfx env:CFX" in start


def test_the_example_of_a_token_file_can_be_read() -> None:
    callers = load_tokens(DEPLOY / "tokens.example.toml")
    assert callers.find_caller("Bearer anything") is None

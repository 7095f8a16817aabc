"""The documentation is true: what it names exists, and what exists is in it."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from inspect_pop import cli
from inspect_pop.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
CALL = re.compile(r"^\s*(?:\$ )?(?:\./scripts/run|inspect-pop) (?P<rest>[a-z].*)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")


def test_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "make_reference.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = [m["target"] for m in LINK.finditer(page.read_text(encoding="utf-8"))]
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


def test_every_page_of_docs_is_in_its_index() -> None:
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text(encoding="utf-8")
    pages = {p.relative_to(docs).as_posix() for p in docs.rglob("*.md")} - {"README.md"}
    assert sorted(p for p in pages if f"]({p})" not in index) == []


def calls() -> Iterator[tuple[str, list[str]]]:
    """Every call of the program that a page shows, with the page's name."""
    for page in PAGES:
        for match in CALL.finditer(page.read_text(encoding="utf-8")):
            yield page.relative_to(ROOT).as_posix(), shlex.split(match["rest"], comments=True)


@pytest.mark.parametrize(("page", "call"), [pytest.param(p, c, id=f"{p}: {' '.join(c)[:60]}") for p, c in calls()])
def test_calls_shown_are_calls_that_exist(page: str, call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command, names = get_command(app), list(call)
    while names and names[0] in getattr(command, "commands", {}):
        command = command.commands[names.pop(0)]
    assert command is not get_command(app) and len(names) < len(call), f"{page}: no such command"
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    if call[0] == "hook":
        cli.main(["hook", "--help"])
        known = set(re.findall(r"--[a-z-]+", capsys.readouterr().err))
    used = {word.partition("=")[0] for word in names if word.startswith("--")}
    assert used <= known, f"{page}: no such option"


def test_what_people_call_outside_is_there() -> None:
    """The commands that outside programs rely on, with their options."""
    commands = get_command(app).commands
    promised = {
        "run": "out store model jobs",
        "train": "out",
        "evaluate": "model json",
        "simulate": "out boards seed",
        "check": "json",
        "yield": "store by since until json",
        "serve": "host port root store model",
    }
    for name, options in promised.items():
        known = {o for p in commands[name].params for o in p.opts}
        assert {f"--{o}" for o in options.split()} <= known, name
    assert "hook" in commands


def test_pins_agree_with_what_the_project_asks_for() -> None:
    from packaging.requirements import Requirement

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {name.lower().replace("_", "-"): version for name, version in pinned(ROOT / "constraints.txt")}
    line, station = (
        {name.lower().replace("_", "-"): version for name, version in pinned(ROOT / file)}
        for file in ("requirements-line.txt", "requirements-station.txt")
    )
    for text in [*wanted["dependencies"], *(r for extra in wanted["optional-dependencies"].values() for r in extra)]:
        requirement = Requirement(text)
        name = requirement.name.lower().replace("_", "-")
        assert requirement.specifier.contains(pins[name]), text
    assert {Requirement(text).name.lower() for text in wanted["dependencies"]} <= line.keys()
    of_station = {Requirement(text).name.lower() for text in wanted["optional-dependencies"]["station"]}
    assert of_station <= station.keys()
    assert line.items() <= station.items()
    assert {n: v for n, v in station.items() if n in pins and pins[n] != v} == {}


def test_pins_name_no_address_and_each_line_file_has_its_hash() -> None:
    assert "://" not in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for name in ("requirements-line.txt", "requirements-station.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        blocks = re.split(r"\n(?=[\w.-]+==)", text)[1:]
        assert blocks
        assert [b.splitlines()[0] for b in blocks if "--hash=sha256:" not in b] == []


def test_the_line_installs_what_it_imports_and_no_more() -> None:
    """Each dependency is imported somewhere outside of training; imagecodecs by tifffile, when a file is packed."""
    from packaging.requirements import Requirement

    modules = {"opencv-python-headless": "cv2", "imagecodecs": "tifffile"}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    code = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "inspect_pop").rglob("*.py") if "learn" not in p.parts)
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", code, re.MULTILINE))
    needed = {modules.get(name, name) for name in (Requirement(text).name for text in wanted)}
    assert needed - imported == set()


def pinned(path: Path) -> list[tuple[str, str]]:
    return re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_promise_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "promises.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    assert [f"{f}::{n}" for f, n in named if f"def {n}(" not in (ROOT / f).read_text(encoding="utf-8")] == []


def test_an_installation_brings_the_model_in_use() -> None:
    brought = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    current = json.loads((ROOT / "models" / "current.json").read_text(encoding="utf-8"))["current"]
    assert brought["share/inspect-pop/models"] == ["models/current.json"]
    assert brought[f"share/inspect-pop/models/{current}"] == [f"models/{current}/*"]

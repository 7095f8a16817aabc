"""The documentation is true: what it names exists, what exists is in it, and its examples run."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command

from inspect_pop import cli
from inspect_pop.cli.app import app
from inspect_pop.core.classes import CLASSES, DEFECTS, joint_class

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md"), *ROOT.glob("[a-z]*/README.md")])
CALL = re.compile(r"^\s*(?:\$ )?(?:\./scripts/run|(?:\.venv/bin/)?inspect-pop) (?P<rest>[a-z].*)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)#\s]*)(?:#(?P<anchor>[^)]*))?\)")
# A block of code; the comment before it says why it cannot run, or cannot run as it stands.
BLOCK = re.compile(r"(?P<mark><!-- (?:not run|fragment): [^>]*-->\n\s*)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)
EXIT_STATUS = re.compile(r"# exit status (?P<status>\d)")
# Tested with the data that their examples need: tests/store/test_documentation.py and tests/test_api.py.
TESTED_ELSEWHERE = {"docs/store.md", "docs/python-api.md"}


def test_generated_pages_are_what_the_code_says() -> None:
    script = ROOT / "scripts" / "release" / "make_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_export_format_defines_every_class_and_its_precedence() -> None:
    text = (DOCS / "export-format.md").read_text(encoding="utf-8")
    assert [c for c in CLASSES if f"| `{c}` | " not in text] == []
    by_precedence = sorted(DEFECTS, key=lambda c: joint_class(c).precedence)
    assert f"has the first of: {', '.join(by_precedence)}." in text


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        target, anchor = link["target"], link["anchor"]
        path = page.parent / target if target else page
        if "://" in target:
            continue
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(link[0])
    assert broken == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page.is_dir():
            page = page / "README.md"
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        links = LINK.finditer(page.read_text(encoding="utf-8"))
        waiting += [page.parent / m["target"] for m in links if m["target"] and "://" not in m["target"]]
    assert [name_of(p) for p in PAGES if p not in reached] == []


@pytest.mark.parametrize("folder", [DOCS, DOCS / "lab"], ids=name_of)
def test_every_page_of_a_folder_is_in_its_index(folder: Path) -> None:
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert sorted(p.name for p in folder.glob("*.md") if p.name != "README.md" and f"]({p.name})" not in index) == []


def test_every_module_has_its_line_in_the_architecture() -> None:
    package = ROOT / "inspect_pop"
    modules = {p.relative_to(package).as_posix() for p in package.glob("*/**/*.py")}
    named = set(re.findall(r"^\| `([\w/]+\.py)` \|", (DOCS / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {m for m in modules if not m.endswith("__init__.py")} - named == set(), "modules without a line"
    assert named - modules == set(), "lines without a module"


def test_modules_and_scripts_that_pages_name_exist() -> None:
    packages = "|".join(p.name for p in (ROOT / "inspect_pop").iterdir() if (p / "__init__.py").is_file())
    missing = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # tells of names that are gone
            continue
        text = page.read_text(encoding="utf-8")
        modules = {f"inspect_pop/{m}" for m in re.findall(rf"`((?:{packages})/\w+\.py)`", text)}
        scripts = set(re.findall(r"\bscripts/[\w/]+(?:\.py|\.sh)", text)) | set(re.findall(r"`(tests/[\w/]+\.py)`", text))
        missing += [f"{name_of(page)}: {name}" for name in sorted(modules | scripts) if not (ROOT / name).exists()]
    assert missing == []


def calls() -> Iterator[tuple[str, list[str]]]:
    """Every call of the program that a page shows, with the page's name."""
    for page in PAGES:
        for match in CALL.finditer(page.read_text(encoding="utf-8")):
            if not (ROOT / match["rest"].split()[0]).exists():  # ./scripts/run BATCH
                yield name_of(page), shlex.split(match["rest"], comments=True)


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


def blocks(page: Path, language: str, *, marked: bool) -> list[str]:
    """The code of a page in one language: what is marked as not to be run, or what is not."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [m["code"] for m in found if m["language"] == language and bool(m["mark"]) == marked]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_is_valid(page: Path) -> None:
    for code in [c for marked in (True, False) for c in blocks(page, "python", marked=marked)]:
        ast.parse(code)
    for code in [c for marked in (True, False) for c in blocks(page, "sh", marked=marked)]:
        done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stderr}"


RUN_HERE = [
    p for p in PAGES if p.name != "README.md" and name_of(p) not in TESTED_ELSEWHERE and blocks(p, "python", marked=False)
]


@pytest.mark.parametrize("page", RUN_HERE, ids=name_of)
def test_python_of_the_pages_runs(page: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    names: dict[str, object] = {"__name__": "page"}
    for code in blocks(page, "python", marked=False):
        exec(compile(code, name_of(page), "exec"), names)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout, whose `out/` is a temporary one."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name not in {"out", ".venv", ".git"}:
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def run_in(folder: Path, command: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **environment}
    )


def test_the_readme_runs_as_printed(checkout: Path) -> None:
    if run_in(checkout, ["bash", "-c", ". scripts/environment.sh && is_installed line"]).returncode:
        pytest.skip("the environment was not made by scripts/run or scripts/test, which the README calls")
    lines = [line for code in blocks(ROOT / "README.md", "sh", marked=False) for line in code.splitlines() if line.strip()]
    assert len(lines) >= 6
    for line in lines:
        done = run_in(checkout, ["bash", "-c", line])
        expected = EXIT_STATUS.search(line)
        assert done.returncode == (int(expected["status"]) if expected else 0), f"{line}\n{done.stdout}\n{done.stderr}"
    assert (checkout / "out" / "sample" / "report" / "index.html").is_file()
    for name in ("joints.parquet", "boards.parquet", "packages.parquet", "quarantine.csv", "records.db"):
        assert (checkout / "out" / "mine" / name).is_file()


# What the examples of docs/convert.md print, each on one line.
CONVERSIONS = [
    [
        "U1 lower: 200 balls, pitch 1000 um, A1 upper_left",
        "U1/lower polarity: solder_dark, from the balls",
        "2 boards converted into out/pictures",
        "2 boards: 0 pass, 0 fail, 2 review, 0 in quarantine; 400 joints",
    ],
    [
        "U1 lower: 132 balls, pitch 500 um, A1 upper_left",
        "uint16; pixels of 20 x 20 um; planes ",
        "U1/lower z_um: from the balls",
        "1 board, 0 faults",
    ],
]


@pytest.mark.parametrize("number", range(len(CONVERSIONS)), ids=["pictures", "volume"])
def test_the_conversion_runs_as_printed(number: int, checkout: Path) -> None:
    pytest.importorskip("skimage")
    if not (Path(sys.prefix) / "bin" / "inspect-pop").exists():
        pytest.skip("the page calls the installed command")
    (checkout / "out").mkdir()
    codes = blocks(DOCS / "convert.md", "sh", marked=False)
    assert len(codes) == len(CONVERSIONS)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = run_in(checkout, ["bash", "-e", "-c", codes[number]], PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [text for text in CONVERSIONS[number] if text not in done.stdout] == []


def test_the_maps_of_the_conversion_page_are_valid(tmp_path: Path) -> None:
    from inspect_pop.convert.map_file import load_map

    board = '[board]\nrecipe = "r.json"\nline = "A"\nstation = "S"\n'
    maps = blocks(DOCS / "convert.md", "toml", marked=False)
    assert maps
    for text in maps:
        (tmp_path / "map.toml").write_text(board + text)
        assert len(load_map(tmp_path / "map.toml").image) == 2


def test_the_python_of_the_readme_runs(checkout: Path) -> None:
    pytest.importorskip("pandas")
    code = "\n".join(blocks(ROOT / "README.md", "python", marked=False))
    done = run_in(checkout, [sys.executable, "-c", code], MPLBACKEND="agg")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fail")


def test_an_installed_wheel_works_in_another_folder(tmp_path: Path) -> None:
    """Built from the sources, installed in an environment of its own, whose other packages are those of this one."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    (source / "scripts").mkdir()
    for name in ("inspect_pop", "models", "training", "scripts/release"):
        subprocess.run(["cp", "-r", ROOT / name, source / name], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    packages = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    (packages / "others.pth").write_text(next(p for p in sys.path if p.endswith("site-packages")) + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [str(tmp_path / "env" / "bin" / "inspect-pop"), "run", str(ROOT / "datasets" / "sample"), "--out", "out"]
    done = run_in(elsewhere, command, PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    where = run_in(elsewhere, [str(python), "-c", "import inspect_pop; print(inspect_pop.__file__)"], PYTHONPATH="")
    assert where.stdout.startswith(str(packages))
    assert (elsewhere / "out" / "report" / "index.html").is_file()


def test_what_people_call_outside_is_there() -> None:
    """The commands that outside programs rely on, with their options."""
    commands = get_command(app).commands
    promised = {
        "run": "out store model jobs",
        "train": "out",
        "evaluate": "model json",
        "simulate": "out boards seed",
        "check": "json",
        "convert": "map out probe",
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
    files = sorted(p.name for p in ROOT.glob("requirements*.txt"))
    assert len(files) == 8
    for name in files:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        blocks = re.split(r"\n(?=[\w.-]+==)", text)[1:]
        assert blocks
        assert [b.splitlines()[0] for b in blocks if "--hash=sha256:" not in b] == []


def test_every_extra_of_the_line_and_the_station_is_pinned_in_a_file_of_hashes() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    pins = dict(pinned(ROOT / "constraints.txt"))
    for extra in ("postgresql", "cfx", "object-store", "formats", "recipes"):
        found = dict(pinned(ROOT / f"requirements-{extra}.txt"))
        assert {canonicalize_name(Requirement(text).name) for text in extras[extra]} <= {
            canonicalize_name(name) for name in found
        }
        assert {n: v for n, v in found.items() if pins.get(n, v) != v} == {}


@pytest.mark.parametrize("file", ["deploy/Containerfile", "docs/station.md"])
def test_a_station_installs_nothing_without_its_hash(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or ("--no-deps" in line and "--no-build-isolation" in line), line
    assert all("@sha256:" in line for line in text.splitlines() if line.startswith("FROM "))


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
    """The pinned packages, by the name that an index knows them by, and their versions."""
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [(canonicalize_name(name), version) for name, version in pins]


def test_each_promise_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "promises.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    assert [f"{f}::{n}" for f, n in named if f"def {n}(" not in (ROOT / f).read_text(encoding="utf-8")] == []


def test_an_installation_brings_the_model_in_use() -> None:
    brought = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]
    current = json.loads((ROOT / "models" / "current.json").read_text(encoding="utf-8"))["current"]
    assert brought["share/inspect-pop/models"] == ["models/current.json"]
    assert brought[f"share/inspect-pop/models/{current}"] == [f"models/{current}/*"]

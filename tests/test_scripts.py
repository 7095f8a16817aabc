"""Every script starts: it compiles, its imports are there, and it prints its help where it has options."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools import SCRIPTS, load_script

ROOT = SCRIPTS.parent
structure = load_script("studies/structure.py")
PYTHON = sorted(SCRIPTS.rglob("*.py"))
SHELL = sorted([SCRIPTS / "run", SCRIPTS / "test", *SCRIPTS.rglob("*.sh")])
NEEDS = {"bench": ("torch", "skimage"), "studies": ("torch", "skimage"), "release": ("torch",), "fuzz": ("fastapi",)}
# One process per folder, as most of the time goes into imports. What has no options is a module of others, or a harness that
# would fuzz: imported, not run.
START = """
import runpy, sys, traceback
from pathlib import Path

failed = []
for name in sys.argv[1:]:
    path, sys.argv = Path(name), [name, "--help"]
    sys.path.insert(0, str(path.parent))
    try:
        runpy.run_path(name, run_name="__main__" if "ArgumentParser" in path.read_text(encoding="utf-8") else path.stem)
    except SystemExit as ended:
        failed += [name] if ended.code else []
    except Exception:
        traceback.print_exc()
        failed.append(name)
sys.exit(f"failed: {failed}" if failed else 0)
"""


@pytest.mark.parametrize("folder", sorted(NEEDS))
def test_scripts_start(folder: str) -> None:
    for module in NEEDS[folder]:
        pytest.importorskip(module)
    paths = [str(p) for p in PYTHON if p.parent.name == folder]
    assert paths
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", START, *paths], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    with_options = [p for p in paths if "ArgumentParser" in Path(p).read_text(encoding="utf-8")]
    assert done.stdout.count("usage:") >= len(with_options)


def test_every_script_is_in_a_folder_by_purpose() -> None:
    assert {p.parent.name for p in PYTHON} == set(NEEDS)


@pytest.mark.parametrize("path", SHELL, ids=lambda p: p.relative_to(SCRIPTS).as_posix())
def test_a_shell_script_parses(path: Path) -> None:
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_scripts_are_named_in_one_manner() -> None:
    """Python files end in `.py`, shell scripts in `.sh`; only `run` and `test`, which people call, have no suffix."""
    files = [p.relative_to(SCRIPTS).as_posix() for p in SCRIPTS.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert [f for f in files if not f.endswith((".py", ".sh", ".dict")) and f not in {"run", "test"}] == []
    assert [f for f in files if f.endswith(".py") and Path(f).stem != Path(f).stem.lower()] == []


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: p.relative_to(SCRIPTS).as_posix())
def test_a_script_says_what_it_does(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: p.relative_to(SCRIPTS).as_posix())
def test_names_are_the_fields_words(path: Path) -> None:
    """The stop list of `docs/glossary.md` holds in scripts, too."""
    assert structure.stop_list(path) == []

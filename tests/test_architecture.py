"""The house keeps its plan: who imports whom, what the line never loads, how large things get."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests.tools import load_script

structure = load_script("studies/structure.py")
ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "inspect_pop"
MODULES = sorted(PACKAGE.rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 600, 80
MOST_MODULES = 170  # more than that nobody keeps in mind; merge where two have one subject
CALLED_ONCE = 0.15  # of all functions; 3 to 13 % in codebases that are pleasant to read (photutils, trackpy, datasette)
TRAINING_ONLY = ("torch", "torchvision", "albumentations", "onnx", "onnxscript", "sklearn")
HEAVY = (
    "numpy",
    "scipy",
    "cv2",
    "skimage",
    "pandas",
    "pyarrow",
    "sqlalchemy",
    "onnxruntime",
    "pydantic",
    "rich",
    "jinja2",
    "fastapi",
)


def test_import_contracts_hold() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def loaded_by(code: str) -> set[str]:
    """Top-level names of all modules that a fresh process has loaded after this code."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import inspect_pop.cli.app",
        "import inspect_pop.batch.worker",
        "import inspect_pop.station.hook, inspect_pop.station.worker",
    ],
)
def test_the_line_loads_nothing_that_only_training_needs(code: str) -> None:
    assert not loaded_by(code) & set(TRAINING_ONLY)


def test_the_command_line_starts_light() -> None:
    assert not loaded_by("import inspect_pop.cli.app") & set(HEAVY)


@pytest.mark.parametrize("module", ["serve", "watch"])
def test_the_stations_main_process_starts_without_what_only_inspecting_needs(module: str) -> None:
    assert not loaded_by(f"import inspect_pop.station.{module}") & {"scipy", "skimage", "onnxruntime", "torch"}


def test_the_hook_starts_with_the_standard_library_alone() -> None:
    foreign = loaded_by("import inspect_pop.station.hook") - set(sys.stdlib_module_names) - loaded_by("")
    assert foreign == {"inspect_pop"}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of every function's body, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node, clean=False) is not None :]
            yield node.name, (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_modules_are_few() -> None:
    assert len(MODULES) <= MOST_MODULES


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_modules_and_functions_stay_readable(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MODULE_LINES, "a module this long has two subjects"
    assert [(name, n) for name, n in functions(path) if n > FUNCTION_LINES] == []


def test_few_private_functions_are_called_once() -> None:
    counted = [structure.find_called_once(path) for path in MODULES]
    assert sum(len(once) for _, once in counted) <= CALLED_ONCE * sum(n for n, _ in counted)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_names_are_the_fields_words(path: Path) -> None:
    """No identifier is on the stop list, and no function is named by a participle (`docs/glossary.md`)."""
    assert structure.stop_list(path) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_modules_say_what_is_public(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defines = any(isinstance(n, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) for n in tree.body)
    names = {t.id for n in tree.body if isinstance(n, ast.Assign | ast.AnnAssign) for t in targets(n) if isinstance(t, ast.Name)}
    assert "__all__" in names or not defines


def targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_nothing_catches_everything_and_nothing_is_pickled(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = path.read_text(encoding="utf-8").splitlines()
    handlers = [n for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and "noqa: BLE001 (" not in lines[n.lineno - 1]]
    assert [h.lineno for h in handlers if catches_everything(h)] == []
    assert not re.search(r"^\s*(import|from) (pickle|marshal|shelve|joblib)\b", path.read_text(encoding="utf-8"), re.MULTILINE)


def catches_everything(handler: ast.ExceptHandler) -> bool:
    """A handler for whatever may come, unless it ends by raising it again; one that gives its reason is let through above."""
    broad = handler.type is None or (isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"})
    return broad and not isinstance(handler.body[-1], ast.Raise)


def test_tests_mirror_the_package() -> None:
    """A folder of tests stands for a room; tests that concern everything lie beside them."""
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    elsewhere = {"golden", "browser", "fuzz", "corpus", "__pycache__", "data", "promises"}
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir()}
    assert folders - elsewhere <= rooms

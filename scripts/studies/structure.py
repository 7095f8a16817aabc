"""Measure the structure of the package: sizes, functions called once, stop-list words, modules that an inspection enters.

python scripts/studies/structure.py            print the figures
python scripts/studies/structure.py --list     print the places, too
"""

import argparse
import ast
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "inspect_pop"

# Words of an earlier private language. An engineer of this field would not look for them.
STOP_WORDS = frozenset(
    [
        "told",
        "said",
        "asked",
        "looked",
        "kept",
        "beside",
        "own",
        "here",
        "apart",
        "anew",
        "whoever",
        "nobody",
        "somebody",
        "spelled",
        "meant",
        "gone",
        "mourn",
        "a",
        "an",
    ]
)
# A function is named by a verb. These first words are participles; words in -ed are, too, but for those in VERBS_IN_ED.
PARTICIPLES = frozenset(
    [
        "told",
        "said",
        "kept",
        "given",
        "found",
        "done",
        "taken",
        "made",
        "seen",
        "drawn",
        "left",
        "held",
        "lost",
        "met",
        "known",
        "grown",
        "written",
        "shown",
        "thrown",
        "chosen",
        "begun",
        "gone",
        "led",
        "built",
        "bound",
        "sent",
        "spent",
        "brought",
        "caught",
        "taught",
        "sought",
        "thought",
        "meant",
        "heard",
        "paid",
        "laid",
    ]
)
VERBS_IN_ED = frozenset(["embed", "feed", "need", "seed", "proceed", "exceed", "succeed", "speed", "shed", "bleed", "breed"])


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def is_stopped(name: str, *, is_function: bool = False) -> bool:
    """Whether an identifier holds a stop word, or names a function by a participle."""
    words = [w.lower() for w in re.split(r"_+|(?<=[a-z0-9])(?=[A-Z])", name.strip("_")) if w]
    if any(w in STOP_WORDS for w in words if len(w) > 2 or words.index(w)):
        return True
    if not is_function or not words:
        return False
    first = words[0]
    return first in PARTICIPLES or (first.endswith("ed") and first not in VERBS_IN_ED)


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Line and name of every identifier that a module defines, and whether it is a function that is no property."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(d).rpartition(".")[2] for d in node.decorator_list}
            yield node.lineno, node.name, not decorators & {"property", "cached_property"}
        elif isinstance(node, ast.ClassDef):
            yield node.lineno, node.name, False
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg, False
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, False
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr, False


def stop_list(path: Path) -> list[str]:
    """Places in a module whose identifiers are on the stop list."""
    place = path.relative_to(ROOT)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [f"{place}:{line} {name}" for line, name, function in identifiers(tree) if is_stopped(name, is_function=function)]
    if is_stopped(path.stem):
        found.append(f"{place} (the module)")
    return found


def find_called_once(path: Path) -> tuple[int, list[str]]:
    """How many functions a module has, and which private ones are named exactly twice in it: defined and used once."""
    text = path.read_text(encoding="utf-8")
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    words = Counter(re.findall(r"\w+", text))
    place = path.relative_to(ROOT)
    once = [
        f"{place}:{f.lineno} {f.name}"
        for f in functions
        if f.name.startswith("_") and not f.name.startswith("__") and words[f.name] == 2
    ]
    return len(functions), once


_TRACE = """
import sys, warnings
from datetime import UTC, datetime
from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.limits import Limits
from inspect_pop.ingest import open_export
from inspect_pop.pipeline.board import inspect_board
classifier, seen = Classifier(load(None)), set()
export = open_export("datasets/sample/boards/PB2411-010204")
def watch(frame, event, _):
    name = frame.f_globals.get("__name__", "")
    if event == "call" and name.startswith("inspect_pop."):
        code = frame.f_code
        seen.add((name, code.co_qualname if hasattr(code, "co_qualname") else code.co_name))
sys.setprofile(watch)
inspect_board(export, classifier, Limits(), started_at=datetime.now(UTC).isoformat())
sys.setprofile(None)
print(len({m for m, _ in seen}), len(seen))
print(*sorted({m for m, _ in seen}), sep=chr(10))
"""


def walk() -> list[str]:
    """Modules and functions that one `inspect_board` enters on the sample board: two numbers, then the modules."""
    done = subprocess.run([sys.executable, "-c", _TRACE], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the structure of the package.")
    parser.add_argument("--list", action="store_true", help="print the places, too")
    parser.add_argument("--under", default="", help="only modules below this folder of the package, such as store")
    options = parser.parse_args()
    paths = [p for p in modules() if p.relative_to(PACKAGE).as_posix().startswith(options.under)]
    lines = [len(p.read_text(encoding="utf-8").splitlines()) for p in paths]
    print(f"modules: {len(paths)}; lines: {sum(lines)}, median {statistics.median(lines):.0f}, largest {max(lines)}")
    counted = [find_called_once(p) for p in paths]
    total, once = sum(n for n, _ in counted), [place for _, places in counted for place in places]
    print(f"private functions called exactly once: {len(once)} of {total} functions, {len(once) / max(total, 1):.1%}")
    stops = [place for p in paths for place in stop_list(p)]
    print(f"identifiers on the stop list: {len(stops)}")
    if not options.under:
        numbers, *entered = walk()
        print("one inspection enters {} modules and {} functions".format(*numbers.split()))
        stops += [f"entered: {m}" for m in entered]
    if options.list:
        print(*once, *stops, sep="\n")


if __name__ == "__main__":
    main()

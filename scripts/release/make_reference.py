"""Write the pages that follow from the code: docs/commands.md, docs/reference.md, docs/licences.md.

    python scripts/release/make_reference.py            write them
    python scripts/release/make_reference.py --check    list those that are out of date, and exit with 1

The licence list needs only what the line installs (scripts/run); it is read from the metadata of the installed packages.
"""

import argparse
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from inspect_pop.core import classes, errors, flags, limits
from inspect_pop.core import columns as joints
from inspect_pop.station import hook

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "<!-- made by scripts/release/make_reference.py; do not edit -->"


def main() -> int:
    """Write or check all pages; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    pages = {"commands.md": commands_page(), "reference.md": reference_page(), "licences.md": licences_page()}
    stale = [name for name, text in pages.items() if not is_written(name, text)]
    if check:
        for name in stale:
            print(f"docs/{name} is out of date: run scripts/release/make_reference.py")
        return 1 if stale else 0
    for name in stale:
        (ROOT / "docs" / name).write_text(pages[name], encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


def is_written(name: str, text: str) -> bool:
    """Whether the page in docs/ is exactly this."""
    path = ROOT / "docs" / name
    return path.is_file() and path.read_text(encoding="utf-8") == text


def commands_page() -> str:
    """Return the help of every command, as a terminal of 100 columns shows it."""
    from typer.main import get_command

    from inspect_pop.cli.app import app

    intro = "The output of `--help` for each command. Exit status 70 is an unexpected error; its traceback is logged."
    parts = [f"# Commands\n\n{GENERATED}\n\n{intro}\n"]
    for name, command in walk(get_command(app), "inspect-pop"):
        text = hook_help() if name == "inspect-pop hook" else click_help(command, name)
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def click_help(command: Any, name: str) -> str:
    """The help of a command, 100 columns wide."""
    with command.make_context(name, [], resilient_parsing=True) as context:
        context.terminal_width = context.max_content_width = 100
        return command.get_help(context).rstrip()


def hook_help() -> str:
    """Return the help of `hook`, which parses its arguments itself: it starts with the standard library alone."""
    os.environ["COLUMNS"] = "100"
    output = io.StringIO()
    with redirect_stderr(output), redirect_stdout(io.StringIO()):
        hook.main(["--help"])
    return output.getvalue().rstrip()


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """This command and all below it, with their full names."""
    yield name, command
    for below, sub in getattr(command, "commands", {}).items():
        yield from walk(sub, f"{name} {below}")


def reference_page() -> str:
    """Columns, classes, flags, limits and faults, each from its one table in the code."""
    return "\n".join(
        [
            f"# Reference\n\n{GENERATED}\n",
            "## Columns of `joints.parquet`\n\nOne row per expected joint, always.\n",
            table(("column", "type", "unit", "meaning"), ((f"`{c.name}`", c.kind, c.unit, c.meaning) for c in joints.COLUMNS)),
            "## Classes\n\nIn the order of the classifier's outputs. A joint that shows two is labelled with the one of the\n"
            "smaller precedence ([labels.csv](export-format.md#labelscsv)). Pages show the letter; CFX messages have\n"
            "category and code. Those of `good` are for a good joint in doubt.\n",
            table(
                ("label", "in words", "precedence", "letter", "`DefectCategory`", "`DefectCode`"),
                ((f"`{c.name}`", c.words, c.precedence, c.letter, c.cfx_category, c.cfx_code) for c in classes.JOINT_CLASSES),
            ),
            "## Flags\n\nReasons why a measurement is doubtful: the bits of the column `flags`.\n",
            table(
                ("bit", "name", "meaning", "forbids a pass"),
                ((f.value, f"`{f.name}`", f.meaning, "yes" if f.forbids_pass else "") for f in flags.FLAGS),
            ),
            "## Limits\n\nKeys of the `--limits` file (TOML). A table `[profile.NAME]` overrides some for `--profile NAME`.\n",
            table(
                ("key", "default", "unit", "range", "meaning", "source"),
                (
                    (f"`{name}`", f"{default:g}", m["unit"], f"{m['low']:g} to {m['high']:g}", m["meaning"], m["source"])
                    for name, default, m in limits.describe_limits()
                ),
            ),
            "## Acceptance criteria\n\n"
            "Rows of the profile `ipc-a-610`, the default. From *fail* on a joint fails, from *review* on a person looks,\n"
            "whatever its label; `clearance` is violated below its limit. Evidence checks find what contradicts a pass.\n"
            "`--profile measure-only` judges none. A table `[profile.NAME.criteria.CRITERION]` of the `--limits`\n"
            "file sets `fail`, `review` or both; `false` takes a limit away.\n",
            table(
                ("criterion", "unit", "fail", "review", "range", "methods", "reason", "source"),
                (
                    (
                        f"`{c.name}`" + (" (evidence)" if c.evidence else ""),
                        c.unit,
                        *("" if limit is None else f"{limit:g}" for limit in (c.fail, c.review)),
                        f"{c.low:g} to {c.high:g}",
                        "all" if c.methods == limits.METHODS else ", ".join(c.methods),
                        c.words,
                        c.source,
                    )
                    for c in limits.CRITERIA
                ),
            ),
            "## Errors\n\n```text",
            tree(errors.__doc__ or ""),
            "```\n",
        ]
    )


def table(head: tuple[str, ...], rows: Any) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def tree(text: str) -> str:
    """The drawn tree of errors, without the sentences around it."""
    return "\n".join(line.removeprefix("    ") for line in text.splitlines() if line.startswith("    "))


def licences_page() -> str:
    """Licences of everything that the line and its station install, from each package's own metadata."""
    line, station = (read_pins(name) for name in ("requirements-line.txt", "requirements-station.txt"))
    intro = "What an inspection line installs (`requirements-line.txt`), with the licence that each package declares.\n"
    more = "Additional packages of the station: service and watched folder (`requirements-station.txt`).\n"
    parts = [f"# Licences\n\n{GENERATED}\n\n{intro}\n{licences(line)}\n{more}\n{licences(n for n in station if n not in line)}"]
    for extra in ("formats", "recipes", "postgresql"):
        file = f"requirements-{extra}.txt"
        parts.append(f"Additional packages of the extra `{extra}` (`{file}`).\n\n{licences(read_pins(file))}")
    return "\n".join(parts)


def read_pins(file: str) -> list[str]:
    """The packages of a file of pins."""
    return re.findall(r"^([\w.-]+)==", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def licences(names: Iterable[str]) -> str:
    """A table of packages."""
    rows = ((name, d.version, licence(d)) for name in names if (d := find_distribution(name)))
    return table(("package", "version", "licence"), rows)


def find_distribution(name: str) -> Distribution | None:
    """The installed package, or None for one that another operating system would need."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def licence(package: Distribution) -> str:
    """The SPDX expression where there is one, else the classifiers, else the first line of the licence field."""
    meta = package.metadata
    classifiers = [c.rpartition(" :: ")[2] for c in meta.get_all("Classifier", []) if c.startswith("License ::")]
    return meta.get("License-Expression") or ", ".join(classifiers) or (meta.get("License") or "unknown").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())

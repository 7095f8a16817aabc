"""Write the pages that follow from the code: docs/commands.md, docs/reference.md, docs/licences.md.

    python scripts/make_reference.py            write them
    python scripts/make_reference.py --check    say which are not true, and exit with 1

The licence list needs only what the line installs (scripts/run); it is read from the installed packages' own metadata.
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

from inspect_pop.core import errors, flags, limits
from inspect_pop.core import joint_table as joints
from inspect_pop.station import hook

ROOT = Path(__file__).resolve().parents[1]
MADE = "<!-- made by scripts/make_reference.py; do not edit -->"


def main() -> int:
    """Write or check all pages; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    pages = {"commands.md": commands_page(), "reference.md": reference_page(), "licences.md": licences_page()}
    stale = [name for name, text in pages.items() if not is_written(name, text)]
    if check:
        print("\n".join(f"docs/{name} is not what the code says: run scripts/make_reference.py" for name in stale))
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
    """Every command with its help, as a person at a terminal reads it, 100 columns wide."""
    from typer.main import get_command

    from inspect_pop.cli.app import app

    intro = "What `--help` says of each. Exit status 70 is an error that nobody foresaw; its traceback is logged."
    parts = [f"# Commands\n\n{MADE}\n\n{intro}\n"]
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
    """The hook parses its own arguments: it starts without anything but the standard library."""
    os.environ["COLUMNS"] = "100"
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        hook.main(["--help"])
    return said.getvalue().rstrip()


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """This command and all below it, with their full names."""
    yield name, command
    for below, sub in getattr(command, "commands", {}).items():
        yield from walk(sub, f"{name} {below}")


def reference_page() -> str:
    """Columns, flags, limits and faults, each from its one table in the code."""
    return "\n".join(
        [
            f"# Reference\n\n{MADE}\n",
            "## Columns of `joints.parquet`\n\nOne row per joint that should exist, always.\n",
            table(("column", "type", "unit", "meaning"), ((f"`{c.name}`", c.kind, c.unit, c.meaning) for c in joints.COLUMNS)),
            "## Flags\n\nReasons why a measurement is doubtful; bits of the column `flags`.\n",
            table(
                ("bit", "name", "meaning", "forbids a pass"),
                ((f.value, f"`{f.name}`", f.meaning, "yes" if f.forbids_pass else "") for f in flags.FLAGS),
            ),
            "## Limits\n\nKeys of a TOML file for `--limits`; its table `[profile.NAME]` overrides some for `--profile NAME`.\n",
            table(
                ("key", "default", "unit", "range", "meaning", "source"),
                (
                    (f"`{name}`", f"{default:g}", m["unit"], f"{m['low']:g} to {m['high']:g}", m["meaning"], m["source"])
                    for name, default, m in limits.describe()
                ),
            ),
            "## What can go wrong\n\n```text",
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
    line, station = (pinned(name) for name in ("requirements-line.txt", "requirements-station.txt"))
    intro = "What an inspection line installs (`requirements-line.txt`), with the licence that each package declares.\n"
    more = "What its station, the service and the watched folder, needs besides (`requirements-station.txt`).\n"
    return f"# Licences\n\n{MADE}\n\n{intro}\n{licences(line)}\n{more}\n{licences(n for n in station if n not in line)}"


def pinned(file: str) -> list[str]:
    """The packages of a file of pins."""
    return re.findall(r"^([\w.-]+)==", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def licences(names: Iterable[str]) -> str:
    """A table of packages."""
    rows = ((name, d.version, licence(d)) for name in names if (d := installed(name)))
    return table(("package", "version", "licence"), rows)


def installed(name: str) -> Distribution | None:
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

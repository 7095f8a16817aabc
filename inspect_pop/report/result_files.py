"""Results as files for the line's neighbours: one template for each neighbour, one file for each record.

A template is Jinja, named by what it writes: `NAME.csv.j2`, `NAME.xml.j2`, `NAME.json.j2` or `NAME.txt.j2`. Values are escaped
by that kind: cells of CSV, text of XML, values of JSON. XML and JSON that does not parse is refused. A template that renders
nothing writes no file, so that it may choose boards. The sandbox keeps templates to the values that they are given.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from inspect_pop import __version__
from inspect_pop.core.atomic import write_text
from inspect_pop.core.classes import joint_class
from inspect_pop.core.columns import list_stored_columns
from inspect_pop.core.errors import StoreFault, UsageFault, describe_error
from inspect_pop.core.text import format_csv
from inspect_pop.report.write import name_board_file
from inspect_pop.store import StoredBoard

__all__ = ["SHIPPED", "ResultsTarget", "TemplateFault", "collect_values", "parse_target"]

SHIPPED = ("defects.csv", "repair.xml", "board.json")
TEMPLATES = Path(__file__).with_name("result_templates")
KINDS = (".csv", ".xml", ".json", ".txt")
_MOST_TEMPLATE = 1 << 20
_MOST_TEXT = 32 << 20  # a board of 20,000 defects, each with all of its columns, takes 20 MB


class TemplateFault(UsageFault):
    """A template is faulty, or writes for some board what its kind of file may not hold."""

    about = "template"


@dataclass(frozen=True)
class ResultsTarget:
    """Where a neighbour's files go, and the template that writes them. Small enough to send to another process."""

    template: Path
    folder: Path

    @cached_property
    def kind(self) -> str:
        """Which kind of file the template writes, such as `.xml`. Raises `TemplateFault` for another one."""
        kind = Path(self.template.name.removesuffix(".j2")).suffix.lower()
        if not self.template.name.endswith(".j2") or kind not in KINDS:
            expect = f"a name that ends in {', '.join(f'{kind}.j2' for kind in KINDS)}"
            raise TemplateFault(f"template {self.template}", expected=expect, remedy="The name says how values are escaped.")
        return kind

    @cached_property
    def _compiled(self) -> Any:
        try:
            if self.template.stat().st_size > _MOST_TEMPLATE:
                raise TemplateFault(f"template {self.template}", expected="at most 1 MiB", found="more")
            source = self.template.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            found = describe_error(error)
            raise TemplateFault(f"template {self.template}", expected="a text file in UTF-8", found=found) from error
        finalize = {".csv": _to_cell, ".json": _to_json}.get(self.kind)
        environment = ImmutableSandboxedEnvironment(
            autoescape=self.kind == ".xml",
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            finalize=finalize,
        )
        try:
            return environment.from_string(source)
        except TemplateError as error:
            found = f"line {getattr(error, 'lineno', '?')}: {error}"
            raise TemplateFault(f"template {self.template}", expected="a Jinja template", found=found) from error

    def check(self) -> None:
        """Check that the template can be used. Raises `TemplateFault`."""
        _ = self._compiled

    def render(self, stored: StoredBoard) -> str:
        """Return the text of a record's file; empty for none. Raises `TemplateFault`."""
        name, parts, size = f"template {self.template}, serial {stored.board.serial}", [], 0
        try:
            for part in self._compiled.generate(collect_values(stored)):
                parts.append(part)
                size += len(part)
                if size > _MOST_TEXT:
                    raise TemplateFault(name, expected="at most 32 MiB of text", found="more", remedy="Write fewer fields.")
        except (TemplateError, ArithmeticError, TypeError, ValueError, AttributeError, LookupError, RecursionError) as error:
            raise TemplateFault(name, expected="values that it can show", found=f"{type(error).__name__}: {error}") from error
        text = "".join(parts)
        if not text.strip():
            return ""
        try:
            data = text.encode()  # a template may spell signs that UTF-8 cannot hold
            if self.kind == ".json":
                json.loads(data)
            elif self.kind == ".xml":
                ElementTree.fromstring(data)  # noqa: S314 (made from our own values, escaped)
        except (ValueError, ElementTree.ParseError, RecursionError) as error:
            raise TemplateFault(name, expected=f"valid {self.kind[1:].upper()}", found=str(error)) from error
        return text

    def locate(self, stored: StoredBoard) -> Path:
        """Return where a record's file lies: a later version of it, after a decision, replaces it."""
        return self.folder / (name_board_file(stored.board.serial, stored.board.record).removesuffix(".html") + self.kind)

    def write(self, stored: StoredBoard) -> Path | None:
        """Write a record's file whole or not at all; return where, None where the template renders nothing.

        Raises:
            TemplateFault: The template cannot show this record.
            StoreFault: The folder cannot be written.
        """
        text = self.render(stored)
        if not text:
            return None
        path = self.locate(stored)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            remedy = "Free or unlock the folder."
            raise StoreFault(
                str(self.folder), expected="a folder for results", found=describe_error(error), remedy=remedy
            ) from error
        return path


def parse_target(text: str) -> ResultsTarget:
    """Parse `TEMPLATE=FOLDER`; TEMPLATE is a file, or the name of a shipped one. Raises `UsageFault` and `TemplateFault`."""
    name, is_pair, folder = text.partition("=")
    if not is_pair or not name or not folder:
        expect = f"TEMPLATE=FOLDER, such as {SHIPPED[0]}=results"
        raise UsageFault(f"--results {text}", expected=expect, remedy=f"Templates that come along: {', '.join(SHIPPED)}.")
    template = TEMPLATES / f"{name}.j2" if name in SHIPPED else Path(name).resolve()
    target = ResultsTarget(template, Path(folder).resolve())
    target.check()
    return target


def collect_values(stored: StoredBoard) -> dict[str, Any]:
    """Return what a template sees of a record: `board`, `packages`, `interfaces`, `defects`, `decisions`, `software`.

    `board` has all fields of the record, `final` and the number of the inspection. A defect has its joint, label, verdict,
    reason, `code` (the class's CFX code), its measurements, and the latest decision of a person as `state`, `decided_label`,
    `decided_by`, `decided_at` and `note`, empty without one. A joint that passed and that a person calls a defect is among the
    defects. Numbers that could not be measured are None.
    """
    plain = stored.to_dict()
    latest = {(d.refdes, d.interface, d.ball): d for d in stored.decisions}
    defects = [_flatten_defect(asdict(d), latest.pop((d.refdes, d.interface, d.ball), None)) for d in stored.defects]
    for (refdes, interface, ball), decision in latest.items():
        joint = {"refdes": refdes, "interface": interface, "ball": ball, "label": decision.label, "verdict": "pass"}
        defects.append(_flatten_defect({**joint, "reason": "", "flags": 0, "measured": {}}, decision))
    parts = {name: plain.pop(name) for name in ("packages", "interfaces", "decisions")}
    plain.pop("defects")
    return {"board": _to_plain(plain), "defects": defects, "software": f"inspect_pop {__version__}", **_to_plain(parts)}


def _flatten_defect(defect: dict[str, Any], decision: Any) -> dict[str, Any]:
    measured = dict.fromkeys(list_stored_columns()) | defect.pop("measured")
    label = defect["label"]
    decided = {
        "state": decision.state if decision else "",
        "decided_label": (decision.label or "") if decision else "",
        "decided_by": decision.decided_by if decision else "",
        "decided_at": decision.decided_at if decision else "",
        "note": decision.note if decision else "",
    }
    flat: dict[str, Any] = _to_plain({**measured, **defect, **decided})
    return {**flat, "code": joint_class(label).cfx_code if label else "", "p": measured.get(f"p_{label}") if label else None}


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_cell(value: Any) -> Any:
    """Return a value as a cell of CSV that no spreadsheet computes; text that a template marks as safe stays."""
    if isinstance(value, Markup | Undefined):
        return value
    if value is None or value == "":
        return ""
    cell = value if isinstance(value, str | int | float) else str(value)
    return format_csv((cell,), ()).removesuffix("\n")


def _to_json(value: Any) -> Any:
    if isinstance(value, Markup | Undefined):
        return value
    return json.dumps(value, ensure_ascii=False)
